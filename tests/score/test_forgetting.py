"""What more normal clips do to faults that are known."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.score.forgetting import Known, Recollection, remember
from edge_asd.score.head import Head, fit_head
from edge_asd.score.listener import evidence
from edge_asd.score.part import STATISTICS_PARTS, Evidence, Normal
from tests.example import COARSE, SECOND, noise

THRESHOLD = 2.0


def heard(seed: int, tone: float = 0.0) -> Evidence:
    """A clip of the machine, with a whistle that a fault makes."""
    time = np.arange(SECOND.clip) / SECOND.sample_rate
    whistle = tone * np.sin(2 * np.pi * 3000 * time)
    return evidence(SECOND, COARSE, None, noise(seed, SECOND.clip) + whistle.astype(np.float32))


@cache
def learned(extra: int = 0, tone: float = 0.0) -> Head:
    """From 20 normal clips, and so many more that whistle."""
    clips = [heard(seed) for seed in range(20)] + [heard(500 + seed, tone) for seed in range(extra)]
    return fit_head(STATISTICS_PARTS, [Normal(clip) for clip in clips])[0]


FAULTS = {"b-event-1": [heard(900 + n, 0.05) for n in range(3)], "b-event-2": [heard(910 + n, 0.06) for n in range(3)]}


def test_more_of_the_same_machine_makes_a_head_forget_nothing() -> None:
    recollection = remember(learned(), learned(4), FAULTS, THRESHOLD)
    assert len(recollection.heard) == 2
    assert (recollection.forgotten, recollection.reason) == ((), "")


def test_false_alarms_that_sound_like_a_known_fault_are_refused_with_the_numbers() -> None:
    recollection = remember(learned(), learned(12, 0.05), FAULTS, THRESHOLD)
    assert {fault.name for fault in recollection.forgotten} == set(FAULTS)
    first = recollection.forgotten[0]
    assert recollection.reason.startswith("2 of 2 known faults would not be heard any more (alarm threshold 2.00): ")
    assert f"b-event-1 from {first.before:.2f} to {first.after:.2f}" in recollection.reason


def test_the_clip_that_argues_least_decides() -> None:
    surprises = [learned().judge(clip).surprise for clip in FAULTS["b-event-1"]]
    (fault,) = remember(learned(), learned(), {"b-event-1": FAULTS["b-event-1"]}, THRESHOLD).faults
    assert fault.before == fault.after == min(surprises)


def test_a_fault_without_sound_is_left_out() -> None:
    assert remember(learned(), learned(), {"b-event-9": []}, THRESHOLD).faults == ()


def test_what_is_not_heard_now_cannot_be_forgotten() -> None:
    recollection = Recollection((Known("a", 1.9, 0.1), Known("b", 2.0, 2.0)), 2.0)
    assert [fault.name for fault in recollection.heard] == ["b"]
    assert not recollection.reason


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), max_size=6), st.floats(0.1, 9))
def test_a_head_may_judge_exactly_when_each_fault_that_raised_an_alarm_still_does(
    pairs: list[tuple[float, float]], threshold: float
) -> None:
    recollection = Recollection(tuple(Known(str(n), *pair) for n, pair in enumerate(pairs)), threshold)
    may = all(after >= threshold for before, after in pairs if before >= threshold)
    assert may is not bool(recollection.reason)
