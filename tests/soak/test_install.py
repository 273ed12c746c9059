"""The soak of the shelf, short enough for every day; all of it: ``python -m tests.soak.install``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.soak.install import endure

if TYPE_CHECKING:
    from pathlib import Path


def test_a_shelf_is_whole_whenever_who_changes_it_is_killed(tmp_path: Path) -> None:
    outcome = endure(20, tmp_path)
    assert outcome.well, str(outcome)
