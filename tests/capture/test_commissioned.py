"""Rendered machines at a commissioned ear: which changes are the ear's, and which are the machine's."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_asd.capture.ear import Ear
from edge_asd.capture.source import Loss, SourceState
from edge_asd.capture.state import Condition as EarCondition
from edge_asd.capture.state import Trouble, Watch, advance
from edge_asd.render.machine import Condition
from edge_asd.render.performance import Performance, machine
from edge_asd.render.room import Microphone, Room
from edge_asd.render.sound import FRAME
from edge_asd.signal.profile import OFF, RUNNING, Profile, profile
from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sound = NDArray[np.float32]

RATE = 16_000
KINDS = ("fan", "slider", "motor")
FAULTS = {kind: machine(kind).faults for kind in KINDS}
MINUTE, HEARD = 40, 24
"""seconds at commissioning, and later"""


@dataclass
class Still:
    """A machine that stands still: the room alone is heard."""

    faults: tuple[str, ...] = ()

    def voice(self, rate: int, rng: np.random.Generator) -> Still:  # noqa: ARG002 - as machines have it
        """Itself."""
        return self

    def frame(self, condition: Condition) -> NDArray[np.float64]:  # noqa: ARG002 - same
        """Nothing."""
        return np.zeros(FRAME)


@cache
def played(kind: str, fault: str | None = None, seed: int = 1, seconds: int = HEARD) -> Sound:
    player = Still() if kind == OFF else machine(kind)
    condition = Condition(fault=fault, severity=1.0) if fault else Condition()
    return Performance(player, Room(), seed, RATE).render(seconds * RATE, condition)


@cache
def commissioned(kind: str, *, room: bool = True) -> dict[str, Profile]:
    states = {RUNNING: profile(played(kind, seed=0, seconds=MINUTE), RATE)}
    return states | ({OFF: profile(played(OFF, seed=3, seconds=MINUTE), RATE)} if room else {})


def covered(sound: Sound) -> Sound:
    """A rag over the microphone: 20 dB down, and a first-order low-pass at 400 Hz."""
    hertz = np.fft.rfftfreq(sound.size, 1 / RATE)
    return np.fft.irfft(np.fft.rfft(sound) * 0.1 / (1 + 1j * hertz / 400), sound.size).astype(np.float32)


def amplified(sound: Sound, decibels: float) -> Sound:
    return np.clip(sound * 10 ** (decibels / 20), -0.99, 0.99).astype(np.float32)


def told(sound: Sound, states: dict[str, Profile]) -> tuple[SourceState, set[Trouble], int | None]:
    """The state in the end, every trouble ever shown, and the second in which the ear became suspect."""
    watch, condition, shown, since = Watch(RATE, live=False, baseline=states), EarCondition(), set[Trouble](), None
    for second in range(sound.size // RATE):
        for each in watch.push(Block(second * RATE, sound[second * RATE : (second + 1) * RATE]), second + 1.0):
            condition, shown = advance(condition, each), shown | each.keys()
        if since is None and condition.state is SourceState.SUSPECT:
            since = second + 1
    return condition.state, shown, since


@pytest.mark.parametrize("room", [True, False], ids=["room known", "room unknown"])
@pytest.mark.parametrize("kind", KINDS)
def test_neither_the_machine_nor_its_rest_nor_any_fault_makes_the_ear_suspect(kind: str, *, room: bool) -> None:
    states = commissioned(kind, room=room)
    for sound in (played(kind), played(OFF), *(played(kind, fault) for fault in FAULTS[kind])):
        assert told(sound, states) == (SourceState.OK, set(), None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cover_is_told_within_twenty_seconds_whatever_the_machine_does(kind: str) -> None:
    for sound in (played(kind), played(OFF), *(played(kind, fault) for fault in FAULTS[kind])):
        state, shown, since = told(covered(sound), commissioned(kind))
        assert (state, since) == (SourceState.SUSPECT, 19)
        assert Trouble.COVERED in shown


@pytest.mark.parametrize("decibels", [15, -15])
@pytest.mark.parametrize("kind", KINDS)
def test_another_gain_is_told_within_twenty_seconds_whether_the_machine_runs_or_not(kind: str, decibels: float) -> None:
    for sound in (played(kind), played(OFF)):
        state, shown, since = told(amplified(sound, decibels), commissioned(kind))
        assert (state, since) == (SourceState.SUSPECT, 19)
        assert shown & {Trouble.GAIN, Trouble.COVERED}


@pytest.mark.parametrize("kind", KINDS)
def test_a_gain_turned_up_is_told_of_a_broken_machine_too_and_without_knowing_the_room(kind: str) -> None:
    for fault in FAULTS[kind]:
        assert told(amplified(played(kind, fault), 15), commissioned(kind, room=False))[0] is SourceState.SUSPECT


def test_a_machine_that_runs_in_two_ways_is_well_in_both_once_both_are_commissioned() -> None:
    slow = profile(amplified(played("fan", seed=5), -14), RATE)
    later = amplified(played("fan"), -14)

    assert told(later, commissioned("fan"))[0] is SourceState.SUSPECT
    assert told(later, commissioned("fan") | {"slow": slow}) == (SourceState.OK, set(), None)


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.25, 1.5])
@pytest.mark.parametrize("kind", KINDS)
def test_another_speed_may_be_heard_for_another_gain_but_not_for_a_cover(kind: str, speed: float) -> None:
    sound = Performance(machine(kind), Room(), 5, RATE).render(HEARD * RATE, Condition(speed=speed))
    assert Trouble.COVERED not in told(sound, commissioned(kind))[1]


@pytest.mark.parametrize("distance", [0.3, 4.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_microphone_that_was_moved_is_no_more_than_the_machine_can_do_and_is_left_to_its_score(
    kind: str, distance: float
) -> None:
    moved = Room(microphone=Microphone(distance=distance), number=1)
    sound = Performance(machine(kind), moved, 1, RATE).render(HEARD * RATE, Condition())
    assert told(sound, commissioned(kind)) == (SourceState.OK, set(), None)


def test_ten_seconds_are_compared_in_one_piece_so_a_loss_begins_them_anew() -> None:
    loud, watch = amplified(played("fan"), 15), Watch(RATE, live=False, baseline=commissioned("fan"))
    pieces = [(s + (0 if s < 9 else 0.5), loud[s * RATE : (s + 1) * RATE]) for s in range(24)]
    shown = [each for at, piece in pieces for each in watch.push(Block(round(at * RATE), piece), at)]

    first = next(i for i, each in enumerate(shown) if Trouble.GAIN in each)
    assert 10 + 9 <= first <= 10 + 11


@dataclass
class Tape:
    """A source that gives a second at a time."""

    sound: Sound
    at: int = 0
    ended: bool = False
    loss: Loss = field(default_factory=Loss)
    fill: float = 0.0

    def read(self) -> Block:
        """The next second."""
        self.at += RATE
        return Block(self.at - RATE, self.sound[self.at - RATE : self.at])

    def close(self) -> None:
        """Nothing to let go of."""


def test_an_ear_is_held_to_its_baseline_once_it_has_one_and_no_clip_from_before_it_was_well_is_fit() -> None:
    sound = np.concatenate([amplified(played("fan"), 15), amplified(played("fan"), 15), played("fan")])
    ear = Ear("ear", lambda: Tape(sound), lambda: 0.0, RATE)

    for _ in range(HEARD):
        ear.read()
    assert ear.state is SourceState.OK
    ear.heed(commissioned("fan"))
    for _ in range(HEARD):
        ear.read()
    assert ear.state is SourceState.SUSPECT
    assert "gain" in ear.reason
    for _ in range(HEARD):
        ear.read()
    assert ear.state is SourceState.OK
    assert not ear.fit(2 * HEARD * RATE)
    assert ear.fit(ear.heard)


def test_the_room_as_commissioned_is_the_floor_that_an_hour_is_compared_with_unless_the_config_says_otherwise() -> None:
    quiet, states = amplified(played(OFF), -11), {OFF: commissioned("fan")[OFF]}

    assert Trouble.FAINT in told(quiet, states)[1]
    watch = Watch(RATE, live=False, floor_dbfs=-90.0, baseline=states)
    assert not any(Trouble.FAINT in each for each in watch.push(Block(0, quiet), 0.0))
