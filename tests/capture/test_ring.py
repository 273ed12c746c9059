"""The ring between the capture child and the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.capture import ring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

WRITE, JUMP, READ = "write", "jump", "read"
steps = st.lists(st.tuples(st.sampled_from([WRITE, WRITE, JUMP, READ]), st.integers(0, 50)), max_size=60)


def values(start: int, count: int) -> array[float]:
    """What stands at these indices; 2**24 is as far as a float32 counts."""
    return array("f", [index % 2**24 for index in range(start, start + count)])


def check(stretch: ring.Stretch, block: int, most: int) -> int:
    """Every value is the one of its index; returns the count."""
    samples = np.frombuffer(stretch.samples, np.float32)
    np.testing.assert_array_equal(samples, np.arange(stretch.start, stretch.end) % 2**24)
    assert 0 < samples.size <= max(block, most)
    return samples.size


@pytest.fixture
def pair() -> Iterator[tuple[ring.Writer, ring.Reader]]:
    """A ring of four slots of eight samples."""
    yield from ends(8, 4)


def ends(block: int, slots: int) -> Iterator[tuple[ring.Writer, ring.Reader]]:
    memory = ring.create(block, slots)
    writer, reader = ring.Writer(memory), ring.Reader(memory)
    os.close(memory)
    yield writer, reader
    writer.close()
    reader.close()


@given(st.integers(1, 20), st.integers(2, 9), st.integers(1, 100), steps)
def test_every_sample_is_read_once_or_counted_as_lost(
    block: int, slots: int, most: int, steps: list[tuple[str, int]]
) -> None:
    for writer, reader in ends(block, slots):
        read = end = jumped = 0
        for step, count in [*steps, (WRITE, 1), *[(READ, 0)] * (len(steps) + slots + 1)]:
            if step == WRITE:
                writer.write(values(writer.index, count))  # type: ignore[arg-type]
            elif step == JUMP:
                writer.jump(writer.index + count)
                jumped += count
            elif stretch := reader.read(most):
                assert stretch.start >= end
                read, end = read + check(stretch, block, most), stretch.end
        assert end == writer.index
        assert reader.lost_before == jumped
        assert read + jumped + reader.overwritten == writer.index


def test_a_stretch_ends_where_audio_was_lost(pair: tuple[ring.Writer, ring.Reader]) -> None:
    writer, reader = pair
    writer.write(values(0, 10))
    writer.jump(100)
    writer.write(values(100, 5))
    assert [(s.start, s.end) for s in (reader.read(99), reader.read(99)) if s] == [(0, 10), (100, 105)]
    assert reader.read(99) is None
    assert (reader.lost_before, reader.overwritten) == (90, 0)


def test_a_reader_that_sleeps_finds_the_newest_and_knows_what_it_missed(
    pair: tuple[ring.Writer, ring.Reader],
) -> None:
    writer, reader = pair
    writer.write(values(0, 800))
    assert reader.read(1000) == ring.Stretch(768, values(768, 32).tobytes())
    assert reader.overwritten == 768


def test_a_ring_says_how_full_it_is_of_what_nobody_has_read(pair: tuple[ring.Writer, ring.Reader]) -> None:
    writer, reader = pair
    filled = [reader.fill]
    for _ in range(6):
        writer.write(values(writer.index, 8))  # type: ignore[arg-type]
        filled.append(reader.fill)
    while reader.read(8):
        filled.append(reader.fill)

    assert filled == [0, 0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25, 0]


def test_what_was_read_is_never_changed_afterwards(pair: tuple[ring.Writer, ring.Reader]) -> None:
    writer, reader = pair
    writer.write(values(0, 8))
    stretch = reader.read(8)
    writer.write(values(8, 100))
    assert stretch
    check(stretch, 8, 8)


def test_time_never_runs_backwards(pair: tuple[ring.Writer, ring.Reader]) -> None:
    writer, _ = pair
    writer.write(values(0, 8))
    with pytest.raises(ValueError, match="from sample 8 to 7"):
        writer.jump(7)


def test_rate_and_channels_are_there_once_the_device_is_open(pair: tuple[ring.Writer, ring.Reader]) -> None:
    writer, reader = pair
    assert (reader.rate, reader.channels) == (0, 0)
    writer.announce(48_000, 6)
    assert (reader.rate, reader.channels) == (48_000, 6)


@pytest.mark.parametrize(("block", "slots"), [(0, 4), (8, 1)])
def test_a_ring_without_room_is_refused(block: int, slots: int) -> None:
    with pytest.raises(ValueError, match=f"got {block} and {slots}"):
        ring.create(block, slots)


def test_letting_go_twice_does_no_harm(pair: tuple[ring.Writer, ring.Reader]) -> None:
    for end in pair:
        end.close()
        end.close()


def test_a_ring_leaves_nothing_behind() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in ends(8, 4):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


FRANTIC = """
    import sys
    from array import array
    from edge_asd.capture.ring import Writer
    writer = Writer(int(sys.argv[1]))
    for step in range(20_000):
        if step % 97 == 0:
            writer.jump(writer.index + 13)
        writer.write(array("f", [i % 2**24 for i in range(writer.index, writer.index + step % 40)]))
    print(writer.index)
"""


def frantic(memory: int) -> AbstractContextManager[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(FRANTIC), str(memory)]
    return subprocess.Popen(command, pass_fds=(memory,), stdout=subprocess.PIPE, text=True)


def test_nothing_torn_is_ever_read_from_another_process() -> None:
    memory = ring.create(16, 4)
    reader = ring.Reader(memory)
    read = end = 0
    with frantic(memory) as child:
        while (stretch := reader.read(64)) or child.poll() is None:
            if stretch:
                assert stretch.start >= end
                read, end = read + check(stretch, 16, 64), stretch.end
        assert child.stdout
        assert int(child.stdout.read()) == end
    os.close(memory)
    assert read > 0
    assert read + reader.lost_before + reader.overwritten == end
    assert reader.lost_before == 207 * 13
    reader.close()


def test_the_child_stays_light() -> None:
    code = "import sys, edge_asd.capture.child; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"numpy", "soxr", "onnxruntime", "pydantic", "paho", "soundfile"} & set(loaded.split())
