"""What must outlive the process: alarms, their numbers, what waits for the broker, and what happened here.

Everything is taken into memory first and written from there: a change at once, scores and removals now and then, so
that a broker which answers costs the flash nothing. While the disk fails nothing else differs: the memory keeps what
could not be written, within bounds, everybody sees it all the same, and it is written when the disk works again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from edge_asd.deliver.database import RECEIPTS, Database, Dropped, Gone, Row, Tally
from edge_asd.deliver.journal import END, Logged, logged, number, pages, plain
from edge_asd.deliver.message import Kind, rfc3339
from edge_asd.deliver.opening import claim, connect, is_corrupt, is_read_only, open_database, open_reader, set_aside
from edge_asd.deliver.outbox import LIMITS, Entry
from edge_asd.deliver.spare import ROOM, Spare
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from edge_asd.deliver.message import Message
    from edge_asd.deliver.opening import Connect
    from edge_asd.deliver.outbox import Limit

log = logging.getLogger(__name__)

FILE = "edge-asd.db"
"""what a store is called in its folder"""
REASONS = ("full", "age", "unkept")
"""why what waited was lost: its kind's share is full, it waited too long, or the disk failed and so was the memory"""
FLUSH_S = 5.0
"""between two writes of what was removed; what a kill may send twice"""
RETRY_S = (1.0, 30.0)
"""between attempts on a failing disk, first and longest"""
RUN = 10**9
"""keys for each run of the daemon: none is ever used twice, without a word to the disk"""
TROUBLES = (sqlite3.Error, OSError)
ADVICE = "make room on the disk, or let it be written; until then events are kept in memory only"


@dataclass(frozen=True, slots=True)
class Change:
    """Everything one moment changes, kept or not kept together."""

    event_seq: int
    events: tuple[Message, ...] = ()
    """for the broker and the journal"""
    notes: tuple[bytes, ...] = ()
    """JSON objects, for the journal only"""
    states: Mapping[str, str] = field(default_factory=dict)
    """by machine"""
    receipts: Mapping[str, bytes] = field(default_factory=dict)
    """replies by transaction"""


@dataclass(frozen=True, slots=True)
class Condition:
    """How the store is."""

    trouble: str
    """why nothing is kept at present, for people; empty when all is well"""
    since: datetime | None
    """when the trouble began"""
    disk_bytes: int
    waiting: Mapping[Kind, int]
    """messages for the broker"""
    waiting_bytes: Mapping[Kind, int]
    oldest_s: float | None
    """seconds that the oldest of them has waited, not counting those when the daemon did not run"""
    spare: int
    """messages that are in memory only"""
    dropped: Mapping[tuple[Kind, str], int]
    """since the daemon started"""
    unlogged: int
    """entries that the journal lost while the disk failed"""
    set_aside: Path | None
    """where a corrupt file was moved to"""


@dataclass(slots=True)
class _Trouble:
    """A disk that fails, and when it is tried again."""

    reason: str = ""
    """empty: it works"""
    since: datetime | None = None
    retry_at: float = float("-inf")
    pause: float = 0.0
    failures: int = 0
    """ever"""
    corrupt: bool = False
    """the file makes no sense"""
    read_only: bool = False

    def add(self, error: Exception, now: float, wall: datetime) -> None:
        self.corrupt |= is_corrupt(error)
        self.read_only = is_read_only(error)
        self.failures += 1
        known, self.reason = self.reason, str(getattr(error, "strerror", None) or error).lower()
        if known and now < self.retry_at:  # noticed in between, by a reader
            return
        first, longest = RETRY_S
        self.pause = min(longest, max(first, 2 * self.pause))
        self.retry_at = now + self.pause
        if not known:
            self.since = wall
            log.error("store.failing", extra={"reason": self.reason, "advice": ADVICE})

    def end(self) -> None:
        if self.reason:
            log.info("store.recovered", extra={"since": str(self.since)})
        self.reason, self.since, self.pause = "", None, 0.0


