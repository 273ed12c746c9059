"""Recordings, whole and running."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_asd.capture.file import FileSource, Format, audio_format, read_audio
from edge_asd.errors import AudioError, SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RATE = 16_000
STEP = 2.0**-15  # of 16 bits


@dataclass
class Clock:
    """Stands still until told."""

    now: float = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def noise(samples: int) -> NDArray[np.float32]:
    return (np.random.default_rng(samples).standard_normal(samples) * 0.1).astype(np.float32)


def record(path: Path, samples: NDArray[np.float32], rate: int = RATE, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate, subtype)
    return path


def hear(source: FileSource) -> NDArray[np.float32]:
    """Everything, as fast as it comes, checking the indices."""
    pieces, end = [np.zeros(0, np.float32)], 0
    while not source.ended:
        if block := source.read():
            assert block.start == end
            end += block.samples.size
            pieces.append(block.samples)
    source.close()
    return np.concatenate(pieces)


def truncated(path: Path) -> Path:
    record(path, noise(RATE))
    path.write_bytes(path.read_bytes()[:-1000])
    return path


# Whole ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip.wav", "clip.flac"])
def test_a_recording_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    sound = noise(4000)
    heard = read_audio(record(tmp_path / name, sound), RATE)
    assert heard.dtype == np.float32
    np.testing.assert_allclose(heard, sound, atol=STEP)


def test_a_recording_at_another_rate_is_resampled(tmp_path: Path) -> None:
    sound = np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100).astype(np.float32) / 2
    heard = read_audio(record(tmp_path / "clip.wav", sound, 44_100), RATE)
    assert heard.shape == (RATE,)
    want = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE) / 2
    np.testing.assert_allclose(heard[500:-500], want[500:-500], atol=1e-3)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_usual_sample_format_is_read(tmp_path: Path, subtype: str) -> None:
    sound = noise(1000)
    np.testing.assert_allclose(read_audio(record(tmp_path / "a.wav", sound, subtype=subtype), RATE), sound, atol=STEP)


def test_a_stereo_recording_wants_a_channel_picked(tmp_path: Path) -> None:
    left, right = noise(1000), noise(1001)[:1000]
    path = record(tmp_path / "two.wav", np.stack([left, right], axis=1))
    with pytest.raises(AudioError, match=r"two.wav has 2 channels: pick one with channel = 1 to 2"):
        read_audio(path, RATE)
    np.testing.assert_allclose(read_audio(path, RATE, channel=2), right, atol=STEP)
    with pytest.raises(AudioError, match="has no channel 3, only 1 to 2"):
        read_audio(path, RATE, channel=3)


def test_a_header_is_read_of_however_many_channels(tmp_path: Path) -> None:
    path = record(tmp_path / "a.flac", np.zeros((300, 3), np.float32), rate=8_000)
    assert audio_format(path) == Format(rate=8_000, channels=3, frames=300)


def test_a_header_is_refused_where_the_recording_is(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is truncated"):
        audio_format(truncated(tmp_path / "a.wav"))
    with pytest.raises(AudioError, match="is no file"):
        audio_format(tmp_path / "b.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_recording_with_a_sample_that_is_no_number_is_refused(tmp_path: Path, bad: float) -> None:
    sound = noise(1000)
    sound[500] = bad
    with pytest.raises(AudioError, match="holds 1 samples that are NaN or infinite"):
        read_audio(record(tmp_path / "nan.wav", sound, subtype="FLOAT"), RATE)


def test_a_truncated_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"cut.wav is truncated: its header promises 32000 bytes of audio, 31000 are"):
        read_audio(truncated(tmp_path / "cut.wav"), RATE)


def test_a_truncated_recording_is_refused_behind_a_note_of_odd_length(tmp_path: Path) -> None:
    path = truncated(tmp_path / "cut.wav")
    wav = path.read_bytes()
    path.write_bytes(wav[:36] + b"note\x03\0\0\0abc\0" + wav[36:])
    with pytest.raises(AudioError, match=r"promises 32000 bytes of audio, 31000 are"):
        read_audio(path, RATE)


def test_a_truncated_flac_is_refused(tmp_path: Path) -> None:
    path = record(tmp_path / "cut.flac", noise(RATE))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(AudioError, match=r"cut.flac is (truncated|damaged)"):
        read_audio(path, RATE)


def test_a_header_that_promises_days_is_not_believed(tmp_path: Path) -> None:
    path = record(tmp_path / "days.flac", noise(RATE))
    head = bytearray(path.read_bytes())
    head[21] |= 0x0F  # the upper four of the 36 bits that count samples
    path.write_bytes(head)
    with pytest.raises(AudioError, match=r"days.flac is (truncated|damaged)"):
        read_audio(path, RATE)


def test_a_rate_that_no_microphone_has_is_not_believed(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="claims a sample rate of 3 Hz"):
        read_audio(record(tmp_path / "slow.wav", noise(100), 3), RATE)


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = record(tmp_path / "piped.wav", noise(1000))
    head = bytearray(path.read_bytes())
    head[head.index(b"data") + 4 : head.index(b"data") + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(head)
    assert read_audio(path, RATE).size == 1000


@pytest.mark.parametrize(("content", "complaint"), [(b"these are notes\n" * 99, "is no audio"), (b"", "is no audio")])
def test_what_is_no_audio_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "notes.wav").write_bytes(content)
    with pytest.raises(AudioError, match=f"notes.wav {complaint}"):
        read_audio(tmp_path / "notes.wav", RATE)


def test_a_recording_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is empty"):
        read_audio(record(tmp_path / "empty.wav", noise(0)), RATE)


@pytest.mark.parametrize("name", ["missing.wav", "."])
def test_a_recording_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match="is no file"):
        read_audio(tmp_path / name, RATE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 60))
def test_no_header_however_broken_is_more_than_an_audio_error(tmp_path: Path, junk: bytes, at: int) -> None:
    path = record(tmp_path / "fuzz.wav", noise(50))
    good = path.read_bytes()
    path.write_bytes(good[:at] + junk + good[at + len(junk) :])
    with suppress(AudioError):
        assert read_audio(path, RATE).ndim == 1


# Running --------------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000]),
    st.integers(1, 60_000),
    st.lists(st.floats(0.0001, 3), min_size=1, max_size=8),
    st.sampled_from([0.5, 1.0, 7.0]),
)
def test_a_running_file_is_the_whole_file_whatever_the_pace(
    tmp_path: Path, rate: int, samples: int, waits: list[float], speed: float
) -> None:
    path = record(tmp_path / f"{rate}-{samples}.wav", noise(samples), rate)
    clock, pieces = Clock(), [np.zeros(0, np.float32)]
    source = FileSource(path, RATE, speed=speed, clock=clock)
    while not source.ended:
        clock.now += waits[len(pieces) % len(waits)] + 0.01
        if block := source.read():
            assert block.start == sum(piece.size for piece in pieces)
            assert block.samples.size <= RATE
            pieces.append(block.samples)
    source.close()
    np.testing.assert_allclose(np.concatenate(pieces), read_audio(path, RATE), atol=STEP)


def test_nothing_comes_before_it_is_due(tmp_path: Path) -> None:
    clock = Clock()
    source = FileSource(record(tmp_path / "clip.wav", noise(3 * RATE)), RATE, speed=2.0, clock=clock)
    assert source.read() is None
    clock.now += 0.25
    block = source.read()
    assert block
    assert block.samples.size == RATE // 2
    assert source.read() is None
    assert not source.ended
    source.close()


@pytest.mark.parametrize("speed", [0.0, float("inf")])
def test_a_file_without_pace_is_read_a_second_at_a_time(tmp_path: Path, speed: float) -> None:
    path = record(tmp_path / "clip.wav", noise(RATE + 100))
    source = FileSource(path, RATE, speed=speed, clock=Clock())
    assert [block.samples.size for block in (source.read(), source.read()) if block] == [RATE, 100]
    assert source.ended
    assert source.read() is None
    source.close()


def test_a_looped_file_begins_again_and_its_index_runs_on(tmp_path: Path) -> None:
    path = record(tmp_path / "clip.wav", noise(7000))
    source = FileSource(path, RATE, speed=0, loop=True)
    blocks = [source.read() for _ in range(5)]
    assert [block.start for block in blocks if block] == [i * RATE for i in range(5)]
    heard = np.concatenate([block.samples for block in blocks if block])
    np.testing.assert_array_equal(heard, np.resize(read_audio(path, RATE), 5 * RATE))
    assert not source.ended
    source.close()


def test_a_looped_file_is_resampled_across_its_seam(tmp_path: Path) -> None:
    path = record(tmp_path / "clip.wav", noise(24_000), 48_000)
    source = FileSource(path, RATE, speed=0, loop=True)
    heard = np.concatenate([block.samples for block in (source.read(), source.read()) if block])
    want = soxr.resample(np.resize(read_audio(path, 48_000), 3 * 48_000), 48_000, RATE)
    np.testing.assert_allclose(heard, want[: 2 * RATE], atol=STEP)
    source.close()


def test_one_channel_of_several_is_played(tmp_path: Path) -> None:
    left, right = noise(1000), noise(1001)[:1000]
    path = record(tmp_path / "two.wav", np.stack([left, right], axis=1))
    np.testing.assert_allclose(hear(FileSource(path, RATE, speed=0, channel=2)), right, atol=STEP)


def test_a_file_that_cannot_be_played_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"missing.wav is no file"):
        FileSource(tmp_path / "missing.wav", RATE)
    with pytest.raises(SourceError, match="is truncated"):
        FileSource(truncated(tmp_path / "cut.wav"), RATE)


def test_a_file_that_breaks_off_is_a_source_error_when_it_does(tmp_path: Path) -> None:
    path = record(tmp_path / "cut.flac", noise(4 * RATE))
    path.write_bytes(path.read_bytes()[:-5000])
    source = FileSource(path, RATE, speed=0)
    with pytest.raises(SourceError, match=r"cut.flac is (truncated|damaged)"):
        hear(source)
    source.close()


def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    source = FileSource(record(tmp_path / "clip.wav", noise(100)), RATE)
    source.close()
    source.close()
    assert source.ended
    assert source.read() is None


def test_a_pace_below_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="speed must be at least 0, got -1"):
        FileSource(record(tmp_path / "clip.wav", noise(100)), RATE, speed=-1)
