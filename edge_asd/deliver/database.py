"""The file that remembers: SQLite with a write-ahead log, one connection, every change one transaction.

What a transaction that says ``full`` brought is on the medium when it returns, and survives a power cut; the others
survive the end of the process. Every row has a key of one sequence, given by the caller, and is written if its key is
not there yet: a transaction that failed in its last moment may be repeated. Not thread-safe, and all here may raise
``sqlite3.Error`` or ``OSError``; the store sees to both.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from edge_asd.deliver.journal import PAGE, Logged
from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.outbox import Limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

JOURNAL = Limit(32_000_000)
"""some thirty thousand events; the oldest go"""
RECEIPTS = 1000
"""replies that are kept"""


@dataclass(slots=True)
class Tally:
    """So many rows, and the bytes in them."""

    rows: int = 0
    size: int = 0

    def add(self, size: int, rows: int = 1) -> None:
        """Count, or with negative numbers discount."""
        self.rows, self.size = self.rows + rows, self.size + size


class Row(NamedTuple):
    """What waits, and since when on the store's own clock."""

    key: int
    message: Message
    at: float


class Gone(NamedTuple):
    """What the broker has, and the file still holds."""

    key: int
    kind: Kind
    size: int


class Dropped(NamedTuple):
    """What had to go."""

    kind: Kind
    reason: str
    size: int


@dataclass(slots=True)
class Batch:
    """What is to be written together."""

    numbers: Mapping[str, int] = field(default_factory=dict)
    """never become smaller"""
    states: Mapping[str, str] = field(default_factory=dict)
    receipts: Mapping[int, tuple[str, bytes]] = field(default_factory=dict)
    rows: Iterable[Row] = ()
    entries: Iterable[Logged] = ()
    gone: Iterable[int] = ()


