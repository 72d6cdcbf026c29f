"""The decoder by itself, against a table and against an independent disassembler."""

from __future__ import annotations

import capstone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtools.sim._tracer import decode
from vmtools.sim.backdoor import PORT_IN, PORT_LOW, PORT_OUT, RDPMC, VMCALL, VMMCALL

TABLE = [
    # code, bits, instruction, length, bytes of EAX, 32-bit addresses
    ("ed", 64, (PORT_LOW, 1, 4, False)),
    ("ed", 32, (PORT_LOW, 1, 4, False)),
    ("66ed", 64, (PORT_LOW, 2, 2, False)),
    ("ec", 64, (PORT_LOW, 1, 1, False)),
    ("66ec", 32, (PORT_LOW, 2, 1, False)),
    ("ef", 64, (PORT_LOW, 1, 0, False)),
    ("66ef", 64, (PORT_LOW, 2, 0, False)),
    ("ee", 32, (PORT_LOW, 1, 0, False)),
    ("48ed", 64, (PORT_LOW, 2, 4, False)),
    ("6648ed", 64, (PORT_LOW, 3, 4, False)),  # REX.W undoes 66
    ("4866ed", 64, (PORT_LOW, 3, 2, False)),  # a REX before another prefix is void
    ("48ed", 32, None),  # DEC EAX
    ("f36e", 64, (PORT_OUT, 2, 0, False)),
    ("f36c", 64, (PORT_IN, 2, 0, False)),
    ("67f36e", 64, (PORT_OUT, 3, 0, True)),
    ("f3486c", 64, (PORT_IN, 3, 0, False)),
    ("3ef36e", 32, (PORT_OUT, 3, 0, False)),
    ("6e", 64, None),  # one byte without a count
    ("6c", 32, None),
    ("f36f", 64, None),  # REP OUTSD
    ("f26e", 64, None),
    ("67f36e", 32, None),  # 16-bit addressing
    ("64f36e", 64, None),  # FS has a base
    ("64f36c", 64, (PORT_IN, 3, 0, False)),  # the destination is ES whatever is said
    ("0f33", 64, (RDPMC, 2, 0, False)),
    ("0f01c1", 64, (VMCALL, 3, 0, False)),
    ("0f01d9", 32, (VMMCALL, 3, 0, False)),
    ("0f01d8", 64, None),
    ("0f01", 64, None),
    ("0f", 64, None),
    ("f0ed", 64, None),
    ("e4", 64, None),  # IN AL,imm8 reaches no port above 255
    ("90", 64, None),
    ("", 64, None),
    ("66", 64, None),
    ("66" * 14 + "ed", 64, (PORT_LOW, 15, 2, False)),
    ("66" * 15 + "ed", 64, None),  # 16 bytes: no instruction
]


@pytest.mark.parametrize(("code", "bits", "expected"), TABLE)
def test_decode(code: str, bits: int, expected: tuple[int, int, int, bool] | None) -> None:
    assert decode(bytes.fromhex(code) + b"\x90" * (0 if expected is None else 4), bits) == expected


MNEMONICS = {PORT_LOW: {"in", "out"}, PORT_OUT: {"outsb"}, PORT_IN: {"insb"}, RDPMC: {"rdpmc"}}
MNEMONICS |= {VMCALL: {"vmcall"}, VMMCALL: {"vmmcall"}}
PREFIXES = st.lists(st.sampled_from(bytes.fromhex("262e363e64656667f340484f")), max_size=4)
OPCODES = st.sampled_from(["ec", "ed", "ee", "ef", "6c", "6e", "0f33", "0f01c1", "0f01d9"]).map(bytes.fromhex)
DISASSEMBLERS = {
    64: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    32: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32),
}


def refused_on_purpose(code: bytes, bits: int, mnemonic: str, operands: str) -> bool:
    """What runs on a processor and is no call of a backdoor to us."""
    prefixes = code.rstrip(b"\x90")
    if 0xF0 in prefixes or 0xF2 in prefixes:
        return True
    if mnemonic in {"in", "out"}:
        return "dx" not in operands
    if mnemonic in {"vmcall", "vmmcall"}:
        return 0x66 in prefixes or 0xF3 in prefixes
    if mnemonic.endswith("sb"):
        return not mnemonic.startswith("rep") or bool({0x64, 0x65} & set(prefixes)) or (bits == 32 and 0x67 in prefixes)
    return False


@given(PREFIXES.map(bytes), OPCODES | st.binary(min_size=1, max_size=4), st.sampled_from([32, 64]))
def test_decode_agrees_with_a_disassembler(prefixes: bytes, opcode: bytes, bits: int) -> None:
    code = prefixes + opcode + b"\x90" * 3
    found = decode(code, bits)
    seen = next(DISASSEMBLERS[bits].disasm(code, 0, 1), None)
    if found is None:
        assert (
            seen is None
            or seen.mnemonic.split()[-1] not in set().union(*MNEMONICS.values())
            or refused_on_purpose(code[: seen.size], bits, seen.mnemonic, seen.op_str)
        )
        return
    instruction, length, width, _ = found
    assert seen is not None
    assert seen.size == length
    assert seen.mnemonic.split()[-1] in MNEMONICS[instruction]
    if seen.mnemonic == "in":
        assert seen.op_str == {1: "al, dx", 2: "ax, dx", 4: "eax, dx"}[width]
    assert (width == 0) == (seen.mnemonic != "in")
