from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.score.calibration import WEEK_S, Calibration, alarm_threshold, health_index

scores = st.lists(st.floats(-50, 50), min_size=4, max_size=60).map(np.array)


def exponential(seed: int, clips: int = 30) -> Calibration:
    """Fitted to scores with P(score > s) = exp(-s)."""
    return Calibration.fit(np.random.default_rng(seed).exponential(size=clips))


def reaching(calibration: Calibration, surprise: float) -> float:
    """The score that is so surprising, by bisection."""
    low, high = -1e3, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if calibration.surprise(middle) >= surprise else (middle, high)
    return high


@given(scores, st.floats(-1e3, 1e3), st.floats(0, 1e3))
def test_a_higher_score_is_never_less_surprising(normal: np.ndarray, score: float, more: float) -> None:
    calibration = Calibration.fit(normal)

    assert 0 <= calibration.surprise(score) <= calibration.surprise(score + more)


@given(scores)
def test_surprise_does_not_jump_at_the_median(normal: np.ndarray) -> None:
    calibration = Calibration.fit(normal)
    median = float(calibration.body[-1])

    assert calibration.surprise(median) == pytest.approx(np.log10(2))
    assert calibration.surprise(np.nextafter(median, np.inf)) == pytest.approx(np.log10(2), abs=1e-3)


def test_half_of_the_normal_clips_are_as_surprising_as_the_median() -> None:
    calibration = Calibration.fit(np.arange(31.0))

    assert calibration.surprise(15) == pytest.approx(0.301, abs=1e-3)
    assert calibration.surprise(7.5) == pytest.approx(-np.log10(0.75))
    assert calibration.surprise(-1) == 0


def test_far_beyond_the_largest_of_thirty_surprise_is_finite_and_still_grows() -> None:
    calibration = exponential(1)
    far = [calibration.surprise(10.0**power) for power in range(1, 12)]

    assert np.isfinite(far).all()
    assert (np.diff(far) > 0.5).all()


def test_thirty_clips_are_humbler_than_three_thousand() -> None:
    assert exponential(2, 30).surprise(15) < exponential(2, 3_000).surprise(15)


def test_scores_that_are_all_the_same_can_be_calibrated() -> None:
    calibration = Calibration.fit(np.full(5, 2.0))

    assert calibration.surprise(1.9) == 0
    assert np.isfinite(calibration.surprise(3.0))


@pytest.mark.parametrize("surprise", [1.0, 2.0, 3.0])
def test_normal_clips_reach_a_surprise_as_often_as_it_says(surprise: float) -> None:
    """Averaged over 2,000 machines with thirty clips each, whose normal scores are exponential."""
    reached = [np.exp(-reaching(exponential(seed), surprise)) for seed in range(2_000)]

    assert np.mean(reached) == pytest.approx(10**-surprise, rel=0.25)


@given(st.floats(1, 60), st.integers(1, 10), st.floats(0.01, 10))
def test_clips_in_a_row_share_the_alarm_threshold(clip_s: float, on_delay: int, per_week: float) -> None:
    alone = alarm_threshold(clip_s, 1, per_week)

    assert alarm_threshold(clip_s, on_delay, per_week) * on_delay == pytest.approx(alone)
    assert 10**-alone * WEEK_S / clip_s == pytest.approx(per_week)


@given(st.floats(0.1, 10))
def test_health_is_10_for_the_usual_4_at_the_alarm_and_1_at_worst(alarm: float) -> None:
    assert health_index(0.0, alarm) == 10
    assert health_index(min(1.0, alarm / 2), alarm) == 10
    assert health_index(alarm, alarm) == 4
    assert health_index(100.0, alarm) == 1


@given(st.floats(0, 50), st.floats(0, 50), st.floats(0.1, 10))
def test_health_is_a_whole_number_that_never_rises_with_surprise(surprise: float, more: float, alarm: float) -> None:
    before, after = health_index(surprise, alarm), health_index(surprise + more, alarm)

    assert isinstance(before, int)
    assert 1 <= after <= before <= 10
