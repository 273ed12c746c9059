"""The file that remembers: SQLite with a write-ahead log, one connection, every change one transaction.

What a transaction that says ``full`` brought is on the medium when it returns, and survives a power cut; the others
survive the end of the process. Every row has a key of one sequence, given by the caller, and is written if its key is
not there yet: a transaction that failed in its last moment may be repeated. Not thread-safe, and all here may raise
``sqlite3.Error`` or ``OSError``; the store sees to both.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from edge_asd.deliver.journal import PAGE, Logged
from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.outbox import Limit
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

Connect: TypeAlias = "Callable[[str], sqlite3.Connection]"

VERSION = 1
"""of the tables; a file of a newer one is not touched"""
SCHEMA = (
    "CREATE TABLE number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE state (machine TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE receipt (key INTEGER PRIMARY KEY, name TEXT NOT NULL, reply BLOB NOT NULL) STRICT",
    """CREATE TABLE outbox (
        key INTEGER PRIMARY KEY, kind TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
        size INTEGER NOT NULL, at REAL NOT NULL
    ) STRICT""",
    "CREATE INDEX outbox_kind ON outbox (kind, key, size)",  # serves a kind in order, and adds up sizes without payload
    """CREATE TABLE journal (
        key INTEGER PRIMARY KEY, ts TEXT NOT NULL, machine TEXT, event TEXT, body BLOB NOT NULL, size INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX journal_ts ON journal (ts, size)",
)
JOURNAL = Limit(32_000_000)
"""some thirty thousand events; the oldest go"""
RECEIPTS = 1000
"""replies that are kept"""
LOG_PAGES = 1000
"""pages of four kilobytes in the write-ahead log from which on it is worked into the file and begun anew"""
ASIDE = 3
"""corrupt files that are kept; the last place is used again"""
CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


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


def connect(uri: str) -> sqlite3.Connection:
    """A connection that any thread may use, in turns; transactions begin and end where we say so."""
    return sqlite3.connect(uri, timeout=1, isolation_level=None, check_same_thread=False, uri=True)


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
        return sum(file.stat().st_size for file in (self._path, _beside(self._path, "-wal")) if file.exists())

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
        if self._path and _identity(self._path) != self._identity:
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


# Files ----------------------------------------------------------------------------------------------------------------


def open_database(path: Path | None, connect: Connect = connect) -> Database:
    """Open the file, begin it when there is none; where it cannot be written, for reading.

    Raises:
        ConfigError: it was written by a newer version.
        sqlite3.DatabaseError: it is corrupt, or not even readable.
        OSError: its folder cannot be made.
    """
    if path is None:
        return _prepared(None, connect("file::memory:"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _prepared(path, connect(path.absolute().as_uri()))
    except (sqlite3.OperationalError, OSError):
        with suppress(sqlite3.Error, OSError):
            return open_reader(path, connect, counted=True)
        raise


def open_reader(path: Path, connect: Connect = connect, *, counted: bool = False) -> Database:
    """Open what is there and change nothing, whether or not somebody writes to it, even on a full or read-only disk.

    Args:
        path: the file.
        connect: opens a connection to a URI.
        counted: find out how much is there, too.

    Raises:
        sqlite3.Error: it cannot be read.
        OSError: it is not there.
    """
    uri = path.absolute().as_uri() + "?mode=ro"
    try:
        return _read(path, connect(uri), counted=counted)
    except sqlite3.OperationalError:
        # its index of the log cannot be made here; after a clean end there is no log to read
        return _read(path, connect(uri + "&immutable=1"), counted=counted)


def _prepared(path: Path | None, connection: sqlite3.Connection) -> Database:
    with _closed_on_error(connection):
        found = _known_version(path, connection)
        for setting in ("journal_mode = WAL", "secure_delete = OFF", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {setting}").close()
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}").close()
        connection.execute(f"PRAGMA journal_size_limit = {LOG_PAGES * 4120}").close()
        if found == 0:
            _begin(connection)
        database = Database(path, connection)
        database.count()
        return database


def _begin(connection: sqlite3.Connection) -> None:
    try:
        for statement in ("BEGIN IMMEDIATE", *SCHEMA, f"PRAGMA user_version = {VERSION}", "COMMIT"):
            connection.execute(statement).close()
    except sqlite3.Error:
        connection.rollback()
        raise


def _read(path: Path, connection: sqlite3.Connection, *, counted: bool) -> Database:
    with _closed_on_error(connection):
        _known_version(path, connection)
        database = Database(path, connection)
        if counted:
            database.count()
        return database


def _known_version(path: Path | None, connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        msg = (
            f"{path} has version {version} of the tables, this program knows up to {VERSION}:"
            " install the newer program again, or move the file away"
        )
        raise ConfigError(msg)
    return version


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            connection.close()
        raise


def claim(path: Path) -> int | None:
    """Keep others out for as long as the descriptor is open; None where the lock cannot be made.

    Raises:
        ConfigError: another daemon is at work there.
    """
    lock = path.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError:
        try:
            descriptor = os.open(lock, os.O_RDONLY)
        except OSError:
            return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        msg = f"another edge-asd works with {path.parent}: stop it, or give this one a state directory of its own"
        raise ConfigError(msg) from None
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def is_corrupt(error: Exception) -> bool:
    """What the file holds makes no sense, as opposed to: it cannot be read or written now."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in CORRUPT


def set_aside(path: Path) -> Path:
    """Move a corrupt file out of the way; where it is now.

    Raises:
        OSError: it cannot be moved.
    """
    places = [path.with_name(f"{path.name}.corrupt-{number}") for number in range(1, ASIDE + 1)]
    place = next((place for place in places if not place.exists()), places[-1])
    for ending in ("-wal", ""):  # the log first: on its own it is nothing, the file without it may look whole
        with suppress(FileNotFoundError):
            _beside(path, ending).replace(_beside(place, ending))
    _beside(path, "-shm").unlink(missing_ok=True)
    return place


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
