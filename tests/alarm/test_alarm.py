from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_asd.alarm.alarm import (
    MOST,
    SLACK,
    Alarm,
    Policy,
    Priority,
    State,
    Suppression,
    Transition,
    acknowledge,
    advance,
    elapse,
    reset,
    resume,
    shelve,
    suppress,
    unshelve,
    withdraw,
)
from edge_asd.errors import AlarmRefused
from edge_asd.score.calibration import WEEK_S, alarm_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_asd.alarm.alarm import Change

POLICY = Policy(threshold=4.0, deadband=0.5, on_delay=3, off_delay=6)
LATCHING = replace(POLICY, latch=True)
NERVOUS = Policy(threshold=4.0, on_delay=1, off_delay=2, chatter_count=3, chatter_clips=10, chatter_factor=4)
BELOW, BETWEEN, OVER = 1.0, 3.7, 9.0
ENDS = {Transition.RETURNED, Transition.LATCHED}

surprises = st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.floats(0, 10), st.sampled_from([3.5, 4.0]))
policies = st.builds(
    Policy,
    threshold=st.floats(0.1, 8),
    deadband=st.floats(0, 2),
    on_delay=st.integers(1, 5),
    off_delay=st.integers(1, 8),
    re_alarm=st.integers(0, 6),
    latch=st.booleans(),
    chatter_count=st.integers(2, 4),
    chatter_clips=st.integers(0, 30),
    chatter_factor=st.integers(1, 4),
    cusum=st.booleans(),
)


def fold(policy: Policy, clips: Sequence[float | None], alarm: Alarm | None = None) -> tuple[list[Alarm], list[str]]:
    """All states, and what happened, words of one clip joined; clips have ten samples."""
    alarm, states, happened = alarm or Alarm(), [], []
    for index, surprise in enumerate(clips):
        alarm, transitions = advance(policy, alarm, surprise, index * 10)
        states.append(alarm)
        happened.append(" ".join(transitions))
    return states, happened


def after(policy: Policy, clips: Sequence[float | None], alarm: Alarm | None = None) -> Alarm:
    return fold(policy, clips, alarm)[0][-1]


STANDING = after(POLICY, [OVER] * 3)
RETURNED = after(POLICY, [BELOW] * 6, STANDING)
LATCHED = after(LATCHING, [BELOW] * 6, STANDING)


# Raising and returning ------------------------------------------------------------------------------------------------


def test_three_clips_in_a_row_activate_and_two_do_not() -> None:
    assert fold(POLICY, [OVER, OVER, BELOW, OVER, OVER])[1] == [""] * 5
    assert fold(POLICY, [OVER, OVER, OVER])[1] == ["", "", "activated"]


def test_six_clips_below_the_deadband_return_the_alarm() -> None:
    states, happened = fold(POLICY, [OVER] * 3 + [BELOW] * 6)

    assert happened[3:] == ["", "", "", "", "", "returned"]
    assert not states[-1].active


def test_a_clip_inside_the_deadband_neither_raises_nor_returns() -> None:
    assert fold(POLICY, [BETWEEN] * 20)[1] == [""] * 20
    states, happened = fold(POLICY, [OVER] * 3 + [BETWEEN] * 20)
    assert happened[3:] == [""] * 20
    assert states[-1].active


def test_the_threshold_itself_argues_for_an_alarm_and_the_edge_of_the_deadband_not_for_its_return() -> None:
    assert after(POLICY, [4.0] * 3).active
    assert after(POLICY, [4.0] * 3 + [3.5] * 9).active


def test_an_alarm_says_since_when_and_how_many_clips_were_over() -> None:
    states, _ = fold(POLICY, [BELOW, OVER, OVER, OVER, BETWEEN, OVER] + [BELOW] * 6)

    raised, returned = states[3], states[-1]
    assert (raised.since, raised.clips_over, raised.count, raised.clips) == (10, 3, 1, 4)
    assert (returned.since, returned.clips_over, returned.count, returned.clips) == (60, 4, 1, 12)


