"""Audio that waits for its turn to be scored. When too much of it waits, whole clips are shed and counted.

A clip takes as long to score as it takes, and capture never waits for it. So what a slow computer cannot follow must
go: never a part of a clip, for the rest of it would be worthless, but the clip after the one in progress, from its
first sample to its last. What waits is thus at most a clip and ``WAIT_S``, however slow the computer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from edge_asd.signal.segment import Block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_asd.score.listener import Listener

WAIT_S = 5.0
"""seconds of audio that may wait behind the clip in progress; more, and the clip that they belong to is shed"""


class Piece(NamedTuple):
    """Unbroken audio, and when it was heard."""

    block: Block
    heard_at: float
    """monotonic seconds at which its last sample was heard"""

    @property
    def start(self) -> int:
        """Index of its first sample."""
        return self.block.start

    @property
    def end(self) -> int:
        """Index behind its last sample."""
        return self.block.start + self.block.samples.size

    def part(self, start: int, end: int, rate: int) -> Piece:
        """What lies between two indices; maybe empty."""
        start, end = max(start, self.start), min(end, self.end)
        samples = self.block.samples[start - self.start : max(end - self.start, 0)]
        return Piece(Block(start, samples), self.heard_at - (self.end - end) / rate)


@dataclass(slots=True)
class Queue:
    """What one machine has yet to hear, oldest first."""

    samples: int = 0
    """that wait"""
    _pieces: deque[Piece] = field(default_factory=deque)
    _from: int = 0
    _to: int = 0
    """indices between which everything is thrown away"""

    def push(self, piece: Piece, listener: Listener) -> int:
        """Let it wait for ``listener``; how many clips were shed because too much does."""
        rate, shed = listener.windows.sample_rate, 0
        self._keep(piece, rate)
        while self._beyond(listener) > WAIT_S * rate:
            self._shed(listener)
            shed += 1
        return shed

    def pop(self, listener: Listener) -> Piece | None:
        """What ``listener`` should hear now, to its next check at most; None when nothing waits."""
        rate = listener.windows.sample_rate
        if self._pieces and self._pieces[0].start < self._to and self._begins(listener):
            self._throw_away(0, self._to, rate)  # the rest of a clip that broke off, with the one behind it shed
        if not self._pieces:
            return None
        piece = self._pieces.popleft()
        wanted = listener.windows.segment if self._gap(piece, listener) else listener.wanted
        first, rest = (
            piece.part(*span, rate) for span in ((0, piece.start + wanted), (piece.start + wanted, piece.end))
        )
        if rest.block.samples.size:
            self._pieces.appendleft(rest)
        self.samples -= first.block.samples.size
        return first

    def skip(self, end: int, listener: Listener) -> None:
        """Throw away what waits or will come before this index."""
        self._throw_away(0, max(end, self._to), listener.windows.sample_rate)

    def _beyond(self, listener: Listener) -> int:
        """Samples that wait behind the clip in progress."""
        if not self._pieces:
            return 0
        return self.samples - max(self._next_clip(listener) - self._pieces[0].start, 0)

    def _shed(self, listener: Listener) -> None:
        clip = listener.windows.clip
        if self._pieces[0].start < self._to:
            start, end = self._from, self._to + clip
        else:
            start = self._next_clip(listener)
            end = start + clip
        self._throw_away(start, end, listener.windows.sample_rate)

    def _next_clip(self, listener: Listener) -> int:
        """Where the clip after the one in progress begins, or began to be shed."""
        oldest = self._pieces[0]
        if oldest.start < self._to:
            return self._from
        return oldest.start if self._begins(listener) else listener.start + listener.windows.clip

    def _begins(self, listener: Listener) -> bool:
        """Whether the oldest that waits begins a clip."""
        return listener.end == listener.start or self._gap(self._pieces[0], listener)

    def _gap(self, piece: Piece, listener: Listener) -> bool:
        return piece.start != listener.end

    def _throw_away(self, start: int, end: int, rate: int) -> None:
        self._from, self._to = start, end
        waiting, self._pieces, self.samples = self._pieces, deque(), 0
        for piece in waiting:
            self._keep(piece, rate)

    def _keep(self, piece: Piece, rate: int) -> None:
        for part in self._outside(piece, rate):
            self._pieces.append(part)
            self.samples += part.block.samples.size

    def _outside(self, piece: Piece, rate: int) -> Iterator[Piece]:
        if piece.end <= self._from or piece.start >= self._to:
            yield piece
            return
        for start, end in ((piece.start, self._from), (self._to, piece.end)):
            if start < end:
                yield piece.part(start, end, rate)
