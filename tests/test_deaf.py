"""A machine breaks while its ear is deaf: the alarm comes when the ear has recovered, and never because it was deaf."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soxr

from edge_asd.alarm.alarm import Transition
from edge_asd.bundle import Golden, golden_scores, write_bundle
from edge_asd.capture.source import Loss, SourceState
from edge_asd.config import Config
from edge_asd.daemon import Daemon, Nobody
from edge_asd.deliver.publisher import NullPublisher
from edge_asd.errors import SourceError
from edge_asd.observe.clock import Clock
from edge_asd.render.machine import Condition
from edge_asd.render.performance import Performance, machine
from edge_asd.render.room import Room
from edge_asd.score.head import fit_head
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.part import STATISTICS_PARTS, Normal
from edge_asd.signal.segment import Block, Windows
from tests.example import MACHINE, front_end, manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_asd.alarm.alarm import Alarm, Policy
    from edge_asd.deliver.message import Message
    from edge_asd.score.clip import ClipScore

    Sound = NDArray[np.float32]

RATE = 16_000
STEP = 4_000
"""samples of a read"""
DEAF = 12, 27
"""seconds between which the ear is deaf"""
END = 60
PAIR = Windows(segment=8_000, clip=2 * RATE, segments=4)
"""clips of two seconds"""
STRIDE = 35_000
"""samples between clips of normal sound, so that they begin anywhere in the valve's cycle"""


