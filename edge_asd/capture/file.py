"""Recordings: whole ones to score, running ones to listen to."""

from __future__ import annotations

import os.path
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile
import soxr

from edge_asd.capture.pace import PacedSource
from edge_asd.errors import AudioError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from numpy.typing import NDArray

UNKNOWN = {0xFFFFFFFF, 0x7FFFF000}  # lengths that ffmpeg and sox write when they cannot go back to the header
RATES = 1000, 1_000_000  # hertz between which a header is believed
PIECE_S = 0.5  # seconds read from a running file at once


def read_audio(path: Path, rate: int, *, channel: int | None = None) -> NDArray[np.float32]:
    """The whole recording, (L,) at ``rate`` hertz.

    Args:
        path: WAV, FLAC or whatever libsndfile reads.
        rate: hertz; a recording at another rate is resampled (soxr, high quality).
        channel: counted from 1; needed where the recording has several.

    Raises:
        AudioError: it is missing, truncated, no audio, empty, has several channels, or holds NaN or infinity.
    """
    recording = _Recording.open(path, channel)
    with recording.file:
        samples = np.concatenate(list(_pieces(recording, loop=False)))  # a broken header may promise terabytes
    if not np.isfinite(samples).all():
        msg = (
            f"{path} holds {np.count_nonzero(~np.isfinite(samples))} samples that are NaN or infinite: record it again"
        )
        raise AudioError(msg)
    if recording.file.samplerate == rate:
        return samples
    return np.asarray(soxr.resample(samples, recording.file.samplerate, rate), np.float32)


@dataclass(frozen=True, slots=True)
class Format:
    """What the header of a recording promises."""

    rate: int
    """hertz"""
    channels: int
    frames: int


def audio_format(path: Path) -> Format:
    """The header alone, of however many channels.

    Raises:
        AudioError: it is missing, truncated, no audio, or empty.
    """
    with _opened(path) as file:
        _check_length(path, file.frames)
        _check_rate(path, file.samplerate)
        return Format(file.samplerate, file.channels, file.frames)


class FileSource(PacedSource):
    """A recording in the place of a microphone, read piece by piece."""

    def __init__(
        self,
        path: Path,
        rate: int,
        *,
        speed: float = 1.0,
        loop: bool = False,
        channel: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the recording.

        Args:
            path: WAV, FLAC or whatever libsndfile reads.
            rate: hertz of what is handed out.
            speed: 1 is real time; 0 or infinity is as fast as it is read, a second at a time.
            loop: begin again at the end; the index runs on.
            channel: counted from 1; needed where the recording has several.
            clock: seconds, never going back.

        Raises:
            SourceError: whatever read_audio calls an AudioError, but for single samples that are no numbers: those
                are for the health of the input to judge.
        """
        try:
            recording = _Recording.open(path, channel)
        except AudioError as error:
            raise SourceError(str(error)) from error
        self._recording = recording
        super().__init__(_played(recording, rate, loop=loop), rate, speed, clock)

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._recording.file.close()


@dataclass(frozen=True, slots=True)
class _Recording:
    """An open file, one channel of which is heard."""

    path: Path
    file: Any
    """soundfile.SoundFile, which ships no types"""
    channel: int
    """counted from 0"""

    @classmethod
    def open(cls, path: Path, channel: int | None) -> _Recording:
        file = _opened(path)
        try:
            _check_length(path, file.frames)
            _check_rate(path, file.samplerate)
            return cls(path, file, _channel(path, file.channels, channel))
        except AudioError:
            file.close()
            raise

    def next(self, frames: int) -> NDArray[np.float32]:
        """(n,) samples, n < ``frames`` only at the end.

        Raises:
            AudioError: the file breaks off before the length that it promises.
        """
        wanted = min(frames, self.file.frames - self.file.tell())
        try:
            samples = self.file.read(wanted, dtype="float32", always_2d=True)[:, self.channel]
        except soundfile.LibsndfileError as error:
            msg = f"{self.path} is damaged: {error}"
            raise AudioError(msg) from error
        if samples.size < wanted:
            msg = f"{self.path} is truncated: {wanted - samples.size} of {self.file.frames} frames are missing"
            raise AudioError(msg)
        return np.ascontiguousarray(samples)


def _opened(path: Path) -> Any:  # noqa: ANN401 - soundfile ships no types
    if not os.path.isfile(path):  # noqa: PTH113 - Path's raises for a folder we may not enter and for too long a name
        msg = f"{path} is no file"
        raise AudioError(msg)
    try:
        return soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, OSError, TypeError) as error:  # TypeError: .raw wants a format
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        msg = f"{path} is no audio file that can be read, use WAV or FLAC: {reason}"
        raise AudioError(msg) from error


def _channel(path: Path, channels: int, wanted: int | None) -> int:
    if wanted is None and channels > 1:
        msg = f"{path} has {channels} channels: pick one with channel = 1 to {channels}"
        raise AudioError(msg)
    if wanted is not None and not 1 <= wanted <= channels:
        msg = f"{path} has no channel {wanted}, only 1 to {channels}"
        raise AudioError(msg)
    return (wanted or 1) - 1


def _check_length(path: Path, frames: int) -> None:
    """A WAV file holds what its header promises; libsndfile quietly takes what is there.

    Raises:
        AudioError: it is shorter, or empty.
    """
    with path.open("rb") as file:
        promised, present = _wav_data(file)
    if promised > present and promised not in UNKNOWN:
        msg = f"{path} is truncated: its header promises {promised} bytes of audio, {present} are there"
        raise AudioError(msg)
    if frames == 0:
        msg = f"{path} is empty: it has no samples"
        raise AudioError(msg)


def _check_rate(path: Path, rate: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        msg = f"{path} claims a sample rate of {rate} Hz, no microphone has one outside {RATES[0]} to {RATES[1]} Hz"
        raise AudioError(msg)


def _wav_data(file: BinaryIO) -> tuple[int, int]:
    """Bytes that the ``data`` chunk of a RIFF file promises and has; (0, 0) where there is none."""
    head, end = file.read(12), file.seek(0, 2)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0, 0
    file.seek(12)
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            return length, end - file.tell()
        file.seek(length + length % 2, 1)
    return 0, 0


def _played(recording: _Recording, rate: int, *, loop: bool) -> Generator[NDArray[np.float32]]:
    try:
        yield from _resampled(recording, rate, loop=loop)
    except AudioError as error:
        raise SourceError(str(error)) from error


def _resampled(recording: _Recording, rate: int, *, loop: bool) -> Generator[NDArray[np.float32]]:
    pieces = _pieces(recording, loop=loop)
    if recording.file.samplerate == rate:
        yield from pieces
        return
    stream = soxr.ResampleStream(recording.file.samplerate, rate, 1, "float32")
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _pieces(recording: _Recording, *, loop: bool) -> Generator[NDArray[np.float32]]:
    frames = int(PIECE_S * recording.file.samplerate) + 1
    while True:
        samples = recording.next(frames)
        if samples.size:
            yield samples
        elif loop:
            recording.file.seek(0)
        else:
            return
