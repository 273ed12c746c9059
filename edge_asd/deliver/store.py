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
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from edge_asd.deliver import database as disk
from edge_asd.deliver.journal import END, Logged, logged, pages, plain
from edge_asd.deliver.message import Kind, rfc3339
from edge_asd.deliver.outbox import LIMITS, Entry
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from edge_asd.deliver.message import Message
    from edge_asd.deliver.outbox import Limit

log = logging.getLogger(__name__)

REASONS = ("full", "age", "unkept")
"""why what waited was lost: its kind's share is full, it waited too long, or the disk failed and so was the memory"""
SPARE: Mapping[Kind, int] = {Kind.EVENT: 10_000, Kind.SCORE: 2_000}
"""messages kept in memory while they cannot be written"""
FLUSH_S = 5.0
"""between two writes of what was removed; what a kill may send twice"""
SCORES_S = 60.0
"""a score that waits longer is written; what a power cut may cost"""
RETRY_S = (1.0, 30.0)
"""between attempts on a failing disk, first and longest"""
RUN = 10**9
"""keys for each run of the daemon: none is ever used twice, without a word to the disk"""
TROUBLES = (sqlite3.Error, OSError)


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
class _Unsaved:
    """What memory knows and the disk does not."""

    rows: dict[Kind, dict[int, disk.Row]]
    gone: dict[int, disk.Gone | None] = field(default_factory=dict)
    """removed but still in the file; None: it could not be asked"""
    entries: dict[int, Logged] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    receipts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


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
        connect: disk.Connect = disk.connect,
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
        self._database: disk.Database | None = None
        self._unsaved = _Unsaved({kind: {} for kind in self._limits})
        self._waiting = {kind: disk.Tally() for kind in self._limits}
        self._event_seq, self._states = 0, dict[str, str]()
        self._receipts: dict[str, tuple[int, bytes]] = {}
        self._dropped = Counter({(kind, reason): 0 for kind in self._limits for reason in REASONS})
        self._unlogged = 0
        self._set_aside: Path | None = None
        self._trouble, self._since, self._pause, self._retry_at = "", wall(), 0.0, 0.0
        self._corrupt = self._closed = False
        self._offset = -clock()  # the clock of the rows runs only while we do
        self._flushed = clock()
        self._run = self._next = -1
        self._failures = 0
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
            if len(self._unsaved.rows[message.kind]) >= SPARE.get(message.kind, 0) // 2:
                self._write()
                self._bound()

    def flush(self) -> None:
        """Write what has waited long enough; the daemon calls this every round."""
        with self._lock:
            if self._trouble or self._due():
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
            fresh = [entry for entry in self._unsaved.entries.values() if entry.suits(machine, event, ts)]
            before = min(self._unsaved.entries, default=END)
        yield from reversed(fresh)
        yield from pages(lambda before: self._page(machine, event, ts, before), before)

    def condition(self) -> Condition:
        """A snapshot."""
        with self._lock:
            oldest = min((row.at for kind in self._limits for row in self._rows(kind, -1, END, 1)), default=None)
            return Condition(
                trouble=self._trouble,
                since=self._since if self._trouble else None,
                disk_bytes=self._disk_bytes(),
                waiting={kind: tally.rows for kind, tally in self._waiting.items()},
                waiting_bytes={kind: tally.size for kind, tally in self._waiting.items()},
                oldest_s=None if oldest is None else self._now() - oldest,
                spare=sum(map(len, self._unsaved.rows.values())),
                dropped=dict(self._dropped),
                unlogged=self._unlogged,
                set_aside=self._set_aside,
            )

    def close(self) -> None:
        """Write everything and let go of the file. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._retry_at = float("-inf")
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
            written = set(keys) - self._unsaved.gone.keys() - (set() if self._trouble else spare)
            for key, gone in self._those(written).items():
                self._unsaved.gone[key] = gone
                if gone and key not in spare:
                    self._waiting[gone.kind].add(-gone.size, -1)

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
        self._unsaved.rows[message.kind][key] = disk.Row(key, message, self._now())
        self._waiting[message.kind].add(len(message.payload))

    def _take(self, change: Change) -> None:
        self._event_seq = max(self._event_seq, change.event_seq)
        for message in change.events:
            key = self._key()
            self._unsaved.entries[key] = logged(key, message.payload, self._wall())
            if self._deliver:
                self._queue(key, message)
        for note in change.notes:
            key = self._key()
            self._unsaved.entries[key] = logged(key, note, self._wall())
        for transaction, reply in change.receipts.items():
            self._keep_receipt(plain(transaction), self._key(), reply)
        self._states |= change.states
        self._unsaved.states |= change.states

    def _keep_receipt(self, transaction: str, key: int, reply: bytes) -> None:
        self._receipts.pop(transaction, None)  # the last one is the newest
        self._receipts[transaction] = key, reply
        self._unsaved.receipts[key] = transaction, reply
        for forgotten in list(islice(self._receipts, max(0, len(self._receipts) - disk.RECEIPTS))):
            self._unsaved.receipts.pop(self._receipts.pop(forgotten)[0], None)

    def _forget(self, key: int) -> bool:
        """Whether it was in memory only."""
        for kind, rows in self._unsaved.rows.items():
            if row := rows.pop(key, None):
                self._waiting[kind].add(-len(row.message.payload), -1)
                return True
        return False

    def _bound(self) -> None:
        """What the disk does not take, and the memory neither, is lost."""
        for kind, rows in self._unsaved.rows.items():
            for key in list(islice(rows, max(0, len(rows) - SPARE.get(kind, 0)))):
                self._lose([disk.Dropped(kind, "unkept", len(rows.pop(key).message.payload))])
        entries = self._unsaved.entries
        for key in list(islice(entries, max(0, len(entries) - SPARE[Kind.EVENT]))):
            del entries[key]
            self._unlogged += 1

    def _lose(self, dropped: Iterable[disk.Dropped]) -> None:
        for kind, reason, size in dropped:
            self._waiting[kind].add(-size, -1)
            self._dropped[kind, reason] += 1
            if (lost := self._dropped[kind, reason]) in {1, 10, 100, 1000, 10_000, 100_000}:  # said, but not each time
                log.error("outbox.dropped", extra={"kind": kind.value, "reason": reason, "count": lost})

    # The file, read

    def _rows(self, kind: Kind, after: int, until: int, limit: int) -> list[disk.Row]:
        """What waits, from the file and then from memory, where the newer ones are."""
        found = self._written(kind, after, until, limit)
        seen = {row.key for row in found}  # a transaction that seemed to fail may be in the file after all
        spare = (row for key, row in self._unsaved.rows[kind].items() if after < key <= until and key not in seen)
        return found + list(islice(spare, limit - len(found)))

    def _written(self, kind: Kind, after: int, until: int, limit: int) -> list[disk.Row]:
        found: list[disk.Row] = []
        while self._database and len(found) < limit:
            try:
                rows = self._database.rows(kind, after, until, limit)
            except TROUBLES as error:
                self._fail(error)
                break
            found += [row for row in rows if row.key not in self._unsaved.gone]
            if len(rows) < limit:
                break
            after = rows[-1].key
        return found[:limit]

    def _those(self, keys: Collection[int]) -> dict[int, disk.Gone | None]:
        """Which of these the file holds; all of them if it cannot be asked, since they must not come back."""
        if not keys or self._database is None:
            return {}
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
        removed = bool(self._unsaved.gone) and self._clock() - self._flushed >= FLUSH_S
        return removed or any(map(self._overdue, self._limits))

    def _overdue(self, kind: Kind) -> bool:
        """Whether what is in memory of this kind belongs into the file."""
        rows = self._unsaved.rows[kind]
        oldest = next(iter(rows.values()), None)
        return oldest is not None and (
            kind is Kind.EVENT or self._now() - oldest.at >= SCORES_S or len(rows) >= SPARE.get(kind, 0) // 2
        )

    def _write(self, *, full: bool = False, everything: bool = False) -> bool:
        """One transaction of all that is due, unless the disk failed a moment ago."""
        if self._closed or (self._trouble and self._clock() < self._retry_at):
            self._bound()
            return False
        try:
            kinds = [kind for kind in self._limits if everything or self._trouble or self._overdue(kind)]
            database = self._opened()
            dropped = database.write(self._batch(kinds), self._limits, self._now(), full=full or self._precious())
        except (*TROUBLES, ConfigError) as error:
            self._fail(error)
            self._bound()
            return False
        self._settle(kinds, dropped)
        return True

    def _precious(self) -> bool:
        unsaved = self._unsaved
        return bool(unsaved.rows[Kind.EVENT] or unsaved.entries or unsaved.states or unsaved.receipts)

    def _batch(self, kinds: Iterable[Kind]) -> disk.Batch:
        return disk.Batch(
            # the failures change the file: only a write that was needed proves that the disk works again
            numbers={"event_seq": self._event_seq, "run": self._run, "failures": self._failures},
            states=self._unsaved.states,
            receipts=self._unsaved.receipts,
            rows=[row for kind in kinds for row in self._unsaved.rows[kind].values()],
            entries=self._unsaved.entries.values(),
            gone=self._unsaved.gone,
        )

    def _settle(self, kinds: Iterable[Kind], dropped: Iterable[disk.Dropped]) -> None:
        """It is written: forget that it was not."""
        if self._trouble:
            log.info("store.recovered", extra={"messages": sum(map(len, self._unsaved.rows.values()))})
        for kind in kinds:
            self._unsaved.rows[kind].clear()
        for part in (self._unsaved.gone, self._unsaved.entries, self._unsaved.states, self._unsaved.receipts):
            part.clear()
        self._trouble, self._pause, self._flushed = "", 0.0, self._clock()
        self._lose(dropped)

    def _fail(self, error: Exception) -> None:
        self._corrupt |= disk.is_corrupt(error)
        self._failures += 1
        now, known = self._clock(), self._trouble
        self._trouble = str(getattr(error, "strerror", None) or error).lower()
        if known and now < self._retry_at:  # noticed in between, by a reader
            return
        first, longest = RETRY_S
        self._pause = min(longest, max(first, 2 * self._pause))
        self._retry_at = now + self._pause
        if not known:
            self._since = self._wall()
            advice = "make room on the disk or let it be written; until then events are kept in memory only"
            log.error("store.failing", extra={"reason": self._trouble, "file": str(self._path), "advice": advice})

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

    def _opened(self) -> disk.Database:
        """The file, opened anew after a failure; the old connection serves until that has succeeded."""
        if self._database and not self._trouble:
            return self._database
        if self._path and self._claim is None:
            self._claim = disk.claim(self._path)
        before = self._move_aside() if self._corrupt else self._database
        try:
            database = disk.open_database(self._path, self._connect)
        except sqlite3.DatabaseError as error:
            if not disk.is_corrupt(error):
                raise
            before = self._move_aside()
            database = disk.open_database(self._path, self._connect)
        self._corrupt = False
        self._replace(before, database)
        return database

    def _move_aside(self) -> disk.Database | None:
        """Make room for a new file; the corrupt one, as far as it can be read."""
        if self._path is None:
            return self._database
        self._set_aside = place = disk.set_aside(self._path)
        log.error("store.corrupt", extra={"file": str(self._path), "moved_to": str(place)})
        if self._database is None:
            with suppress(*TROUBLES):
                return disk.open_reader(place, self._connect)
        return self._database

    def _replace(self, before: disk.Database | None, database: disk.Database) -> None:
        known = {kind: tally.rows for kind, tally in self._waiting.items()}
        numbers = database.numbers()
        if before and not numbers:
            self._salvage(before)
        self._adopt(database, numbers)
        self._database = database
        if before:
            before.close()
        for kind, rows in known.items():
            self._dropped[kind, "unkept"] += max(0, rows - self._waiting[kind].rows)

    def _salvage(self, wreck: disk.Database) -> None:
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
            self._unsaved.rows[kind] = self._salvaged(wreck, kind) | self._unsaved.rows[kind]
        self._unsaved.states = dict(self._states)
        self._unsaved.receipts = {key: (transaction, reply) for transaction, (key, reply) in self._receipts.items()}

    def _salvaged(self, wreck: disk.Database, kind: Kind) -> dict[int, disk.Row]:
        found: dict[int, disk.Row] = {}
        with suppress(*TROUBLES):
            while len(found) < SPARE.get(kind, 0) and (page := wreck.rows(kind, max(found, default=-1), END, 100)):
                found |= {row.key: row for row in page}
        return {key: row for key, row in found.items() if key not in self._unsaved.gone}

    def _count_on(self, numbers: Mapping[str, int]) -> None:
        self._event_seq = max(self._event_seq, numbers.get("event_seq", 0))
        if self._run < 0 and "run" in numbers:
            self._run = numbers["run"] + 1
            self._failures += numbers.get("failures", 0)

    def _adopt(self, database: disk.Database, numbers: Mapping[str, int]) -> None:
        """Put what the file holds under what memory knows, which is newer."""
        self._count_on(numbers)
        self._run = max(self._run, 0)
        self._states = database.states() | self._states
        self._receipts = _by_transaction(database.receipts()) | self._receipts
        self._catch_up(database.latest())
        unsaved = self._unsaved
        unsaved.gone = {gone.key: gone for gone in database.those(unsaved.gone)}
        for kept in database.those([key for rows in unsaved.rows.values() for key in rows]):
            unsaved.rows[kept.kind].pop(kept.key, None)
        self._waiting = {kind: self._tally(database, kind) for kind in self._limits}

    def _catch_up(self, latest: float) -> None:
        """Let the rows' clock go on where the last run left it."""
        missing = max(0.0, latest - self._now())
        self._offset += missing
        for rows in self._unsaved.rows.values():
            rows.update({key: row._replace(at=row.at + missing) for key, row in rows.items()})

    def _tally(self, database: disk.Database, kind: Kind) -> disk.Tally:
        tally = disk.Tally(database.held[kind].rows, database.held[kind].size)
        for row in self._unsaved.rows[kind].values():
            tally.add(len(row.message.payload))
        for gone in self._unsaved.gone.values():
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
    try:
        database = disk.open_reader(path)
        try:
            yield from pages(lambda before: database.history(machine, event, ts, before))
        finally:
            database.close()
    except TROUBLES as error:
        msg = f"{path} cannot be read as a daemon's memory: {error}; give the state directory of one that has run here"
        raise ConfigError(msg) from error
