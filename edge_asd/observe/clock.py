"""What time it is, and whether the wall clock can be believed."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

UNSYNCHRONISED = 5
"""what adjtimex(2) returns, TIME_ERROR, until something has set the clock"""
STEP_S = 0.5
"""from which on it is no slewing: between two rounds of the daemon a clock is slewed by less than a millisecond"""


class Direction(StrEnum):
    """Which way the wall clock was set."""

    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Clock:
    """Both kinds of time."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)


def clock_synced() -> bool:
    """The kernel was told the time by NTP, PTP or the like."""
    question = ctypes.create_string_buffer(512)  # struct timex with modes = 0 asks and sets nothing
    state: int = ctypes.CDLL(None).adjtimex(question)
    return state not in {UNSYNCHRONISED, -1}


@dataclass(slots=True)
class StepWatch:
    """Notices that somebody has set the wall clock; the monotonic one says how late it would be."""

    offset: float | None = None
    """seconds from monotonic to wall time, as last seen"""

    def see(self, monotonic: float, wall: float) -> float:
        """Seconds by which the wall clock was set since it was seen last; 0 for none, and for what slewing does."""
        before, self.offset = self.offset, wall - monotonic
        moved = 0.0 if before is None else self.offset - before
        return moved if abs(moved) >= STEP_S else 0.0
