"""What waits for the broker. The outbox is the only queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_asd.deliver.message import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from edge_asd.deliver.message import Message


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of a kind may wait. Beyond it the oldest goes, and is counted."""

    size: int
    """bytes of payload"""
    age: float | None = None
    """seconds that the daemon ran since; None: for ever. Wall clocks step, so days switched off do not count"""


LIMITS: Mapping[Kind, Limit] = {Kind.EVENT: Limit(64_000_000), Kind.SCORE: Limit(64_000_000, age=14 * 86_400)}
"""a score a clip of ten seconds fills its part in about a week and a half; events last for years"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message and its place in the queue."""

    key: int
    """rises with every message put; never used twice"""
    message: Message


class Outbox(Protocol):
    """Messages that must arrive. Any thread may ask; what is put is put by the store's owner."""

    def waiting(self, kind: Kind, after: int, until: int, limit: int) -> list[Entry]:
        """What waits of a kind with ``after < key <= until``, oldest first. It stays until it is removed."""
        ...

    def remove(self, keys: Collection[int]) -> None:
        """The broker has them. Unknown keys are ignored: they may have been evicted meanwhile."""
        ...

    @property
    def newest(self) -> int:
        """No key given so far is above it; -1 before the first ever. Never waits for the disk."""
        ...

    def __len__(self) -> int: ...

    @property
    def size(self) -> int:
        """Bytes of payload that wait."""
        ...
