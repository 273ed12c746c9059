"""The soak of many machines, short enough for every day; all of it: ``python -m tests.soak.many``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.many import MACHINES, crowd, hurry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(300)
def test_eight_machines_are_heard_in_real_time_while_a_core_is_busy(tmp_path: Path) -> None:
    outcome = crowd(60, tmp_path)
    print(outcome)
    assert outcome.well, str(outcome)
    assert outcome.clips["scored"] + outcome.clips["overload"] >= 5 * MACHINES


def test_scoring_as_fast_as_it_can_takes_no_more_descriptors_and_threads_and_sheds_nothing(tmp_path: Path) -> None:
    growth = hurry(4_000, tmp_path)
    assert growth.steady, str(growth)