def test_a_second_episode_counts_its_own_clips() -> None:
    last = after(POLICY, [OVER] * 3 + [BELOW] * 7 + [OVER] * 3)

    assert (last.clips_over, last.count) == (3, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": math.nan},
        {"threshold": math.inf},
        {"deadband": -0.1},
        {"deadband": math.inf},
        {"on_delay": 0},
        {"off_delay": 0},
        {"re_alarm": -1},
        {"chatter_count": 1},
        {"chatter_clips": -1},
        {"chatter_factor": 0},
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="delays >= 1 clip"):
        replace(POLICY, **wrong)


def test_a_policy_is_of_high_priority_unless_it_says_otherwise() -> None:
    assert POLICY.priority is Priority.HIGH


# Acknowledging, latching, resetting -----------------------------------------------------------------------------------


def test_a_machine_never_heard_is_normal_and_has_nothing_to_acknowledge() -> None:
    assert (Alarm().state, Alarm().acked, Alarm().suppression, Alarm().annunciated) == ("normal", True, "none", False)
    assert acknowledge(Alarm()) == (Alarm(), ())


def test_the_way_of_an_alarm_that_is_acknowledged_while_it_stands() -> None:
    acked, happened = acknowledge(STANDING)

    assert (STANDING.state, acked.state, happened) == ("active_unacked", "active_acked", ("acked",))
    assert after(POLICY, [BELOW] * 6, acked).state is State.NORMAL


def test_an_alarm_that_returned_unseen_waits_for_somebody_to_acknowledge_it() -> None:
    acked, happened = acknowledge(RETURNED)

    assert (RETURNED.state, RETURNED.annunciated) == ("rtn_unacked", False)
    assert (acked.state, happened) == ("normal", ("acked",))


def test_a_latch_holds_an_alarm_whose_condition_has_returned_until_it_is_acknowledged_and_reset() -> None:
    acked, _ = acknowledge(LATCHED)
    free, happened = reset(acked)

    assert fold(LATCHING, [BELOW] * 6, STANDING)[1][-1] == "latched"
    assert (LATCHED.state, LATCHED.annunciated) == ("latched_unacked", True)
    assert (acked.state, acked.annunciated) == ("latched_acked", True)
    assert (free.state, happened) == ("normal", ("reset",))


def test_an_alarm_acknowledged_before_it_returned_latches_acknowledged() -> None:
    assert after(LATCHING, [BELOW] * 6, acknowledge(STANDING)[0]).state is State.LATCHED_ACKED


@pytest.mark.parametrize(
    ("alarm", "first"),
    [
        (STANDING, "active_unacked: its condition must return to normal first"),
        (acknowledge(STANDING)[0], "active_acked: its condition must return to normal first"),
        (LATCHED, "latched_unacked: acknowledge it first"),
        (RETURNED, "rtn_unacked: acknowledge it first"),
    ],
)
def test_a_reset_too_early_is_refused_and_says_what_comes_first(alarm: Alarm, first: str) -> None:
    with pytest.raises(AlarmRefused, match=first):
        reset(alarm)


def test_where_nothing_is_latched_there_is_nothing_to_reset() -> None:
    assert reset(Alarm()) == (Alarm(), ())


@pytest.mark.parametrize(
    "before", [RETURNED, LATCHED, acknowledge(LATCHED)[0]], ids=["returned", "latched", "latched and acknowledged"]
)
def test_a_fault_that_comes_again_is_active_and_wants_a_new_acknowledgement(before: Alarm) -> None:
    again = after(LATCHING, [OVER] * 3, before)

    assert (again.state, again.count, again.latched) == ("active_unacked", 2, False)


