"""Raw samples from a pipe."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.capture.ear import Ear
from edge_asd.capture.opening import SourceSpec, open_source
from edge_asd.capture.pcm import Format, Pcm, PcmSource
from edge_asd.capture.source import SourceState
from edge_asd.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

RATE = 16_000


@dataclass
class Clock:
    """Stands still until told."""

    now: float = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


# Formats --------------------------------------------------------------------------------------------------------------


def test_every_16_bit_sample_is_what_it_says() -> None:
    every = range(-32_768, 32_768)
    heard = Pcm(Format.S16LE, RATE).heard(struct.pack("<65536h", *every))
    assert heard.dtype == np.float32
    assert heard.tolist() == [n / 32_768 for n in every]


@given(st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=50))
def test_24_bit_samples_are_exact(numbers: list[int]) -> None:
    octets = b"".join(n.to_bytes(3, "little", signed=True) for n in numbers)
    assert Pcm(Format.S24LE, RATE).heard(octets).tolist() == [n / 2**23 for n in numbers]


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=50))
def test_32_bit_samples_are_the_nearest_floats(numbers: list[int]) -> None:
    heard = Pcm(Format.S32LE, RATE).heard(struct.pack(f"<{len(numbers)}i", *numbers))
    nearest = [struct.unpack("<f", struct.pack("<f", n / 2**31))[0] for n in numbers]
    assert heard.tolist() == nearest


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
def test_floats_are_left_alone(numbers: list[float]) -> None:
    assert Pcm(Format.F32LE, RATE).heard(struct.pack(f"<{len(numbers)}f", *numbers)).tolist() == numbers


@pytest.mark.parametrize(
    ("form", "subtype"),
    [(Format.S16LE, "PCM_16"), (Format.S24LE, "PCM_24"), (Format.S32LE, "PCM_32"), (Format.F32LE, "FLOAT")],
)
def test_libsndfile_reads_the_same_bytes_the_same(form: Format, subtype: str, tmp_path: Path) -> None:
    sound = np.random.default_rng(1).uniform(-1, 1, (500, 3))
    soundfile.write(tmp_path / "some.raw", sound, RATE, subtype, "LITTLE", "RAW")
    promise: dict[str, Any] = {"samplerate": RATE, "channels": 3, "subtype": subtype, "endian": "LITTLE"}
    told = soundfile.read(tmp_path / "some.raw", dtype="float32", format="RAW", **promise)[0]
    for channel in (1, 2, 3):
        heard = Pcm(form, RATE, 3, channel).heard((tmp_path / "some.raw").read_bytes())
        np.testing.assert_array_equal(heard, told[:, channel - 1])


# The pipe -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "sound")
    return tmp_path / "sound"


@pytest.fixture
def opened(pipe: Path) -> Iterator[Callable[..., PcmSource]]:
    """``opened(pcm, rate, clock=…)``: a source at the pipe."""
    sources: list[PcmSource] = []

    def one(pcm: Pcm, rate: int = RATE, **more: Any) -> PcmSource:  # noqa: ANN401 - as the source takes them
        sources.append(PcmSource(str(pipe), pcm, rate, **more))
        return sources[-1]

    yield one
    for source in sources:
        source.close()


def drained(source: PcmSource) -> list[NDArray[np.float32]]:
    """All that is in the pipe; each block begins where the one before it ended."""
    blocks = []
    while block := source.read():
        assert block.start == sum(map(len, blocks))
        blocks.append(block.samples)
    return blocks


def whole(pieces: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def test_frames_that_arrive_in_pieces_are_put_together(pipe: Path, opened: Callable[..., PcmSource]) -> None:
    source = opened(Pcm(Format.S24LE, RATE, 2, 2))
    numbers = np.arange(-300, 300)
    interleaved = np.stack([-numbers, numbers], axis=1).ravel().tolist()
    octets = b"".join(number.to_bytes(3, "little", signed=True) for number in interleaved)
    heard = []
    with pipe.open("wb", buffering=0) as writer:
        for first in range(0, len(octets), 7):
            writer.write(octets[first : first + 7])
            heard += drained_on(source)
    np.testing.assert_array_equal(whole(heard), np.float32(numbers / 2**23))


def drained_on(source: PcmSource) -> list[NDArray[np.float32]]:
    block = source.read()
    return [block.samples] if block else []


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a_pipe_at_any_rate_sounds_like_the_recording_resampled_at_once(
    rate: int, pipe: Path, opened: Callable[..., PcmSource]
) -> None:
    sound = np.random.default_rng(rate).uniform(-0.5, 0.5, rate).astype("<f4")
    at_once = soxr.resample(sound, rate, RATE) if rate != RATE else sound
    source, heard = opened(Pcm(Format.F32LE, rate)), []
    with pipe.open("wb", buffering=0) as writer:
        for piece in np.array_split(sound, 37):
            writer.write(piece.tobytes())
            heard += drained_on(source)
    live = whole(heard)
    assert live.size > 0.9 * at_once.size
    np.testing.assert_allclose(live, at_once[: live.size], atol=1e-4)


def test_a_rate_that_lacks_the_upper_bands_is_refused(opened: Callable[..., PcmSource]) -> None:
    with pytest.raises(SourceError, match="delivers 8000 Hz, but 16000 Hz are needed"):
        opened(Pcm(Format.S16LE, 8_000))


def test_a_read_gives_a_second_at_most_and_nothing_is_lost(pipe: Path, opened: Callable[..., PcmSource]) -> None:
    source = opened(Pcm(Format.S16LE, 8_000), 8_000)
    sound = np.arange(20_000, dtype="<i2")
    with pipe.open("wb", buffering=0) as writer:
        writer.write(sound.tobytes())
        blocks = drained(source)
    assert [block.size for block in blocks] == [8_000, 8_000, 4_000]
    np.testing.assert_array_equal(whole(blocks) * 2**15, sound)


def test_a_writer_that_goes_is_an_error_and_the_next_one_is_heard(pipe: Path, opened: Callable[..., PcmSource]) -> None:
    source = opened(Pcm(Format.S16LE, RATE))
    with pipe.open("wb", buffering=0) as writer:
        writer.write(bytes(7))
    assert [block.tolist() for block in drained_on(source)] == [[0, 0, 0]]
    with pytest.raises(SourceError, match=r"whoever wrote to .*/sound has gone: start it again"):
        source.read()
    source.close()

    source = opened(Pcm(Format.S16LE, RATE))
    assert source.read() is None
    with pipe.open("wb", buffering=0) as writer:
        writer.write(b"\0\x40")
        assert [block.tolist() for block in drained(source)] == [[0.5]]


def test_an_ear_hears_the_next_writer_and_keeps_the_two_apart(pipe: Path) -> None:
    clock = Clock()
    ear = Ear("line", lambda: PcmSource(str(pipe), Pcm(Format.S16LE, RATE), RATE, clock=clock), clock)
    starts = []
    for _ in range(3):
        assert ear.read() is None
        with pipe.open("wb", buffering=0) as writer:
            writer.write(bytes(20))
        block = ear.read()
        assert block
        starts.append(block.start)
        assert ear.read() is None
        assert (ear.state, ear.reason) == (SourceState.LOST, f"whoever wrote to {pipe} has gone: start it again")
        clock.now += 11
    ear.close()
    assert starts == [0, 11, 22]


@pytest.mark.parametrize("written", [b"", b"\0\0"])
def test_a_writer_that_says_nothing_for_five_seconds_is_given_up(
    written: bytes, pipe: Path, opened: Callable[..., PcmSource]
) -> None:
    clock = Clock()
    source = opened(Pcm(Format.S16LE, RATE), clock=clock)
    with pipe.open("wb", buffering=0) as writer:
        writer.write(written)
        drained(source)
        clock.now += 5
        assert source.read() is None
        clock.now += 0.1
        with pytest.raises(SourceError, match=r"nobody has written to .*/sound for 5\.1 s"):
            source.read()


def test_what_is_no_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.raw").write_bytes(bytes(100))
    with pytest.raises(SourceError, match=r"some.raw is no named pipe: make one with mkfifo, or use file:"):
        PcmSource(str(tmp_path / "some.raw"), Pcm(Format.S16LE, RATE), RATE)
    with pytest.raises(SourceError, match="no such file or directory; make a pipe with: mkfifo"):
        PcmSource(str(tmp_path / "absent"), Pcm(Format.S16LE, RATE), RATE)


def test_closing_twice_leaves_nothing_behind(opened: Callable[..., PcmSource]) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    source = opened(Pcm(Format.S16LE, RATE))
    source.close()
    source.close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert source.read() is None


LISTENER = """
    import sys
    import numpy as np
    from edge_asd.capture.pcm import Format, Pcm, PcmSource
    source = PcmSource("-", Pcm(Format.F32LE, 48_000), 16_000)
    heard = []
    while not source.ended:
        block = source.read()
        heard += [block.samples] if block else []
    source.close()
    sys.stdout.buffer.write(np.concatenate(heard).tobytes())
