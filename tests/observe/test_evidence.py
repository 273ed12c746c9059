from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import AudioError
from edge_asd.observe.evidence import SCHEMA, Archive, Tail, recordings
from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def sound(seed: int, seconds: float = 1.0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def used(folder: Path) -> int:
    """Bytes, of whatever is there."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_tail_holds_the_last_of_what_was_heard() -> None:
    tail, heard = Tail(1000), np.arange(5000, dtype=np.float32)
    for start in range(0, 5000, 300):
        tail.push(Block(start, heard[start : start + 300]))
    assert np.array_equal(tail.last(1000), heard[-1000:])
    assert np.array_equal(tail.last(10), heard[-10:])


def test_a_tail_never_joins_sound_over_a_gap() -> None:
    tail = Tail(1000)
    tail.push(Block(0, np.zeros(300, np.float32)))
    tail.push(Block(400, np.ones(300, np.float32)))
    assert np.array_equal(tail.last(1000), np.ones(300, np.float32))


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_a_stretch_of_a_tail_is_what_was_heard_then_as_far_as_it_is_remembered(start: int, length: int) -> None:
    tail, heard = Tail(1000), np.arange(2000, dtype=np.float32)
    for at in range(0, 2000, 300):
        tail.push(Block(at, heard[at : at + 300]))
    first, samples = tail.between(start, start + length)
    remembered = 900  # from the block on that holds the first of the last thousand
    assert first == max(start, remembered)
    assert np.array_equal(samples, heard[first : max(start + length, first)])


def test_a_tail_of_nothing_has_no_stretch() -> None:
    first, samples = Tail(1000).between(5, 10)
    assert (first, samples.size) == (10, 0)


def test_what_is_kept_is_what_was_heard(tmp_path: Path) -> None:
    kept = Archive(tmp_path, 10**6).keep("pump1", sound(1), RATE, NOW)
    read, rate = soundfile.read(kept.file, dtype="float32")
    assert rate == RATE
    assert np.abs(read - sound(1)).max() <= 2**-15
    assert kept.sha256 == hashlib.sha256(kept.file.read_bytes()).hexdigest()


def test_the_oldest_go_when_the_space_is_used_up_and_it_is_never_exceeded(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 100_000)
    files = [archive.keep(f"pump{n % 2}", sound(n), RATE, NOW + timedelta(seconds=n)).file for n in range(12)]
    left = sorted(tmp_path.glob("*/*.flac"), key=lambda file: file.name)
    assert left == files[-len(left) :]
    assert {file.with_suffix(".json") for file in left} == set(tmp_path.glob("*/*.json"))
    assert used(tmp_path) <= 100_000


def test_what_is_larger_than_the_space_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="more than the quota of 1000"):
        Archive(tmp_path, 1000).keep("pump1", sound(1), RATE, NOW)
    assert not list(tmp_path.glob("*/*"))


def test_beside_a_recording_lies_what_is_known_of_it(tmp_path: Path) -> None:
    kept = Archive(tmp_path, 10**6).keep("pump1", sound(1), RATE, NOW, {"event_id": "e1"})
    assert json.loads(kept.file.with_suffix(".json").read_text()) == {
        "schema": SCHEMA,
        "machine": "pump1",
        "seconds": 1.0,
        "sample_rate_hz": RATE,
        "sha256": kept.sha256,
        "event_id": "e1",
    }
    assert kept.total == used(tmp_path)


def test_a_storm_of_ten_thousand_alarms_never_takes_a_byte_more_than_the_quota_or_the_disk_can_spare(
    tmp_path: Path,
) -> None:
    disk, floor, taken, evicted = 20_000, 12_000, 0, 0
    pieces = np.random.default_rng(0).integers(10, 1500, 10_000)
    wide = Archive(tmp_path, 7_000, floor, free=lambda _: disk - taken)  # the quota is what binds
    tight = Archive(tmp_path, 10**6, floor, free=lambda _: disk - taken)  # the disk is
    for number, length in enumerate(pieces):
        archive, limit = (wide, 7_000) if number < 5_000 else (tight, disk - floor)
        kept = archive.keep(f"pump{number % 3}", sound(0, 0.1)[:length], RATE, NOW + timedelta(seconds=number))
        taken, evicted = kept.total, evicted + kept.evicted
        assert taken <= limit
        if number % 100 == 99:
            assert used(tmp_path) == taken > 0.5 * limit
    assert evicted + len(recordings(tmp_path)) == 10_000


def test_nothing_is_kept_that_would_leave_others_less_than_their_share_and_what_is_kept_stays(tmp_path: Path) -> None:
    Archive(tmp_path, 10**6).keep("pump1", sound(1), RATE, NOW)
    before = used(tmp_path)
    full = Archive(tmp_path, 10**6, floor=10**6, free=lambda _: 10**6 + 100 - before)
    with pytest.raises(AudioError, match=r"of [0-9]+ bytes free on the disk 1000000 shall stay so"):
        full.keep("pump1", sound(2), RATE, NOW + timedelta(seconds=1))
    assert used(tmp_path) == before


def test_what_a_power_cut_left_half_done_is_counted_and_goes_first(tmp_path: Path) -> None:
    (tmp_path / "pump1").mkdir()
    (tmp_path / "pump1" / "20260101T000000.000000Z.flac.part").write_bytes(bytes(90_000))
    Archive(tmp_path, 100_000).keep("pump1", sound(1), RATE, NOW)
    assert list(recordings(tmp_path)) == ["pump1/20261125T000000.000000Z"]


FULL = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from edge_asd.errors import AudioError
from edge_asd.observe.evidence import Archive
folder = Path(sys.argv[1])
samples = np.random.default_rng(0).standard_normal(2_000_000).astype("f4") / 9
archive = Archive(folder, 10**8, free=lambda _: None)  # as where nobody can say how much is free
for length in (16_000, 2_000_000, 16_000):
    try:
        archive.keep("pump1", samples[:length], 16_000, datetime.fromtimestamp(length, UTC))
    except AudioError as error:
        print(error)
print(*sorted(file.suffix for file in folder.glob("*/*")))
"""


@pytest.mark.system
def test_a_disk_that_is_full_gets_nothing_half_done(tmp_path: Path) -> None:
    user = [] if subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0 else ["-U", "-r"]
    mount = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", *user, "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, FULL]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    said, left = done.stdout.splitlines()
    assert "cannot be kept" in said
    assert "No space left on device" in said
    assert left == ".flac .json"
