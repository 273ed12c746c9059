"""The store as an outbox, against a list: whatever the disk and the process go through."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.outbox import Limit
from edge_asd.deliver.spare import ROOM
from edge_asd.deliver.store import Change, Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_asd.deliver.outbox import Outbox

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - what is tested is order, not the medium
FAULTS = ("read-only", "unreadable", "before commit", "after commit")


@dataclass
class Disk:
    """Where the files are, and what ails it."""

    fault: str = ""
    steps: int = 0
    """thousands of instructions that SQLite carried out"""
    commits: int = 0
    """attempts"""

    def connect(self, uri: str) -> sqlite3.Connection:
        """As the store would, but through this disk."""
        self.complain("unreadable")
        connection = Flaky(uri, timeout=1, isolation_level=None, check_same_thread=False, uri=True)
        connection.disk = self
        connection.set_progress_handler(self.count, 1000)
        return connection

    def complain(self, *faults: str) -> None:
        """Fail if it is one of these."""
        if self.fault in faults:
            msg = "disk I/O error"
            raise sqlite3.OperationalError(msg)

    def count(self) -> int:
        """SQLite calls this."""
        self.steps += 1
        return 0


class Flaky(sqlite3.Connection):
    """SQLite itself, on a disk that fails."""

    disk: Disk

    def execute(self, query: str, values: Iterable[object] = ()) -> sqlite3.Cursor:  # type: ignore[override]
        """Fail before it, in it or after it."""
        self.disk.commits += query == "COMMIT"
        self.disk.complain("unreadable", *(["before commit"] if query == "COMMIT" else []))
        super().execute(f"PRAGMA query_only = {self.disk.fault == 'read-only'}").close()
        cursor = super().execute(query, tuple(values))
        self.disk.complain(*(["after commit"] if query == "COMMIT" else []))
        return cursor


@dataclass
class Clock:
    """It goes when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def event(number: int) -> Message:
    return Message("event", f'{{"event": "activated", "event_seq": {number}}}'.encode(), Kind.EVENT)


def score(number: int) -> Message:
    return Message("score", str(number).encode(), Kind.SCORE)


def payloads(outbox: Outbox, kind: Kind, limit: int = 10_000) -> list[bytes]:
    return [entry.message.payload for entry in outbox.waiting(kind, -1, outbox.newest, limit)]


@dataclass
class Kept:
    """What must be, and what may be, in the file."""

    events: dict[int, bytes] = field(default_factory=dict)
    """by key: waiting"""
    scores: dict[int, bytes] = field(default_factory=dict)
    durable: set[int] = field(default_factory=set)
    """keys of events that a commit promised to keep"""
    seq: int = 0
    promised: int = 0
    gone: set[int] = field(default_factory=set)
    """removed, and that was written"""
    removed: set[int] = field(default_factory=set)


