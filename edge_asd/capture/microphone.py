"""A microphone, heard through a child process that can be killed; all who listen to it share the child.

A sound card can be opened once. So its machines do not open it each for itself: one child reads all its channels and
writes a ring for each listener. When the child fails, it fails for all of them, and the first who listens again starts
the next.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.capture import ring
from edge_asd.capture.child import BLOCKS_PER_S, lacking
from edge_asd.capture.source import Loss
from edge_asd.errors import SourceError
from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OPENING_S = 15.0  # PortAudio tries every device there is before it opens one
STILL_S = 4.0  # of these without one step; whoever asks one device after another waits, and wakes up, again and again
SILENCE_S = 2.0  # without a single sample; a device that is alive delivers ten times a second
FAREWELL_S = 0.5  # for the child's end; what a driver holds in the kernel does not even die, and must not hold us
LAST_WORDS = 4096  # bytes of the child's complaints that are kept
RING_S = 30.0  # how far a reader may fall behind before audio is lost
COMMAND = (sys.executable, "-m", "edge_asd.capture.child")


class Microphone:
    """One device and all who listen to it. Everybody is to be told of before the first one opens it."""

    def __init__(
        self, token: str, *, clock: Callable[[], float] = time.monotonic, command: Sequence[str] = COMMAND
    ) -> None:
        """Touch nothing yet.

        Args:
            token: a name of the device, see edge_asd.capture.device.
            clock: seconds, never going back.
            command: the child to start.
        """
        self.token, self._clock, self._command = token, clock, command
        self._taps: list[Tap] = []
        self._child: _Child | None = None

    def tap(self, rate: int, channel: int = 1) -> Tap:
        """A place to listen from, at ``rate`` hertz; ``channel`` counts from 1."""
        self._taps.append(Tap(self, rate, channel))
        return self._taps[-1]

    def attach(self, tap: Tap) -> MicrophoneSource:
        """Listen, with those who listen already if their child lives; it is replaced if it does not know this tap."""
        if self._child is None or not self._child.serves(tap):
            if self._child:
                self._child.give_up(f"{self.token} is opened anew, for one more who listens to it")
            self._child = _Child(self.token, self._taps, self._clock, self._command)
        return MicrophoneSource(self._child, tap)


@dataclass(frozen=True, slots=True, eq=False)
class Tap:
    """One who listens, whether it is open now or not."""

    microphone: Microphone
    rate: int
    """hertz of what is handed out"""
    channel: int
    """counted from 1"""

    def open(self) -> MicrophoneSource:
        """Return at once; what is wrong with the device comes out of the source's read."""
        return self.microphone.attach(self)