"""


def test_standard_input_is_heard_to_its_very_end() -> None:
    sound = np.random.default_rng(3).uniform(-0.5, 0.5, 50_000).astype("<f4")
    command = [sys.executable, "-c", textwrap.dedent(LISTENER)]
    heard = subprocess.run(command, input=sound.tobytes(), stdout=subprocess.PIPE, check=True, timeout=60).stdout
    np.testing.assert_allclose(np.frombuffer(heard, np.float32), soxr.resample(sound, 48_000, RATE), atol=1e-4)


# Settings -------------------------------------------------------------------------------------------------------------


def test_a_pipe_is_opened_with_its_settings(pipe: Path) -> None:
    source = open_source(SourceSpec(f"pcm:{pipe}", format="s16le", rate=RATE, channels=2, channel=2), RATE)
    with pipe.open("wb", buffering=0) as writer:
        writer.write(struct.pack("<4h", 1, 16_384, 2, -16_384))
        block = source.read()
    source.close()
    assert block
    assert block.samples.tolist() == [0.5, -0.5]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "pcm:- needs a rate and a format out of s16le, s24le, s32le, f32le"),
        ({"format": "s16le"}, "needs a rate"),
        ({"format": "s16be", "rate": RATE}, "needs a rate and a format"),
        ({"format": "s16le", "rate": 7_999}, "need a rate of 8000 to 192000 Hz, got 7999"),
        ({"format": "s16le", "rate": RATE, "channels": 2}, "of 2 channels one is heard: pick it with channel = 1 to 2"),
        ({"format": "s16le", "rate": RATE, "channels": 2, "channel": 3}, "no channel 3, only 1 to 2"),
        ({"format": "s16le", "rate": RATE, "channel": 2}, "no channel 2, only 1 to 1"),
    ],
)
def test_a_pipe_that_does_not_say_what_it_brings_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        SourceSpec("pcm:-", **settings)


@pytest.mark.parametrize("settings", [{"format": "s16le"}, {"rate": RATE}, {"channels": 2}])
def test_what_says_its_own_format_is_not_told_one(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="format, rate and channels are of pcm: alone"):
        SourceSpec("microphone:name:default", **settings)
