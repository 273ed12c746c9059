"""What waits for the broker. The outbox is the only queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from edge_asd.deliver.message import Kind, Message


@dataclass(frozen=True, slots=True)
class Entry:
    """A message and its place in the queue."""

    key: int
    """rises with every message put; never used twice"""
    message: Message


class Outbox(Protocol):
    """Messages that must arrive, as the publisher sees them; from any thread."""

    def waiting(self, kind: Kind, after: int, until: int, limit: int) -> list[Entry]:
        """At most so many of those with ``after < key <= until``, oldest first."""
        ...

    def remove(self, keys: Collection[int]) -> None:
        """The broker has them. Unknown keys are ignored: they may have been evicted meanwhile."""
        ...

    @property
    def newest(self) -> int:
        """Key of the message put last; -1 before the first ever."""
        ...

    def __len__(self) -> int: ...

    @property
    def size(self) -> int:
        """Bytes of payload that wait."""
        ...