class MicrophoneSource:
    """One channel, from now on. After a SourceError, close this and open another."""

    def __init__(self, child: _Child, tap: Tap) -> None:
        self._child, self._tap, self._ring = child, tap, child.join(tap)
        while self._ring.read(tap.rate):  # what came before was for somebody else, or for nobody
            pass
        self._origin, self._open = self._ring.index, True
        self._before = self._lost()

    @property
    def ended(self) -> bool:
        """Never; a microphone that stops is an error."""
        return False

    @property
    def loss(self) -> Loss:
        """Running total."""
        now = self._lost()
        return Loss(now.overflow - self._before.overflow, now.ring_full - self._before.ring_full)

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
            SourceError: the child died, with its last words; or nothing came for two seconds, or it does not get on
                with opening; or there is no such channel.
        """
        self._child.listen_to_complaints()
        stretch = self._ring.read(self._tap.rate)
        if stretch is None:
            self._demand_channel()
            self._child.demand_life(self._ring.rate)
            return None
        self._child.delivered()
        return Block(stretch.start - self._origin, np.frombuffer(stretch.samples, np.float32))

    def close(self) -> None:
        """Stop listening. The last one ends the child, whatever state it is in."""
        if self._open:
            self._open = False
            self._child.leave(self._tap)

    def _lost(self) -> Loss:
        return Loss(self._ring.lost_before, self._ring.overwritten)

    def _demand_channel(self) -> None:
        if self._ring.rate and self._tap.channel > self._ring.channels:
            raise SourceError(lacking(self._child.token, self._tap.channel, self._ring.channels))


class _Child:
    """A process that listens, from its birth to its end, and a ring for each tap that was known then."""

    def __init__(self, token: str, taps: Sequence[Tap], clock: Callable[[], float], command: Sequence[str]) -> None:
        self.token, self._clock, self._listening = token, clock, set[Tap]()
        memories = [ring.create(max(tap.rate // BLOCKS_PER_S, 1), round(RING_S * BLOCKS_PER_S)) for tap in taps]
        self._rings = {tap: ring.Reader(memory) for tap, memory in zip(taps, memories, strict=True)}
        wanted = [f"{memory}:{tap.rate}:{tap.channel}" for tap, memory in zip(taps, memories, strict=True)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*command, *wanted, token], bufsize=0, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, pass_fds=memories
        )
        for memory in memories:
            os.close(memory)
        if self._process.stderr:
            os.set_blocking(self._process.stderr.fileno(), False)
        self._words, self._verdict = b"", ""
        self._born = self._stepped = clock()
        self._heard: float | None = None
        self._steps: tuple[int, int] | None = None

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def serves(self, tap: Tap) -> bool:
        """It writes a ring for this tap and is not given up."""
        return tap in self._rings and not self._verdict

    def join(self, tap: Tap) -> ring.Reader:
        """One more listens."""
        self._listening.add(tap)
        return self._rings[tap]

    def leave(self, tap: Tap) -> None:
        """One listens no more; without anybody it ends. It has nothing to put in order, so it is not asked first."""
        self._listening.discard(tap)
        if not self._listening:
            self.give_up("nobody listens")
            for reader in self._rings.values():
                reader.close()

    def delivered(self) -> None:
        """There was audio."""
        self._heard = self._clock()

    def listen_to_complaints(self) -> None:
        """Keep the pipe from filling up: ALSA talks a lot."""
        stderr = self._process.stderr
        while stderr and not stderr.closed and (said := stderr.read(65_536)):
            self._words = (self._words + said)[-LAST_WORDS:]

    def demand_life(self, device_rate: int) -> None:
        """Give it up for all who listen when it is dead, silent, or stuck in opening.

        Raises:
            SourceError: it is given up, now or before.
        """
        if not self._verdict:
            code = self._process.poll()
            self.listen_to_complaints()
            if reason := self._obituary(code) if code is not None else self._complaint(device_rate):
                self.give_up(reason)
        if self._verdict:
            raise SourceError(self._verdict)

    def give_up(self, reason: str) -> None:
        """End it; what is in the rings can still be read."""
        if self._verdict:
            return
        self._verdict = reason
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(FAREWELL_S)
        for pipe in (self._process.stdin, self._process.stderr):
            if pipe:
                pipe.close()

    def _complaint(self, device_rate: int) -> str:
        now = self._clock()
        if self._heard is not None:
            silent = now - self._heard
            return (
                f"no audio from {self.token} for {silent:.1f} s: it hangs or was unplugged"
                if silent > SILENCE_S
                else ""
            )
        if now - self._born > OPENING_S:
            return f"no audio from {self.token} for {now - self._born:.1f} s: it hangs or was unplugged"
        steps = device_rate, steps_of(self.pid)
        if steps != self._steps:
            self._steps, self._stepped = steps, now
        if now - self._stepped <= STILL_S:
            return ""
        what = "was opened and delivers nothing" if device_rate else "hangs while it is opened"
        return f"{self.token} {what}: nothing has moved for {now - self._stepped:.1f} s; unplug it and plug it in again"

    def _obituary(self, code: int) -> str:
        lines = self._words.decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "it said nothing"
        if code > 0:
            return said
        return f"the process that listens to {self.token} died of signal {-code} ({signal.strsignal(-code)}): {said}"


def steps_of(pid: int) -> int:
    """How often the first thread of a process has waited for something and gone on; 0 when nobody can tell.

    Neither a thread that waits for ever nor one that turns in circles takes such a step.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    steps = re.search(r"^voluntary_ctxt_switches:\s*(\d+)$", status, re.MULTILINE)
    return int(steps[1]) if steps else 0
