from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from edge_asd.errors import AudioError
from edge_asd.observe.evidence import Archive, Tail
from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def sound(seed: int, seconds: float = 1.0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


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


def test_what_is_kept_is_what_was_heard(tmp_path: Path) -> None:
    kept = Archive(tmp_path, 10**6).keep("pump1", sound(1), RATE, NOW)
    read, rate = soundfile.read(kept.file, dtype="float32")
    assert rate == RATE
    assert np.abs(read - sound(1)).max() <= 2**-15
    assert kept.sha256 == hashlib.sha256(kept.file.read_bytes()).hexdigest()


def test_the_oldest_go_when_the_space_is_used_up_and_it_is_never_exceeded(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 100_000)
    files = [archive.keep(f"pump{n % 2}", sound(n), RATE, NOW + timedelta(seconds=n)).file for n in range(12)]
    left = sorted(tmp_path.glob("*/*"), key=lambda file: file.name)
    assert left == files[-len(left) :]
    assert sum(file.stat().st_size for file in left) <= 100_000


def test_what_is_larger_than_the_space_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="more than the quota of 1000"):
        Archive(tmp_path, 1000).keep("pump1", sound(1), RATE, NOW)
    assert not list(tmp_path.glob("*/*"))
