from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.capture.ear import HEALTHY_S, Ear
from edge_asd.capture.source import Loss, SourceState
from edge_asd.errors import SourceError
from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Microphone:
    """Gives ten samples a read until it fails or ends after so many."""

    fails_after: float = float("inf")
    ends_after: float = float("inf")
    loss: Loss = field(default_factory=Loss)
    reads: int = 0
    closed: bool = False

    @property
    def ended(self) -> bool:
        """After so many reads."""
        return self.reads >= self.ends_after

    def read(self) -> Block:
        """Ten samples of silence."""
        if self.reads >= self.fails_after:
            msg = "the device has been unplugged; plug it in"
            raise SourceError(msg)
        self.reads += 1
        return Block((self.reads - 1) * 10, np.zeros(10, np.float32))

    def close(self) -> None:
        """Let go."""
        self.closed = True


@dataclass
class Bench:
    """An ear, the microphones it will be given, and the time."""

    microphones: list[Microphone | str]
    now: float = 0.0
    opened: list[float] = field(default_factory=list)
    ear: Ear = field(init=False)

    def __post_init__(self) -> None:
        self.ear = Ear("mic0", self._open, lambda: self.now)

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
    return lambda *microphones: Bench(list(microphones))


def test_a_source_that_cannot_be_opened_is_tried_after_half_a_second_1_2_and_at_most_8(
    bench: Callable[..., Bench],
) -> None:
    gone = bench()
    gone.run(60)

    assert [b - a for a, b in pairwise(gone.opened)] == [0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8]
    assert gone.ear.restarts == len(gone.opened)


def test_an_ear_begins_by_recovering_and_is_ok_at_the_first_audio(bench: Callable[..., Bench]) -> None:
    fine = bench(Microphone())
    assert (fine.ear.state, fine.ear.reason) == (SourceState.RECOVERING, "starting")

    fine.run(1)
    assert (fine.ear.state, fine.ear.reason) == (SourceState.OK, "audio flows")


def test_why_a_source_is_lost_is_what_it_said(bench: Callable[..., Bench]) -> None:
    unplugged = bench(Microphone(fails_after=3))
    unplugged.run(0.75)
    assert unplugged.ear.state is SourceState.OK

    unplugged.run(0.25)
    assert (unplugged.ear.state, unplugged.ear.reason) == (
        SourceState.LOST,
        "the device has been unplugged; plug it in",
    )
    unplugged.run(1)
    assert unplugged.ear.reason == "gone"


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

    assert twice.ear.heard == blocks[-1].start + 10


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


def test_what_the_audio_says_of_the_source_stands_until_it_is_lost(bench: Callable[..., Bench]) -> None:
    silent = bench(Microphone(fails_after=8), Microphone())
    silent.run(0.5)
    silent.ear.declare(SourceState.SILENT, "audio is silent")
    silent.run(1)
    assert silent.ear.state is SourceState.SILENT
    silent.run(1)
    assert silent.ear.state is SourceState.LOST
    silent.run(1)
    assert silent.ear.state is SourceState.OK


def test_closing_lets_go_of_the_source_and_may_be_done_twice(bench: Callable[..., Bench]) -> None:
    microphone = Microphone()
    held = bench(microphone)
    held.run(1)

    held.ear.close()
    held.ear.close()
    assert microphone.closed
