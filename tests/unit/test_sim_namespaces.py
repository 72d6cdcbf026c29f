"""The namespace database: what a guest may read and write, and what it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtools.sim import namespaces
from vmtools.sim.machine import Machine
from vmtools.sim.namespaces import MAX_BYTES, Namespaces
from vmtools.sim.rpci import answer
from vmtools.wire.namespaces import GetValues, SetKey, SetKeys, decode_values, encode_request


def get(machine: Machine, *keys: bytes, privileged: bool = False, name: bytes = b"ns") -> bytes:
    return answer(machine, encode_request(GetValues(name, keys, privileged)))


def set_(machine: Machine, *operations: SetKey, privileged: bool = False, name: bytes = b"ns") -> bytes:
    return answer(machine, encode_request(SetKeys(name, operations, privileged)))


def test_set_get_delete() -> None:
    machine = Machine()
    assert set_(machine, SetKey(b"a", b"1"), SetKey(b"b", b"\xff two")) == b"1 "
    assert get(machine, b"b", b"none", b"a") == b"1 \xff two\0\0001\0"
    assert get(machine, b"a", name=b"other") == b"1 \0"
    assert set_(machine, SetKey(b"a", b"")) == b"1 "
    assert get(machine, b"a") == b"1 \0"
    assert set_(machine, SetKey(b"b", b"")) == b"1 "
    assert machine.namespaces.stores == {}


def test_compare_and_set() -> None:
    machine = Machine()
    assert set_(machine, SetKey(b"a", b"1", b"")) == b"1 ", "not there yet is the empty value"
    assert set_(machine, SetKey(b"a", b"2", b"other")) == b"0 Value is not the expected one"
    assert get(machine, b"a") == b"1 1\0"
    assert set_(machine, SetKey(b"a", b"2", b"1")) == b"1 "
    assert get(machine, b"a") == b"1 2\0"


def test_all_operations_or_none() -> None:
    machine = Machine()
    set_(machine, SetKey(b"a", b"1"))
    operations = SetKey(b"a", b"2"), SetKey(b"new", b"x"), SetKey(b"a", b""), SetKey(b"a", b"3", b"wrong")
    assert set_(machine, *operations).startswith(b"0 ")
    assert machine.namespaces.stores == {b"ns": {b"a": b"1"}}
    assert set_(machine, SetKey(b"k", b"v"), SetKey(b"k", b"w", b"x"), name=b"fresh").startswith(b"0 ")
    assert machine.namespaces.stores == {b"ns": {b"a": b"1"}}


def test_privileged_commands_need_a_privileged_channel() -> None:
    machine = Machine()
    assert set_(machine, SetKey(b"a", b"1"), privileged=True) == b"0 Permission denied"
    assert get(machine, b"a", privileged=True) == b"0 Permission denied"
    machine.namespaces.privileged = True
    assert set_(machine, SetKey(b"a", b"1"), privileged=True) == b"1 "
    assert get(machine, b"a", privileged=True) == b"1 1\0"
    assert get(machine, b"a") == b"0 Permission denied", "not by the others' commands"
    assert set_(machine, SetKey(b"a", b"2")) == b"0 Permission denied"


@pytest.mark.parametrize(
    "request_",
    [
        b"namespace-get-values",
        b"namespace-get-values ns",
        b"namespace-get-values ns\0",
        b"namespace-set-keys ns\0002\0",
    ],
)
def test_requests_that_are_not_whole(request_: bytes) -> None:
    assert answer(Machine(), request_) == b"0 Invalid argument"


def test_other_commands_of_that_name_are_unknown() -> None:
    assert answer(Machine(), b"namespace-list x\0") == b"0 Unknown command"


def test_a_hostile_guest_cannot_bloat_it() -> None:
    machine = Machine()
    value = b"x" * 16384
    answers = {set_(machine, SetKey(b"k%d" % i, value)) for i in range(100)}
    assert answers == {b"1 ", b"0 Value too long"}
    machine = Machine()
    for i in range(20_000):
        set_(machine, SetKey(b"k", b"v"), name=b"n%d" % i)
    assert sum(map(len, machine.namespaces.stores)) < MAX_BYTES
    assert len(machine.namespaces.stores) <= MAX_BYTES // namespaces.ENTRY
    machine = Machine()
    for i in range(1000):
        set_(machine, SetKey(b"k", b"v"), SetKey(b"k", b""), name=b"n%d" % i)
    assert machine.namespaces.stores == {}
    assert set_(machine, SetKey(b"k", value + b"x")) == b"0 Value too long"
    assert set_(machine, SetKey(b"k" * 257, b"")) == b"0 Value too long"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"b"]),
            st.sampled_from([b"k", b"l"]),
            st.sampled_from([b"", b"1", b"22"]),
            st.sampled_from([None, b"", b"1"]),
        )
    )
)
def test_like_a_dictionary(steps: list[tuple[bytes, bytes, bytes, bytes | None]]) -> None:
    machine = Machine()
    model: dict[tuple[bytes, bytes], bytes] = {}
    for name, key, value, expected in steps:
        fine = expected in (None, model.get((name, key), b""))
        assert set_(machine, SetKey(key, value, expected), name=name)[:1] == (b"1" if fine else b"0")
        if fine:
            model[name, key] = value
        assert decode_values(get(machine, b"k", b"l", name=name)[2:]) == tuple(
            model.get((name, k), b"") for k in (b"k", b"l")
        )
    assert machine.namespaces._size == sum(
        len(n) + len(k) + len(v) + namespaces.ENTRY for (n, k), v in model.items() if v
    )


def test_the_hosts_own_side() -> None:
    database = Namespaces()
    database.set(b"ns", b"k", b"v", privileged=True)
    assert database.get(b"ns", b"k") == b"v"
    assert database.get(b"ns", b"none") is database.get(b"none", b"k") is None
