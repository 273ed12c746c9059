from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_asd.capture.source import SourceState
from edge_asd.capture.state import RULES, UNSEEN, Condition, Tempo, Trouble, Watch, advance, heard
from edge_asd.signal.health import LSB, Fault
from edge_asd.signal.segment import Block

RATE = 16_000
NOISE = (0.05 * np.random.default_rng(0).standard_normal(4 * RATE)).astype(np.float32)


def told(seconds: list[set[Trouble]]) -> list[SourceState]:
    """The state after each second."""
    condition, states = Condition(), []
    for second in seconds:
        condition = advance(condition, dict.fromkeys(second, "why"))
        states.append(condition.state)
    return states


# The table ------------------------------------------------------------------------------------------------------------


def test_one_second_of_sound_makes_an_ear_that_starts_ok() -> None:
    assert Condition().state is SourceState.RECOVERING
    assert told([set()]) == [SourceState.OK]


@pytest.mark.parametrize("trouble", Trouble)
def test_a_trouble_is_told_after_its_onset_and_over_after_its_calm(trouble: Trouble) -> None:
    onset, calm = RULES[trouble].onset, RULES[trouble].calm
    states = told([{trouble}] * onset + [set()] * calm)

    assert states == [SourceState.OK] * (onset - 1) + [RULES[trouble].state] * calm + [SourceState.OK]


def test_every_fault_of_a_segment_has_a_rule_and_sound_can_bring_every_state_that_a_source_does_not() -> None:
    assert {Trouble(fault) for fault in Fault} == set(RULES) - UNSEEN - {Trouble.LOSS}
    assert {rule.state for rule in RULES.values()} == set(SourceState) - {
        SourceState.OK,
        SourceState.RECOVERING,
        SourceState.LOST,
    }


def test_what_makes_sound_unfit_at_once_is_told_within_ten_seconds() -> None:
    slow = {Trouble.BARE_NOISE, Trouble.GAIN, Trouble.COVERED, Trouble.FAINT}
    assert max(RULES[trouble].onset for trouble in RULES.keys() - slow) <= 3


def test_a_loose_plug_is_one_episode_with_one_reason() -> None:
    condition, notices = Condition(), []
    for second in range(60):
        shown = {Trouble.SILENT: f"silent at {second}"} if 10 <= second < 40 and second % 4 == 0 else {}
        condition = advance(condition, shown)
        notices.append((condition.state, condition.reason))

    assert [key for key, _ in groupby(notices)] == [
        (SourceState.OK, "audio flows"),
        (SourceState.SILENT, "silent at 12"),
        (SourceState.OK, "audio flows"),
    ]


def test_the_gravest_of_several_troubles_is_told() -> None:
    both = {Trouble.FAINT: "faint", Trouble.SILENT: "silent"}
    assert advance(Condition(), both).reason == "silent"


class Ear(RuleBasedStateMachine):
    """Any troubles in any order, and a plain count of seconds beside the fold."""

    def __init__(self) -> None:
        super().__init__()
        self.condition, self.seconds = Condition(), list[frozenset[Trouble]]()

    @rule(shown=st.frozensets(st.sampled_from(Trouble), max_size=2), times=st.integers(1, 70))
    def hear(self, shown: frozenset[Trouble], times: int) -> None:
        """The same for some seconds."""
        for _ in range(times):
            self.seconds.append(shown)
            self.condition = advance(self.condition, dict.fromkeys(shown, "why"))

    def episode(self, trouble: Trouble) -> int:
        """Bad seconds since it was last away for as long as its calm lasts."""
        bad = calm = 0
        for second in reversed(self.seconds):
            calm = 0 if trouble in second else calm + 1
            if calm == RULES[trouble].calm:
                break
            bad += trouble in second
        return bad

    @invariant()
    def the_state_is_the_first_whose_episode_is_long_enough(self) -> None:
        """As the table says."""
        standing = [rule.state for trouble, rule in RULES.items() if self.episode(trouble) >= rule.onset]
        expected = standing[0] if standing else SourceState.OK if self.seconds else SourceState.RECOVERING
        assert self.condition.state is expected


TestEar = Ear.TestCase
TestEar.settings = settings(max_examples=30, stateful_step_count=12, deadline=None)


# What a second shows --------------------------------------------------------------------------------------------------


def second(sound: np.ndarray) -> set[Trouble]:
    return set(heard(sound[:RATE].astype(np.float32), RATE))


def test_noise_shows_nothing() -> None:
    assert second(NOISE) == set()


