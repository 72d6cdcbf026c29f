"""``python -m tests.fuzz [--seconds N] [--seed N] [TARGET ...]`` fuzzes; ``… TARGET --file FILE ...`` repeats an input.

From the root of a checkout, with the package installed.  The time is shared out among the targets, which run one after
the other.  An input that breaks an invariant is left in ``build/fuzz/TARGET/``, and the command that repeats it is
printed; new inputs that reach new code go to ``build/fuzz/corpus/TARGET/``, where the next run finds them.
``--minimise`` keeps, in ``tests/fuzz/corpus``, the few of all of them that take every branch.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

# The installed package is fuzzed: the checkout, which has no extensions, stands last.
ROOT = Path(__file__).resolve().parents[2]
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]

LONGEST = 4096
"""Bytes of an input."""

SLOWEST = 20
"""Seconds that one input may take: some thousand times what one takes."""

MEMORY_MB = 1024
"""Resident memory that a target may reach."""


def main() -> int:
    from tests.fuzz.minimise import rewrite
    from tests.fuzz.targets import CORPUS, TARGETS, load

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help="; ".join(f"{name}: {what}" for name, what in TARGETS.items()))
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS", "3600")))
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 31))
    parser.add_argument("--file", nargs="+", type=Path, help="run these inputs, once each")
    parser.add_argument("--minimise", action="store_true", help="rewrite the corpora that are kept")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "fuzz", help="where findings go")
    options = parser.parse_args()
    targets = options.target or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.file:
        if len(targets) != 1:
            parser.error("--file needs one target")
        for file in options.file:
            load(targets[0])(file.read_bytes())
        return 0
    if options.minimise:
        for name in targets:
            rewrite(load(name), CORPUS / name, options.work / "corpus" / name)
        return 0
    share = options.seconds / len(targets)
    return max([fuzz(name, share, options.seed, options.work) for name in targets])


def fuzz(name: str, seconds: float, seed: int, work: Path) -> int:
    """Fuzz one target; its exit status, 0 where nothing was found.  What is found goes to ``work``."""
    from tests.fuzz.targets import CORPUS

    found, grown = work / name, work / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    grown.mkdir(parents=True, exist_ok=True)
    print(f"fuzzing {name} for {seconds:.0f} s, seed {seed}", flush=True)
    status = engine(
        name,
        grown,
        CORPUS / name,
        f"-max_total_time={max(1, round(seconds))}",
        f"-seed={seed}",
        f"-max_len={LONGEST}",
        f"-timeout={SLOWEST}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={found}{os.sep}",
        "-print_final_stats=1",
        "-verbosity=0",
    )
    if status:
        inputs = sorted(found.iterdir(), key=lambda file: file.stat().st_mtime)
        print(f"{name}: seed {seed} found something; to repeat it:\n  python -m tests.fuzz {name} --file {inputs[-1]}")
    return status


def engine(name: str, *options: str | Path) -> int:
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0"}
    words = [sys.executable, "-m", "tests.fuzz.engine", name, *map(str, options)]
    return subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
