"""The process that opens the microphone, without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.capture import ring
from edge_asd.capture.child import Delay, Listener, Piece, Resampler, Split, demand
from edge_asd.capture.child import listen as hear_device
from edge_asd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

RATE, FRAMES = 1000, 100
FILTER_S = 0.2
"""what the resampler may still hold back"""


@dataclass
class Tape:
    """Keeps what it is given, by index."""

    index: int = 0
    heard: list[tuple[int, int]] = field(default_factory=list)

    def write(self, samples: bytes) -> None:
        """Note where it begins and ends."""
        start, self.index = self.index, self.index + len(samples) // 4
        self.heard.append((start, self.index))

    def jump(self, index: int) -> None:
        """Go on from there."""
        assert index >= self.index
        self.index = index


def listen(reads: list[tuple[float, bool, int]]) -> Tape:
    """Feed reads given as (seconds, overflowed, waiting), each of 100 samples at 1000 Hz."""
    tape, end = Tape(), 0
    listener = Listener(tape, RATE)
    for time_s, overflowed, waiting in reads:
        piece = Piece(bytes(4 * FRAMES), end + FRAMES, waiting, time_s)
        end = listener.hear(piece, overflowed=overflowed)
    return tape


def test_a_piece_is_passed_on_when_the_next_one_was_sound() -> None:
    assert listen([(0.1, False, 0), (0.2, False, 0), (0.3, False, 0)]).heard == [(0, 100), (100, 200)]


def test_the_pieces_around_an_overflow_are_lost_and_the_clock_says_where_it_goes_on() -> None:
    reads = [(0.1, False, 0), (0.2, False, 0), (0.7, True, 0), (0.8, False, 0), (0.9, False, 0)]
    assert listen(reads).heard == [(0, 100), (700, 800)]


def test_what_waits_in_the_device_is_not_lost() -> None:
    reads = [(0.1, False, 0), (0.2, False, 0), (0.7, True, 40), (0.76, False, 0), (0.86, False, 0)]
    assert listen(reads).heard == [(0, 100), (660, 760)]


def test_what_waited_before_the_overflow_was_heard_by_the_clock() -> None:
    reads = [(0.1, False, 30), (0.2, False, 0), (0.7, True, 0), (0.8, False, 0), (0.9, False, 0)]
    assert listen(reads).heard == [(0, 100), (730, 830)]


def test_a_clock_that_says_nothing_was_lost_is_not_believed() -> None:
    reads = [(0.1, False, 50), (0.1, False, 50), (0.1, True, 0), (0.2, False, 0), (0.3, False, 0)]
    assert listen(reads).heard == [(0, 100), (300, 400)]


def test_an_overflow_at_the_very_first_read_costs_that_read() -> None:
    assert listen([(0.1, True, 0), (0.2, False, 0), (0.3, False, 0)]).heard == [(100, 200)]


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.integers(0, 300)), max_size=30))
def test_time_never_runs_backwards_whatever_the_device_says(reads: list[tuple[float, bool, int]]) -> None:
    passed = np.cumsum([0.0, *(step for step, _, _ in reads)]).tolist()
    heard = listen([(at, *rest) for at, (_, *rest) in zip(passed[1:], reads, strict=True)]).heard  # type: ignore[misc]
    assert all(before[1] <= after[0] for before, after in pairwise(heard))


def test_a_device_at_another_rate_is_resampled_and_keeps_time() -> None:
    memory = ring.create(1600, 40)
    reader = ring.Reader(memory)
    resampler = Resampler(ring.Writer(memory), 48_000, 16_000)
    sound = np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000).astype(np.float32)
    for piece in np.split(sound, 10):
        resampler.write(piece.tobytes())
    resampler.jump(96_000)
    resampler.write(sound.tobytes())
    first, second = reader.read(16_000), reader.read(16_000)
    os.close(memory)
    assert first
    assert second
    heard = np.frombuffer(first.samples, np.float32)
    np.testing.assert_allclose(heard[:14_000], soxr.resample(sound, 48_000, 16_000)[:14_000], atol=2**-15)
    assert second.start == 32_000
    again = np.frombuffer(second.samples, np.float32)
    np.testing.assert_allclose(again[:14_000], heard[:14_000], atol=2**-15)  # nothing of before the gap rings on
    assert reader.lost_before == 32_000 - first.end
    reader.close()


def test_a_jump_shorter_than_the_filter_still_goes_forward() -> None:
    memory = ring.create(1600, 4)
    writer = ring.Writer(memory)
    resampler = Resampler(writer, 44_100, 16_000)
    resampler.write(array("f", bytes(4 * 44_100)).tobytes())
    before = writer.index
    resampler.jump(1)
    assert writer.index == before
    os.close(memory)
    writer.close()


def test_what_is_delayed_comes_in_order_when_enough_has_followed() -> None:
    tape = Tape()
    delay = Delay(tape, 2)
    delay.write(bytes(40))
    delay.jump(50)
    assert tape.heard == []
    delay.write(bytes(8))
    assert (tape.heard, tape.index) == ([(0, 10)], 10)
    delay.write(bytes(4))
    assert tape.index == 50
    delay.write(bytes(4))
    assert tape.heard == [(0, 10), (50, 52)]


class Unplugged(Exception):
    """The end of a scripted device."""


@dataclass
class Stereo:
    """A device that delivers sample numbers, positive left and negative right, three times."""

    at: int = 0
    read_available: int = -1

    def read(self, frames: int) -> tuple[bytes, bool]:
        """Interleaved."""
        if self.at == 3 * frames:
            raise Unplugged
        numbers = np.arange(self.at, self.at + frames, dtype=np.float32)
        self.at += frames
        return np.stack([numbers, -numbers], axis=1).tobytes(), False


def test_each_listener_gets_its_channel_at_its_rate() -> None:
    memories = [ring.create(FRAMES, 4) for _ in range(3)]
    readers, writers = [ring.Reader(m) for m in memories], [ring.Writer(m) for m in memories]
    split = Split(2, [(2, writers[0]), (1, writers[1]), (2, Resampler(writers[2], RATE, RATE // 2))])
    with pytest.raises(Unplugged):
        hear_device(Stereo(), Listener(split, RATE), FRAMES)
    split.jump(1000)
    numbers = np.arange(2 * FRAMES, dtype=np.float32)
    right, left = (np.frombuffer(reader.read(1000).samples, np.float32) for reader in readers[:2])  # type: ignore[union-attr]
    np.testing.assert_array_equal(right, -numbers)
    np.testing.assert_array_equal(left, numbers)
    assert [writer.index for writer in writers] == [1000, 1000, 500]
    for memory, reader, writer in zip(memories, readers, writers, strict=True):
        os.close(memory)
        reader.close()
        writer.close()


@dataclass(frozen=True)
class Opened:
    """A device that runs at its own rate, whatever was asked of it."""

    samplerate: float


@pytest.mark.parametrize("asked", [8_000, 16_000, 44_100, 48_000, 96_000, 192_000])
def test_a_device_that_runs_at_another_rate_than_it_was_asked_for_is_refused(asked: int) -> None:
    demand(Opened(asked * 1.0001), "usb-path:1-1", asked)
    for wrong in {0, 8_000, 16_000, 44_100, 48_000, 96_000, 192_000, asked * 1.02} - {asked}:
        with pytest.raises(SourceError, match=rf"usb-path:1-1 was asked for {asked} Hz and runs at {wrong:g} Hz"):
            demand(Opened(wrong), "usb-path:1-1", asked)


@given(
    device=st.sampled_from([8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000]),
    rate=st.sampled_from([8_000, 16_000, 32_000, 48_000]),
    cuts=st.lists(st.integers(1, 20_000), max_size=8),
)
@settings(max_examples=40)
def test_any_device_rate_in_any_pieces_sounds_like_the_whole_resampled_at_once(
    device: int, rate: int, cuts: list[int]
) -> None:
    sound = np.random.default_rng(device).uniform(-0.5, 0.5, 20_000).astype(np.float32)
    memory = ring.create(4_000, 100)
    reader, resampler = ring.Reader(memory), Resampler(ring.Writer(memory), device, rate)
    os.close(memory)
    for piece in np.split(sound, sorted(cuts)):
        resampler.write(piece.tobytes())
    at_once = soxr.resample(sound, device, rate)
    stretch = reader.read(1_000_000)
    reader.close()
    heard = np.frombuffer(stretch.samples, np.float32) if stretch else np.zeros(0, np.float32)
    assert heard.size > at_once.size - FILTER_S * rate
    np.testing.assert_allclose(heard, at_once[: heard.size], atol=1e-4)


HUNG = """
    import sys
    import os
    from edge_asd.capture.server import end_when_closed
    end_when_closed(0, os.getpid())
    print("ready", flush=True)
    while True:
        pass
"""


def test_a_hung_child_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", textwrap.dedent(HUNG)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        child.stdin.close()
        assert child.wait(10) == -signal.SIGIO


def test_a_child_whose_parent_is_gone_already_does_not_begin() -> None:
    command = [sys.executable, "-c", textwrap.dedent(HUNG)]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=20).returncode == -signal.SIGIO


def test_a_child_ends_when_told_and_ignores_the_keyboard(eventually: Callable[..., object]) -> None:
    code = "import sys, time, edge_asd.capture.child as c; c.capture = lambda *_: time.sleep(60); c.main(sys.argv[1:])"
    memory = ring.create(8, 4)
    arguments = [sys.executable, "-c", code, f"{memory}:16000:1", "usb-path:1-1"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, pass_fds=(memory,)) as child:
        eventually(lambda: _ignores_interrupt(child.pid), 10, "the child ignores SIGINT")
        child.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
        child.terminate()
        assert child.wait(10) == -signal.SIGTERM
    os.close(memory)


def _ignores_interrupt(pid: int) -> bool:
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:  # noqa: PTH123 - a path of the kernel
        ignored = next(line for line in status if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) >> (signal.SIGINT - 1) & 1)
