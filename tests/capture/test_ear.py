from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.capture.ear import AGE_S, HEALTHY_S, Ear
from edge_asd.capture.source import Loss, SourceState
from edge_asd.capture.state import RULES, Trouble
from edge_asd.errors import SourceError
from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from collections.abc import Callable


RATE = 4_000
READ = RATE // 4
"""samples of a read, every quarter of a second"""
NOISE = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)


@dataclass
class Microphone:
    """Gives a quarter of a second a read until it fails or ends after so many."""

    fails_after: float = float("inf")
    ends_after: float = float("inf")
    gain: float = 1.0
    zeros: range = range(0)
    """reads that give silence"""
    hangs: range = range(0)
    """reads that give nothing"""
    loss: Loss = field(default_factory=Loss)
    reads: int = 0
    closed: bool = False
    fill: float = 0.0

    @property
    def ended(self) -> bool:
        """After so many reads."""
        return self.reads >= self.ends_after

    def read(self) -> Block | None:
        """A quarter of a second of noise, mostly."""
        if self.reads >= self.fails_after:
            msg = "the device has been unplugged; plug it in"
            raise SourceError(msg)
        self.reads += 1
        number = self.reads - 1
        if number in self.hangs:
            return None
        quarter = NOISE[number % 4 * READ :][:READ] * np.float32(self.gain * (1 + number / 100))
        return Block(number * READ, 0 * quarter if number in self.zeros else quarter)

    def close(self) -> None:
        """Let go."""
        self.closed = True


@dataclass
class Bench:
    """An ear, the microphones it will be given, and the time."""

    microphones: list[Microphone | str]
    now: float = 0.0
    live: bool = False
    opened: list[float] = field(default_factory=list)
    ear: Ear = field(init=False)

    def __post_init__(self) -> None:
        self.ear = Ear("mic0", self._open, lambda: self.now, RATE, self.live)

    def _open(self) -> Microphone:
        self.opened.append(self.now)
        microphone = self.microphones.pop(0) if self.microphones else "gone"
        if isinstance(microphone, str):
            raise SourceError(microphone)
        return microphone

    def run(self, seconds: float, step: float = 0.25) -> list[Block]:
        """Read every quarter of a second."""
        blocks = []
        for _ in range(round(seconds / step)):
            block = self.ear.read()
            blocks += [block] if block else []
            self.now += step
        return blocks


@pytest.fixture
def bench() -> Callable[..., Bench]:
    return lambda *microphones, live=False: Bench(list(microphones), live=live)


def test_a_source_that_cannot_be_opened_is_tried_after_half_a_second_1_2_and_at_most_8(
    bench: Callable[..., Bench],
) -> None:
    gone = bench()
    gone.run(60)

    assert [b - a for a, b in pairwise(gone.opened)] == [0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8]
    assert gone.ear.restarts == len(gone.opened)


def test_an_ear_begins_by_recovering_and_is_ok_after_a_second_of_sound(bench: Callable[..., Bench]) -> None:
    fine = bench(Microphone())
    assert (fine.ear.state, fine.ear.reason) == (SourceState.RECOVERING, "starting")

    fine.run(0.75)
    assert fine.ear.state is SourceState.RECOVERING
    fine.run(0.25)
    assert (fine.ear.state, fine.ear.reason) == (SourceState.OK, "audio flows")


def test_why_a_source_is_lost_is_what_it_said(bench: Callable[..., Bench]) -> None:
    unplugged = bench(Microphone(fails_after=4))
    unplugged.run(1)
    assert unplugged.ear.state is SourceState.OK

    unplugged.run(0.25)
    assert (unplugged.ear.state, unplugged.ear.reason) == (
        SourceState.LOST,
        "the device has been unplugged; plug it in",
    )
    unplugged.run(1)
    assert unplugged.ear.reason == "gone"


def test_an_ear_is_as_full_as_its_source_and_empty_without_one(bench: Callable[..., Bench]) -> None:
    full = bench(Microphone(fails_after=1, fill=0.75))
    assert full.ear.fill == 0
    full.run(0.25)
    assert full.ear.fill == 0.75
    full.run(0.25)
    assert full.ear.fill == 0


def test_a_source_that_failed_is_closed(bench: Callable[..., Bench]) -> None:
    microphone = Microphone(fails_after=1)
    bench(microphone).run(1)
    assert microphone.closed


def test_a_minute_of_health_makes_the_next_failure_the_first(bench: Callable[..., Bench]) -> None:
    sick = bench("no", "no", Microphone(fails_after=4 * HEALTHY_S + 2), "no", "no")
    sick.run(80)

    assert np.diff(sick.opened).round(2).tolist()[:2] == [0.5, 1]
    failed = sick.opened[2] + HEALTHY_S + 0.5
    assert [at - failed for at in sick.opened[3:6]] == [0.5, 1.5, 3.5]


def test_less_than_a_minute_does_not(bench: Callable[..., Bench]) -> None:
    sick = bench("no", "no", Microphone(fails_after=4 * HEALTHY_S - 2), "no")
    sick.run(90)

    failed = sick.opened[2] + HEALTHY_S - 0.5
    assert [at - failed for at in sick.opened[3:5]] == [2, 6]


@given(st.lists(st.integers(0, 12), max_size=8))
def test_indices_never_go_back_and_jump_where_a_source_was_opened_again(lives: list[int]) -> None:
    blocks = Bench([Microphone(fails_after=reads) for reads in lives]).run(250)

    assert len(blocks) == sum(lives)
    ends = [0, *np.cumsum([reads for reads in lives if reads])]
    for number, (before, after) in enumerate(pairwise(blocks), 1):
        jumped = after.start - (before.start + before.samples.size)
        assert jumped == (1 if number in ends else 0)