def test_an_acknowledged_alarm_that_still_stands_alarms_again_after_the_clips_of_the_policy() -> None:
    policy = replace(POLICY, re_alarm=4)
    acked, _ = acknowledge(after(policy, [OVER, None], STANDING))

    states, happened = fold(policy, [OVER, None, BETWEEN, BELOW, OVER, OVER, OVER], acked)

    assert happened == ["", "", "", "", "realarmed", "", ""]
    assert [state.state for state in states][3:5] == ["active_acked", "active_unacked"]
    assert fold(policy, [OVER] * 5, acknowledge(states[-1])[0])[1] == ["", "", "", "realarmed", ""]


def test_nothing_alarms_again_that_is_over_or_when_the_policy_never_wants_it() -> None:
    policy = replace(LATCHING, re_alarm=8)

    assert fold(policy, [BELOW] * 30, acknowledge(STANDING)[0])[1] == [""] * 5 + ["latched"] + [""] * 24
    assert fold(POLICY, [OVER] * 500, acknowledge(STANDING)[0])[1] == [""] * 500


# Chattering -----------------------------------------------------------------------------------------------------------


def test_the_third_activation_in_the_window_is_chattering_and_makes_the_alarm_stay_longer() -> None:
    episode = [OVER, BELOW, BELOW]
    states, happened = fold(NERVOUS, episode * 2 + [OVER] + [BELOW] * 8)

    assert happened == ["activated", "", "returned"] * 2 + ["activated chattering"] + [""] * 7 + ["returned"]
    assert states[6].activations == (1, 4, 7)
    assert states[-1].chattering


def test_chattering_is_told_once_and_ends_after_a_window_of_normal_clips() -> None:
    chattering = after(NERVOUS, [OVER, BELOW, BELOW] * 2 + [OVER] + [BELOW] * 8)

    again, happened = fold(NERVOUS, [OVER] + [BELOW] * 8, chattering)
    calm, quiet = fold(NERVOUS, [BELOW] * 10, again[-1])

    assert happened == ["activated"] + [""] * 7 + ["returned"]
    assert [state.chattering for state in calm] == [True] * 9 + [False]
    assert quiet == [""] * 10
    assert fold(NERVOUS, [OVER, BELOW, BELOW], calm[-1])[1] == ["activated", "", "returned"]


def test_a_chattering_alarm_that_stands_for_long_has_not_calmed_down() -> None:
    chattering = after(NERVOUS, [OVER, BELOW, BELOW] * 2 + [OVER])

    assert fold(NERVOUS, [OVER] * 30 + [BELOW] * 8, chattering)[1] == [""] * 37 + ["returned"]


def test_activations_as_far_apart_as_the_window_is_long_are_no_chattering() -> None:
    inside = [OVER, BELOW, BELOW, BELOW, OVER, BELOW, BELOW, BELOW, BELOW, OVER]
    outside = [*inside[:-1], BELOW, OVER]

    assert fold(NERVOUS, inside)[1][-1] == "activated chattering"
    assert fold(NERVOUS, outside)[1][-1] == "activated"


def test_a_policy_without_a_window_has_no_guard_against_chattering() -> None:
    assert not after(replace(NERVOUS, chatter_clips=0), [OVER, BELOW, BELOW] * 20).chattering


# Suppression ----------------------------------------------------------------------------------------------------------


def test_shelving_hides_an_alarm_until_its_time_is_over_and_changes_no_condition() -> None:
    shelved, happened = shelve(STANDING, 60)
    nearly, nothing = elapse(shelved, 59.5)
    over, ended = elapse(nearly, 0.5)

    assert (happened, nothing, ended) == (("shelved",), (), ("unshelved",))
    assert (shelved.suppression, shelved.annunciated, shelved.state) == ("shelved", False, "active_unacked")
    assert nearly.shelved_s == pytest.approx(0.5)
    assert over == STANDING
    assert STANDING.annunciated


