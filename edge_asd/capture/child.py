"""The process that opens the microphone: ``python -m edge_asd.capture.child RING:RATE:CHANNEL ... TOKEN``.

It reads with blocking calls and writes a ring for each who listens to a channel, nothing else, so that it can be killed
whenever PortAudio hangs. Its standard input is a pipe from the parent; when that breaks, the kernel ends this process,
hung or not.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edge_asd.capture import device, ring, server
from edge_asd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BLOCKS_PER_S = 10
LATENCY_S = 0.5  # what the device may hold back while this process waits for the processor
RATE_TOLERANCE = 0.01  # of the rate; a quartz is a hundred times better
RATES = (48_000, 44_100)  # tried after the bundle's rate and the one that the device prefers


class Tap(NamedTuple):
    """What one listener wants of the device."""

    writer: ring.Writer
    rate: int
    """hertz of what is written"""
    channel: int
    """counted from 1"""


class Piece(NamedTuple):
    """One read from the device."""

    samples: bytes
    """float32, all channels of a moment beside each other"""
    end: int
    """device samples from the opening to the end of the piece, the lost ones included"""
    waiting: int
    """device samples that were already there behind it"""
    time_s: float
    """when, on the monotonic clock"""


class Sink(Protocol):
    """Where device samples go on their way to the ring."""

    def write(self, samples: bytes) -> None:
        """Append float32."""
        ...

    def jump(self, index: int) -> None:
        """The next device sample is number ``index``."""
        ...


class Resampler:
    """From the device's rate to the bundle's; the ring's index counts what comes out."""

    def __init__(self, writer: ring.Writer, device_rate: int, rate: int) -> None:
        import numpy as np  # noqa: PLC0415 - only a device that cannot do the bundle's rate pays for it
        import soxr  # noqa: PLC0415 - same

        self._writer, self._ratio = writer, rate / device_rate
        self._array: Callable[[bytes], Any] = lambda samples: np.frombuffer(samples, np.float32)
        self._stream = soxr.ResampleStream(device_rate, rate, 1, "float32")

    def write(self, samples: bytes) -> None:
        """Append (n,) float32 at the device's rate."""
        self._writer.write(self._stream.resample_chunk(self._array(samples)).tobytes())

    def jump(self, index: int) -> None:
        """The next device sample is number ``index``; what the filter still held is lost with the rest."""
        self._stream.clear()
        self._writer.jump(max(round(index * self._ratio), self._writer.index))


@dataclass(frozen=True, slots=True)
class Split:
    """Hands each listener its channel."""

    channels: int
    """that stand beside each other in what is written"""
    sinks: Sequence[tuple[int, Sink]]
    """of each channel, counted from 1, that somebody hears"""

    def write(self, samples: bytes) -> None:
        """Append (n, channels) float32."""
        beside = memoryview(samples).cast("B").cast("f")
        for channel, sink in self.sinks:
            sink.write(beside[channel - 1 :: self.channels].tobytes())

    def jump(self, index: int) -> None:
        """The next device sample is number ``index``, in every channel."""
        for _, sink in self.sinks:
            sink.jump(index)


@dataclass(frozen=True, slots=True)
class Delay:
    """Passes on each write when so many others have followed: what is still here when the process ends was never heard.

    Where a sound server may give us another microphone, that is how long it takes to notice.
    """

    sink: Sink
    writes: int
    waiting: deque[bytes | int] = field(default_factory=deque)
    """samples, or the index of a jump"""

    def write(self, samples: bytes) -> None:
        """Append float32, later."""
        self._take(samples)

    def jump(self, index: int) -> None:
        """The next device sample is number ``index``, after what is waiting."""
        self._take(index)

    def _take(self, what: bytes | int) -> None:
        self.waiting.append(what)
        while len(self.waiting) > self.writes:
            first = self.waiting.popleft()
            if isinstance(first, int):
                self.sink.jump(first)
            else:
                self.sink.write(first)


@dataclass
class Listener:
    """Passes pieces on one read late, for PortAudio tells of an overflow one read late (ALSA, ``ReadStream``).

    The piece in hand when an overflow is told may be spliced from before and after it. It is thrown away together with
    the piece that brought the news, and the clock says where the audio goes on.
    """

    sink: Sink
    rate: int
    """hertz of the device"""
    held: Piece | None = None
    sound: Piece | None = None
    """the last piece that was surely whole"""

    def hear(self, piece: Piece, *, overflowed: bool) -> int:
        """Take one piece; returns the number of the device sample behind it."""
        if overflowed:
            self.held = None
            index = max(self._by_clock(piece), piece.end)
            self.sink.jump(index)
            return index
        if self.held:
            self.sink.write(self.held.samples)
            self.sound = self.held
        self.held = piece
        return piece.end

    def _by_clock(self, piece: Piece) -> int:
        """Where the device must be by the time that has passed since the last whole piece."""
        if not self.sound:
            return piece.end
        passed = (piece.time_s - self.sound.time_s) * self.rate
        return self.sound.end + self.sound.waiting + round(passed) - piece.waiting


