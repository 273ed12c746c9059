"""A rendered machine in the place of a microphone; it may develop a fault while one listens."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from edge_asd.capture.pace import PacedSource
from edge_asd.render.machine import Condition

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy as np
    from numpy.typing import NDArray

    from edge_asd.render.performance import Performance

PIECE_S = 0.1  # seconds rendered at once


class RenderedSource(PacedSource):
    """A machine that runs for ever."""

    def __init__(
        self,
        performance: Performance,
        rate: int,
        *,
        healthy: Condition | None = None,
        faulty: Condition | None = None,
        fault_after_s: float = 0.0,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the machine.

        Args:
            performance: the machine in its room, at ``rate``.
            rate: hertz.
            healthy: how it runs; by default at nominal speed and half load.
            faulty: how it runs in the end; by default it stays healthy.
            fault_after_s: seconds of sound before it does.
            speed: 1 is real time; 0 or infinity is as fast as it is read, a second at a time.
            clock: seconds, never going back.
        """
        first = healthy or Condition()
        sound = _sound(performance, rate, (first, faulty or first), fault_after_s)
        super().__init__(sound, rate, speed, clock)


def _sound(
    performance: Performance, rate: int, conditions: tuple[Condition, Condition], fault_after_s: float
) -> Generator[NDArray[np.float32]]:
    piece, left = math.ceil(PIECE_S * rate), round(fault_after_s * rate)
    while left > 0:
        samples = min(piece, left)
        yield performance.render(samples, conditions[0])
        left -= samples
    while True:
        yield performance.render(piece, conditions[1])
