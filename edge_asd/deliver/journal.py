"""What happened here, for the person at the box: kept for as long as there is room, whether or not a broker took it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edge_asd.deliver.message import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = 500
"""entries read at once: a longer look would keep the write-ahead log from being begun anew"""
END = 2**63 - 1
"""above every key"""


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry of the journal."""

    key: int
    """rises with every entry"""
    ts: str
    """UTC, RFC 3339: of the event, otherwise of its writing"""
    machine: str | None
    event: str | None
    """the word for what happened"""
    body: bytes
    """the event as it was sent, or the note: JSON"""

    def suits(self, machine: str | None, event: str | None, since: str | None) -> bool:
        """Whether somebody asks for it; None asks for any."""
        return machine in {None, self.machine} and event in {None, self.event} and (since is None or self.ts >= since)


def pages(page: Callable[[int], list[Logged]], before: int = END) -> Iterator[Logged]:
    """All pages, newest first, each asked for by the key before which it begins."""
    while found := page(before):
        yield from found
        before = found[-1].key


def logged(key: int, body: bytes, now: datetime) -> Logged:
    """An entry for what happened; its moment is its own if it has one."""
    fields = _fields(body)
    return Logged(key, _moment(fields.get("ts"), now), _word(fields.get("machine")), _word(fields.get("event")), body)


def number(body: bytes) -> int:
    """Which event it is; 0: none."""
    found = _fields(body).get("event_seq")
    return found if isinstance(found, int) else 0


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _moment(ts: object, now: datetime) -> str:
    try:
        moment = datetime.fromisoformat(str(ts))
        return rfc3339(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return rfc3339(now)


def _word(value: object) -> str | None:
    return plain(value) if isinstance(value, str) else None


def plain(text: str) -> str:
    """Text that a file takes: what strangers send need not be whole Unicode."""
    return text.encode(errors="replace").decode()
