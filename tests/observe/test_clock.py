from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from edge_asd.observe.clock import REFUSED, STEP_S, UNSYNCHRONISED, StepWatch, clock_synced, set_lately

if TYPE_CHECKING:
    from pathlib import Path

NINE_HOURS_S = 9 * 3600.0


def test_the_kernel_is_believed_where_it_may_be_asked() -> None:
    state = ctypes.CDLL(None).ntp_adjtime(ctypes.create_string_buffer(512))  # the same question by another name

    assert state == REFUSED or clock_synced() is (state != UNSYNCHRONISED)


def test_a_clock_that_timesyncd_has_set_is_right_for_some_hours(tmp_path: Path) -> None:
    touched = tmp_path / "synchronized"
    touched.touch()
    os.utime(touched, (1e9, 1e9))

    assert set_lately(touched, 1e9 + 2048)  # the longest that timesyncd waits between two looks
    assert not set_lately(touched, 1e9 + NINE_HOURS_S)


def test_a_clock_that_nobody_has_set_is_not_right(tmp_path: Path) -> None:
    assert not set_lately(tmp_path / "synchronized", 1e9)


CALM = st.floats(-0.4 * STEP_S, 0.4 * STEP_S)


@given(st.lists(st.tuples(st.floats(0.001, 3600), st.one_of(CALM, st.just(0.0))), min_size=2, max_size=30))
def test_time_that_passes_is_no_step_however_long_nobody_looked(moments: list[tuple[float, float]]) -> None:
    """Wavering by less than a step between two looks is slewing, or the time between the two questions."""
    watch, now = StepWatch(), 0.0
    for passed, waver in moments:
        now += passed
        assert watch.see(now, 1.8e9 + now + waver) == 0.0


@given(st.floats(2 * STEP_S, 1e9), st.sampled_from((-1, 1)), st.floats(0.05, 60))
def test_a_step_is_seen_once_with_its_size_and_direction(size: float, sign: int, passed: float) -> None:
    watch = StepWatch()
    watch.see(10.0, 1.8e9)
    moved = watch.see(10.0 + passed, 1.8e9 + passed + sign * size)

    assert abs(moved - sign * size) < 1e-3 * STEP_S
    assert watch.see(11.0 + passed, 1.8e9 + 1.0 + passed + sign * size) == 0.0


def test_the_first_look_is_no_step() -> None:
    assert StepWatch().see(5.0, 1.8e9) == 0.0
