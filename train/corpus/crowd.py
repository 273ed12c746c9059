"""Machines without end: many individuals, each in a few states of its own, heard from anywhere against anything.

What a network learns here is to tell states of one machine apart whatever the room, the microphone and the neighbours.
States come in twins, which run at the same speed, under the same load and in the same pattern: one sound, one worn.
Wear is a fault of the renderer (:attr:`edge_asd.render.machine.Machine.faults`) that is this individual's normal: the
network hears what faults do, and is never told that any state is better than another.

No two clips share a room, so there is nothing about rooms that a class could be told by.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.errors import ConfigError
from edge_asd.render.bearing import Bearing
from edge_asd.render.machine import Condition
from edge_asd.render.motor import Motor
from edge_asd.render.performance import MACHINES, machine, render_clip
from edge_asd.render.room import Background, Microphone, Room
from edge_asd.render.slider import Slider
from edge_asd.render.valve import Valve
from train.corpus.render import empty, rendered, write_sound, write_table
from train.file import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.progress import Progress

    from edge_asd.render.machine import Machine

PATTERNS = 5
"""settings of those kinds that have any: a valve's pattern, a slider's stroke, a motor's carrier, a bearing's place"""
STRANGERS = 10**6
"""number from which the individuals begin that are only ever heard beside another"""
COLUMNS = ("file", "machine", "section", "attribute", "domain", "split", "label", "recording")
TOLD = ("pattern", "speed", "load", "fault", "severity")
"""further columns of the manifest, for people"""


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many of what. A clip depends on the seed and its own place, not on how many others there are.

    Raises:
        ConfigError: a value is out of range, or a kind of machine cannot be rendered.
    """

    kinds: tuple[str, ...] = tuple(MACHINES)
    individuals: int = 16
    """of each kind"""
    states: int = 4
    """of each individual, every other one worn"""
    clips: int = 15
    """of each state"""
    seconds: float = 6.0
    """length of a clip"""
    rate: int = 16_000
    """hertz"""
    first: int = 1_000
    """number of the first individual; data sets are rendered of the numbers from 0, which are never met"""
    neighbour: float = 0.4
    """share of clips in which another machine runs too"""
    seed: int = 0

    def __post_init__(self) -> None:
        counted = min(self.individuals, self.states, self.clips) >= 1 and min(self.first, self.seed) >= 0
        apart = self.first + self.individuals <= STRANGERS
        if not (counted and apart and self.seconds * self.rate >= 1 and 0 <= self.neighbour <= 1 and self.kinds):
            msg = "need a kind, an individual, a state, a clip and a length at least, no negative number, a share of "
            msg += f"neighbours up to 1 and individuals below {STRANGERS}, got {self}"
            raise ConfigError(msg)
        for kind in self.kinds:
            machine(kind)


@dataclass(frozen=True, slots=True)
class State:
    """One way in which one individual runs."""

    kind: str
    number: int
    """of the individual"""
    which: int
    """of its states"""
    pattern: int
    condition: Condition

    @property
    def seed(self) -> tuple[int, ...]:
        """What sets it apart, beside the seed of all."""
        return (sorted(MACHINES).index(self.kind), self.number, self.which)

    def name(self, index: int) -> str:
        """Where one of its clips lies below the folder."""
        return f"train/{self.kind}/{self.number}/{self.which}/{index:04d}.wav"

    @property
    def machine(self) -> Machine:
        """The individual, set to the state's pattern where its kind has patterns."""
        if self.kind == "valve":
            return Valve.identity(self.number, pattern=self.pattern)
        if self.kind == "slider":
            return Slider.identity(self.number, stroke=self.pattern)
        if self.kind == "motor":
            return Motor.identity(self.number, carrier=self.pattern)
        if self.kind == "bearing":
            return Bearing.identity(self.number, location=self.pattern)
        return machine(self.kind, self.number)


def states(crowd: Crowd) -> Iterator[State]:
    """All states of all individuals."""
    for kind in crowd.kinds:
        for number in range(crowd.first, crowd.first + crowd.individuals):
            for which in range(crowd.states):
                yield state(crowd, kind, number, which)


