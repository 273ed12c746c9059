from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.alarm.alarm import Alarm, Policy, Transition, advance

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICY = Policy(threshold=4.0, deadband=0.5, on_delay=3, off_delay=6)
BELOW, BETWEEN, OVER = 1.0, 3.7, 9.0

surprises = st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.floats(0, 10), st.sampled_from([3.5, 4.0]))
policies = st.builds(
    Policy,
    threshold=st.floats(0.1, 8),
    deadband=st.floats(0, 2),
    on_delay=st.integers(1, 5),
    off_delay=st.integers(1, 8),
)


def fold(
    policy: Policy, clips: Sequence[float | None], alarm: Alarm | None = None
) -> tuple[list[Alarm], list[Transition | None]]:
    """All states and transitions, one a clip of ten samples."""
    alarm, states, transitions = alarm or Alarm(), [], []
    for index, surprise in enumerate(clips):
        alarm, transition = advance(policy, alarm, surprise, index * 10)
        states.append(alarm)
        transitions.append(transition)
    return states, transitions


def test_three_clips_in_a_row_activate_and_two_do_not() -> None:
    assert fold(POLICY, [OVER, OVER, BELOW, OVER, OVER])[1] == [None] * 5
    assert fold(POLICY, [OVER, OVER, OVER])[1] == [None, None, Transition.ACTIVATED]


def test_six_clips_below_the_deadband_return_the_alarm() -> None:
    states, transitions = fold(POLICY, [OVER] * 3 + [BELOW] * 6)

    assert transitions[-1] is Transition.RETURNED
    assert not states[-1].active


def test_a_clip_inside_the_deadband_neither_raises_nor_returns() -> None:
    assert fold(POLICY, [BETWEEN] * 20)[1] == [None] * 20
    states, transitions = fold(POLICY, [OVER] * 3 + [BETWEEN] * 20)
    assert transitions[3:] == [None] * 20
    assert states[-1].active


def test_the_threshold_itself_argues_for_an_alarm_and_the_edge_of_the_deadband_not_for_its_return() -> None:
    assert fold(POLICY, [4.0] * 3)[0][-1].active
    assert fold(POLICY, [4.0] * 3 + [3.5] * 9)[0][-1].active


def test_an_alarm_says_since_when_and_how_many_clips_were_over() -> None:
    states, _ = fold(POLICY, [BELOW, OVER, OVER, OVER, BETWEEN, OVER] + [BELOW] * 6)

    raised, returned = states[3], states[-1]
    assert (raised.since, raised.clips_over, raised.count) == (10, 3, 1)
    assert (returned.since, returned.clips_over, returned.count) == (60, 4, 1)


def test_a_second_episode_counts_its_own_clips() -> None:
    states, _ = fold(POLICY, [OVER] * 3 + [BELOW] * 7 + [OVER] * 3)

    assert (states[-1].clips_over, states[-1].count) == (3, 2)


@pytest.mark.parametrize(
    "wrong", [{"threshold": math.nan}, {"deadband": -0.1}, {"on_delay": 0}, {"off_delay": 0}, {"threshold": math.inf}]
)
def test_a_policy_that_cannot_be_followed_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="delays >= 1 clip"):
        replace(POLICY, **wrong)


@given(policies, st.lists(surprises, max_size=80))
def test_activated_and_returned_take_turns_whatever_arrives(policy: Policy, clips: Sequence[float | None]) -> None:
    seen = [transition for transition in fold(policy, clips)[1] if transition]

    assert seen == [list(Transition)[i % 2] for i in range(len(seen))]


@given(policies, st.lists(surprises, max_size=80))
def test_the_state_and_the_count_follow_the_transitions(policy: Policy, clips: Sequence[float | None]) -> None:
    states, transitions = fold(policy, clips)
    raised = 0
    for state, transition in zip(states, transitions, strict=True):
        raised += transition is Transition.ACTIVATED
        assert state.count == raised
        if transition:
            assert state.active is (transition is Transition.ACTIVATED)


@given(policies, st.lists(surprises, max_size=40), st.sampled_from([None, math.nan]), st.integers(0, 5))
def test_invalid_audio_changes_nothing(
    policy: Policy, clips: Sequence[float | None], invalid: float | None, count: int
) -> None:
    before = fold(policy, clips)[0][-1] if clips else Alarm()

    states, transitions = fold(policy, [invalid] * count, before)

    assert set(states) <= {before}
    assert set(transitions) <= {None}


@given(policies, st.lists(surprises, max_size=60))
def test_invalid_clips_could_as_well_not_have_been_there(policy: Policy, clips: Sequence[float | None]) -> None:
    heard = [clip for clip in clips if clip is not None and not math.isnan(clip)]

    everything = [transition for transition in fold(policy, clips)[1] if transition]
    assert everything == [transition for transition in fold(policy, heard)[1] if transition]


@given(policies.filter(lambda policy: policy.on_delay > 1), st.lists(st.booleans(), max_size=60))
def test_a_single_spike_never_fires(policy: Policy, spikes: list[bool]) -> None:
    """However often one comes, as long as a quiet clip follows."""
    clips = [clip for spike in spikes for clip in ([math.inf, 0.0] if spike else [0.0])]

    assert set(fold(policy, clips)[1]) <= {None}


@given(policies, st.lists(st.floats(0, 10), max_size=60), st.floats(0, 5))
def test_louder_evidence_never_raises_the_first_alarm_later(
    policy: Policy, clips: Sequence[float | None], more: float
) -> None:
    def first(sequence: Sequence[float]) -> float:
        transitions = fold(policy, sequence)[1]
        return transitions.index(Transition.ACTIVATED) if Transition.ACTIVATED in transitions else math.inf

    assert first([clip + more for clip in clips]) <= first(clips)
