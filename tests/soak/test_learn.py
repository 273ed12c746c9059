"""The soak of what is learned, short enough for every day; all of it: ``python -m tests.soak.learn``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.soak.learn import endure

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_learned_is_whole_whenever_who_changes_it_is_killed(tmp_path: Path) -> None:
    outcome = endure(20, tmp_path)
    assert outcome.well, str(outcome)
