"""``python -m tests.bench [--json] [SECTION ...]``, from the root of a checkout, with the package installed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

# The installed package is measured: the checkout, which has no extensions, stands last.
ROOT = Path(__file__).resolve().parents[2]
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]
os.environ["PYTHONSAFEPATH"] = "1"  # children: likewise
os.environ.pop("VMTOOLS_GATE", None)


def main() -> int:
    from tests.bench import calls, exits, host, memory, others, processes, sending
    from tests.bench.figures import Section, table
    from tests.peers.side_by_side import MissingError

    sections = {
        "exits": exits,
        "calls": calls,
        "commands": processes,
        "host": host,
        "others": others,
        "memory": memory,
        "send": sending,
    }
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"what to measure: {', '.join(sections)} (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if unknown := set(options.section) - set(sections):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    found = []
    for name in options.section or sections:
        module = sections[name]
        with tempfile.TemporaryDirectory() as folder:
            try:
                found.append(module.measure(Path(folder)))
            except MissingError as missing:
                found.append(Section(module.TITLE, module.HOW, missing=str(missing)))
    print(json.dumps([section.as_json() for section in found], indent=2) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
