"""A microphone behind a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from edge_asd.capture.microphone import MicrophoneSource
from edge_asd.capture.source import Loss
from edge_asd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_asd.signal.segment import Block
    from tests.conftest import PulseMicrophone

RATE = 16_000


@dataclass
class Clock:
    """Stands still until told."""

    now: float = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@contextmanager
def listening(code: str, clock: Callable[[], float] = time.monotonic) -> Iterator[MicrophoneSource]:
    """A source whose child runs this code; it is given the ring, the rate, the channel and the token."""
    command = (sys.executable, "-c", textwrap.dedent(code))
    source = MicrophoneSource("usb-path:1-1", RATE, command=command, clock=clock)
    try:
        yield source
    finally:
        source.close()


def first_error(source: MicrophoneSource, eventually: Callable[..., Any]) -> str:
    def fails() -> str | None:
        try:
            source.read()
        except SourceError as error:
            return str(error)
        return None

    return str(eventually(fails, 15, "a SourceError"))


TALKS = """
    import sys
    from array import array
    from edge_asd.capture.ring import Writer
    writer = Writer(int(sys.argv[1]))
    writer.announce(48_000)
    writer.write(array("f", range(100)))
    writer.jump(150)
    writer.write(array("f", range(150, 200)))
    sys.stderr.write("ALSA lib: mumble\\n" * 10_000 + "the cable is cut\\n")
    sys.exit(3)
"""
HANGS = "import time; time.sleep(600)"
STUBBORN = """
    import signal, sys, time
    from edge_asd.capture.ring import Writer
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Writer(int(sys.argv[1])).write(bytes(4))
    time.sleep(600)
"""


def test_what_was_heard_is_delivered_before_the_last_words(eventually: Callable[..., Any]) -> None:
    with listening(TALKS) as source:
        first = eventually(source.read, 15, "a block")
        second = eventually(source.read, 15, "a block")
        assert (first.start, second.start) == (0, 150)
        np.testing.assert_array_equal(first.samples, np.arange(100))
        np.testing.assert_array_equal(second.samples, np.arange(150, 200))
        assert source.loss == Loss(overflow=50)
        assert source.device_rate == 48_000
        assert first_error(source, eventually) == "the cable is cut"


def test_a_child_that_is_killed_is_missed(eventually: Callable[..., Any]) -> None:
    with listening(HANGS) as source:
        os.kill(source.pid, signal.SIGKILL)
        assert "usb-path:1-1 died of signal 9" in first_error(source, eventually)


def test_a_child_that_never_opens_the_device_is_given_up() -> None:
    clock = Clock()
    with listening(HANGS, clock=clock) as source:
        clock.now += 14.9
        assert source.read() is None
        clock.now += 0.2
        with pytest.raises(SourceError, match=r"no audio from usb-path:1-1 for 15.1 s"):
            source.read()


def test_a_device_that_falls_silent_is_given_up_after_two_seconds(eventually: Callable[..., Any]) -> None:
    clock = Clock()
    with listening(STUBBORN, clock=clock) as source:
        eventually(source.read, 15, "a block")
        clock.now += 1.9
        assert source.read() is None
        clock.now += 0.2
        with pytest.raises(SourceError, match=r"for 2.1 s: it hangs or was unplugged"):
            source.read()


def test_a_child_that_will_not_go_is_ended(eventually: Callable[..., Any]) -> None:
    with listening(STUBBORN) as source:
        eventually(source.read, 15, "a block")
        pid = source.pid
    assert not Path(f"/proc/{pid}").exists()


SPINS = """
    import signal, sys
    from edge_asd.capture.ring import Writer
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    writer = Writer(int(sys.argv[1]))
    writer.write(bytes(4))
    while True:
        pass