def test_a_one_shot_shelving_ends_when_the_condition_returns_or_before_when_its_time_is_over() -> None:
    shelved, _ = shelve(STANDING, 3600, one_shot=True)

    assert fold(POLICY, [BELOW] * 6, shelved)[1][-1] == "returned unshelved"
    assert fold(LATCHING, [BELOW] * 6, shelved)[1][-1] == "latched unshelved"
    assert after(POLICY, [BELOW] * 6, shelved) == RETURNED
    assert elapse(shelved, 3600) == (STANDING, ("unshelved",))


def test_a_shelving_of_an_alarm_that_does_not_stand_outlasts_its_next_episode_unless_it_is_one_shot() -> None:
    clips = [OVER] * 3 + [BELOW] * 6

    assert after(POLICY, clips, shelve(Alarm(), 900)[0]).suppression is Suppression.SHELVED
    assert after(POLICY, clips, shelve(Alarm(), 900, one_shot=True)[0]).suppression is Suppression.NONE


def test_shelving_again_sets_a_new_time_and_the_same_again_changes_nothing() -> None:
    shelved, _ = shelve(STANDING, 60)

    assert shelve(shelved, 60) == (shelved, ())
    assert shelve(elapse(shelved, 50)[0], 60) == (shelved, ("shelved",))
    assert shelve(shelved, 60, one_shot=True) == (replace(shelved, one_shot=True), ("shelved",))


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_shelving_without_an_end_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite time of shelving > 0 s"):
        shelve(STANDING, seconds)


