"""What time it is, and whether the wall clock can be believed."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

UNSYNCHRONISED = 5
"""what adjtimex(2) returns, TIME_ERROR, until something has set the clock"""
REFUSED = -1
"""what it returns where even the question is forbidden, as by ``ProtectClock=``"""
TOUCHED = Path("/run/systemd/timesync/synchronized")
"""dated by systemd-timesyncd whenever it has set the clock"""
TRUSTED_S = 32_000.0
"""after which the kernel, too, gives up a clock that nobody sets: 16 s of error at 500 ppm"""
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
    """The kernel was told the time by NTP, PTP or the like; where it may not be asked, systemd-timesyncd was."""
    question = ctypes.create_string_buffer(512)  # struct timex with modes = 0 asks and sets nothing
    state: int = ctypes.CDLL(None).adjtimex(question)
    return state != UNSYNCHRONISED if state != REFUSED else set_lately(TOUCHED, time.time())


def set_lately(touched: Path, now: float) -> bool:
    """Whether systemd-timesyncd has set the clock, seconds since the epoch, so lately that it is still right."""
    try:
        return now - touched.stat().st_mtime < TRUSTED_S
    except OSError:
        return False


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
