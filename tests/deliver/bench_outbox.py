"""What delivery costs: events per second into and out of the outbox, and bytes that a day of one machine writes.

    python tests/deliver/bench_outbox.py DIRECTORY

Alternatives take turns in one run, on one core, and everything is also given as a ratio to the naive way: a table of
messages, a row and a commit each. Bytes are what SQLite hands to the kernel (``wchar`` of ``/proc/self/io``: log and
file) on a day whose ten-second pauses are left out; with them each of these writes reaches the medium. Beside it stands
the kernel's ``write_bytes``, which counts a page once that was written again before it was stored.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asd.bench import one_core, turns
from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.store import Change, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAY = 8640
"""clips of ten seconds"""
EVENTS = 4
"""alarms a day, raised and returned"""
BODY = {"parts": {f"part-{number}": 0.123456789 for number in range(20)}, "segment_scores": [1.2345] * 8}
SCORE = Message("edge_asd/v1/hall/machine/pump/score", json.dumps(BODY).encode(), Kind.SCORE)
EVENT = Message("edge_asd/v1/hall/machine/pump/event", json.dumps(BODY | {"event": "activated"}).encode(), Kind.EVENT)
STATE = json.dumps(dict.fromkeys("abcdefghijklmnopqrst", 1.5))


class Naive:
    """A row and a commit each; the sender deletes one by one."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        self._connection.execute("CREATE TABLE message (id INTEGER PRIMARY KEY, topic TEXT, payload BLOB)")

    def put(self, message: Message) -> None:
        """One transaction."""
        row = (message.topic, message.payload)
        self._connection.execute("INSERT INTO message (topic, payload) VALUES (?, ?)", row)

    def take(self) -> bool:
        """The oldest, in another; False when there is none."""
        found = self._connection.execute("SELECT id, topic, payload FROM message ORDER BY id LIMIT 1").fetchone()
        if found:
            self._connection.execute("DELETE FROM message WHERE id = ?", found[:1])
        return found is not None

    def close(self) -> None:
        """Work the log in."""
        self._connection.close()


@dataclass
class Ours:
    """The store, as the daemon and the publisher use it."""

    path: Path
    now: float = 0.0
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.path, clock=lambda: self.now)

    def commit(self) -> None:
        """An event, with all that belongs to it."""
        seq = self.store.event_seq + 1
        assert self.store.commit(Change(seq, (EVENT,), states={"pump": STATE}))

    def put(self) -> None:
        """A score, and the round of the loop after it."""
        self.now += 10
        self.store.put(SCORE)
        self.store.flush()

    def take(self, kind: Kind, window: int = 20) -> bool:
        """A window of the sender."""
        page = self.store.waiting(kind, -1, self.store.newest, window)
        self.store.remove([entry.key for entry in page])
        return bool(page)

    def drain(self, kind: Kind) -> None:
        """All windows, with a second between them as for a backlog at twenty a second."""
        while self.take(kind):
            self.now += 1
            self.store.flush()


# Speed ----------------------------------------------------------------------------------------------------------------


def speeds(folder: Path, count: int = 200, rounds: int = 9) -> Iterator[str]:
    """Messages per second, with the ratio of ours to the naive way in the same round."""
    ours, full, normal = (
        Ours(folder / "ours.db"),
        Naive(folder / "full.db", "FULL"),
        Naive(folder / "normal.db", "NORMAL"),
    )
    work: dict[str, dict[str, Callable[[], object]]] = {
        "events in": {
            "naive, FULL": partial(repeat, count, partial(full.put, EVENT)),
            "event, state, number and journal in one commit": partial(repeat, count, ours.commit),
        },
        "events out": {
            "naive, FULL": partial(repeat, count, full.take),
            "waiting and remove": partial(ours.drain, Kind.EVENT),
        },
        "scores through": {
            "naive, NORMAL": partial(repeat, count, partial(through, normal)),
            "put, flush, waiting, remove": partial(repeat, count, partial(through, ours)),
        },
        "scores kept": {
            "naive, NORMAL": partial(repeat, count, partial(normal.put, SCORE)),
            "put and flush": partial(repeat, count, ours.put),
        },
    }
    prepared = {"events out": lambda: (repeat(count, ours.commit), repeat(count, partial(full.put, EVENT)))}
    with one_core():
        for what, ways in work.items():
            yield f"{what}, per second"
            for name, rate, ratio in paces(ways, count, rounds, prepared.get(what, lambda: None)):
                yield f"  {name:<50} {rate:>10,.0f}  {ratio:8.2f} x"
    ours.store.close()
    full.close()
    normal.close()


