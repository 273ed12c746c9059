"""Whether the wall clock can be believed."""

from __future__ import annotations

import ctypes

UNSYNCHRONISED = 5
"""what adjtimex(2) returns, TIME_ERROR, until something has set the clock"""


def clock_synced() -> bool:
    """The kernel was told the time by NTP, PTP or the like."""
    question = ctypes.create_string_buffer(512)  # struct timex with modes = 0 asks and sets nothing
    state: int = ctypes.CDLL(None).adjtimex(question)
    return state not in {UNSYNCHRONISED, -1}
