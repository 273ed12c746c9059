"""Slow changes of scores, and what is none."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edge_asd.alarm.drift import Chart, Drift, Quantity, Shift, observe, reach, student

if TYPE_CHECKING:
    from collections.abc import Iterable

DAYS = Chart(hour=1, day=1)
"""each score is a day, so both quantities are the same"""


def follow(scores: Iterable[float], chart: Chart = DAYS, drift: Drift | None = None) -> tuple[Drift, list[Shift]]:
    """All of them, and all that was said."""
    drift, said = drift or Drift(), []
    for score in scores:
        drift, shift = observe(chart, drift, score)
        said += [shift] if shift else []
    return drift, said


def begun(scores: Iterable[float], chart: Chart = DAYS) -> int | None:
    """The day on which a drift was found, counted from 0."""
    drift = Drift()
    for day, score in enumerate(scores):
        drift, shift = observe(chart, drift, score)
        if shift:
            return day
    return None


def normal(seed: int, days: int) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).standard_normal(days)]


@given(st.floats(-50, 50), st.integers(2, 60))
def test_students_distribution_is_that_of_scipy(t: float, degrees: int) -> None:
    assert student(t, degrees) == pytest.approx(stats.t.cdf(t, degrees), abs=1e-12)


def test_a_day_is_judged_by_the_days_before_it_as_students_distribution_has_it() -> None:
    known, value = [0.4, 1.9, -0.3, 1.1, 0.6], 3.0
    drift, _ = follow([*known, value])
    t = (value - np.mean(known)) / np.std(known, ddof=1) / math.sqrt(1 + 1 / len(known))
    expected = stats.norm.ppf(stats.t.cdf(t, len(known) - 1)) - DAYS.slack
    assert 0 < expected < 3 - DAYS.slack
    assert drift.tracks[Quantity.MEDIAN].up == pytest.approx(expected, abs=1e-6)


def test_the_first_weeks_are_the_measure_of_all_that_comes_after_them() -> None:
    days = normal(4, 28)
    track = follow([*days, *normal(2, 100)])[0].tracks[Quantity.UPPER]
    assert track.days == 28
    assert track.mean == pytest.approx(np.mean(np.round(days, 4)))
    assert track.spread == pytest.approx(np.std(np.round(days, 4), ddof=1))


def test_a_day_is_the_median_of_its_hours() -> None:
    chart = Chart(hour=11, day=5)
    scores = np.random.default_rng(3).standard_normal((5, 11)).round(4)
    drift, _ = follow(map(float, scores.ravel()), chart)
    middle = np.median(np.median(scores, axis=1))
    upper = np.median(np.quantile(scores, 0.9, axis=1))
    assert drift.tracks[Quantity.MEDIAN].now == pytest.approx(middle)
    assert drift.tracks[Quantity.UPPER].now == pytest.approx(upper)
    assert not drift.scores
    assert not drift.hours


def test_hours_are_counted_in_clips() -> None:
    assert [Chart.of(seconds).hour for seconds in (10.0, 1.0, 7200.0)] == [360, 3600, 1]


@pytest.mark.parametrize(("sign", "word"), [(1, "stranger day by day"), (-1, "less strange")])
def test_a_change_that_lasts_is_found_within_days_in_either_direction(sign: int, word: str) -> None:
    found = begun([*normal(5, 40), *(sign * 3 + x for x in normal(6, 30))])
    assert found is not None
    assert 40 < found <= 46
    _, said = follow([*normal(5, 40), *(sign * 3 + x for x in normal(6, 30))])
    assert [shift.begins for shift in said] == [True]
    assert word in said[0].advice
    assert sign * (said[0].now - said[0].before) > said[0].spread


def test_a_change_over_months_is_found_though_no_day_differs_from_the_day_before() -> None:
    days = [x + 0.03 * max(n - 28, 0) for n, x in enumerate(normal(7, 300))]
    found = begun(days)
    assert found is not None
    assert found < 28 + 120


def test_what_only_a_tenth_of_the_clips_does_is_found_in_the_upper_quantity() -> None:
    chart, rng = Chart(hour=20, day=3), np.random.default_rng(8)
    drift = Drift()
    for day in range(60):
        scores = rng.standard_normal((3, 20))
        scores[:, :4] += 4.0 * (day >= 30)
        drift, shift = observe_all(chart, drift, scores.ravel())
        if shift:
            break
    assert shift
    assert shift.quantity is Quantity.UPPER
    assert "the strangest clips" in shift.advice


def observe_all(chart: Chart, drift: Drift, scores: Iterable[float]) -> tuple[Drift, Shift | None]:
    drift, said = follow(map(float, scores), chart, drift)
    return drift, said[-1] if said else None


def test_a_large_change_in_the_first_weeks_does_not_become_their_measure() -> None:
    days = [*normal(5, 7), *(12 + x for x in normal(6, 20))]
    found = begun(days)
    assert found is not None
    assert found < 7 + 6
    assert follow(days)[0].tracks[Quantity.MEDIAN].mean < 6


@given(st.integers(0, 99), st.floats(-1e6, 1e6))
def test_one_day_whatever_it_was_is_no_drift(seed: int, odd: float) -> None:
    days = [0.1 * x for x in normal(seed, 6)]
    assert begun([*days, odd]) is None


@given(st.integers(0, 50), st.floats(-0.1, 0.1))
def test_what_processors_may_differ_by_is_no_drift(days: int, moved: float) -> None:
    """A machine whose days are all alike; 0.1 standard deviations is what another processor may add."""
    assert begun([*[0.5] * (5 + days), *[0.5 + moved] * 400]) is None


def test_a_drift_is_told_once_and_that_it_is_over_once() -> None:
    drift, said = follow([*normal(5, 40), *(3 + x for x in normal(6, 60)), *normal(9, 40)])
    assert [shift.begins for shift in said] == [True, False]
    assert "nothing is to be done" in said[-1].advice
    assert not drift.lasting
    assert reach(DAYS, drift) < 0.5


def test_nothing_is_learned_while_a_drift_lasts() -> None:
    drift, _ = follow([*normal(5, 10), *[9.0] * 30])
    later, _ = follow([9.0] * 30, drift=drift)
    assert drift.lasting
    assert reach(DAYS, later) == 1.0
    assert later.tracks == drift.tracks
    assert later.tracks[Quantity.MEDIAN].days < 28


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=80), st.integers(0, 80), st.integers(1, 4), st.integers(1, 3))
def test_a_restart_between_any_two_clips_changes_nothing(scores: list[float], cut: int, hour: int, day: int) -> None:
    chart = Chart(hour, day)
    before, _ = follow(scores[:cut], chart)
    recalled = Drift.recalled(json.loads(json.dumps(before.kept())))
    assert recalled == before
    assert follow(scores[cut:], chart, recalled)[0] == follow(scores, chart)[0]


@pytest.mark.parametrize("kept", [{}, {"scores": [], "hours": [], "tracks": {}, "lasting": False}])
def test_what_was_not_kept_by_us_is_not_recalled(kept: dict[str, object]) -> None:
    with pytest.raises(KeyError):
        Drift.recalled(kept)


@pytest.mark.parametrize("wrong", [{"hour": 0}, {"least": 2}, {"most": 4}, {"limit": 0.0}])
def test_a_chart_that_cannot_be_is_refused_with_its_values(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        Chart(**wrong)


# How often it errs ----------------------------------------------------------------------------------------------------


@cache
def years() -> tuple[int | None, ...]:
    """When a drift was found in each of 100 years of 365 days without any."""
    return tuple(begun(normal(seed, 365)) for seed in range(1000, 1100))


def test_of_years_without_a_drift_few_have_one_found() -> None:
    """A share of 0.04 by simulation; the bound is that of a binomial of 100 that is exceeded once in a thousand."""
    assert sum(day is not None for day in years()) <= stats.binom.ppf(0.999, 100, 0.05)
