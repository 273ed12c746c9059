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

from edge_asd.capture.microphone import Microphone, MicrophoneSource, steps_of
from edge_asd.capture.opening import Opener, SourceSpec
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


def scripted(code: str, clock: Callable[[], float] = time.monotonic) -> Microphone:
    """A microphone whose child runs this code."""
    return Microphone("usb-path:1-1", command=(sys.executable, "-c", textwrap.dedent(code)), clock=clock)


@contextmanager
def listening(code: str, clock: Callable[[], float] = time.monotonic) -> Iterator[MicrophoneSource]:
    """A source whose child runs this code; it is given RING:RATE:CHANNEL and the token."""
    source = scripted(code, clock).tap(RATE).open()
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
    writer = Writer(int(sys.argv[1].split(":")[0]))
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
    Writer(int(sys.argv[1].split(":")[0])).write(bytes(4))
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


ASKS_ON = """
    import time
    while True:
        time.sleep(0.01)
"""
TURNS = """
    while True:
        pass
"""


def settled(source: MicrophoneSource, eventually: Callable[..., Any]) -> None:
    """Its child has begun to do nothing more."""
    seen = [-1, -1]

    def still() -> bool:
        source.read()
        seen.append(steps_of(source.pid))
        return len(seen) > 30 and len(set(seen[-25:])) == 1

    eventually(still, 15, "a child that stands still")


@pytest.mark.parametrize("code", [HANGS, TURNS])
def test_a_child_that_gets_nowhere_while_it_opens_is_given_up_within_five_seconds(
    code: str, eventually: Callable[..., Any]
) -> None:
    clock = Clock()
    with listening(code, clock=clock) as source:
        settled(source, eventually)
        clock.now += 3.9
        assert source.read() is None
        clock.now += 0.2
        with pytest.raises(SourceError, match=r"usb-path:1-1 hangs while it is opened: nothing has moved for 4.1 s"):
            source.read()


def test_a_child_that_asks_one_device_after_the_other_is_given_fifteen_seconds(eventually: Callable[..., Any]) -> None:
    clock = Clock()
    with listening(ASKS_ON, clock=clock) as source:
        for _ in range(5):
            before = steps_of(source.pid)
            clock.now += 2.9
            eventually(lambda: steps_of(source.pid) > before, 15, "a step")  # noqa: B023 - asked at once
            assert source.read() is None
        clock.now += 0.6
        with pytest.raises(SourceError, match=r"no audio from usb-path:1-1 for 15.1 s"):
            source.read()


OPENED = """
    import sys, time
    from edge_asd.capture.ring import Writer
    Writer(int(sys.argv[1].split(":")[0])).announce(16_000)
    time.sleep(600)
"""


def test_a_device_that_opens_and_never_delivers_is_given_up(eventually: Callable[..., Any]) -> None:
    clock = Clock()
    with listening(OPENED, clock=clock) as source:
        eventually(lambda: source.device_rate, 15, "an open device")
        settled(source, eventually)
        clock.now += 4.1
        with pytest.raises(SourceError, match="was opened and delivers nothing"):
            source.read()


def test_a_process_that_is_gone_takes_no_steps() -> None:
    assert steps_of(2**22 + 1) == 0


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
    writer = Writer(int(sys.argv[1].split(":")[0]))
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


# Several who listen to one --------------------------------------------------------------------------------------------

SHARED = """
    import sys, time
    from array import array
    from edge_asd.capture.ring import Writer
    writers = [Writer(int(tap.split(":")[0])) for tap in sys.argv[1:-1]]
    for writer in writers:
        writer.announce(48_000, 2)
    for start in range(0, 4_000_000, 100):
        for tap, writer in zip(sys.argv[1:], writers):
            channel = int(tap.split(":")[2])
            if channel <= 2:
                writer.write(array("f", [channel * 1e7 + i for i in range(start, start + 100)]))
        time.sleep(0.01)
"""


@contextmanager
def sharing(code: str, channels: list[int]) -> Iterator[tuple[list[MicrophoneSource], list[Callable[[], Any]]]]:
    """Each channel opened once, and how to open it again; whatever was opened is closed."""
    microphone, opened = scripted(code), []

    def opener(channel: int) -> Callable[[], MicrophoneSource]:
        tap = microphone.tap(RATE, channel)

        def again() -> MicrophoneSource:
            opened.append(tap.open())
            return opened[-1]

        return again

    openers = [opener(channel) for channel in channels]
    try:
        yield [again() for again in openers], openers
    finally:
        for source in opened:
            source.close()


def test_all_who_listen_to_one_microphone_share_one_child_and_hear_their_own_channel(
    eventually: Callable[..., Any],
) -> None:
    with sharing(SHARED, [1, 2]) as ((left, right), _):
        assert left.pid == right.pid
        for source, channel in ((left, 1), (right, 2)):
            block = eventually(source.read, 15, "a block")
            count = np.arange(block.start, block.start + block.samples.size, dtype=np.float32)
            np.testing.assert_array_equal(block.samples, np.float32(channel * 1e7) + count)


