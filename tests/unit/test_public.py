"""The public face: every name is there, and importing it costs next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vmtools
from vmtools import errors

SOURCE = Path(vmtools.__file__)


def fresh(code: str) -> str:
    """What ``code`` prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", vmtools.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(vmtools, name) is not None
    assert name in dir(vmtools)


def test_all_is_sorted_and_holds_each_error() -> None:
    assert vmtools.__all__ == sorted(set(vmtools.__all__))
    assert set(errors.__all__) <= set(vmtools.__all__)
    for name in errors.__all__:
        assert getattr(vmtools, name) is getattr(errors, name)


def test_what_a_type_checker_sees_is_what_there_is() -> None:
    block = next(
        node
        for node in ast.parse(SOURCE.read_text()).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            seen[alias.asname] = node.module
    assert sorted(name for name in seen if name) == vmtools.__all__
    for name, module in seen.items():
        assert vmtools._HOMES.get(str(name), "errors") == module


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'vmtools' has no attribute 'conect'"):
        _ = vmtools.conect  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from vmtools import conect  # type: ignore[attr-defined]  # noqa: F401


def test_star_import_gives_the_public_names() -> None:
    assert (
        fresh("from vmtools import *; print(connect.__module__, VMToolsError.__name__)") == "vmtools.guest VMToolsError"
    )


def test_a_name_is_looked_up_once() -> None:
    assert fresh("import vmtools; vmtools.connect; print('connect' in vars(vmtools))") == "True"


def test_import_loads_nothing_else() -> None:
    code = "import sys, __future__; old = set(sys.modules); import vmtools; print(*sorted(set(sys.modules) - old))"
    assert fresh(code) == "vmtools"


SLOW = {"argparse", "asyncio", "collections", "contextlib", "dataclasses", "enum", "json", "logging", "re", "typing"}


def test_a_guest_needs_no_slow_module() -> None:
    # -S: what the site's .pth files import is not ours
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", "import sys, vmtools; vmtools.Guest; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(SOURCE.parents[1])},
    )
    loaded = set(done.stdout.split())
    assert "vmtools._gate" in loaded
    assert loaded & SLOW == set()


def test_version_has_one_source() -> None:
    from vmtools._version import __version__

    assert vmtools.__version__ == __version__


def test_a_refusal_without_a_word_says_so() -> None:
    refusal = vmtools.HostRefused(b"")
    assert (refusal.text, str(refusal)) == (b"", "the host refused without a word")
