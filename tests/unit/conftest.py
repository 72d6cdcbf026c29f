"""Fixtures for the tests of the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .commands import install

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the commands are."""
    return install(tmp_path_factory.mktemp("bin"))
