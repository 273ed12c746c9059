"""What must outlive the process does: kills, power cuts, corruption, another daemon, another version."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.store import Change, Store, read_history
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KILLS = 20


def event(seq: int, **fields: object) -> Message:
    body = {"event": "activated", "machine": "pump", "event_seq": seq, **fields}
    return Message("edge_asd/v1/hall/machine/pump/event", json.dumps(body).encode(), Kind.EVENT)


def change(seq: int) -> Change:
    return Change(seq, (event(seq),), states={"pump": str(seq)}, receipts={f"t-{seq}": str(seq).encode()})


def sequence(store: Store) -> list[int]:
    """Numbers of the events that wait."""
    entries = store.waiting(Kind.EVENT, -1, store.newest, 100_000)
    return [json.loads(entry.message.payload)["event_seq"] for entry in entries]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "edge-asd.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path, wall=lambda: NOON)
    yield store
    store.close()


# Ends of the process --------------------------------------------------------------------------------------------------


def write_until_killed(path: Path, kept: int) -> None:
    """Commit for ever, saying each number once it is kept; now and then the broker takes some."""
    store = Store(path)
    for seq in range(store.event_seq + 1, sys.maxsize):
        if store.commit(change(seq)):
            os.write(kept, b"%d\n" % seq)
        if seq % 7 == 0:
            store.remove([entry.key for entry in store.waiting(Kind.EVENT, -1, store.newest, 5)])


def killed(path: Path, moment: Random) -> int:
    """The last number that a process said was kept before it was killed."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        write_until_killed(path, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = [pipe.readline() for _ in range(moment.randint(1, 40))]
        for _ in range(moment.randint(0, 20_000)):  # somewhere within the next commits
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        said += pipe.readlines()
    return int(next(line for line in reversed(said) if line.endswith(b"\n")))


def kill_again_and_again(path: Path) -> None:
    moment = Random(1)  # noqa: S311 - moments, no secrets
    for _ in range(KILLS):
        last = killed(path, moment)
        store = Store(path)
        seq, waiting = store.event_seq, sequence(store)
        assert last <= seq <= last + 1, (last, seq)
        assert waiting == list(range(seq - len(waiting) + 1, seq + 1))
        assert len(waiting) >= seq % 7
        assert store.recall() == {"pump": str(seq)}
        assert store.receipt(f"t-{seq}") == str(seq).encode()
        assert [json.loads(entry.body)["event_seq"] for entry in store.history()] == list(range(seq, 0, -1))
        assert len(store) == len(waiting)
        assert store.condition().set_aside is None
        store.close()
    print(f"{KILLS} kills, {seq} events")  # noqa: T201 - for the test


