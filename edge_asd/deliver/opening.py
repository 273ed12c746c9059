"""Opening the store's file: begun when there is none, refused when a newer version or another daemon has it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

from edge_asd.deliver.database import Database, beside
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
LOG_PAGES = 1000
"""pages of four kilobytes in the write-ahead log from which on it is worked into the file and begun anew"""
ASIDE = 3
"""corrupt files that are kept; the last place is used again"""
CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def connect(uri: str) -> sqlite3.Connection:
    """A connection that any thread may use, in turns; transactions begin and end where we say so."""
    return sqlite3.connect(uri, timeout=1, isolation_level=None, check_same_thread=False, uri=True)


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
    return _code(error) in CORRUPT


def is_read_only(error: Exception) -> bool:
    """It can be read and not be written."""
    return _code(error) == sqlite3.SQLITE_READONLY


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says more than we want to know


def set_aside(path: Path) -> Path:
    """Move a corrupt file out of the way; where it is now.

    Raises:
        OSError: it cannot be moved.
    """
    places = [path.with_name(f"{path.name}.corrupt-{number}") for number in range(1, ASIDE + 1)]
    place = next((place for place in places if not place.exists()), places[-1])
    for ending in ("-wal", ""):  # the log first: on its own it is nothing, the file without it may look whole
        with suppress(FileNotFoundError):
            beside(path, ending).replace(beside(place, ending))
    beside(path, "-shm").unlink(missing_ok=True)
    return place
