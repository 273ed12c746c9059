"""An outbox that keeps everything in memory and says how it was asked."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.outbox import Entry

if TYPE_CHECKING:
    from collections.abc import Collection

TOPICS = {kind: f"edge_asd/v1/node-1/machine/pump1/{kind}" for kind in (Kind.EVENT, Kind.SCORE)}


@dataclass
class Shelf:
    """Messages by key."""

    entries: dict[int, Message] = field(default_factory=dict)
    newest: int = -1
    largest: int = 0
    """page that was asked for"""
    asked: int = 0
    """pages"""
    broken: bool = False
    """gives nothing"""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, kind: Kind, **more: object) -> int:
        """Append; its key."""
        with self.lock:
            key = self.newest + 1
            body = {"id": key, "late": False, **more}
            self.entries[key] = Message(TOPICS[kind], json.dumps(body).encode(), kind)
            self.newest = key
            return key

    def waiting(self, kind: Kind, after: int, until: int, limit: int) -> list[Entry]:
        """The oldest of a kind between two keys."""
        with self.lock:
            self.largest, self.asked = max(self.largest, limit), self.asked + 1
            found = (Entry(key, message) for key, message in self.entries.items() if after < key <= until)
            return [] if self.broken else [entry for entry in found if entry.message.kind is kind][:limit]

    def remove(self, keys: Collection[int]) -> None:
        """Forget them."""
        with self.lock:
            for key in keys:
                self.entries.pop(key, None)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        with self.lock:
            return sum(len(message.payload) for message in self.entries.values())