class Store:
    """The daemon's memory. Any thread may call; only ``newest``, ``len`` and ``size`` never wait for the disk."""

    def __init__(
        self,
        path: Path | None,
        limits: Mapping[Kind, Limit] = LIMITS,
        *,
        deliver: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        connect: Connect = connect,
    ) -> None:
        """Read what the last run left. A disk that fails is a condition, not an error.

        Args:
            path: the file; None: memory only.
            limits: what may wait of a kind, where it differs from ``LIMITS``.
            deliver: there is a broker; otherwise events only go to the journal, and scores nowhere.
            clock: seconds, monotonic.
            wall: for the journal's notes and the condition.
            connect: opens a connection to a URI.

        Raises:
            ConfigError: another daemon works there, or a newer version wrote the file.
        """
        self._path, self._limits, self._deliver = path, {**LIMITS, **limits}, deliver
        self._clock, self._wall, self._connect = clock, wall, connect
        self._lock = threading.Lock()  # guards all below
        self._claim: int | None = None
        self._database: Database | None = None
        self._spare = Spare({kind: {} for kind in self._limits})
        self._waiting = {kind: Tally() for kind in self._limits}
        self._event_seq, self._states = 0, dict[str, str]()
        self._receipts: dict[str, tuple[int, bytes]] = {}
        self._dropped = Counter({(kind, reason): 0 for kind in self._limits for reason in REASONS})
        self._unlogged = 0
        self._set_aside: Path | None = None
        self._trouble, self._closed = _Trouble(), False
        self._offset = -clock()  # the clock of the rows runs only while we do
        self._flushed = clock()
        self._run = self._next = -1
        self._start()

    # What the daemon calls

    @property
    def event_seq(self) -> int:
        """Number of the last event, 0 before the first; kept for ever."""
        return self._event_seq

    def recall(self) -> dict[str, str]:
        """State of each machine as last committed."""
        with self._lock:
            return dict(self._states)

    def receipt(self, transaction: str) -> bytes | None:
        """The reply given before to this transaction, if it is one of the last thousand."""
        with self._lock:
            return self._receipts.get(plain(transaction), (0, None))[1]

    def commit(self, change: Change) -> bool:
        """One transaction, on the medium when this returns True; False: kept in memory only, for now."""
        with self._lock:
            self._take(change)
            return self._write(full=True)

    def put(self, message: Message) -> None:
        """A score: waits in memory for the broker, and in the file if that takes long."""
        if not self._deliver:
            return
        with self._lock:
            self._queue(self._key(), message)
            if self._spare.overdue(message.kind, self._now()):
                self._write()

    def flush(self) -> None:
        """Write what has waited long enough; the daemon calls this every round."""
        with self._lock:
            if self._trouble.reason or self._due():
                self._write()

    def history(
        self, *, machine: str | None = None, event: str | None = None, since: datetime | None = None
    ) -> Iterator[Logged]:
        """The journal, newest first.

        Args:
            machine: only of this one.
            event: only what is called so.
            since: only from this moment on, by the clock on the wall.
        """
        ts = rfc3339(since) if since else None
        with self._lock:
            fresh = [entry for entry in self._spare.entries.values() if entry.suits(machine, event, ts)]
            before = min(self._spare.entries, default=END)
        yield from reversed(fresh)
        yield from pages(lambda before: self._page(machine, event, ts, before), before)

    def condition(self) -> Condition:
        """A snapshot."""
        with self._lock:
            oldest = min((row.at for kind in self._limits for row in self._rows(kind, -1, END, 1)), default=None)
            return Condition(
                trouble=self._trouble.reason,
                since=self._trouble.since,
                disk_bytes=self._disk_bytes(),
                waiting={kind: tally.rows for kind, tally in self._waiting.items()},
                waiting_bytes={kind: tally.size for kind, tally in self._waiting.items()},
                oldest_s=None if oldest is None else self._now() - oldest,
                spare=sum(map(len, self._spare.rows.values())),
                dropped=dict(self._dropped),
                unlogged=self._unlogged,
                set_aside=self._set_aside,
            )

    def close(self) -> None:
        """Write everything and let go of the file. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._trouble.retry_at = float("-inf")
            self._write(everything=True)
            self._closed = True
            if self._database:
                self._database.close()
                self._database = None
            self._let_go()

    # What the publisher calls

    def waiting(self, kind: Kind, after: int, until: int, limit: int) -> list[Entry]:
        """What waits of a kind with ``after < key <= until``, oldest first. It stays until it is removed."""
        with self._lock:
            return [Entry(row.key, row.message) for row in self._rows(kind, after, until, limit)]

    def remove(self, keys: Collection[int]) -> None:
        """The broker has them. Unknown keys are ignored: they may have been evicted meanwhile."""
        with self._lock:
            spare = {key for key in keys if self._forget(key)}
            written = set(keys) - self._spare.gone.keys() - (set() if self._trouble.reason else spare)
            for key, gone in self._those(written).items():
                self._spare.gone[key] = gone
                if gone and key not in spare:
                    self._waiting[gone.kind].add(-gone.size, -1)
            self._spare.trim_gone()

    @property
    def newest(self) -> int:
        """No key given so far is above it; -1 before the first ever. Never waits for the disk."""
        return self._next - 1

    def __len__(self) -> int:
        return sum(tally.rows for tally in self._waiting.values())

    @property
    def size(self) -> int:
        """Bytes of payload that wait."""
        return sum(tally.size for tally in self._waiting.values())

    # Memory. From here on all is called with the lock taken

    def _now(self) -> float:
        return self._clock() + self._offset

    def _key(self) -> int:
        self._next += 1
        return self._next - 1

    def _queue(self, key: int, message: Message) -> None:
        self._spare.rows[message.kind][key] = Row(key, message, self._now())
        self._waiting[message.kind].add(len(message.payload))

    def _take(self, change: Change) -> None:
        self._event_seq = max(self._event_seq, change.event_seq)
        for message in change.events:
            key = self._key()
            self._spare.entries[key] = logged(key, message.payload, self._wall())
            if self._deliver:
                self._queue(key, message)
        for note in change.notes:
            key = self._key()
            self._spare.entries[key] = logged(key, note, self._wall())
        for transaction, reply in change.receipts.items():
            self._keep_receipt(plain(transaction), self._key(), reply)
        self._states |= change.states
        self._spare.states |= change.states

    def _keep_receipt(self, transaction: str, key: int, reply: bytes) -> None:
        self._receipts.pop(transaction, None)  # the last one is the newest
        self._receipts[transaction] = key, reply
        self._spare.receipts[key] = transaction, reply
        for forgotten in list(islice(self._receipts, max(0, len(self._receipts) - RECEIPTS))):
            self._spare.receipts.pop(self._receipts.pop(forgotten)[0], None)

    def _forget(self, key: int) -> bool:
        """Whether it was in memory."""
        row = self._spare.pop(key)
        if row:
            self._waiting[row.message.kind].add(-len(row.message.payload), -1)
        return row is not None

    def _lose(self, dropped: Iterable[Dropped]) -> None:
        for kind, reason, size in dropped:
            self._waiting[kind].add(-size, -1)
            self._dropped[kind, reason] += 1
            if (lost := self._dropped[kind, reason]) in {1, 10, 100, 1000, 10_000, 100_000}:  # said, but not each time
                log.error("outbox.dropped", extra={"kind": kind.value, "reason": reason, "count": lost})

    # The file, read

    def _rows(self, kind: Kind, after: int, until: int, limit: int) -> list[Row]:
        """What waits, from the file and then from memory, where the newer ones are."""
        found = self._written(kind, after, until, limit)
        seen = {row.key for row in found}  # a transaction that seemed to fail may be in the file after all
        spare = (row for key, row in self._spare.rows[kind].items() if after < key <= until and key not in seen)
        return found + list(islice(spare, limit - len(found)))

    def _written(self, kind: Kind, after: int, until: int, limit: int) -> list[Row]:
        found: list[Row] = []
        while self._database and len(found) < limit:
            try:
                rows = self._database.rows(kind, after, until, limit)
            except TROUBLES as error:
                self._fail(error)
                break
            found += [row for row in rows if row.key not in self._spare.gone]
            if len(rows) < limit:
                break
            after = rows[-1].key
        return found[:limit]

    def _those(self, keys: Collection[int]) -> dict[int, Gone | None]:
        """Which of these the file holds; all of them if it cannot be asked, since they must not come back."""
        if not keys:
            return {}
        if self._database is None:
            return dict.fromkeys(keys)
        try:
            return {gone.key: gone for gone in self._database.those(keys)}
        except TROUBLES as error:
            self._fail(error)
            return dict.fromkeys(keys)

    def _page(self, machine: str | None, event: str | None, since: str | None, before: int) -> list[Logged]:
        with self._lock:
            try:
                return self._database.history(machine, event, since, before) if self._database else []
            except TROUBLES as error:
                self._fail(error)
                return []

    def _disk_bytes(self) -> int:
        with suppress(OSError):
            return self._database.bytes() if self._database else 0
        return 0

    # The file, written

    def _due(self) -> bool:
        removed = bool(self._spare.gone) and self._clock() - self._flushed >= FLUSH_S
        return removed or any(self._spare.overdue(kind, self._now()) for kind in self._limits)

    def _write(self, *, full: bool = False, everything: bool = False) -> bool:
        """One transaction of all that is due, unless the disk failed a moment ago."""
        if not self._closed and self._clock() >= self._trouble.retry_at and self._written_all(full, everything):
            return True
        self._lose(self._spare.trim())
        self._unlogged += self._spare.trim_entries()
        return False

    def _written_all(self, full: bool, everything: bool) -> bool:  # noqa: FBT001 - private
        everything |= bool(self._trouble.reason)
        kinds = [kind for kind in self._limits if everything or self._spare.overdue(kind, self._now())]
        # the failures change the file: only a write that was needed proves that the disk works again
        numbers = {"event_seq": self._event_seq, "run": self._run, "failures": self._trouble.failures}
        try:
            database, batch = self._opened(), self._spare.batch(kinds, numbers)
            dropped = database.write(batch, self._limits, self._now(), full=full or self._spare.precious)
        except (*TROUBLES, ConfigError) as error:
            self._fail(error)
            return False
        self._spare.clear(kinds)
        self._trouble.end()
        self._flushed = self._clock()
        self._lose(dropped)
        return True

    def _fail(self, error: Exception) -> None:
        self._trouble.add(error, self._clock(), self._wall())

    # The file, opened

    def _start(self) -> None:
        try:
            self._opened()
        except TROUBLES as error:
            self._fail(error)
            self._run = int(self._wall().timestamp())  # what the file holds is not known: far above it
        except ConfigError:
            self._let_go()
            raise
        self._next = self._run * RUN
        self._write(full=True)

    def _opened(self) -> Database:
        """The file, opened anew after a failure; the old connection serves until that has succeeded."""
        if self._database and not self._trouble.reason:
            return self._database
        if self._path and self._claim is None:
            self._claim = claim(self._path)
        if self._trouble.read_only:
            self._stop_reading()
        before = self._move_aside() if self._trouble.corrupt else self._database
        try:
            return self._replace(before)
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            return self._replace(self._move_aside())

    def _stop_reading(self) -> None:
        """A connection that was opened for reading makes SQLite open all others of the process so."""
        if self._database and self._path:
            self._database.close()
            self._database = None

    def _move_aside(self) -> Database | None:
        """Make room for a new file; the corrupt one, as far as it can be read."""
        if self._path is None:
            return self._database
        self._set_aside = place = set_aside(self._path)
        self._trouble.corrupt = False
        log.error("store.corrupt", extra={"file": str(self._path), "moved_to": str(place)})
        if self._database is None:
            with suppress(*TROUBLES):
                return open_reader(place, self._connect)
        return self._database

    def _replace(self, before: Database | None) -> Database:
        """Begin with another connection, to the same file or to a new one."""
        known = {kind: tally.rows for kind, tally in self._waiting.items()}
        database = open_database(self._path, self._connect)
        try:
            numbers = database.numbers()
            if before and not numbers:
                self._salvage(before)
            self._adopt(database, numbers)
        except BaseException:
            database.close()
            raise
        self._database = database
        if before:
            before.close()
        for kind, rows in known.items():
            self._dropped[kind, "unkept"] += max(0, rows - self._waiting[kind].rows)
        return database

    def _salvage(self, wreck: Database) -> None:
        """What can still be read of a lost file belongs into the new one."""
        with suppress(*TROUBLES):
            self._count_on(wreck.numbers())
        if self._run < 0:
            self._run = int(self._wall().timestamp())
        with suppress(*TROUBLES):
            self._states = wreck.states() | self._states
        with suppress(*TROUBLES):
            self._receipts = _by_transaction(wreck.receipts()) | self._receipts
        for kind in self._limits:
            self._spare.rows[kind] = self._salvaged(wreck, kind) | self._spare.rows[kind]
        with suppress(*TROUBLES):
            newest = wreck.history(None, None, None, END)
            self._event_seq = max(self._event_seq, *(number(entry.body) for entry in newest), 0)
        self._spare.states = dict(self._states)
        self._spare.receipts = {key: (transaction, reply) for transaction, (key, reply) in self._receipts.items()}

    def _salvaged(self, wreck: Database, kind: Kind) -> dict[int, Row]:
        found: dict[int, Row] = {}
        with suppress(*TROUBLES):
            while len(found) < ROOM.get(kind, 0) and (page := wreck.rescue(kind, max(found, default=-1))):
                found |= {row.key: row for row in page}
        return {key: row for key, row in found.items() if key not in self._spare.gone}

    def _count_on(self, numbers: Mapping[str, int]) -> None:
        self._event_seq = max(self._event_seq, numbers.get("event_seq", 0))
        if self._run < 0 and "run" in numbers:
            self._run = numbers["run"] + 1
            self._trouble.failures += numbers.get("failures", 0)

    def _adopt(self, database: Database, numbers: Mapping[str, int]) -> None:
        """Put what the file holds under what memory knows, which is newer."""
        states, receipts, latest = database.states(), database.receipts(), database.latest()
        gone = database.those(self._spare.gone)
        kept = database.those([key for rows in self._spare.rows.values() for key in rows])
        self._count_on(numbers)
        self._run = max(self._run, 0)
        self._states = states | self._states
        self._receipts = _by_transaction(receipts) | self._receipts
        self._catch_up(latest)
        self._spare.gone = {removed.key: removed for removed in gone}
        for row in kept:  # written by a transaction that seemed to fail
            self._spare.rows[row.kind].pop(row.key, None)
        self._waiting = {kind: self._tally(database, kind) for kind in self._limits}

    def _catch_up(self, latest: float) -> None:
        """Let the rows' clock go on where the last run left it."""
        missing = max(0.0, latest - self._now())
        self._offset += missing
        for rows in self._spare.rows.values():
            rows.update({key: row._replace(at=row.at + missing) for key, row in rows.items()})

    def _tally(self, database: Database, kind: Kind) -> Tally:
        tally = Tally(database.held[kind].rows, database.held[kind].size)
        for row in self._spare.rows[kind].values():
            tally.add(len(row.message.payload))
        for gone in self._spare.gone.values():
            if gone and gone.kind is kind:
                tally.add(-gone.size, -1)
        return tally

    def _let_go(self) -> None:
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None


def _by_transaction(receipts: Mapping[int, tuple[str, bytes]]) -> dict[str, tuple[int, bytes]]:
    return {transaction: (key, reply) for key, (transaction, reply) in receipts.items()}


def read_history(
    path: Path, *, machine: str | None = None, event: str | None = None, since: datetime | None = None
) -> Iterator[Logged]:
    """The journal, newest first, from another process than the daemon's, which may run or not.

    Raises:
        ConfigError: there is no such file, or nothing that can be read.
    """
    ts = rfc3339(since) if since else None
    with _reading(path) as database:
        yield from pages(lambda before: database.history(machine, event, ts, before))


def read_states(path: Path) -> dict[str, str]:
    """Machine and state as last committed, from another process than the daemon's.

    Raises:
        ConfigError: there is no such file, or nothing that can be read.
    """
    with _reading(path) as database:
        return database.states()


@contextmanager
def _reading(path: Path) -> Iterator[Database]:
    try:
        database = open_reader(path)
        try:
            yield database
        finally:
            database.close()
    except TROUBLES as error:
        msg = f"{path} cannot be read as a daemon's memory: {error}; give the state directory of one that has run here"
        raise ConfigError(msg) from error
