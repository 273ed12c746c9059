"""Real small disks that are full, read-only or out of inodes.

Each case runs in a process with mounts of its own, which end with it. Where that is not allowed, a user namespace does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.store import Change, Store, read_history

if TYPE_CHECKING:
    from collections.abc import Callable

NAMESPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])


@dataclass
class Disk:
    """A megabyte that ends with the process."""

    folder: Path
    now: float = 0.0

    def __post_init__(self) -> None:
        self.path = self.folder / "edge-asd.db"
        mount("-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "none", str(self.folder))

    def store(self) -> Store:
        """The daemon's, on this disk."""
        return Store(self.path, clock=lambda: self.now)

    def fill(self) -> Path:
        """Leave no byte free; delete it to have them back."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (4096, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    pass
        return filler

    def exhaust(self) -> list[Path]:
        """Leave no file to be created; delete them."""
        files: list[Path] = []
        try:
            while True:
                file = self.folder / f"filler-{len(files)}"
                file.touch()
                files.append(file)
        except OSError:
            return files

    def read_only(self, *, on: bool = True) -> None:
        """Mount it anew."""
        mount("-o", "remount," + ("ro" if on else "rw"), str(self.folder))


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def event(seq: int) -> Message:
    return Message(
        "event", json.dumps({"event_seq": seq, "event": "activated", "long": "x" * 600}).encode(), Kind.EVENT
    )


def commit(store: Store, first: int, last: int) -> list[bool]:
    return [store.commit(Change(seq, (event(seq),), states={"m": str(seq)})) for seq in range(first, last + 1)]


def sequence(store: Store) -> list[int]:
    entries = store.waiting(Kind.EVENT, -1, store.newest, 100_000)
    return [json.loads(entry.message.payload)["event_seq"] for entry in entries]


def goes_on_from_memory_and_recovers(disk: Disk, store: Store, mend: Callable[[], object], old: int) -> None:
    """What is common to all cases: nothing is kept, everything is seen; later everything is kept, and once."""
    assert commit(store, old + 1, old + 20) == [False] * 20
    assert sequence(store) == list(range(1, old + 21))
    assert store.event_seq == old + 20
    assert store.condition().trouble
    assert store.condition().spare == 20
    taken = [entry.key for entry in store.waiting(Kind.EVENT, -1, store.newest, old + 5)]
    store.remove(taken)
    disk.now += 10
    store.flush()
    assert store.condition().trouble
    assert sequence(store) == list(range(old + 6, old + 21))

    mend()
    disk.now += 30
    store.flush()
    assert not store.condition().trouble
    assert store.condition().spare == 0
    assert commit(store, old + 21, old + 21) == [True]
    for _ in range(2):
        assert sequence(store) == list(range(old + 6, old + 22))
        assert len(store) == 16
        assert (store.event_seq, store.recall()) == (old + 21, {"m": str(old + 21)})
        assert [json.loads(entry.body)["event_seq"] for entry in store.history()] == list(range(old + 21, 0, -1))
        store.close()
        store = disk.store()
    store.close()
    assert set(store.condition().dropped.values()) == {0}


def abandoned(disk: Disk, events: int) -> None:
    """As a kill leaves it: the log beside the file."""
    if (child := os.fork()) == 0:
        commit(disk.store(), 1, events)
        os._exit(0)
    os.waitpid(child, 0)
    assert disk.path.with_name("edge-asd.db-wal").stat().st_size > 0


# Cases, each in a process of its own ----------------------------------------------------------------------------------


def full_while_it_runs(disk: Disk) -> None:
    store = disk.store()
    assert commit(store, 1, 10) == [True] * 10
    filler = disk.fill()
    goes_on_from_memory_and_recovers(disk, store, filler.unlink, 10)


def full_at_the_first_start(disk: Disk) -> None:
    filler = disk.fill()
    goes_on_from_memory_and_recovers(disk, disk.store(), filler.unlink, 0)


def full_at_a_later_start(disk: Disk) -> None:
    store = disk.store()
    commit(store, 1, 10)
    store.close()
    filler = disk.fill()
    store = disk.store()
    assert (store.event_seq, store.recall(), len(store)) == (10, {"m": "10"}, 10)
    assert len(list(read_history(disk.path))) == 10
    goes_on_from_memory_and_recovers(disk, store, filler.unlink, 10)


def full_after_a_kill(disk: Disk) -> None:
    abandoned(disk, 10)
    filler = disk.fill()
    store = disk.store()
    assert (store.event_seq, store.recall(), len(store)) == (10, {"m": "10"}, 10)
    goes_on_from_memory_and_recovers(disk, store, filler.unlink, 10)


def read_only_at_the_first_start(disk: Disk) -> None:
    disk.read_only()
    goes_on_from_memory_and_recovers(disk, disk.store(), lambda: disk.read_only(on=False), 0)


def read_only_at_a_later_start(disk: Disk) -> None:
    store = disk.store()
    commit(store, 1, 10)
    store.close()
    disk.read_only()
    store = disk.store()
    assert (store.event_seq, store.recall(), len(store)) == (10, {"m": "10"}, 10)
    assert len(list(read_history(disk.path))) == 10
    goes_on_from_memory_and_recovers(disk, store, lambda: disk.read_only(on=False), 10)


def read_only_after_a_kill(disk: Disk) -> None:
    abandoned(disk, 10)
    disk.read_only()
    assert len(list(read_history(disk.path))) == 10
    store = disk.store()
    assert (store.event_seq, store.recall(), len(store)) == (10, {"m": "10"}, 10)
    goes_on_from_memory_and_recovers(disk, store, lambda: disk.read_only(on=False), 10)


def no_inodes_at_the_first_start(disk: Disk) -> None:
    files = disk.exhaust()
    goes_on_from_memory_and_recovers(disk, disk.store(), lambda: [file.unlink() for file in files], 0)


def no_inodes_at_a_later_start(disk: Disk) -> None:
    store = disk.store()
    commit(store, 1, 10)
    store.close()
    files = disk.exhaust()
    store = disk.store()
    assert (store.event_seq, store.recall(), len(store)) == (10, {"m": "10"}, 10)
    goes_on_from_memory_and_recovers(disk, store, lambda: [file.unlink() for file in files], 10)


def no_inodes_while_it_runs(disk: Disk) -> None:
    """All files are there: nothing is missing."""
    store = disk.store()
    files = disk.exhaust()
    assert commit(store, 1, 20) == [True] * 20
    for file in files:
        file.unlink()
    store.close()


CASES = {
    case.__name__: case
    for case in (
        full_while_it_runs,
        full_at_the_first_start,
        full_at_a_later_start,
        full_after_a_kill,
        read_only_at_the_first_start,
        read_only_at_a_later_start,
        read_only_after_a_kill,
        no_inodes_at_the_first_start,
        no_inodes_at_a_later_start,
        no_inodes_while_it_runs,
    )
}


def mounting() -> list[str]:
    """How a process gets mounts of its own here."""
    complaints = []
    for namespace in NAMESPACES:
        tried = subprocess.run(
            [*namespace, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
        )
        if tried.returncode == 0:
            return namespace
        complaints.append(f"{' '.join(namespace)}: {tried.stderr.strip()}")
    pytest.fail(f"no small disks here ({'; '.join(complaints)}): run as root, or allow user namespaces", pytrace=False)


@pytest.mark.parametrize("case", CASES)
def test_a_disk_that_is(case: str, tmp_path: Path) -> None:
    command = [*mounting(), sys.executable, __file__, case, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")

    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    CASES[sys.argv[1]](Disk(Path(sys.argv[2])))