def test_what_commit_said_is_kept_is_kept_through_twenty_kills_and_all_parts_agree(path: Path) -> None:
    done = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    kills, events = map(int, (done.stdout.split()[0], done.stdout.split()[2]))
    assert kills == KILLS
    assert events >= KILLS


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), committed=st.integers(1, 12), later=st.integers(0, 30))
def test_a_power_cut_takes_only_what_was_not_promised(
    tmp_path_factory: pytest.TempPathFactory, cut: float, committed: int, later: int
) -> None:
    """Everything behind the last synchronised byte of the log may be lost, torn anywhere."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    now = [0.0]
    store = Store(here / "edge-asd.db", clock=lambda: now[0])
    for seq in range(1, committed + 1):
        assert store.commit(change(seq))
    synchronised = (here / "edge-asd.db-wal").stat().st_size
    for number in range(later):
        now[0] += 61
        store.put(Message("score", b"%d" % number, Kind.SCORE))
        store.flush()
    shutil.copy(here / "edge-asd.db", there)
    log = (here / "edge-asd.db-wal").read_bytes()
    (there / "edge-asd.db-wal").write_bytes(log[: synchronised + int(cut * (len(log) - synchronised))])
    store.close()

    store = Store(there / "edge-asd.db")
    assert sequence(store) == list(range(1, committed + 1))
    assert (store.event_seq, store.recall()) == (committed, {"pump": str(committed)})
    scores = [entry.message.payload for entry in store.waiting(Kind.SCORE, -1, store.newest, 100)]
    assert scores == [b"%d" % number for number in range(len(scores))]
    store.close()


def test_keys_are_never_used_twice_over_restarts(path: Path) -> None:
    used = set[int]()
    for seq in range(1, 4):
        store = Store(path)
        store.commit(change(seq))
        entries = store.waiting(Kind.EVENT, -1, store.newest, 10)
        assert entries[-1].key not in used
        used |= {entry.key for entry in entries}
        store.remove([entries[-1].key])
        store.close()


# What is remembered ---------------------------------------------------------------------------------------------------


def test_before_the_first_start_nothing_is_known(store: Store) -> None:
    assert (store.event_seq, store.newest, len(store), store.size) == (0, -1, 0, 0)
    assert store.recall() == {}
    assert store.receipt("t-1") is None
    assert list(store.history()) == []
    condition = store.condition()
    assert (condition.trouble, condition.since, condition.oldest_s, condition.set_aside) == ("", None, None, None)
    assert set(condition.dropped.values()) == {0}


def test_the_last_thousand_replies_are_kept(path: Path) -> None:
    store = Store(path)
    for hundred in range(0, 600, 100):
        numbers = range(hundred, hundred + 100)
        replies = [(f"t-{number}", b"%d" % number) for number in numbers] + [
            (f"u-{number}", b"u") for number in numbers
        ]
        store.commit(Change(0, receipts=dict(sorted(replies, key=lambda reply: int(reply[0][2:])))))
    store.commit(Change(0, receipts={"t-100": b"again"}))
    for _ in range(2):
        assert [store.receipt(f"t-{number}") for number in (0, 99, 101, 599)] == [None, None, b"101", b"599"]
        assert store.receipt("t-100") == b"again"
        store.close()
        store = Store(path)
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM receipt").fetchone() == (1000,)
    connection.close()


def test_a_transaction_of_broken_unicode_is_kept_like_any_other(store: Store) -> None:
    assert store.commit(Change(0, notes=(b'{"machine": "\\ud800"}',), receipts={"\ud800": b"no"}))
    assert store.receipt("\ud800") == b"no"
    assert [entry.machine for entry in store.history()] == ["?"]


def test_the_journal_tells_events_and_notes_newest_first(store: Store, path: Path) -> None:
    for seqs in (range(1, 700), range(700, 1201)):
        ts = {seq: (NOON - timedelta(minutes=1201 - seq)).isoformat() for seq in seqs}
        store.commit(Change(seqs[-1], tuple(event(seq, ts=ts[seq], machine=f"m{seq % 3}") for seq in seqs)))
    store.commit(Change(1200, notes=(b'{"event": "refused", "machine": "m1"}', b"[]")))

    for tell in (store.history, lambda **asked: read_history(path, **asked)):
        everything = list(tell())
        assert [entry.event for entry in everything] == [None, "refused", *["activated"] * 1200]
        assert [json.loads(entry.body)["event_seq"] for entry in everything[2:]] == list(range(1200, 0, -1))
        assert everything[0].ts == "2026-11-20T12:00:00.000Z"
        assert everything[2].ts == "2026-11-20T11:59:00.000Z"
        assert len(list(tell(machine="m1"))) == 401
        assert [entry.machine for entry in tell(event="refused")] == ["m1"]
        recent = list(tell(machine="m0", since=NOON - timedelta(minutes=6)))
        assert [json.loads(entry.body)["event_seq"] for entry in recent] == [1200, 1197]


def test_the_journal_is_bounded_and_gives_up_the_oldest(path: Path) -> None:
    store = Store(path, deliver=False)
    for seq in range(1, 41):
        store.commit(Change(seq, (event(seq, long="x" * 1_000_000),)))

    assert [json.loads(entry.body)["event_seq"] for entry in store.history()] == list(range(40, 9, -1))
    assert store.event_seq == 40
    store.close()


def test_what_commit_keeps_is_synchronised_and_what_flush_writes_is_not(path: Path) -> None:
    now, commits = [0.0], list[int]()

    class Watched(sqlite3.Connection):
        def execute(self, query: str, *values: Iterable[object]) -> sqlite3.Cursor:  # type: ignore[override]
            if query == "COMMIT":
                commits.append(super().execute("PRAGMA synchronous").fetchone()[0])
            return super().execute(query, *values)

    def connect(uri: str) -> sqlite3.Connection:
        return Watched(uri, isolation_level=None, check_same_thread=False, uri=True)

    store = Store(path, clock=lambda: now[0], connect=connect)
    commits.clear()
    for seq in (1, 2):
        assert store.commit(change(seq))
        store.put(Message("score", b"", Kind.SCORE))
        now[0] += 61
        store.flush()
    store.close()

    normal, full = 1, 2
    assert commits == [full, normal, full, normal, normal]


# What it costs --------------------------------------------------------------------------------------------------------


def changes_to(path: Path) -> bytes:
    """Both files; not the index in shared memory, which says who reads."""
    return path.read_bytes() + path.with_name(path.name + "-wal").read_bytes()


def test_scores_that_the_broker_takes_cost_no_write(path: Path) -> None:
    now = [0.0]
    store = Store(path, clock=lambda: now[0])
    before = changes_to(path)
    for number in range(1000):
        now[0] += 10
        store.put(Message("score", b"%d" % number, Kind.SCORE))
        store.flush()
        store.remove([entry.key for entry in store.waiting(Kind.SCORE, -1, store.newest, 20)])
        store.flush()

    assert changes_to(path) == before
    store.close()


def test_the_log_is_begun_anew_again_and_again_although_somebody_stopped_reading_halfway(path: Path) -> None:
    store = Store(path)
    for seq in range(1, 3001):
        store.put(Message("score", b"x" * 1000, Kind.SCORE))
        if seq % 4 == 1:
            assert store.commit(change(seq))
        if seq % 1000 == 1:
            readers = [read_history(path), store.history()]
            assert all(next(reader) for reader in readers)

    written = 750 * 5 * 4096  # at least, five pages a commit
    assert path.with_name(path.name + "-wal").stat().st_size < 6_000_000 < written
    store.close()


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_a_second_daemon_on_the_same_directory_is_refused(store: Store, path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"another edge-asd works with {path.parent}: stop it"):
        Store(path)
    store.close()
    Store(path).close()


def test_a_file_of_a_newer_version_is_refused_and_not_touched(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = path.read_bytes()

    for _ in range(2):  # the lock is let go
        with pytest.raises(ConfigError, match="has version 2 of the tables, this program knows up to 1"):
            Store(path)
    assert path.read_bytes() == before


def test_what_is_no_database_is_moved_aside_and_a_new_one_begun(path: Path) -> None:
    path.parent.mkdir()
    for number in (1, 2, 3, 3):
        path.write_bytes(junk := b"no database %d" % number * 1000)
        store = Store(path)
        aside = path.with_name(f"edge-asd.db.corrupt-{number}")
        assert store.condition().set_aside == aside
        assert aside.read_bytes() == junk
        assert store.commit(change(1))
        assert not store.condition().trouble
        store.close()


def damaged(path: Path, table: str) -> None:
    """Overwrite the first page of a table, as a bad block would."""
    with sqlite3.connect(path) as connection:
        page, size = connection.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size()) FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("table", ["number", "state", "receipt", "outbox", "outbox_kind", "journal", "journal_ts"])
def test_of_a_damaged_file_everything_is_saved_but_what_stood_there(path: Path, table: str) -> None:
    now = [0.0]
    store = Store(path)
    store.commit(Change(29, tuple(map(event, range(1, 30))), receipts={"t-7": b"7"}))
    store.commit(change(30))
    store.close()
    damaged(path, table)

    store = Store(path, clock=lambda: now[0])
    for _ in range(2):  # some damage shows only in a write
        store.commit(Change(30, notes=(b"{}",), receipts={"new": b"new"}))
        now[0] += 2
    assert not store.condition().trouble
    assert store.condition().set_aside == path.with_name("edge-asd.db.corrupt-1")
    assert store.event_seq == 30
    assert store.recall() == ({} if table == "state" else {"pump": "30"})
    assert store.receipt("t-7") == (None if table == "receipt" else b"7")
    assert sequence(store) == ([] if table == "outbox" else list(range(1, 31)))
    store.close()


def test_a_file_that_is_damaged_under_the_daemon_is_replaced_and_what_waits_is_saved(path: Path) -> None:
    now = [0.0]
    store = Store(path, clock=lambda: now[0])
    for seq in range(1, 31):
        store.commit(change(seq))
    store.close()
    store = Store(path, clock=lambda: now[0])
    damaged(path, "journal")

    kept = store.commit(change(31))
    now[0] += 2
    store.flush()

    assert not kept
    assert store.condition().set_aside == path.with_name("edge-asd.db.corrupt-1")
    assert not store.condition().trouble
    for _ in range(2):
        assert sequence(store) == list(range(1, 32))
        assert (store.event_seq, store.recall(), store.receipt("t-3")) == (31, {"pump": "31"}, b"3")
        store.close()
        store = Store(path)
    store.close()


def test_a_file_that_somebody_deletes_is_begun_anew_with_everything_that_waits(path: Path) -> None:
    now = [0.0]
    store = Store(path, clock=lambda: now[0])
    for seq in range(1, 11):
        store.commit(change(seq))
    for file in path.parent.glob("edge-asd.db*"):
        file.unlink()

    assert not store.commit(change(11))
    assert "removed by somebody else" in store.condition().trouble
    now[0] += 2
    store.flush()
    store.close()
    store = Store(path)
    assert sequence(store) == list(range(1, 12))
    assert (store.event_seq, store.recall()) == (11, {"pump": "11"})
    store.close()


def test_reading_what_is_not_there_says_what_to_do(path: Path) -> None:
    with pytest.raises(ConfigError, match="give the state directory of one that has run here"):
        list(read_history(path))


if __name__ == "__main__":
    kill_again_and_again(Path(sys.argv[1]))
