"""One target under atheris (libFuzzer): ``python -m tests.fuzz.engine TARGET [libFuzzer's arguments]``.

A process of its own, since libFuzzer takes the process over and ends it.  What it imports of ``vmtools`` is
instrumented, so that libFuzzer sees which branches an input takes and keeps those that take new ones.
"""

from __future__ import annotations

import gc
import sys

import atheris

from tests.fuzz.targets import load


def main() -> None:
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["vmtools"]):
        one = load(name)
    # libFuzzer counts memory; cycles that wait for the collector would look like a leak
    gc.set_threshold(200)
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
