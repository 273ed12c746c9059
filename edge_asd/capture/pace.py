"""Recorded or rendered sound, handed out as slowly as a microphone would."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.capture.source import Loss
from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray


class Pace:
    """How much of a sound is due by now."""

    def __init__(self, rate: int, speed: float, clock: Callable[[], float]) -> None:
        """Start the clock; a speed of 1 is real time, 0 or infinite is as fast as anyone reads."""
        if not speed >= 0:
            msg = f"speed must be at least 0, got {speed}"
            raise ValueError(msg)
        self._rate, self._speed, self._clock, self._opened = rate, speed, clock, clock()

    def due(self, delivered: int) -> int:
        """Samples that may be handed out now, at most one second of them."""
        if self._speed in {0, math.inf}:
            return self._rate
        passed = (self._clock() - self._opened) * self._speed * self._rate
        return min(max(int(passed) - delivered, 0), self._rate)


class PacedSource:
    """A Source over arrays of any lengths; what is late is caught up, nothing is lost."""

    def __init__(
        self,
        sound: Generator[NDArray[np.float32]],
        rate: int,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sound, self._pace = sound, Pace(rate, speed, clock)
        self._ready: list[NDArray[np.float32]] = []
        self._start, self._exhausted = 0, False

    @property
    def ended(self) -> bool:
        """The last sample has been handed out."""
        return self._exhausted and not self._ready

    @property
    def loss(self) -> Loss:
        """None, ever."""
        return Loss()

    @property
    def fill(self) -> float:
        """Nothing waits in memory; what is due is made when it is asked for."""
        return 0.0

    def read(self) -> Block | None:
        """What is due.

        Raises:
            SourceError: the recording cannot be read on.
        """
        samples = self._take(self._pace.due(self._start))
        if not samples.size:
            return None
        block = Block(self._start, samples)
        self._start += samples.size
        return block

    def close(self) -> None:
        """Let go of the recording."""
        self._sound.close()
        self._ready, self._exhausted = [], True

    def _take(self, samples: int) -> NDArray[np.float32]:
        held = sum(piece.size for piece in self._ready)
        while held < samples and not self._exhausted:
            held += self._more()
        if not samples or not held:
            return np.zeros(0, np.float32)
        whole = np.concatenate(self._ready)
        self._ready = [whole[samples:]] if held > samples else []
        return whole[:samples]

    def _more(self) -> int:
        piece = next(self._sound, None)
        if piece is None:
            self._exhausted = True
            return 0
        if piece.size:
            self._ready.append(piece)
        return piece.size
