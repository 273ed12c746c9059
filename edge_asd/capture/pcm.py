"""Raw samples from a named pipe or standard input, for those who already have a capture chain.

Raw samples say nothing of themselves: their format, rate and channels are told, never guessed.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from edge_asd.capture.source import Loss
from edge_asd.errors import ConfigError, SourceError
from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

STANDARD_INPUT = "-"
RATES = 8_000, 192_000
"""hertz between which a microphone's rate is believed"""
SILENCE_S = 5.0
"""without a byte; a writer may hand over more at once than a sound card does, but not that much"""
ROOM = 1 << 20
"""bytes that the kernel is asked to hold while we are busy; a writer that finds them full waits, or loses audio"""


class Format(StrEnum):
    """How one sample is written: signed whole numbers or floats, little end first, as ffmpeg and sox name them."""

    S16LE = "s16le"
    S24LE = "s24le"
    S32LE = "s32le"
    F32LE = "f32le"

    @property
    def octets(self) -> int:
        """Bytes of a sample."""
        return int(self[1:3]) // 8


@dataclass(frozen=True, slots=True)
class Pcm:
    """What the writer promises to write."""

    format: Format
    rate: int
    """hertz"""
    channels: int = 1
    channel: int | None = None
    """which is heard, counted from 1; needed where there are several"""

    def __post_init__(self) -> None:
        if not RATES[0] <= self.rate <= RATES[1]:
            msg = f"need a rate of {RATES[0]} to {RATES[1]} Hz, got {self.rate}"
            raise ConfigError(msg)
        if self.channel is None and self.channels > 1:
            msg = f"of {self.channels} channels one is heard: pick it with channel = 1 to {self.channels}"
            raise ConfigError(msg)
        if not 1 <= (self.channel or 1) <= self.channels:
            msg = f"there is no channel {self.channel}, only 1 to {self.channels}"
            raise ConfigError(msg)

    @property
    def frame(self) -> int:
        """Bytes of one moment, all channels."""
        return self.format.octets * self.channels

    def heard(self, octets: bytes) -> NDArray[np.float32]:
        """(n,) of the one channel, full scale 1, from n whole frames; s32 is rounded to a float's 24 bits."""
        first = ((self.channel or 1) - 1) * self.format.octets
        frames = np.frombuffer(octets, np.uint8).reshape(-1, self.frame)
        return samples(np.ascontiguousarray(frames[:, first : first + self.format.octets]), self.format)


def samples(octets: NDArray[np.uint8], form: Format) -> NDArray[np.float32]:
    """(n, octets of a sample) -> (n,), full scale 1."""
    if form is Format.F32LE:
        return octets.view("<f4")[:, 0].astype(np.float32)
    if form is Format.S24LE:  # three bytes are no number that numpy knows: they become the upper ones of four
        octets = np.concatenate([np.zeros((len(octets), 1), np.uint8), octets], axis=1)
    whole = octets.view(f"<i{octets.shape[1]}")[:, 0]
    return np.asarray(whole * 2.0 ** (1 - 8 * octets.shape[1]), np.float32)


class PcmSource:
    """A pipe that somebody writes to. After a SourceError, close this and open another."""

    def __init__(self, name: str, pcm: Pcm, rate: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the pipe; whoever wants to write to it may come later.

        Args:
            name: path of a named pipe, or ``-`` for standard input.
            pcm: what is written to it.
            rate: hertz of what is handed out; what is written at a higher one is resampled (soxr, high quality).
            clock: seconds, never going back.

        Raises:
            SourceError: it is no pipe, cannot be opened, or its rate lacks the upper bands.
        """
        if pcm.rate < rate:
            msg = f"{name} delivers {pcm.rate} Hz, but {rate} Hz are needed: write at {rate} Hz or more"
            raise SourceError(msg)
        self._name, self._pcm, self._clock = name, pcm, clock
        self._pipe = _opened(name)
        self._stream = soxr.ResampleStream(pcm.rate, rate, 1, "float32") if pcm.rate != rate else None
        self._rest, self._start, self._over = b"", 0, False
        self._heard = clock()

    @property
    def ended(self) -> bool:
        """Standard input was closed; a named pipe waits for its next writer."""
        return self._over

    @property
    def loss(self) -> Loss:
        """None that could be known: what the writer lost it has to tell itself."""
        return Loss()

    @property
    def fill(self) -> float:
        """None that could be known: the pipe is the kernel's."""
        return 0.0

    def read(self) -> Block | None:
        """What was written since the last read, at most a second of it.

        Raises:
            SourceError: the writer has gone, or nothing came for five seconds.
        """
        if self._over or not self._ready():
            return None
        octets = os.read(self._pipe, self._pcm.rate * self._pcm.frame)
        if not octets:
            return self._farewell()
        self._heard = self._clock()
        return self._block(self._pcm.heard(self._whole(octets)))

    def close(self) -> None:
        """Let go of the pipe; standard input is left open."""
        self._over = True
        if self._pipe > 0:
            os.close(self._pipe)
            self._pipe = -1

    def _ready(self) -> bool:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if poll.poll(0):
            return True
        silent = self._clock() - self._heard
        if silent > SILENCE_S:
            msg = f"nobody has written to {self._name} for {silent:.1f} s: the writer hangs or was not started"
            raise SourceError(msg)
        return False

    def _whole(self, octets: bytes) -> bytes:
        """Whole frames; what is left of one is kept for the next read."""
        octets = self._rest + octets
        whole = len(octets) // self._pcm.frame * self._pcm.frame
        self._rest = octets[whole:]
        return octets[:whole]

    def _block(self, heard: NDArray[np.float32], *, last: bool = False) -> Block | None:
        if self._stream:
            heard = self._stream.resample_chunk(heard, last=last)
        if not heard.size:
            return None
        self._start += heard.size
        return Block(self._start - heard.size, heard)

    def _farewell(self) -> Block | None:
        """The writer has closed its end: of standard input there is no other; what the filter holds is the last."""
        if self._pipe:
            msg = f"whoever wrote to {self._name} has gone: start it again"
            raise SourceError(msg)
        self._over = True
        return self._block(np.zeros(0, np.float32), last=True) if self._stream else None


def _opened(name: str) -> int:
    if name == STANDARD_INPUT:
        return 0
    try:
        pipe = os.open(Path(name).expanduser(), os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        msg = f"{name} cannot be read: {(error.strerror or str(error)).lower()}; make a pipe with: mkfifo {name}"
        raise SourceError(msg) from error
    if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
        os.close(pipe)
        msg = f"{name} is no named pipe: make one with mkfifo, or use file: for a recording"
        raise SourceError(msg)
    _make_room(pipe)
    return pipe


def _make_room(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, ROOM)
    except OSError:  # the administrator allows less; the kernel's own 64 KiB are two seconds of 16 kHz
        return
