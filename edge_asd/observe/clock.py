"""What time it is, and whether the wall clock can be believed."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

UNSYNCHRONISED = 5
"""what adjtimex(2) returns, TIME_ERROR, until something has set the clock"""


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
