"""What waits for the broker. The outbox is the only queue."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge_asd.deliver.message import Message


@dataclass(frozen=True, slots=True)
class Entry:
    """A message and its place in the queue."""

    key: int
    """rises with every message put; never used twice"""
    message: Message


class Outbox(Protocol):
    """Messages that must arrive, oldest first. One caller at a time; the publisher sees to that."""

    def put(self, message: Message) -> list[Message]:
        """Append; what had to go for it, if the outbox was full."""
        ...

    def oldest(self) -> Entry | None:
        """What to send next. It stays until it is removed."""
        ...

    def remove(self, key: int) -> None:
        """The broker has it. Unknown keys are ignored: it may have been evicted meanwhile."""
        ...

    def __len__(self) -> int: ...

    @property
    def newest(self) -> int:
        """Key of the message put last; -1 before the first."""
        ...

    @property
    def size(self) -> int:
        """Bytes of payload that wait."""
        ...


@dataclass(slots=True)
class MemoryOutbox:
    """Keeps the newest ``limit`` messages, until the daemon ends."""

    limit: int = 10_000
    _waiting: OrderedDict[int, Message] = field(default_factory=OrderedDict)
    _next: int = 0

    def put(self, message: Message) -> list[Message]:
        """Append; the oldest goes when there is no room."""
        self._waiting[self._next] = message
        self._next += 1
        return [self._waiting.popitem(last=False)[1] for _ in range(len(self._waiting) - self.limit)]

    def oldest(self) -> Entry | None:
        """The message that has waited longest."""
        return next((Entry(key, message) for key, message in self._waiting.items()), None)

    def remove(self, key: int) -> None:
        """Forget it."""
        self._waiting.pop(key, None)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def newest(self) -> int:
        """Key of the message put last; -1 before the first."""
        return self._next - 1

    @property
    def size(self) -> int:
        """Bytes of payload that wait."""
        return sum(len(message.payload) for message in self._waiting.values())