@pytest.mark.parametrize("seconds", [-0.1, math.nan])
def test_time_never_runs_backwards(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds >= 0"):
        elapse(Alarm(), seconds)


def test_the_strongest_suppression_is_the_one_that_is_named() -> None:
    alarm, named, happened = STANDING, [], []
    for act in (
        lambda one: shelve(one, 60),
        lambda one: suppress(one, on=True),
        lambda one: withdraw(one, on=True),
        unshelve,
        lambda one: suppress(one, on=False),
        lambda one: withdraw(one, on=False),
    ):
        alarm, transitions = act(alarm)
        named.append(alarm.suppression)
        happened += transitions

    assert named == ["shelved", "by_design", "out_of_service", "out_of_service", "out_of_service", "none"]
    assert happened == ["shelved", "suppressed", "out_of_service", "unshelved", "unsuppressed", "in_service"]
    assert alarm == STANDING


def test_a_suppressed_alarm_is_raised_unseen_and_presented_once_the_suppression_ends() -> None:
    for hide, show in (
        (lambda one: shelve(one, 60)[0], lambda one: unshelve(one)[0]),
        (lambda one: suppress(one, on=True)[0], lambda one: suppress(one, on=False)[0]),
        (lambda one: withdraw(one, on=True)[0], lambda one: withdraw(one, on=False)[0]),
    ):
        states, happened = fold(POLICY, [OVER] * 3, hide(Alarm()))
        assert happened[-1] == "activated"
        assert not states[-1].annunciated
        assert show(states[-1]).annunciated


def test_a_new_run_takes_the_alarm_up_where_the_last_one_left_it_but_for_the_indices_of_its_samples() -> None:
    left = after(POLICY, [BELOW, OVER, OVER], shelve(RETURNED, 60)[0])
    taken_up = resume(left)
    again, happened = advance(POLICY, taken_up, OVER, 70)

    assert left.streak_start == 10
    assert replace(taken_up, since=left.since, streak_start=10) == left
    assert (again.since, happened) == (0, ("activated",))


# Whatever arrives -----------------------------------------------------------------------------------------------------


@given(policies, st.lists(surprises, max_size=80))
def test_activations_and_returns_take_turns_whatever_arrives(policy: Policy, clips: Sequence[float | None]) -> None:
    words = " ".join(fold(policy, clips)[1]).split()
    seen = [word for word in words if word == "activated" or word in ENDS]

    end = "latched" if policy.latch else "returned"
    assert seen == [("activated", end)[i % 2] for i in range(len(seen))]


@given(policies.map(lambda policy: replace(policy, chatter_clips=0, cusum=False)), st.lists(surprises, max_size=80))
def test_the_condition_is_that_of_looking_back_over_all_clips_since_it_changed(
    policy: Policy, clips: Sequence[float | None]
) -> None:
    active, heard = False, []
    for clip, state in zip(clips, fold(policy, clips)[0], strict=True):
        if clip is not None and not math.isnan(clip):
            heard.append(clip)
        delay = policy.off_delay if active else policy.on_delay
        late = heard[-delay:]
        quiet = [one < policy.threshold - policy.deadband for one in late]
        loud = [one >= policy.threshold for one in late]
        if len(late) == delay and all(quiet if active else loud):
            active, heard = not active, []
        assert state.active is active


@given(policies, st.lists(surprises, max_size=40), st.sampled_from([None, math.nan]), st.integers(0, 5))
def test_invalid_audio_changes_nothing(
    policy: Policy, clips: Sequence[float | None], invalid: float | None, count: int
) -> None:
    before = after(policy, clips) if clips else Alarm()

    states, happened = fold(policy, [invalid] * count, before)

    assert set(states) <= {before}
    assert set(happened) <= {""}


@given(policies, st.lists(surprises, max_size=60))
def test_invalid_clips_could_as_well_not_have_been_there(policy: Policy, clips: Sequence[float | None]) -> None:
    heard = [clip for clip in clips if clip is not None and not math.isnan(clip)]

    everything = [words for words in fold(policy, clips)[1] if words]
    assert everything == [words for words in fold(policy, heard)[1] if words]


@given(policies.filter(lambda policy: policy.on_delay > 1), st.lists(st.booleans(), max_size=60))
def test_a_single_spike_never_fires(policy: Policy, spikes: list[bool]) -> None:
    """However often one comes, as long as a quiet clip follows."""
    clips = [clip for spike in spikes for clip in ([math.inf, 0.0] if spike else [0.0])]

    assert set(fold(policy, clips)[1]) <= {""}


@given(policies, st.lists(st.floats(0, 10), max_size=60), st.floats(0, 5))
def test_louder_evidence_never_raises_the_first_alarm_later(
    policy: Policy, clips: Sequence[float | None], more: float
) -> None:
    def first(sequence: Sequence[float]) -> float:
        counts = [state.count for state in fold(policy, sequence)[0]]
        return counts.index(1) if 1 in counts else math.inf

    assert first([clip + more for clip in clips]) <= first(clips)


class AlarmMachine(RuleBasedStateMachine):
    """An alarm in the hands of clips, time and operators, beside a twin that nobody ever suppresses."""

    @initialize(policy=policies)
    def _begin(self, policy: Policy) -> None:
        self.policy, self.alarm, self.twin = policy, Alarm(), Alarm()
        self.raised, self.turns, self.starts = 0, [], 0

    def _both(self, step: Callable[[Alarm], Change]) -> tuple[Transition, ...]:
        """The same for both; what happened, but for the end of a one-shot shelving, is the same, too."""
        self.alarm, happened = step(self.alarm)
        self.twin, plain = step(self.twin)
        assert [word for word in happened if word is not Transition.UNSHELVED] == list(plain)
        return plain

    def _hear(self, surprise: float) -> tuple[Transition, ...]:
        self.starts += 10
        happened = self._both(lambda alarm: advance(self.policy, alarm, surprise, self.starts))
        self.turns += [word for word in happened if word is Transition.ACTIVATED or word in ENDS]
        self.raised += happened.count(Transition.ACTIVATED)
        return happened

    @rule(surprise=st.floats(0, 10), clips=st.integers(1, 4))
    def _clips(self, surprise: float, clips: int) -> None:
        for _ in range(clips):
            self._hear(surprise)

    @rule()
    def _fault(self) -> None:
        for _ in range(self.policy.on_delay):
            self._hear(math.inf)
        assert self.alarm.active

    @rule()
    def _repair(self) -> None:
        stood = self.alarm.active
        for _ in range(self.policy.off_delay * self.policy.chatter_factor):
            self._hear(-math.inf)
        assert not self.alarm.active
        assert not (stood and self.alarm.one_shot)

    @precondition(lambda self: self.policy.on_delay > 1 and not self.alarm.active)
    @rule()
    def _spike(self) -> None:
        for surprise in (-math.inf, math.inf, -math.inf):
            assert Transition.ACTIVATED not in self._hear(surprise)

    @rule(invalid=st.sampled_from([None, math.nan]))
    def _silence(self, invalid: float | None) -> None:
        assert advance(self.policy, self.alarm, invalid, self.starts) == (self.alarm, ())

    @rule(seconds=st.floats(0, 100))
    def _time(self, seconds: float) -> None:
        before = self.alarm
        self.alarm, happened = elapse(before, seconds)
        over = before.shelved_s is not None and before.shelved_s <= seconds
        assert happened == (Transition.UNSHELVED,) * over

    @rule()
    def _ack(self) -> None:
        needed = not self.alarm.acked
        assert self._both(acknowledge) == (Transition.ACKED,) * needed
        assert acknowledge(self.alarm) == (self.alarm, ())

    @rule()
    def _reset(self) -> None:
        if self.alarm.active or not self.alarm.acked:
            for one in (self.alarm, self.twin):
                with pytest.raises(AlarmRefused):
                    reset(one)
            return
        held = self.alarm.latched
        assert self._both(reset) == (Transition.RESET,) * held
        assert self.alarm.state is State.NORMAL
        assert reset(self.alarm) == (self.alarm, ())

    @rule(
        act=st.one_of(
            st.builds(lambda s, once: lambda alarm: shelve(alarm, s, one_shot=once), st.floats(1, 100), st.booleans()),
            st.just(unshelve),
            st.builds(lambda on: lambda alarm: suppress(alarm, on=on), st.booleans()),
            st.builds(lambda on: lambda alarm: withdraw(alarm, on=on), st.booleans()),
        )
    )
    def _hide_or_show(self, act: Callable[[Alarm], Change]) -> None:
        before = self.alarm
        self.alarm, happened = act(before)
        assert bool(happened) == (self.alarm != before)
        assert act(self.alarm) == (self.alarm, ())

    @rule()
    def _restart(self) -> None:
        self.alarm, self.twin = resume(self.alarm), resume(self.twin)

    @invariant()
    def _a_suppressed_alarm_is_evaluated_as_its_twin(self) -> None:
        shown = replace(self.alarm, shelved_s=None, one_shot=False, by_design=False, out_of_service=False)
        assert shown == self.twin
        assert self.alarm.state is self.twin.state
        assert self.twin.suppression is Suppression.NONE

    @invariant()
    def _raising_and_clearing_take_turns(self) -> None:
        assert all((word is Transition.ACTIVATED) == (i % 2 == 0) for i, word in enumerate(self.turns))
        assert self.alarm.active is (len(self.turns) % 2 == 1)
        assert self.alarm.count == self.raised

    @invariant()
    def _what_is_shown_agrees(self) -> None:
        held = self.alarm.active or self.alarm.latched
        assert self.alarm.annunciated is (held and self.alarm.suppression is Suppression.NONE)
        assert not (self.alarm.active and self.alarm.latched)
        assert len(self.alarm.activations) <= self.policy.chatter_count

    @invariant()
    def _json_gives_back_the_same_alarm(self) -> None:
        assert Alarm(**json.loads(json.dumps(asdict(self.alarm), allow_nan=False))) == self.alarm


TestAlarmMachine = AlarmMachine.TestCase
TestAlarmMachine.settings = settings(max_examples=100, stateful_step_count=40)


# What is a little strange for long ------------------------------------------------------------------------------------

PATIENT = Policy(threshold=1.594, cusum=True)
"""three clips in a row, once a week for clips of ten seconds"""
A_LITTLE = 1.3
"""below the threshold, and three times what normal clips have in the mean"""


def run_length(policy: Policy, states: int = 1000) -> float:
    """Clips until the sum of exponential surprises reaches its limit, in the mean (Page's integral equation)."""
    width = policy.limit / states
    sums = (np.arange(states) + 0.5) * width
    sums[0] = 0.0
    reach = np.arange(1, states + 1) * width - sums[:, None] + SLACK
    below = np.where(reach < 0, 0.0, np.where(reach >= MOST, 1.0, 1.0 - 10.0 ** -np.maximum(reach, 0.0)))
    moves = np.diff(below, axis=1, prepend=0.0)
    return float(np.linalg.solve(np.eye(states) - moves, np.ones(states))[0])


@pytest.mark.parametrize(("clip_s", "on_delay", "a_week"), [(10, 3, 1.0), (10, 1, 1.0), (4, 2, 7.0), (60, 3, 0.1)])
def test_a_sum_reaches_its_limit_a_tenth_as_often_as_is_stated(clip_s: float, on_delay: int, a_week: float) -> None:
    policy = replace(PATIENT, threshold=alarm_threshold(clip_s, on_delay, a_week), on_delay=on_delay)
    weeks = run_length(policy) * clip_s / WEEK_S
    assert weeks * a_week == pytest.approx(10, rel=0.1)


def test_what_is_a_little_strange_for_two_minutes_raises_the_alarm_where_days_are_known() -> None:
    states, happened = fold(PATIENT, [0.2] * 5 + [A_LITTLE] * 12)
    assert happened.index("activated") < 17
    assert next(state.since for state in states if state.active) == 50
    assert not any(fold(replace(PATIENT, cusum=False), [A_LITTLE] * 100)[1])


@given(surprises=st.lists(st.one_of(st.none(), st.just(math.inf), st.floats(0, 12)), max_size=80))
def test_the_sum_is_that_of_the_latest_clips_which_is_largest(surprises: list[float | None]) -> None:
    never = replace(PATIENT, threshold=1e3)
    alarm = after(never, surprises) if surprises else Alarm()
    beyond = [min(surprise, MOST) - SLACK for surprise in surprises if surprise is not None]
    assert alarm.sum == pytest.approx(max(sum(beyond[first:]) for first in range(len(beyond) + 1)), abs=1e-9)


@given(policies, st.lists(surprises, max_size=20))
def test_no_alarm_comes_sooner_than_on_delay_clips(policy: Policy, clips: Sequence[float | None]) -> None:
    heard = [clip for clip in clips if clip is not None and not math.isnan(clip)]
    states, _ = fold(policy, heard[: policy.on_delay - 1])
    assert not any(state.active for state in states)


def test_three_slams_of_a_door_are_no_alarm() -> None:
    assert not any(fold(PATIENT, [math.inf, 0.3, math.inf, 0.3, 0.3, math.inf, 0.3])[1])


def test_an_alarm_for_long_returns_when_the_machine_is_as_usual_and_not_before() -> None:
    raised = after(PATIENT, [A_LITTLE] * 12)
    assert raised.active
    assert not any(fold(PATIENT, [A_LITTLE, 0.9] * 50, raised)[1])  # most clips are below the deadband by themselves
    assert "returned" in fold(PATIENT, [0.4] * 6, raised)[1]


def test_an_alarm_of_three_in_a_row_returns_as_soon_where_sums_count() -> None:
    assert fold(PATIENT, [OVER] * 30 + [0.2] * 6)[1] == fold(replace(PATIENT, cusum=False), [OVER] * 30 + [0.2] * 6)[1]
