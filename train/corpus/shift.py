"""A rendered machine over days: what is heard in one place while it runs well, and when a fault comes.

The individual, the room and the microphone stay. Speed and load waver from clip to clip, as in a crowd
(:mod:`train.corpus.crowd`); so does what is heard in the background, and a little more from day to day.
Individuals have numbers from 0, which no network of the house has met.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.errors import ConfigError
from edge_asd.render.machine import Condition
from edge_asd.render.performance import MACHINES, machine, render_clip
from train.corpus.crowd import room, unsteady

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edge_asd.render.room import Room

BETWEEN_CLIPS_DB = 0.7
"""deviation of the background's level from one clip to the next, beside its unrest within a clip"""
BETWEEN_DAYS_DB = 1.0
"""the same from day to day"""
SEVERITIES = (0.3, 0.6, 0.9)
LESSON = 0
"""the day on which it is learned"""


@dataclass(frozen=True, slots=True)
class Shift:
    """One individual, and all that decides what it sounds like. The same seed gives the same sound.

    Raises:
        ConfigError: no such kind of machine, or a negative number.
    """

    kind: str
    number: int
    seed: int = 0
    seconds: float = 10.0
    """length of a clip"""
    rate: int = 16_000
    """hertz"""

    def __post_init__(self) -> None:
        machine(self.kind)
        if min(self.number, self.seed) < 0 or self.seconds * self.rate < 1:
            msg = f"need a number and a seed of 0 or more and a clip of one sample, got {self}"
            raise ConfigError(msg)

    @property
    def name(self) -> str:
        """For people and for files."""
        return f"{self.kind}-{self.number}"

    def normal(self, day: int, clips: int) -> Iterator[NDArray[np.float32]]:
        """So many clips (L,) of a day on which all is well."""
        for index in range(clips):
            yield self._clip(self._condition, day, index)

    def faulty(self, fault: str, severity: float, clips: int) -> Iterator[NDArray[np.float32]]:
        """So many clips (L,) with a fault, on the day of the lesson and hours after it."""
        worn = replace(self._condition, fault=fault, severity=severity)
        after = 10_000 + 1_000 * self.faults.index(fault) + round(100 * severity)
        for index in range(clips):
            yield self._clip(worn, LESSON, 100 * after + index)

    @property
    def faults(self) -> tuple[str, ...]:
        """It can develop."""
        return machine(self.kind, self.number).faults

    @property
    def _condition(self) -> Condition:
        rng = self._lots(1)
        return Condition(float(rng.uniform(0.75, 1.25)), float(rng.uniform(0.2, 0.9)))

    def _room(self, day: int, rng: np.random.Generator) -> Room:
        place, today = room(self._lots(2)), self._lots(3, day)
        level = place.background.level + today.normal(0, BETWEEN_DAYS_DB) + rng.normal(0, BETWEEN_CLIPS_DB)
        return replace(place, background=replace(place.background, level=float(level)))

    def _clip(self, condition: Condition, day: int, index: int) -> NDArray[np.float32]:
        rng = self._lots(4, day, index)
        seed = (self.seed, *self._who, 5, day, index)
        samples = round(self.seconds * self.rate)
        individual, place = machine(self.kind, self.number), self._room(day, rng)
        return render_clip(individual, place, unsteady(condition, rng), samples, seed, self.rate)

    @property
    def _who(self) -> tuple[int, int]:
        return sorted(MACHINES).index(self.kind), self.number

    def _lots(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *self._who, *what])