class Database:
    """One connection to the file, and what the file holds of each kind."""

    def __init__(self, path: Path | None, connection: sqlite3.Connection) -> None:
        self._path, self._connection = path, connection
        self._identity = path and _identity(path)
        self._full: bool | None = None
        self.held: Mapping[str, Tally] = {}
        """by kind"""
        self._journal = Tally()

    # Reading

    def count(self) -> None:
        """Find out how much is there; from then on every write knows."""
        found = self._all("SELECT kind, COUNT(*), SUM(size) FROM outbox GROUP BY kind")
        self.held = {kind.value: Tally() for kind in Kind} | {kind: Tally(rows, size) for kind, rows, size in found}
        self._journal = Tally(*self._all("SELECT COUNT(*), IFNULL(SUM(size), 0) FROM journal")[0])

    def numbers(self) -> dict[str, int]:
        """All numbers kept."""
        return dict(self._all("SELECT name, value FROM number"))

    def states(self) -> dict[str, str]:
        """All states kept."""
        return dict(self._all("SELECT machine, text FROM state"))

    def receipts(self) -> dict[int, tuple[str, bytes]]:
        """The replies kept, oldest first."""
        return {
            key: (name, reply) for key, name, reply in self._all("SELECT key, name, reply FROM receipt ORDER BY key")
        }

    def latest(self) -> float:
        """When what was put last was put; 0 when nothing waits."""
        found = self._all("SELECT at FROM outbox ORDER BY key DESC LIMIT 1")
        return float(found[0][0]) if found else 0.0

    def rows(self, kind: Kind, after: int, until: int, limit: int) -> list[Row]:
        """What waits of a kind with ``after < key <= until``, oldest first."""
        query = (
            "SELECT key, topic, payload, at FROM outbox WHERE kind = ? AND key > ? AND key <= ? ORDER BY key LIMIT ?"
        )
        found = self._all(query, kind.value, after, until, limit)
        return [Row(key, Message(topic, payload, kind), at) for key, topic, payload, at in found]

    def rescue(self, kind: Kind, after: int) -> list[Row]:
        """A hundred of what waits, oldest first, of a file whose index may be damaged."""
        query = (
            "SELECT key, topic, payload, at FROM outbox NOT INDEXED WHERE kind = ? AND key > ? ORDER BY key LIMIT 100"
        )
        return [
            Row(key, Message(topic, payload, kind), at) for key, topic, payload, at in self._all(query, kind, after)
        ]

    def those(self, keys: Iterable[int]) -> list[Gone]:
        """Which of these the file holds."""
        query = "SELECT key, kind, size FROM outbox WHERE key IN (SELECT value FROM json_each(?))"
        return [Gone(key, Kind(kind), size) for key, kind, size in self._all(query, json.dumps(list(keys)))]

    def history(self, machine: str | None, event: str | None, since: str | None, before: int) -> list[Logged]:
        """A page of the journal, newest first."""
        query = (
            "SELECT key, ts, machine, event, body FROM journal WHERE key < ?1 AND (?2 IS NULL OR machine = ?2)"
            " AND (?3 IS NULL OR event = ?3) AND (?4 IS NULL OR ts >= ?4) ORDER BY key DESC LIMIT ?5"
        )
        return [Logged(*row) for row in self._all(query, before, machine, event, since, PAGE)]

    def bytes(self) -> int:
        """What the file and its log take on the disk."""
        if self._path is None:
            return 0
        return sum(file.stat().st_size for file in (self._path, beside(self._path, "-wal")) if file.exists())

    # Writing

    def write(self, batch: Batch, limits: Mapping[Kind, Limit], now: float, *, full: bool) -> list[Dropped]:
        """One transaction, all or nothing.

        Args:
            batch: what changes.
            limits: what must go so that it holds goes in the same transaction.
            now: on the clock of ``Row.at``.
            full: return only when it is on the medium.

        Returns:
            What had to go.
        """
        held = {kind: Tally(tally.rows, tally.size) for kind, tally in self.held.items()}
        journal = Tally(self._journal.rows, self._journal.size)
        with self._transaction(full):
            self._insert(batch, held, journal)
            self._remove(batch.gone, held)
            dropped = [lost for kind, limit in limits.items() for lost in self._evict(kind, limit, held[kind], now)]
            self._shorten(journal)
        self.held, self._journal = held, journal
        return dropped

    def _insert(self, batch: Batch, held: Mapping[str, Tally], journal: Tally) -> None:
        run = self._connection.execute
        for name, value in batch.numbers.items():
            # the page is left alone when nothing changes
            update = "ON CONFLICT DO UPDATE SET value = excluded.value WHERE value < excluded.value"
            run(f"INSERT INTO number VALUES (?, ?) {update}", (name, value))  # noqa: S608 - two literals
        for machine, text in batch.states.items():
            run("INSERT OR REPLACE INTO state VALUES (?, ?)", (machine, text))
        for key, (name, reply) in batch.receipts.items():
            run("INSERT OR IGNORE INTO receipt VALUES (?, ?, ?)", (key, name, reply))
        if batch.receipts:
            too_old = "SELECT key FROM receipt ORDER BY key DESC LIMIT 1 OFFSET ?"
            run(f"DELETE FROM receipt WHERE key <= ({too_old})", (RECEIPTS,))  # noqa: S608 - two literals
        for key, message, at in batch.rows:
            size = len(message.payload)
            row = (key, message.kind.value, message.topic, message.payload, size, at)
            if run("INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?, ?, ?)", row).rowcount:
                held[message.kind].add(size)
        for entry in batch.entries:
            size = len(entry.body)
            line = (entry.key, entry.ts, entry.machine, entry.event, entry.body, size)
            if run("INSERT OR IGNORE INTO journal VALUES (?, ?, ?, ?, ?, ?)", line).rowcount:
                journal.add(size)

    def _remove(self, keys: Iterable[int], held: Mapping[str, Tally]) -> None:
        query = "DELETE FROM outbox WHERE key IN (SELECT value FROM json_each(?)) RETURNING kind, size"
        for kind, size in self._all(query, json.dumps(list(keys))):
            held[kind].add(-size, -1)

    def _evict(self, kind: Kind, limit: Limit, held: Tally, now: float) -> list[Dropped]:
        """Take the oldest until the limit holds."""
        youngest = float("-inf") if limit.age is None else now - limit.age
        dropped, doomed = [], []
        with _closing(
            self._connection.execute("SELECT key, size, at FROM outbox WHERE kind = ? ORDER BY key", (kind.value,))
        ) as oldest:
            for key, size, at in oldest:
                if held.size <= limit.size and at >= youngest:
                    break
                dropped.append(Dropped(kind, "age" if at < youngest else "full", size))
                doomed.append(key)
                held.add(-size, -1)
        if doomed:
            self._all("DELETE FROM outbox WHERE key IN (SELECT value FROM json_each(?))", json.dumps(doomed))
        return dropped

    def _shorten(self, journal: Tally) -> None:
        query = "DELETE FROM journal WHERE key = (SELECT MIN(key) FROM journal) RETURNING size"
        while journal.size > JOURNAL.size:
            journal.add(-self._all(query)[0][0], -1)

    @contextmanager
    def _transaction(self, full: bool) -> Iterator[None]:  # noqa: FBT001 - private
        if self._path and self._identity != _identity(self._path):
            msg = f"{self._path} was replaced or removed by somebody else"
            raise OSError(msg)
        if full is not self._full:
            self._connection.execute("PRAGMA synchronous = FULL" if full else "PRAGMA synchronous = NORMAL")
            self._full = full
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            raise

    def _all(self, query: str, *values: object) -> list[Any]:
        with _closing(self._connection.execute(query, values)) as cursor:
            return cursor.fetchall()

    def close(self) -> None:
        """Work the log into the file, if that can be done, and let go of it."""
        with suppress(sqlite3.Error):
            self._connection.close()


@contextmanager
def _closing(cursor: sqlite3.Cursor) -> Iterator[sqlite3.Cursor]:
    """A statement left open would hold back the write-ahead log."""
    try:
        yield cursor
    finally:
        cursor.close()


def beside(path: Path, ending: str) -> Path:
    """The log of the file, or its index."""
    return path.with_name(path.name + ending)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