class StoreAgainstLists(RuleBasedStateMachine):
    """Events and scores are lists of payloads; a crash may take what nothing was promised about."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.crashes = 0
        self.blind = False  # the file could not be read; it is looked at again with the next attempt to write
        self.disk, self.clock, self.model, self.scores_put = Disk(), Clock(), Kept(), 0
        self.store = self._opened()

    def _opened(self) -> Store:
        path = Path(self.folder.name) / str(self.crashes) / "edge-asd.db"
        return Store(path, clock=self.clock, connect=self.disk.connect)

    @initialize(fault=st.sampled_from(["", "", *FAULTS]))
    def begin_on(self, fault: str) -> None:
        """The first start may be on a bad disk."""
        self.store.close()
        self.crashes += 1
        self.disk.fault, self.blind = fault, fault == "unreadable"
        self.store = self._opened()

    @rule(count=st.integers(1, 3))
    def commit(self, count: int) -> None:
        """Events are seen at once, kept or not."""
        model, before = self.model, self.store.newest
        numbers = range(model.seq + 1, model.seq + 1 + count)
        model.seq += count
        events = tuple(map(event, numbers))
        change = Change(model.seq, events, states={"m": str(model.seq)}, receipts={"last": str(model.seq).encode()})
        kept = self.store.commit(change)
        put = self.store.waiting(Kind.EVENT, before, self.store.newest, 10)
        assert [entry.message for entry in put] == list(events)
        model.events |= {entry.key: entry.message.payload for entry in put}
        if kept:
            self._promised()

    def _promised(self) -> None:
        self.model.durable = set(self.model.events)
        self.model.promised = self.model.seq
        self.model.gone |= self.model.removed

    @rule()
    def put(self) -> None:
        """A score."""
        self.scores_put += 1
        self.store.put(score(self.scores_put))
        self.model.scores[self.store.newest] = score(self.scores_put).payload

    @rule(seconds=st.sampled_from([1, 6, 61]))
    def flush_later(self, seconds: int) -> None:
        """A disk that works again has everything within half a minute."""
        self.clock.now += seconds
        self.store.flush()
        if not self.disk.fault and seconds == 61:
            assert not self.store.condition().trouble
            self._promised()

    @rule(kind=st.sampled_from([Kind.EVENT, Kind.SCORE]), count=st.integers(1, 4), data=st.data())
    def remove(self, kind: Kind, count: int, data: st.DataObject) -> None:
        """The broker has some, in any order, and says so twice."""
        waiting = self.model.events if kind is Kind.EVENT else self.model.scores
        if not waiting:
            return
        keys = data.draw(st.lists(st.sampled_from(sorted(waiting)), max_size=count, unique=True))
        self.store.remove([*keys, 10**15])
        self.store.remove(keys)
        for key in keys:
            del waiting[key]
        self.model.durable -= set(keys)
        self.model.removed |= set(keys)

    @rule(fault=st.sampled_from(FAULTS))
    def break_disk(self, fault: str) -> None:
        """From now on it fails."""
        self.disk.fault = fault
        self.blind |= fault == "unreadable"

    @rule()
    def mend_disk(self) -> None:
        """From now on it works."""
        self.disk.fault = ""

    @rule()
    def reopen(self) -> None:
        """A clean end on a disk that works keeps everything."""
        self.disk.fault, self.blind, newest = "", False, self.store.newest
        self.store.close()
        self.store.close()
        self._promised()
        self.store = self._opened()
        assert self.store.newest >= newest

    @precondition(lambda self: self.disk.fault != "unreadable")
    @rule()
    def crash(self) -> None:
        """The files as they are, without a goodbye."""
        here = Path(self.folder.name) / str(self.crashes)
        self.crashes += 1
        there = here.with_name(str(self.crashes))
        there.mkdir()
        for file in here.glob("edge-asd.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, there)
        abandoned, self.store = self.store, self._opened()
        self.disk.fault, fault = "unreadable", self.disk.fault
        abandoned.close()
        self.disk.fault, self.blind = fault, False
        self._look_what_is_left()

    def _look_what_is_left(self) -> None:
        model, store = self.model, self.store
        events = {entry.key: entry.message.payload for entry in store.waiting(Kind.EVENT, -1, store.newest, 10_000)}
        scores = {entry.key: entry.message.payload for entry in store.waiting(Kind.SCORE, -1, store.newest, 10_000)}
        assert model.durable <= events.keys()
        assert not model.gone & (events.keys() | scores.keys())
        assert model.promised <= store.event_seq <= model.seq
        assert store.recall().get("m", "0") == str(store.event_seq)
        assert (store.receipt("last") or b"0") == str(store.event_seq).encode()
        logged = [entry.body for entry in store.history()]
        assert logged == [event(number).payload for number in range(store.event_seq, 0, -1)]
        model.events, model.scores, model.seq = events, scores, store.event_seq
        model.durable, model.promised, model.removed = set(events), model.seq, set()

    @invariant()
    def all_that_waits_is_seen_in_order(self) -> None:
        """Wherever it is, unless nothing can be read."""
        self.blind &= bool(self.store.condition().trouble)
        if self.blind:
            return
        for kind, waiting in ((Kind.EVENT, self.model.events), (Kind.SCORE, self.model.scores)):
            assert payloads(self.store, kind) == list(waiting.values())
            assert self._in_pages_of_two(kind) == list(waiting.values())
        every = [*self.model.events.values(), *self.model.scores.values()]
        assert (len(self.store), self.store.size) == (len(every), sum(map(len, every)))

    @invariant()
    def what_is_remembered_is_the_newest(self) -> None:
        """Kept or not."""
        assert self.store.event_seq == self.model.seq
        assert self.store.recall().get("m", "0") == str(self.model.seq)
        assert (self.store.receipt("last") or b"0") == str(self.model.seq).encode()

    def _in_pages_of_two(self, kind: Kind) -> list[bytes]:
        found, after = list[bytes](), -1
        while page := self.store.waiting(kind, after, self.store.newest, 2):
            found += [entry.message.payload for entry in page]
            after = page[-1].key
        return found

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.store.close()
        self.folder.cleanup()


TestStoreAgainstLists = StoreAgainstLists.TestCase
TestStoreAgainstLists.settings = settings(max_examples=60, stateful_step_count=40)


# Limits ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fill(store: Store, clock: Clock, scores: int) -> None:
    """A score every ten seconds, as a machine speaks."""
    for number in range(scores):
        clock.now += 10
        store.put(score(number))
        store.flush()


def test_old_scores_go_before_new_ones_and_never_an_event(tmp_path: Path, clock: Clock) -> None:
    limits = {Kind.SCORE: Limit(size=20)}
    store = Store(tmp_path / "edge-asd.db", limits, clock=clock)
    for seq in range(1, 21):
        store.commit(Change(seq, (event(seq),)))
    fill(store, clock, 100)
    store.close()

    store = Store(tmp_path / "edge-asd.db", limits, clock=clock)
    assert payloads(store, Kind.SCORE) == [b"%d" % number for number in range(90, 100)]
    assert len(payloads(store, Kind.EVENT)) == 20
    assert store.condition().waiting_bytes[Kind.SCORE] == 20
    store.close()


def test_an_event_goes_only_when_events_fill_their_own_share_and_is_counted(tmp_path: Path, clock: Clock) -> None:
    size = len(event(10).payload)
    with_room_for_three = {Kind.EVENT: Limit(3 * size)}
    store = Store(tmp_path / "edge-asd.db", with_room_for_three, clock=clock)
    for seq in range(10, 20):
        assert store.commit(Change(seq, (event(seq),)))

    assert payloads(store, Kind.EVENT) == [event(seq).payload for seq in (17, 18, 19)]
    assert store.condition().dropped[Kind.EVENT, "full"] == 7
    assert (len(store), store.size) == (3, 3 * size)
    assert len(list(store.history())) == 10
    store.close()


def test_age_counts_while_the_daemon_runs_and_not_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    first, limits = Clock(50_000), {Kind.SCORE: Limit(10_000, age=1000)}
    store = Store(tmp_path / "edge-asd.db", limits, clock=first)
    fill(store, first, 60)  # ten minutes
    store.close()

    second = Clock(7)  # another boot
    store = Store(tmp_path / "edge-asd.db", limits, clock=second)
    second.now += 300
    assert store.condition().oldest_s == pytest.approx(300 + 590)
    fill(store, second, 60)
    store.close()

    assert store.condition().dropped[Kind.SCORE, "age"] == pytest.approx(50, abs=6)  # written once a minute
    assert store.condition().dropped[Kind.SCORE, "full"] == 0


def test_memory_is_bounded_while_the_disk_fails_and_what_it_could_not_hold_is_counted(
    tmp_path: Path, clock: Clock
) -> None:
    disk = Disk("read-only")
    store = Store(tmp_path / "edge-asd.db", clock=clock, connect=disk.connect)
    for seq in range(1, 11):
        store.commit(Change(seq, tuple(event(1000 * seq + part) for part in range(1010))))
        for number in range(300):
            store.put(score(1000 * seq + number))
    assert [len(payloads(store, kind, 20_000)) for kind in (Kind.EVENT, Kind.SCORE)] == [10_000, 2_000]
    assert payloads(store, Kind.EVENT, 1) == [event(1100).payload]
    condition = store.condition()
    assert condition.spare == len(store) == sum(ROOM.values())
    assert (condition.dropped[Kind.EVENT, "unkept"], condition.dropped[Kind.SCORE, "unkept"]) == (100, 1000)
    assert condition.unlogged == 100

    disk.fault = ""
    clock.now += 30
    store.flush()
    assert (store.condition().trouble, store.condition().spare, len(store)) == ("", 0, 12_000)
    store.close()


def test_a_failing_disk_is_tried_again_after_one_second_and_later_every_thirty(tmp_path: Path, clock: Clock) -> None:
    disk = Disk()
    store = Store(tmp_path / "edge-asd.db", clock=clock, connect=disk.connect)
    disk.fault = "before commit"
    tried = []
    for second in range(125):
        before = disk.commits
        store.commit(Change(1))
        if disk.commits > before:
            tried.append(second)
        clock.now += 1

    assert tried == [0, 1, 3, 7, 15, 31, 61, 91, 121]
    disk.fault = ""
    store.close()


def test_what_the_broker_took_of_a_transaction_that_only_seemed_to_fail_does_not_come_back(
    tmp_path: Path, clock: Clock
) -> None:
    disk = Disk()
    store = Store(tmp_path / "edge-asd.db", clock=clock, connect=disk.connect)
    disk.fault = "after commit"
    assert not store.commit(Change(2, (event(1), event(2))))
    assert payloads(store, Kind.EVENT) == [event(1).payload, event(2).payload]
    store.remove([store.waiting(Kind.EVENT, -1, store.newest, 1)[0].key])
    disk.fault = ""

    for _ in range(2):
        assert payloads(store, Kind.EVENT) == [event(2).payload]
        assert len(store) == 1
        clock.now += 10
        store.flush()
    store.close()


def test_a_disk_works_again_when_something_was_written_and_not_when_nothing_had_to_be(
    tmp_path: Path, clock: Clock
) -> None:
    disk = Disk()
    store = Store(tmp_path / "edge-asd.db", clock=clock, connect=disk.connect)
    disk.fault = "read-only"
    store.put(score(1))
    clock.now += 61
    store.flush()
    store.remove([store.newest])
    for _ in range(3):
        clock.now += 31
        store.flush()
        assert store.condition().trouble == "attempt to write a readonly database"
    disk.fault = ""
    clock.now += 31
    store.flush()

    assert not store.condition().trouble
    store.close()


def test_without_a_broker_nothing_waits_but_the_journal_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "edge-asd.db", deliver=False)
    store.commit(Change(1, (event(1),)))
    store.put(score(1))

    assert (len(store), payloads(store, Kind.EVENT), payloads(store, Kind.SCORE)) == (0, [], [])
    assert [entry.body for entry in store.history()] == [event(1).payload]
    store.close()


def test_a_page_of_a_big_backlog_costs_no_more_than_one_of_a_small_one(tmp_path: Path, clock: Clock) -> None:
    disk, costs = Disk(), list[int]()
    store = Store(tmp_path / "edge-asd.db", clock=clock, connect=disk.connect)
    for number in range(1000):
        store.put(score(number))
    for seq, events in enumerate((100, 60_000), 1):
        store.commit(Change(seq, tuple(map(event, range(events)))))
        before = disk.steps
        for _ in range(200):
            assert len(store.waiting(Kind.EVENT, -1, store.newest, 20)) == 20
            assert len(store.waiting(Kind.EVENT, store.newest - 20, store.newest, 20)) == 20
            assert len(store.waiting(Kind.SCORE, -1, store.newest, 20)) == 20
        costs.append(disk.steps - before)
    store.close()

    small, big = costs
    assert big < 1.1 * small + 5


def test_what_one_thread_commits_another_takes_out_once_and_in_order(tmp_path: Path) -> None:
    store, taken = Store(tmp_path / "edge-asd.db"), list[int]()

    def send() -> None:
        after = -1
        while len(taken) < 150:
            for entry in store.waiting(Kind.EVENT, after, store.newest, 20):
                taken.append(json.loads(entry.message.payload)["event_seq"])
                after = entry.key
                store.remove([entry.key])

    with ThreadPoolExecutor(1) as sender:
        sending = sender.submit(send)
        for seq in range(1, 151):
            assert store.commit(Change(seq, (event(seq),)))
            store.flush()
        sending.result(60)

    assert taken == list(range(1, 151))
    store.close()
    store = Store(tmp_path / "edge-asd.db")
    assert (len(store), store.size, payloads(store, Kind.EVENT)) == (0, 0, [])
    store.close()