def listen(stream: Any, listener: Listener, frames: int) -> None:  # noqa: ANN401 - sounddevice ships no types
    """Read until killed.

    Raises:
        sounddevice.PortAudioError: the device failed.
    """
    end = 0
    while True:
        octets, overflowed = stream.read(frames)
        now, waiting = time.monotonic(), max(stream.read_available, 0)
        end = listener.hear(Piece(bytes(octets), end + frames, waiting, now), overflowed=overflowed)


def capture(taps: Sequence[Tap], token: str) -> None:
    """Open the microphone once for all who listen to it, and listen until killed.

    A channel that it lacks is left out as long as there is another; who wanted it reads so in the ring.

    Raises:
        SourceError: it is not there, has none of these channels, refuses, or fails.
    """
    found = device.find(token, device.here())
    there = present(taps, token, found.channels)
    portaudio, channels = device.library(), max(tap.channel for tap in there)
    device_rate = _rate(portaudio, found, channels, max(tap.rate for tap in there))
    frames = device_rate // BLOCKS_PER_S
    wanted = {"device": found.index, "channels": channels, "samplerate": device_rate, "dtype": "float32"}
    sink: Sink = Split(channels, [(tap.channel, _sink(tap, device_rate)) for tap in there])
    before = frozenset[str]() if "(hw:" in found.name else server.sources() or frozenset()
    try:
        with portaudio.RawInputStream(**wanted, blocksize=frames, latency=LATENCY_S) as stream:
            demand(stream, token, device_rate)
            if "(hw:" not in found.name and server.guard(token, before):
                sink = Delay(sink, round(server.NOTICE_S * BLOCKS_PER_S))
            for tap in taps:
                tap.writer.announce(device_rate, found.channels)
            listen(stream, Listener(sink, device_rate), frames)
    except portaudio.PortAudioError as error:
        msg = f"{token} failed: {error}"
        raise SourceError(msg) from error


def present(taps: Sequence[Tap], token: str, channels: int) -> list[Tap]:
    """Those whose channel the device has.

    Raises:
        SourceError: it has none of them.
    """
    there = [tap for tap in taps if 1 <= tap.channel <= channels]
    if not there:
        raise SourceError(lacking(token, taps[0].channel, channels))
    return there


def lacking(token: str, channel: int, channels: int) -> str:
    """That a device has no such channel."""
    return f"{token} has no channel {channel}, only 1 to {channels}"


def _sink(tap: Tap, device_rate: int) -> Sink:
    return tap.writer if tap.rate == device_rate else Resampler(tap.writer, device_rate, tap.rate)


def demand(stream: Any, token: str, rate: int) -> None:  # noqa: ANN401 - sounddevice ships no types
    """Not one sample of a device that promised one rate and runs at another: everything would sound higher or lower.

    Raises:
        SourceError: it does not run at ``rate`` hertz.
    """
    if abs(stream.samplerate - rate) > RATE_TOLERANCE * rate:
        msg = f"{token} was asked for {rate} Hz and runs at {stream.samplerate:g} Hz: set its rate, or replace it"
        raise SourceError(msg)


def _rate(portaudio: Any, found: device.Device, channels: int, rate: int) -> int:  # noqa: ANN401 - sounddevice ships no types
    """The bundle's rate where the device can do it, else a higher one; a lower one would lack the upper bands.

    Raises:
        SourceError: the device can do none of them.
    """
    problem: object = None
    for hertz in (hertz for hertz in (rate, found.rate, *RATES) if hertz >= rate):
        try:
            portaudio.check_input_settings(found.index, channels, "float32", samplerate=hertz)
        except portaudio.PortAudioError as error:
            problem = problem or error
        else:
            return hertz
    msg = f"{found.token} cannot record at {rate} Hz or more: {problem}"
    raise SourceError(msg)


def _tap(argument: str) -> Tap:
    memory, rate, channel = map(int, argument.split(":"))
    return Tap(ring.Writer(memory), rate, channel)


def main(arguments: list[str]) -> int:
    """Run the child; an end that it can explain has a code of its own and one line of explanation."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who then ends us
    server.end_when_closed(sys.stdin.fileno(), os.getpid())
    *taps, token = arguments
    try:
        capture([_tap(tap) for tap in taps], token)
    except SourceError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_UNAVAILABLE
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