def paces(
    ways: dict[str, Callable[[], object]], count: int, rounds: int, prepare: Callable[[], object]
) -> Iterator[tuple[str, float, float]]:
    """Each way's rate, and over the first one's."""
    reference = next(iter(ways))
    stages = {"": prepare, **ways}  # the preparation takes its turn, but is not shown
    for timing in turns(stages, rounds, reference)[1:]:
        yield timing.stage, count / timing.seconds, 1 / (timing.ratio or 1)


def repeat(count: int, step: Callable[[], object]) -> None:
    """So many times."""
    for _ in range(count):
        step()


def through(way: Naive | Ours) -> None:
    """A score while the broker answers."""
    if isinstance(way, Naive):
        way.put(SCORE)
    else:
        way.put()
    way.take() if isinstance(way, Naive) else way.take(Kind.SCORE)


# Wear -----------------------------------------------------------------------------------------------------------------


@dataclass
class Written:
    """Bytes."""

    handed: int = 0
    """by write calls"""
    stored: int = 0
    """pages that the kernel had to store, once each if it was left no time"""


@contextmanager
def writing() -> Iterator[Written]:
    """Count what the process writes meanwhile."""
    before, written = _io(), Written()
    yield written
    after = _io()
    written.handed, written.stored = after["wchar"] - before["wchar"], after["write_bytes"] - before["write_bytes"]


def _io() -> dict[str, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def wear(folder: Path) -> Iterator[str]:
    """Megabytes of a day."""
    days: dict[str, Callable[[Path], None]] = {
        "naive, connected": partial(naive_day, connected=True),
        "naive, disconnected": partial(naive_day, connected=False),
        "ours, connected": partial(our_day, connected=True),
        "ours, disconnected": partial(our_day, connected=False),
    }
    handed = {}
    yield f"written on a day of {DAY} clips and {2 * EVENTS} events, megabytes"
    for number, (name, day) in enumerate(days.items()):
        with writing() as written:
            day(folder / f"day-{number}.db")
        handed[name] = written.handed
        ratio = written.handed / handed["naive" + name[name.index(",") :]]
        yield f"  {name:<50} {written.handed / 1e6:10.2f}  {ratio:8.4f} x  ({written.stored / 1e6:.2f} by write_bytes)"


def our_day(path: Path, *, connected: bool) -> None:
    """Scores every ten seconds, now and then an event; the publisher takes them at once, or never."""
    ours = Ours(path)
    for clip in range(DAY):
        ours.put()
        if clip % (DAY // (2 * EVENTS)) == 0:
            ours.commit()
        if connected:
            ours.take(Kind.EVENT)
            ours.take(Kind.SCORE)
        ours.store.flush()
    ours.store.close()


def naive_day(path: Path, *, connected: bool) -> None:
    """The same with a commit each."""
    naive = Naive(path, "NORMAL")
    for clip in range(DAY):
        naive.put(SCORE)
        if clip % (DAY // (2 * EVENTS)) == 0:
            naive.put(EVENT)
        while connected and naive.take():
            pass
    naive.close()


def main(folder: Path) -> None:
    """Print both."""
    size = (len(SCORE.payload), len(EVENT.payload))
    print(f"payloads of {size[0]} and {size[1]} bytes, SQLite {sqlite3.sqlite_version}, in {folder}")
    with tempfile.TemporaryDirectory(dir=folder) as here:
        for lines in (speeds, wear):
            for line in lines(Path(here)):
                print(line, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