"""


def test_a_child_that_turns_in_circles_is_given_up_and_ended(eventually: Callable[..., Any]) -> None:
    clock = Clock()
    with listening(SPINS, clock=clock) as source:
        eventually(source.read, 15, "a block")
        clock.now += 2.1
        with pytest.raises(SourceError, match="it hangs or was unplugged"):
            source.read()
        pid = source.pid
    assert not Path(f"/proc/{pid}").exists()


def test_a_child_whose_memory_is_torn_is_missed(eventually: Callable[..., Any]) -> None:
    with listening(HANGS) as source:
        os.kill(source.pid, signal.SIGSEGV)
        assert "died of signal 11 (Segmentation fault)" in first_error(source, eventually)


def test_closing_twice_does_no_harm_and_leaves_nothing_behind() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with listening(HANGS) as source:
        source.close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


# With a real PortAudio and a real sound server ------------------------------------------------------------------------


@contextmanager
def hearing(microphone: PulseMicrophone, rate: int = RATE, channel: int = 1) -> Iterator[MicrophoneSource]:
    source = MicrophoneSource(microphone.token, rate, channel=channel)
    try:
        yield source
    finally:
        source.close()


def tone(path: Path, seconds: float = 2.0) -> Path:
    """440 Hz at half of full scale."""
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE), RATE)
    return path


def hear(
    source: MicrophoneSource, eventually: Callable[..., Any], enough: Callable[[list[Block]], bool]
) -> list[Block]:
    blocks: list[Block] = []

    def more() -> bool:
        if block := source.read():
            blocks.append(block)
        return enough(blocks)

    eventually(more, 20, "enough sound")
    return blocks


@pytest.mark.system
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_what_is_played_is_heard(
    pulse_microphone: PulseMicrophone, tmp_path: Path, eventually: Callable[..., Any], rate: int
) -> None:
    with hearing(pulse_microphone, rate) as source:
        blocks = [eventually(source.read, 15, "the first block")]
        player = pulse_microphone.play(tone(tmp_path / "tone.wav"))
        loud = lambda blocks: sum(block.samples.size for block in blocks if abs(block.samples).max() > 0.4)  # noqa: E731
        blocks += hear(source, eventually, lambda blocks: loud(blocks) > 1.6 * rate)
        assert player.wait(10) == 0
        assert source.loss == Loss()
        assert source.device_rate == rate
    assert blocks[0].start == 0
    for before, after in pairwise(blocks):
        assert after.start == before.start + before.samples.size
    sound = np.concatenate([block.samples for block in blocks])
    first = int(np.flatnonzero(abs(sound) > 0.1)[0]) + rate // 20
    second = sound[first : first + rate]
    assert np.argmax(abs(np.fft.rfft(second * np.hanning(rate)))) == 440
    assert np.sqrt(np.mean(second**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


@pytest.mark.system
def test_a_frozen_child_is_given_up_and_the_next_one_hears(
    pulse_microphone: PulseMicrophone, eventually: Callable[..., Any]
) -> None:
    with hearing(pulse_microphone) as source:
        eventually(source.read, 15, "a block")
        os.kill(source.pid, signal.SIGSTOP)
        assert "it hangs or was unplugged" in first_error(source, eventually)
    with hearing(pulse_microphone) as source:
        assert eventually(source.read, 15, "a block").start == 0


@pytest.mark.system
def test_a_sound_server_that_dies_is_an_error(
    pulse_microphone: PulseMicrophone, eventually: Callable[..., Any]
) -> None:
    with hearing(pulse_microphone) as source:
        eventually(source.read, 15, "a block")
        pulse_microphone.service.kill()
        assert first_error(source, eventually)


@pytest.mark.system
def test_a_microphone_that_does_not_exist_is_an_error_that_names_those_that_do(
    pulse_microphone: PulseMicrophone, eventually: Callable[..., Any]
) -> None:
    source = MicrophoneSource("usb-id:dead:beef:1", RATE)
    said = first_error(source, eventually)
    source.close()
    assert said.startswith("no microphone is called 'usb-id:dead:beef:1', there are: ")
    assert pulse_microphone.token in said


@pytest.mark.system
def test_a_channel_that_does_not_exist_is_an_error(
    pulse_microphone: PulseMicrophone, eventually: Callable[..., Any]
) -> None:
    with hearing(pulse_microphone, channel=1000) as source:
        assert "name:default has no channel 1000, only 1 to" in first_error(source, eventually)


PARENT = """
    import sys
    from edge_asd.capture.microphone import MicrophoneSource
    source = MicrophoneSource(sys.argv[1], 16_000)
    while source.read() is None:
        pass
    print(source.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.system
def test_the_child_ends_with_its_parent(pulse_microphone: PulseMicrophone, eventually: Callable[..., Any]) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PARENT), pulse_microphone.token]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert lives(child)
        parent.kill()
    eventually(lambda: not lives(child), 10, "the child ends")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