@cache
def rendered(breaks: float) -> Sound:
    """A valve that leaks from this second on."""
    performance = Performance(machine("valve"), Room(number=0), 0, RATE)
    pieces = [performance.render(round(breaks * RATE), Condition())] if breaks else []
    rest = END - breaks
    leak = [performance.render(round(rest * RATE), Condition(fault="leak", severity=1.0))] if rest else []
    return np.concatenate(pieces + leak)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows the valve as it is when it is well."""
    sound = Performance(machine("valve"), Room(number=0), 1, RATE).render(60 * STRIDE + PAIR.clip, Condition())
    spec, described = front_end(PAIR), manifest(PAIR)
    clips = [
        evidence(PAIR, spec, None, clip) for clip in (sound[s : s + PAIR.clip] for s in range(0, 60 * STRIDE, STRIDE))
    ]
    head = fit_head(STATISTICS_PARTS, [Normal(clip) for clip in clips])[0]
    waveform = (sound[: PAIR.clip] * 32_768).astype(np.int16)
    listener = Listener(PAIR, spec, head, described.heads[MACHINE].thresholds.alarm, None)
    golden = Golden(waveform, golden_scores(listener, waveform))
    path = tmp_path_factory.mktemp("bundle") / "valve.asd"
    write_bundle(path, described, {}, {MACHINE: head}, {MACHINE: golden}, "# Valve\n")
    return path


@dataclass
class Trouble:
    """What the source makes of the sound while it is deaf."""

    state: SourceState
    spoilt: Callable[[Sound], Sound | None] = lambda sound: sound
    """None: nothing comes"""
    rate: float = 1.0
    """share of the samples that come"""
    fails: bool = False
    lost: float = 0.0
    """share of each read that is lost, and told"""


def half_rate(sound: Sound) -> Sound:
    """Through eight kilohertz and back."""
    return soxr.resample(soxr.resample(sound, RATE, RATE // 2), RATE // 2, RATE)[: sound.size]


NOISE = np.random.default_rng(0).standard_normal(END * RATE).astype(np.float32)
TROUBLES = {
    "zeros": Trouble(SourceState.SILENT, np.zeros_like),
    "constant": Trouble(SourceState.STUCK, lambda sound: np.full_like(sound, 0.1)),
    "one buffer": Trouble(SourceState.STUCK, lambda sound: np.resize(sound[:1_600], sound.size)),
    "overdriven": Trouble(SourceState.CLIPPING, lambda sound: np.clip(1_000 * sound, -1, 1)),
    "no numbers": Trouble(SourceState.FAILED, lambda sound: np.full_like(sound, np.nan)),
    "half the band": Trouble(SourceState.SUSPECT, half_rate),
    "half the rate": Trouble(SourceState.FAILED, rate=0.5),
    "overflows": Trouble(SourceState.FAILED, lost=0.25),
    "hangs": Trouble(SourceState.LOST, lambda _: None),
    "unplugged": Trouble(SourceState.LOST, fails=True),
}


@dataclass
class Patient:
    """A source with a trouble."""

    sound: Sound
    trouble: Trouble
    time: Time
    spoilt: Sound | None = field(init=False)
    start: int = 0
    ended: bool = False
    lost: int = 0
    fill: float = 0.0

    def __post_init__(self) -> None:
        self.spoilt = self.trouble.spoilt(self.sound[slice(*(s * RATE for s in DEAF))])

    @property
    def loss(self) -> Loss:
        """Running total."""
        return Loss(self.lost)

    def read(self) -> Block | None:
        """A quarter of a second."""
        at = round(self.time.now * RATE)
        if not DEAF[0] * RATE <= at < DEAF[1] * RATE:
            return self.block(self.sound[at : at + STEP])
        if self.trouble.fails:
            msg = "the microphone was unplugged; plug it in"
            raise SourceError(msg)
        if self.spoilt is None:
            return None
        skipped = round(STEP * self.trouble.lost)
        self.lost, self.start = self.lost + skipped, self.start + skipped
        first = at - DEAF[0] * RATE
        return self.block(self.spoilt[first + skipped : first + round(STEP * self.trouble.rate)])

    def block(self, samples: Sound) -> Block:
        """What follows."""
        self.start += samples.size
        return Block(self.start - samples.size, samples)

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class Time:
    """As the test says."""

    now: float = 0.0


@dataclass
class Diary(NullPublisher, Nobody):
    """When what was said."""

    time: Time
    scores: list[tuple[float, ClipScore]] = field(default_factory=list)
    changes: list[tuple[float, Transition]] = field(default_factory=list)
    available: list[tuple[float, str]] = field(default_factory=list)
    states: list[tuple[float, SourceState]] = field(default_factory=list)

    def publish(self, message: Message) -> None:
        """Keep availability."""
        if message.topic.endswith("/availability"):
            self.available.append((self.time.now, message.payload.decode()))

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:  # noqa: ARG002 - as an audience is told
        """A clip got its score."""
        self.scores.append((self.time.now, clip))

    def changed(self, machine: str, transition: Transition, alarm: Alarm, clip: ClipScore) -> None:  # noqa: ARG002 - same
        """An alarm was raised, or returned."""
        self.changes.append((self.time.now, transition))


def live(bundle: Path, sound: Sound, trouble: Trouble) -> Diary:
    """A minute, a quarter of a second at a time."""
    time = Time()
    diary, start = Diary(time), datetime(2026, 1, 1, tzinfo=UTC)
    settings = {"sources": {"mic": {"input": "file:unused.wav"}}, "metrics": {"listen": ""}, "state_dir": None}
    machines = {"valve": {"source": "mic", "bundle": str(bundle)}}
    clock = Clock(lambda: time.now, lambda: start + timedelta(seconds=time.now))
    daemon = Daemon(Config(node="node1", machines=machines, **settings), diary, clock=clock)
    daemon.publisher, ear = diary, daemon.ears["mic"]
    ear.live, ear.open_source = True, lambda: Patient(sound, trouble, time)
    while time.now < END:
        daemon.step()
        diary.states.append((time.now, ear.state))
        time.now += STEP / RATE
    return diary


@pytest.mark.parametrize("name", TROUBLES)
def test_a_leak_that_begins_while_the_ear_is_deaf_is_alarmed_after_it_hears_again(bundle: Path, name: str) -> None:
    diary = live(bundle, rendered(DEAF[0]), TROUBLES[name])
    deaf = [at for at, state in diary.states if state is TROUBLES[name].state]
    recovered = next(at for at, state in diary.states if at > DEAF[1] and state is SourceState.OK)

    assert DEAF[0] <= deaf[0] < DEAF[0] + 10
    assert next(at for at, said in diary.available if at >= DEAF[0] and said == "offline") < DEAF[0] + 10
    assert recovered < DEAF[1] + 15
    assert not [at for at, _ in diary.scores if deaf[0] <= at < recovered]
    assert [change for _, change in diary.changes] == [Transition.ACTIVATED]
    assert diary.changes[0][0] >= recovered + 4, "three clips of the leak itself, all after the recovery"


@pytest.mark.parametrize("name", TROUBLES)
def test_a_deaf_ear_raises_no_alarm_over_a_healthy_machine_and_is_one_episode(bundle: Path, name: str) -> None:
    diary = live(bundle, rendered(END), TROUBLES[name])
    told = [state for _, state in diary.states]
    episodes = sum(a is SourceState.OK and b is not SourceState.OK for a, b in pairwise(told))

    assert diary.changes == []
    assert episodes == 1
    assert diary.scores[-1][0] > END - 5


@pytest.mark.parametrize("name", TROUBLES)
def test_a_deaf_ear_clears_no_alarm_of_a_machine_that_leaks(bundle: Path, name: str) -> None:
    diary = live(bundle, rendered(0), TROUBLES[name])
    assert [change for _, change in diary.changes] == [Transition.ACTIVATED]
