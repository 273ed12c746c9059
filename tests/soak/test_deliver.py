"""The soak of the delivery, short enough for every day; all of it: ``python -m tests.soak.deliver``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.deliver import endure

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.system
@pytest.mark.timeout(400)
def test_every_alarm_arrives_once_though_the_daemon_and_the_broker_are_killed(tmp_path: Path) -> None:
    outcome = endure(20, tmp_path)
    assert outcome.well, str(outcome)
