"""The exits of a command and of a call, counted: the figures of ``make bench`` that no clock decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import exits


@pytest.mark.usefixtures("sides")
def test_exits(tmp_path: Path) -> None:
    figures = {figure.what: figure for figure in exits.measure(tmp_path).figures}
    assert [figure for figure in figures.values() if figure.holds is False] == []
    assert figures["the same, open-vm-tools' vmware-rpctool"].value == 9
