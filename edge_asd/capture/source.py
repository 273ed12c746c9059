"""The seam between the world's sound and the daemon."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge_asd.signal.segment import Block


class SourceState(StrEnum):
    """How an ear is."""

    OK = "ok"
    SILENT = "silent"
    STUCK = "stuck"
    CLIPPING = "clipping"
    LOST = "lost"
    RECOVERING = "recovering"
    FAILED = "failed"
    SUSPECT = "suspect"
    """it sounds, but not as this microphone in this room should"""


@dataclass(frozen=True, slots=True)
class Loss:
    """Samples that were never delivered, by reason, since the source opened."""

    overflow: int = 0
    """dropped by the device or its driver"""
    ring_full: int = 0
    """overwritten before the daemon read them"""


class Source(Protocol):
    """Mono audio at one rate. Nothing here blocks; the daemon polls.

    One reader. A block's samples belong to the reader and are never changed afterwards.
    """

    @property
    def ended(self) -> bool:
        """No more audio will ever come (a file that is not looped)."""
        ...

    @property
    def loss(self) -> Loss:
        """Running total."""
        ...

    @property
    def fill(self) -> float:
        """Share of its buffer that is unread, 0 to 1; at 1 audio is lost."""
        ...

    def read(self) -> Block | None:
        """The audio since the last read, at most about a second; None when none has come yet.

        Raises:
            SourceError: the device is gone, hangs, or delivers what cannot be used.
        """
        ...

    def close(self) -> None:
        """Release the device. Safe to call twice."""
        ...