def state(crowd: Crowd, kind: str, number: int, which: int) -> State:
    """One state: sound where it is even, else the one before it, worn."""
    rng = np.random.default_rng([crowd.seed, sorted(MACHINES).index(kind), number, which // 2])
    pattern, condition = int(rng.integers(PATTERNS)), _condition(rng)
    fault, severity = str(rng.choice(machine(kind).faults)), float(rng.uniform(0.3, 0.9))
    worn = replace(condition, fault=fault, severity=severity)
    return State(kind, number, which, pattern, worn if which % 2 else condition)


def heard(crowd: Crowd, state: State, index: int) -> NDArray[np.float32]:
    """One clip (L,) of a state: somewhere, by some microphone, with or without a neighbour."""
    seed = (crowd.seed, *state.seed, index)
    rng, samples = np.random.default_rng([*seed, 1]), round(crowd.seconds * crowd.rate)
    sound = render_clip(state.machine, room(rng), unsteady(state.condition, rng), samples, (*seed, 2), crowd.rate)
    if rng.random() < crowd.neighbour:
        beside = _neighbour(crowd, rng, samples, (*seed, 3))
        sound += beside * (_rms(sound) / _rms(beside)) * np.float32(10 ** (rng.uniform(-25, 3) / 20))
    return np.clip(sound, -0.99, 0.99)


def room(rng: np.random.Generator) -> Room:
    """Anywhere, with anything running in the background, heard by any microphone."""
    microphone = Microphone(
        distance=float(np.exp(rng.uniform(np.log(0.4), np.log(2.5)))),
        gain=float(rng.uniform(-6, 14)),
        low_cut=float(np.exp(rng.uniform(np.log(20), np.log(200)))),
        high_cut=float(np.exp(rng.uniform(np.log(3500), np.log(12000)))),
    )
    background = Background(
        level=float(rng.uniform(-64, -42)),
        slope=float(rng.uniform(-6.5, -0.5)),
        hum=float(rng.uniform(-80, -60)),
        mains=float(rng.choice([50.0, 60.0])),
        unrest=float(rng.uniform(0.3, 2.5)),
    )
    return Room(
        microphone,
        background,
        reverberation=float(rng.uniform(0.08, 0.7)),
        critical_distance=float(rng.uniform(0.8, 3.0)),
        number=int(rng.integers(2**31)),
    )


def write_crowd(out: Path, crowd: Crowd, *, workers: int = 1, progress: Progress | None = None) -> int:
    """Render the crowd into a folder; gives the number of clips.

    Each file appears whole or not at all, and the manifest comes last but one: a folder that has it is complete.
    ``crowd.json`` says what was asked for.

    Args:
        out: a new or empty folder.
        crowd: what to render.
        workers: processes that render.
        progress: shows how far it is.

    Raises:
        ConfigError: the folder holds something already.
    """
    empty(out)
    all_states = list(states(crowd))
    done = rendered(partial(_write, out, crowd), all_states, workers)
    for _ in progress.track(done, total=len(all_states), description="rendering") if progress else done:
        pass
    rows = [_row(state, index) for state in all_states for index in range(crowd.clips)]
    write_table(out / "manifest.csv", [*COLUMNS, *TOLD], rows)
    write_whole(out / "crowd.json", (json.dumps(asdict(crowd), indent=1) + "\n").encode())
    return len(rows)


def _condition(rng: np.random.Generator) -> Condition:
    return Condition(float(rng.uniform(0.75, 1.25)), float(rng.uniform(0.2, 0.9)))


def unsteady(condition: Condition, rng: np.random.Generator) -> Condition:
    """Nearly the same: no two clips of a state run at one speed under one load."""
    speed, load = condition.speed * rng.normal(1, 0.004), condition.load + rng.normal(0, 0.02)
    return replace(condition, speed=float(np.clip(speed, 0.5, 1.5)), load=float(np.clip(load, 0, 1)))


def _neighbour(crowd: Crowd, rng: np.random.Generator, samples: int, seed: tuple[int, ...]) -> NDArray[np.float32]:
    """Another machine (L,), in the same hall but heard by its own path."""
    other = machine(str(rng.choice(tuple(MACHINES))), int(rng.integers(STRANGERS, 2 * STRANGERS)))
    return render_clip(other, room(rng), _condition(rng), samples, seed, crowd.rate)


def _rms(sound: NDArray[np.float32]) -> np.float32:
    return np.float32(max(float(np.sqrt(np.mean(sound**2))), 1e-6))


def _row(state: State, index: int) -> tuple[object, ...]:
    name, condition = state.name(index), state.condition
    told = (state.pattern, condition.speed, condition.load, condition.fault, condition.severity)
    known = (name, state.kind, state.number, f"state_{state.which}", "source", "train", "normal", name)
    return (*known, *told)


def _write(out: Path, crowd: Crowd, state: State) -> None:
    for index in range(crowd.clips):
        write_sound(out / state.name(index), heard(crowd, state, index), crowd.rate)
