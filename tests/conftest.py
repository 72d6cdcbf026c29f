"""What holds for all tests: which package is under test, and that CI skips nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Tests may import from one another (`from tests.sim import …`), but `vmtools` is to come from where it is installed, so
# the checkout stands last; and no child finds it first because it is the current folder.
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
os.environ["PYTHONSAFEPATH"] = "1"


def pytest_report_header() -> str:
    import vmtools

    return f"vmtools under test: {Path(vmtools.__file__).parent}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI every test runs: one skipped there is a machine that lacks something, and nobody would notice."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or reporter is None:
        return
    if skipped := len(reporter.stats.get("skipped", ())):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"\nCI: {skipped} skipped; here each test must run", red=True)
