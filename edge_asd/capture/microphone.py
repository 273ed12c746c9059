"""A microphone, heard through a child process that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.capture import ring
from edge_asd.capture.child import BLOCKS_PER_S
from edge_asd.capture.source import Loss
from edge_asd.errors import SourceError
from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OPENING_S = 15.0  # PortAudio tries every device there is before it opens one
SILENCE_S = 2.0  # without a single sample; a device that is alive delivers ten times a second
FAREWELL_S = 0.5  # for the child's end; what a driver holds in the kernel does not even die, and must not hold us
LAST_WORDS = 4096  # bytes of the child's complaints that are kept


class MicrophoneSource:
    """Starts a child that listens. After a SourceError, close this and open another."""

    def __init__(
        self,
        token: str,
        rate: int,
        *,
        channel: int = 1,
        ring_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        command: Sequence[str] = (sys.executable, "-m", "edge_asd.capture.child"),
    ) -> None:
        """Return at once; what is wrong with the device comes out of read.

        Args:
            token: a name of the device, see edge_asd.capture.device.
            rate: hertz of what is handed out.
            channel: counted from 1.
            ring_s: how far the reader may fall behind before audio is lost.
            clock: seconds, never going back.
            command: the child to start.
        """
        self._token, self._rate, self._clock = token, rate, clock
        memory = ring.create(max(rate // BLOCKS_PER_S, 1), max(round(ring_s * BLOCKS_PER_S), 2))
        self._ring = ring.Reader(memory)
        arguments = [*command, str(memory), str(rate), str(channel), token]
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            arguments, bufsize=0, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, pass_fds=(memory,)
        )
        os.close(memory)
        if self._child.stderr:
            os.set_blocking(self._child.stderr.fileno(), False)
        self._words, self._heard, self._patience = b"", clock(), OPENING_S

    @property
    def ended(self) -> bool:
        """Never; a microphone that stops is an error."""
        return False

    @property
    def loss(self) -> Loss:
        """Running total."""
        return Loss(self._ring.lost_before, self._ring.overwritten)

    @property
    def fill(self) -> float:
        """Of the ring."""
        return self._ring.fill

    @property
    def device_rate(self) -> int:
        """Hertz at which the device itself runs; 0 until it is open."""
        return self._ring.rate

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self._child.pid

    def read(self) -> Block | None:
        """The audio since the last read, at most a second of it.

        Raises:
            SourceError: the child died, with its last words; or nothing came for two seconds.
        """
        self._listen_to_complaints()
        stretch = self._ring.read(self._rate)
        if stretch is None:
            self._demand_life()
            return None
        self._heard, self._patience = self._clock(), SILENCE_S
        return Block(stretch.start, np.frombuffer(stretch.samples, np.float32))

    def close(self) -> None:
        """End the child, whatever state it is in. It has nothing to put in order, so it is not asked first."""
        self._child.kill()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(FAREWELL_S)
        for pipe in (self._child.stdin, self._child.stderr):
            if pipe:
                pipe.close()
        self._ring.close()

    def _listen_to_complaints(self) -> None:
        """Keep the pipe from filling up: ALSA talks a lot."""
        while self._child.stderr and (said := self._child.stderr.read(65_536)):
            self._words = (self._words + said)[-LAST_WORDS:]

    def _demand_life(self) -> None:
        code = self._child.poll()
        if code is not None:
            self._listen_to_complaints()
            raise SourceError(self._obituary(code))
        silent = self._clock() - self._heard
        if silent > self._patience:
            msg = f"no audio from {self._token} for {silent:.1f} s: it hangs or was unplugged"
            raise SourceError(msg)

    def _obituary(self, code: int) -> str:
        lines = self._words.decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "it said nothing"
        if code > 0:
            return said
        return f"the process that listens to {self._token} died of signal {-code} ({signal.strsignal(-code)}): {said}"
