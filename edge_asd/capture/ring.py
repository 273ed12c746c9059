"""The shared memory between the capture child and the daemon: one writes, one reads, nobody waits.

The ring is a row of slots in an anonymous memory file. A slot holds one stretch of unbroken audio and says itself where
it belongs, so a jump of the index needs no second bookkeeping. Writing slot k gives up slot k - slots.

No numpy here: the writing side runs in a child that stays small.
"""

from __future__ import annotations

import mmap
import os
from threading import Lock
from typing import NamedTuple, Self

WORD = 8  # bytes of a counter; an aligned 64-bit store is never seen half done
SAMPLE = 4  # bytes of a float32

BLOCK, SLOTS, RATE, CHANNELS, BEGUN, DONE = range(6)  # words at the front of the file
HEAD = 8
START, LOST, COUNT = range(3)  # words at the front of each slot
SLOT_HEAD = 3


class Stretch(NamedTuple):
    """Unbroken audio."""

    start: int
    """index of the first sample since the source opened"""
    samples: bytes
    """float32 in the byte order of this machine"""

    @property
    def end(self) -> int:
        """Index of the first sample after it."""
        return self.start + len(self.samples) // SAMPLE


def create(block: int, slots: int) -> int:
    """A new ring, as a file descriptor to hand to the child; it vanishes with the last one who has it.

    Args:
        block: samples that a slot can hold.
        slots: at least 2; the newest of them outlive a reader that sleeps.
    """
    if block < 1 or slots < 2:
        msg = f"need block >= 1 and slots >= 2, got {block} and {slots}"
        raise ValueError(msg)
    ring = os.memfd_create("edge_asd")
    os.truncate(ring, WORD * (HEAD + slots * _slot_words(block)))
    with _Shared(ring) as shared:
        shared.words[BLOCK], shared.words[SLOTS] = block, slots
    return ring


class Writer:
    """The child's end. Never waits; the oldest audio gives way."""

    def __init__(self, ring: int) -> None:
        self._shared = _Shared(ring)
        self._index = self._lost = self._slot = 0

    @property
    def index(self) -> int:
        """Where the next sample goes."""
        return self._index

    def announce(self, rate: int, channels: int = 1) -> None:
        """Say at how many hertz the device runs and how many channels it has: it is open."""
        self._shared.words[CHANNELS] = channels
        self._shared.fence()
        self._shared.words[RATE] = rate

    def write(self, samples: bytes | memoryview) -> None:
        """Append float32 samples that follow the last ones without a gap."""
        octets, most = memoryview(samples).cast("B"), self._shared.block * SAMPLE
        for first in range(0, octets.nbytes, most):
            self._put(octets[first : first + most])

    def jump(self, index: int) -> None:
        """Audio was lost: the next sample is number ``index``."""
        if index < self._index:
            msg = f"time runs forward: cannot go from sample {self._index} to {index}"
            raise ValueError(msg)
        self._lost += index - self._index
        self._index = index

    def close(self) -> None:
        """Let go of the memory."""
        self._shared.close()

    def _put(self, octets: memoryview) -> None:
        words, at, count = self._shared.words, self._shared.place(self._slot), octets.nbytes // SAMPLE
        words[BEGUN] = self._slot + 1
        self._shared.fence()
        words[at + START], words[at + LOST], words[at + COUNT] = self._index, self._lost, count
        first = WORD * (at + SLOT_HEAD)
        self._shared.octets[first : first + octets.nbytes] = octets
        self._shared.fence()
        self._slot += 1
        self._index += count
        words[DONE] = self._slot


class Reader:
    """The daemon's end. Sees every sample once, or counts it as lost."""

    def __init__(self, ring: int) -> None:
        self._shared = _Shared(ring)
        self._slot = self._index = 0
        self.lost_before = 0
        """samples that never reached the ring"""
        self.overwritten = 0
        """samples that were in the ring and gave way before they were read"""

    @property
    def rate(self) -> int:
        """Hertz at which the device runs; 0 until it is open."""
        return self._shared.words[RATE]

    @property
    def channels(self) -> int:
        """How many the device has; 0 until it is open."""
        return self._shared.words[CHANNELS]

    @property
    def index(self) -> int:
        """Where the next sample is expected: behind the newest that was read."""
        return self._index

    @property
    def fill(self) -> float:
        """Share of the slots that are unread; 1 when audio is being lost."""
        return min((self._shared.words[DONE] - self._slot) / self._shared.slots, 1.0)

    def read(self, most: int) -> Stretch | None:
        """What is unread, up to the next gap or about ``most`` samples; None when there is nothing."""
        run: list[Stretch] = []
        while found := self._oldest():
            number, lost, stretch = found
            if run and (stretch.start != run[-1].end or stretch.end - run[0].start > most):
                break
            self._account(number, lost, stretch)
            run.append(stretch)
        return Stretch(run[0].start, b"".join(stretch.samples for stretch in run)) if run else None

    def close(self) -> None:
        """Let go of the memory."""
        self._shared.close()

    def _account(self, number: int, lost: int, stretch: Stretch) -> None:
        self.overwritten += (stretch.start - self._index) - (lost - self.lost_before)
        self._slot, self._index, self.lost_before = number + 1, stretch.end, lost

    def _oldest(self) -> tuple[int, int, Stretch] | None:
        """The oldest unread slot: its number, what had been lost before it, its audio."""
        shared, behind = self._shared, self._shared.slots
        while (done := shared.words[DONE]) > self._slot:
            shared.fence()
            number = max(self._slot, done - behind)
            lost, stretch = self._copy(number)
            shared.fence()
            if number >= shared.words[BEGUN] - shared.slots:
                return number, lost, stretch
            behind = max(1, shared.slots // 2)  # it was overwritten under our hands: stand further off
        return None

    def _copy(self, number: int) -> tuple[int, Stretch]:
        words, at = self._shared.words, self._shared.place(number)
        first, count = WORD * (at + SLOT_HEAD), min(words[at + COUNT], self._shared.block)
        samples = bytes(self._shared.octets[first : first + count * SAMPLE])
        return words[at + LOST], Stretch(words[at + START], samples)


class _Shared:
    """The memory itself, as counters and as octets."""

    def __init__(self, ring: int) -> None:
        self._memory = mmap.mmap(ring, 0)
        self.octets = memoryview(self._memory)
        self.words = self.octets.cast("Q")
        self.block, self.slots = self.words[BLOCK], self.words[SLOTS]
        self._lock = Lock()
        self._lock.acquire()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def place(self, number: int) -> int:
        """The word at which slot ``number`` begins."""
        return HEAD + number % self.slots * _slot_words(self.block)

    def fence(self) -> None:
        """Keep what is stored before in front of what is stored after, for the other process too.

        ARM reorders stores. Python has no fence; a lock handed back and taken again is one.
        """
        self._lock.release()
        self._lock.acquire()

    def close(self) -> None:
        self.words.release()
        self.octets.release()
        self._memory.close()


def _slot_words(block: int) -> int:
    return SLOT_HEAD + -(-block * SAMPLE // WORD)