def test_a_channel_that_is_not_there_is_an_error_to_who_wants_it_and_to_nobody_else(
    eventually: Callable[..., Any],
) -> None:
    with sharing(SHARED, [1, 3]) as ((there, lacking), _):
        assert first_error(lacking, eventually) == "usb-path:1-1 has no channel 3, only 1 to 2"
        lacking.close()
        pid = there.pid
        for _ in range(3):
            assert eventually(there.read, 15, "a block")
        assert lives(pid)


def test_a_child_that_fails_fails_for_all_and_the_first_who_comes_again_starts_the_next(
    eventually: Callable[..., Any],
) -> None:
    with sharing(SHARED, [1, 2]) as ((left, right), (left_again, right_again)):
        eventually(left.read, 15, "a block")
        os.kill(left.pid, signal.SIGKILL)
        assert first_error(left, eventually) == first_error(right, eventually)
        left.close()
        new = left_again()  # the other has not let go of the old one yet
        right.close()
        newer = right_again()
        assert new.pid == newer.pid != left.pid
        assert eventually(new.read, 15, "a block").start == eventually(newer.read, 15, "a block").start == 0


def test_who_comes_again_hears_from_now_on_and_counts_from_nought(eventually: Callable[..., Any]) -> None:
    with sharing(SHARED, [1, 2]) as ((left, right), (_, right_again)):
        right.close()
        heard = 0
        while heard < 1_000:
            heard += eventually(left.read, 15, "a block").samples.size
        again = right_again()
        block = eventually(again.read, 15, "a block")
        assert again.pid == left.pid
        assert block.start == 0
        assert block.samples[0] >= np.float32(2e7 + 1_000)
        assert again.loss == Loss()


def test_the_child_ends_with_the_last_who_listens() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with sharing(SHARED, [1, 2, 1]) as (sources, _):
        pid = sources[0].pid
        for source in sources[:2]:
            source.close()
            source.close()
        assert lives(pid)
        sources[2].close()
        assert not lives(pid)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_one_who_was_not_told_of_before_makes_all_open_anew(eventually: Callable[..., Any]) -> None:
    microphone = scripted(SHARED)
    first = microphone.tap(RATE).open()
    second = microphone.tap(RATE, 2).open()
    assert first_error(first, eventually) == "usb-path:1-1 is opened anew, for one more who listens to it"
    assert eventually(second.read, 15, "a block")
    first.close()
    second.close()


# With a real PortAudio and a real sound server ------------------------------------------------------------------------


@pytest.mark.system
def test_each_machine_hears_its_own_channel_to_the_last_bit(
    pulse_pair: PulseMicrophone, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    played = np.random.default_rng(0).integers(1, 20_000, (3 * RATE, 2), dtype=np.int16)
    quiet = np.zeros((RATE, 2), np.int16)  # the server cuts off the beginning of what starts
    soundfile.write(tmp_path / "pair.wav", np.concatenate([quiet, played]), RATE, subtype="PCM_16")
    opener = Opener()
    prepared = [opener.prepare(SourceSpec("microphone:name:default", channel=n), RATE) for n in (1, 2)]
    sources = [prepare() for prepare in prepared]
    blocks: list[list[Block]] = [[], []]

    def heard(seconds: float) -> bool:
        for source, mine in zip(sources, blocks, strict=True):
            if block := source.read():
                mine.append(block)
        return all(sum(b.samples.size for b in mine if b.samples.any()) > seconds * RATE for mine in blocks)

    eventually(lambda: all(blocks) or heard(0), 15, "the first blocks")
    player = pulse_pair.play(tmp_path / "pair.wav")
    eventually(lambda: heard(2.5), 15, "the sound of both")
    player.wait(10)
    assert len({source.pid for source in sources if isinstance(source, MicrophoneSource)}) == 1
    for source in sources:
        source.close()
    left, right = (np.concatenate([block.samples for block in mine]) for mine in blocks)
    begin = int(np.flatnonzero(left)[0])
    for channel, sound in enumerate((left, right)):
        np.testing.assert_array_equal(sound[begin : begin + 2 * RATE] * 2**15, played[: 2 * RATE, channel])


@contextmanager
def hearing(microphone: PulseMicrophone, rate: int = RATE, channel: int = 1) -> Iterator[MicrophoneSource]:
    source = Microphone(microphone.token).tap(rate, channel).open()
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
    source = Microphone("usb-id:dead:beef:1").tap(RATE).open()
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
    from edge_asd.capture.microphone import Microphone
    source = Microphone(sys.argv[1]).tap(16_000).open()
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