def test_the_index_behind_the_newest_sample_is_known(bench: Callable[..., Bench]) -> None:
    twice = bench(Microphone(fails_after=2), Microphone())
    blocks = twice.run(3)

    assert twice.ear.heard == blocks[-1].start + READ


def test_loss_is_that_of_the_source_that_is_open(bench: Callable[..., Bench]) -> None:
    lossy = bench(Microphone(loss=Loss(7, 3), fails_after=1), Microphone(loss=Loss(1)))
    lossy.run(0.5)
    assert lossy.ear.loss == Loss(7, 3)
    lossy.run(2)
    assert lossy.ear.loss == Loss(1)


def test_a_source_that_ends_gives_its_last_audio_and_is_read_no_more(bench: Callable[..., Bench]) -> None:
    recording = Microphone(ends_after=3)
    ended = bench(recording)

    assert len(ended.run(5)) == 3
    assert ended.ear.ended
    assert recording.reads == 3
    assert len(ended.opened) == 1
    assert (ended.ear.state, ended.ear.reason) == (SourceState.LOST, "the recording has ended")


def test_silence_is_told_within_a_second_and_over_after_five_of_sound(bench: Callable[..., Bench]) -> None:
    muted = bench(Microphone(zeros=range(8, 16)))
    seconds = []
    for _ in range(12):
        muted.run(1)
        seconds.append(muted.ear.state)

    calm = RULES[Trouble.SILENT].calm
    assert seconds == [SourceState.OK] * 2 + [SourceState.SILENT] * (2 + calm - 1) + [SourceState.OK] * (12 - 3 - calm)


def test_what_was_silent_before_it_was_lost_begins_anew(bench: Callable[..., Bench]) -> None:
    muted = bench(Microphone(zeros=range(8), fails_after=8), Microphone())
    muted.run(2)
    assert muted.ear.state is SourceState.SILENT
    muted.run(0.25)
    assert muted.ear.state is SourceState.LOST
    muted.run(0.75)
    assert (muted.ear.state, muted.ear.reason) == (SourceState.RECOVERING, "audio flows again")
    muted.run(1)
    assert muted.ear.state is SourceState.OK


def test_a_live_source_that_hangs_is_lost_and_opened_again_and_a_recording_may_take_its_time(
    bench: Callable[..., Bench],
) -> None:
    hung, patient = (bench(Microphone(hangs=range(4, 999)), Microphone(), live=live) for live in (True, False))
    hung.run(1 + AGE_S + 0.5)
    assert (hung.ear.state, hung.ear.reason) == (SourceState.LOST, "no audio for 5 s: the source hangs")
    hung.run(3)
    assert hung.ear.state is SourceState.OK
    assert len(hung.opened) == 2

    patient.run(60)
    assert patient.ear.state is SourceState.OK
    assert len(patient.opened) == 1


def test_a_live_source_that_has_not_begun_has_the_patience_of_its_own(bench: Callable[..., Bench]) -> None:
    slow = bench(Microphone(hangs=range(60)), live=True)
    slow.run(20)
    assert len(slow.opened) == 1


def test_a_clip_is_fit_when_the_ear_is_well_now_and_has_been_since_the_clip_began(bench: Callable[..., Bench]) -> None:
    fine = bench(Microphone(zeros=range(8, 12)))
    assert not fine.ear.fit(0)
    fine.run(2)
    assert fine.ear.fit(0)
    fine.run(1)
    assert not fine.ear.fit(0)


@dataclass
class Deceiver(Microphone):
    """Says that it runs at twice the rate it does: half of every quarter of a second."""

    honest_from: float = float("inf")

    def read(self) -> Block | None:
        """An eighth."""
        self.reads += 1
        share = READ // 2 if self.reads <= self.honest_from else READ
        start = self.start if self.reads > 1 else 0
        self.start = start + share
        return Block(start, NOISE[:share] * np.float32(1 + self.reads / 100))

    start: int = 0


def test_a_device_at_another_rate_than_it_says_is_told_in_ten_seconds_and_no_clip_of_it_is_fit(
    bench: Callable[..., Bench],
) -> None:
    half = bench(Deceiver(honest_from=80), live=True)
    half.run(10)
    assert half.ear.state is SourceState.FAILED
    assert half.ear.reason == f"{RATE // 2} samples come in a second, not {RATE}; check the device"
    half.run(10)
    honest = half.ear.heard
    half.run(30)

    assert half.ear.state is SourceState.OK
    assert not half.ear.fit(honest - 1)
    assert half.ear.fit(honest + 20 * RATE)


def test_samples_at_full_scale_are_counted_over_every_opening(bench: Callable[..., Bench]) -> None:
    loud = bench(Microphone(gain=100.0, fails_after=4), Microphone(gain=100.0))
    blocks = loud.run(8)

    assert len(loud.opened) == 2
    assert loud.ear.clipped == sum(int((np.abs(block.samples) >= 32_767 / 32_768).sum()) for block in blocks) > 0


def test_closing_lets_go_of_the_source_and_may_be_done_twice(bench: Callable[..., Bench]) -> None:
    microphone = Microphone()
    held = bench(microphone)
    held.run(1)

    held.ear.close()
    held.ear.close()
    assert microphone.closed
