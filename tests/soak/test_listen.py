"""The soak of the ears, short enough for every day; all of it: ``python -m tests.soak.listen``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.listen import endure

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.system
@pytest.mark.timeout(400)
def test_a_deaf_ear_is_announced_recovers_and_never_alarms(tmp_path: Path) -> None:
    outcome = endure(20, tmp_path)
    assert outcome.well, str(outcome)
