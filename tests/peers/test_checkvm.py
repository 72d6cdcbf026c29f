"""``vmware-checkvm``, the original and ours, side by side."""

from __future__ import annotations

import subprocess

import pytest

from vmtools.detect import look

from .side_by_side import Side, Word, machine

KNOCKS = {"original": 3, "ours": 1}
"""GETVERSION calls: the original asks three times over, ours believes the first answer."""

LINES: list[tuple[Word, ...]] = [
    (),
    ("-p",),
    ("--prod",),
    ("-h",),
    ("--help",),
    ("--help-all",),
    ("-?",),
    ("-x",),
    ("--xx",),
    ("foo",),
    ("-p", "x"),
    ("foo", "-p"),
    ("foo", "-x"),
    ("-h", "-x"),
    ("-x", "-h"),
    ("-ph",),
    ("-hp",),
    ("-hx",),
    ("-px",),
    ("-xp",),
    ("-pp",),
    ("-p", "--prod"),
    ("-p=1",),
    ("--prod=1",),
    ("--prod", "1"),
    ("--prods",),
    ("--pro",),
    ("--help=1",),
    ("--help-me",),
    ("--usage",),
    ("--gate=port",),
    ("--",),
    ("--", "-p"),
    ("--", "-x"),
    ("-p", "--"),
    ("--", "--help"),
    ("---",),
    ("---p",),
    ("-",),
    ("-", "-p"),
    ("",),
    ("-x\ty",),
    ("--a\nb",),
    (b"\xff",),
]


@pytest.mark.parametrize("words", LINES, ids=repr)
def test_options(theirs: Side, ours: Side, words: tuple[Word, ...]) -> None:
    original, mine = [side.run(["vmware-checkvm", *words], machine()) for side in (theirs, ours)]
    assert mine.printed == original.printed
    assert (original.knocks, mine.knocks) == (KNOCKS["original"], KNOCKS["ours"])
    assert mine.conversation == original.conversation == []


@pytest.mark.parametrize("option", ["-p", "foo"])
@pytest.mark.parametrize("product", [0, 1, 2, 3, 4, 5, 0xFFFF])
def test_products(theirs: Side, ours: Side, product: int, option: str) -> None:
    original, mine = [side.run(["vmware-checkvm", option], machine(product=product)) for side in (theirs, ours)]
    assert mine.printed == original.printed
    assert mine.status == 0


@pytest.mark.parametrize("version", [1, 5, 7, 0x7FFFFFFF])
def test_other_versions(theirs: Side, ours: Side, version: int) -> None:
    """Wanted difference: the original takes a host for VMware's only if its version is 6, ours tells which it is."""
    original, mine = [side.run(["vmware-checkvm"], machine(version=version)) for side in (theirs, ours)]
    assert original.status == 1
    assert mine.printed == (0, f"VMware software version {version} (good)\n".encode(), b"")


@pytest.mark.parametrize("option", ["-\u00fc", b"-\xff"])
def test_an_option_that_is_not_ascii(theirs: Side, ours: Side, option: Word) -> None:
    """Wanted difference: the original mangles it for a terminal that knows ASCII only, we print what was given."""
    original, mine = [side.run(["vmware-checkvm", option], machine()) for side in (theirs, ours)]
    given = option if isinstance(option, bytes) else option.encode()
    assert mine.printed == (1, b"", b"vmware-checkvm: Unknown option " + given + b"\n")
    assert original.status == mine.status
    assert original.stderr != mine.stderr


@pytest.mark.parametrize("command", ["vmware-checkvm", "vmware-rpctool"])
@pytest.mark.parametrize("word", ["", "-h", "info-get guestinfo.hello"])
def test_where_there_is_no_host(theirs: Side, ours: Side, command: str, word: str) -> None:
    if look().is_vmware:
        pytest.skip("there is a VMware host here")
    done = [
        subprocess.run([f"./{command}", word], cwd=side.folder, capture_output=True, check=False)
        for side in (theirs, ours)
    ]
    original, mine = [(one.returncode, one.stdout, one.stderr) for one in done]
    assert mine == original
    assert mine[0] != 0
