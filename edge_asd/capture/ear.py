"""One source kept open: reopened when it fails, with bounded patience, and honest about how it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edge_asd.capture.source import Loss, SourceState
from edge_asd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_asd.capture.source import Source
    from edge_asd.signal.segment import Block

BACK_OFF_S = (0.5, 8.0)
"""first and longest wait before a source is opened again; even after the longest it is heard 15 s after it is back"""
HEALTHY_S = 60.0
"""how long a source must deliver before its next failure counts as the first"""


@dataclass(slots=True)
class Ear:
    """A source with a memory. Sample indices never go back, not even when the source is opened again."""

    name: str
    open_source: Callable[[], Source]
    clock: Callable[[], float]
    """seconds, monotonic"""
    state: SourceState = SourceState.RECOVERING
    reason: str = "starting"
    restarts: int = 0
    heard: int = 0
    """index behind the newest sample"""
    ended: bool = False
    loss: Loss = field(default_factory=Loss)
    """of the source that is open now"""
    _source: Source | None = None
    _offset: int = 0
    _retry_at: float = 0.0
    _wait: float = BACK_OFF_S[0]
    _well_since: float | None = None

    def read(self) -> Block | None:
        """New audio, if any; opens the source again when its time has come. Never raises."""
        if self.ended:
            self.declare(SourceState.LOST, "the recording has ended")
            return None
        if self._source is None and self.clock() < self._retry_at:
            return None
        try:
            source = self._source = self._source or self._opened()
            block = source.read()
            self.ended, self.loss = source.ended, source.loss
        except SourceError as error:
            self._fail(str(error))
            return None
        return self._heard(block) if block else None

    def declare(self, state: SourceState, reason: str) -> None:
        """What the audio itself says of the source."""
        self.state, self.reason = state, reason

    def close(self) -> None:
        """Let go of the source."""
        if self._source:
            self._source.close()
            self._source = None

    def _opened(self) -> Source:
        self._offset = self.heard + 1 if self.heard else 0  # a jump, so that no clip spans the break
        return self.open_source()

    def _heard(self, block: Block) -> Block:
        if self._well_since is None:
            self._well_since = self.clock()
        if self.clock() - self._well_since >= HEALTHY_S:
            self._wait = BACK_OFF_S[0]
        if self.state in {SourceState.LOST, SourceState.RECOVERING}:
            self.declare(SourceState.OK, "audio flows")
        moved = replace(block, start=block.start + self._offset)
        self.heard = moved.start + moved.samples.size
        return moved

    def _fail(self, reason: str) -> None:
        self.close()
        self.restarts += 1
        self.declare(SourceState.LOST, reason)
        self._well_since = None
        self._retry_at = self.clock() + self._wait
        self._wait = min(2 * self._wait, BACK_OFF_S[1])