@pytest.mark.parametrize(
    ("sound", "trouble"),
    [
        (np.zeros(RATE), Trouble.SILENT),
        (np.full(RATE, 0.25), Trouble.STUCK),
        (np.resize(NOISE[:1_024], RATE), Trouble.STUCK),
        (np.clip(100 * NOISE[:RATE], -1, 1), Trouble.CLIPPING),
        (np.append(NOISE[: RATE - 1], np.nan), Trouble.NOT_FINITE),
        (soxr.resample(NOISE[: RATE // 2], 8_000, RATE), Trouble.BAND_LIMITED),
        (np.round(NOISE[:RATE] * 0.01 / LSB) * LSB, Trouble.BARE_NOISE),
    ],
    ids=["zeros", "constant", "one buffer for ever", "overdriven", "nan", "half the rate", "no capsule"],
)
def test_each_trouble_is_seen_for_what_it_is(sound: np.ndarray, trouble: Trouble) -> None:
    assert second(sound) == {trouble}


def test_a_room_that_is_quieter_than_it_can_be_is_faint_only_when_its_floor_is_known() -> None:
    faint = np.cumsum(NOISE[:RATE] * 0.001).astype(np.float32)
    faint -= faint.mean()
    level = 20 * np.log10(faint.std())

    assert heard(faint, RATE) == {}
    assert heard(faint, RATE, level + 9) == {}
    assert set(heard(faint, RATE, level + 11)) == {Trouble.FAINT}


# Seconds out of blocks ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 3 * RATE), max_size=12), st.integers(0, 5 * RATE))
@settings(max_examples=30, deadline=None)
def test_seconds_are_the_same_however_sound_is_cut_into_blocks(cuts: list[int], start: int) -> None:
    sound = np.concatenate([NOISE[:RATE], np.zeros(RATE, np.float32), NOISE[:RATE]])
    edges = sorted({0, sound.size, *(cut for cut in cuts if cut < sound.size)})
    watch, seconds = Watch(RATE), []
    for a, b in pairwise(edges):
        seconds += watch.push(Block(start + a, sound[a:b]), 0.0)

    assert [set(shown) for shown in seconds] == [set(), {Trouble.SILENT}, set()]


@given(st.lists(st.tuples(st.integers(1, 30_000), st.integers(1, 50_000)), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_every_gap_is_in_a_second_that_shows_loss_and_no_bit_of_sound_is_judged_alone(
    runs: list[tuple[int, int]],
) -> None:
    watch, seconds, at = Watch(RATE), [], 0
    for samples, lost in runs:
        seconds += watch.push(Block(at, NOISE[:samples]), 0.0)
        at += samples + lost
    seconds += watch.push(Block(at, NOISE[: 2 * RATE]), 0.0)

    assert {trouble for shown in seconds for trouble in shown} == {Trouble.LOSS}
    lossy = sum(bool(shown) for shown in seconds)
    assert lossy <= len(runs)
    assert len(seconds) <= at // RATE + 2


# The clock ------------------------------------------------------------------------------------------------------------


def follow(tempo: Tempo, rates: list[tuple[float, float]], jitter_s: float = 0.04, seed: int = 0) -> list[str | None]:
    """Tenths of a second of sound, read late by chance; (seconds, true rate) one after another; a verdict a second."""
    rng, now, received, verdicts = np.random.default_rng(seed), 0.0, 0.0, []
    for seconds, rate in rates:
        for tenth in range(round(seconds * 10)):
            now, received = now + 0.1, received + rate / 10
            tempo.observe(now + rng.uniform(0, jitter_s), round(received))
            verdicts += [tempo.wrong()] if tenth % 10 == 9 else []
    return verdicts


@pytest.mark.parametrize("ppm", [-900, -100, 0, 100, 900])
@pytest.mark.parametrize("seed", range(5))
def test_a_quartz_is_never_wrong_and_nothing_is_missing(ppm: float, seed: int) -> None:
    tempo = Tempo(RATE)
    assert follow(tempo, [(300, RATE * (1 + ppm / 1e6))], seed=seed) == [None] * 300
    assert tempo.missing() == 0
    assert tempo.effective == pytest.approx(RATE * (1 + ppm / 1e6), rel=2e-4)


@pytest.mark.parametrize("rate", [8_000, 14_700, 15_500, 16_500, 17_415, 44_100])
def test_another_rate_is_told_within_ten_seconds_and_by_its_number(rate: int) -> None:
    verdicts = follow(Tempo(RATE), [(10, rate)])
    said = verdicts[-1]

    assert verdicts[:4] == [None] * 4
    assert said
    assert float(said.split()[0]) == pytest.approx(rate, rel=0.02)


def test_reading_late_for_a_while_is_not_another_rate() -> None:
    tempo = Tempo(RATE)
    for tenth in range(600):
        late = 0.6 * (200 <= tenth < 300) * (tenth % 5 != 0)
        tempo.observe(tenth / 10 + late, tenth * 1_600)
        assert tempo.wrong() is None


def test_samples_that_vanish_without_a_word_are_missed_within_two_minutes() -> None:
    tempo, found = Tempo(RATE), []
    for tenth in range(1_500):
        tempo.observe(tenth / 10, tenth * 1_600 - 4_800 * (tenth > 400))
        found.append(tempo.missing())

    assert sum(found) == pytest.approx(4_800, abs=2)
    assert np.flatnonzero(found).size == 1


def test_what_is_read_by_the_second_may_have_waited_and_says_nothing_of_the_rate() -> None:
    watch = Watch(RATE)
    for number in range(60):
        watch.push(Block(number * RATE, NOISE[:RATE]), number * 5.0)
    assert watch.tempo.effective == 0
