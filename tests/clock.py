"""Time that passes only when a test says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from edge_asd.observe.clock import Clock


@dataclass
class Time:
    """Seconds since the test began, as the test says."""

    now: float = 0.0

    @property
    def clock(self) -> Clock:
        """Both kinds of time."""
        return Clock(lambda: self.now, lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now))
