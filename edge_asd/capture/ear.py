"""One source kept open: reopened when it fails, with bounded patience, and honest about how it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edge_asd.capture.source import Loss, SourceState
from edge_asd.capture.state import UNSEEN, Condition, Watch, advance
from edge_asd.errors import SourceError
from edge_asd.signal.health import clipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_asd.capture.source import Source
    from edge_asd.signal.profile import Profile
    from edge_asd.signal.segment import Block

BACK_OFF_S = (0.5, 8.0)
"""first and longest wait before a source is opened again; even after the longest it is heard 15 s after it is back"""
HEALTHY_S = 60.0
"""how long a source must deliver before its next failure counts as the first"""
AGE_S = 5.0
"""a live source that has delivered and is quiet for so long hangs; a microphone finds out itself, a little earlier"""


@dataclass(slots=True)
class Ear:
    """A source with a memory. Sample indices never go back, not even when the source is opened again."""

    name: str
    open_source: Callable[[], Source]
    clock: Callable[[], float]
    """seconds, monotonic"""
    rate: int = 16_000
    """hertz"""
    live: bool = False
    """it delivers as fast as time passes, as a microphone does; a recording need not"""
    floor_dbfs: float | None = None
    """level of the room when the machine is off, if somebody has told"""
    baseline: Mapping[str, Profile] = field(default_factory=dict)
    """what was heard here when it was commissioned, by the state of the machine"""
    condition: Condition = field(default_factory=Condition)
    restarts: int = 0
    heard: int = 0
    """index behind the newest sample"""
    fit_from: int = 0
    """index from which audio may be judged; what lies before was unfit in a way that one segment does not show"""
    clipped: int = 0
    """samples at full scale, ever"""
    missing: int = 0
    """samples lost without a word, ever, as the clock has it"""
    ended: bool = False
    loss: Loss = field(default_factory=Loss)
    """of the source that is open now"""
    _source: Source | None = None
    _offset: int = 0
    _retry_at: float = 0.0
    _wait: float = BACK_OFF_S[0]
    _well_since: float | None = None
    _last: float | None = None
    """when the source that is open now delivered last"""
    _watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = self._new_watch()

    @property
    def state(self) -> SourceState:
        """How it is."""
        return self.condition.state

    @property
    def reason(self) -> str:
        """Why."""
        return self.condition.reason

    @property
    def effective_rate(self) -> float:
        """Hertz by the monotonic clock; 0 until it is known, and for what is not live."""
        return self._watch.tempo.effective

    def heed(self, baseline: Mapping[str, Profile]) -> None:
        """Be held to this from now on."""
        self.baseline = self._watch.baseline = baseline

    def fit(self, start: int) -> bool:
        """A clip that began at this sample and is complete now may be scored: the ear was well, and is."""
        return self.state is SourceState.OK and start >= self.fit_from

    @property
    def fill(self) -> float:
        """Share of the source's buffer that is unread, 0 to 1."""
        return self._source.fill if self._source else 0.0

    def read(self) -> Block | None:
        """New audio, if any; opens the source again when its time has come. Never raises."""
        if self.ended:
            self.condition = Condition(SourceState.LOST, "the recording has ended")
            return None
        if self._source is None and self.clock() < self._retry_at:
            return None
        try:
            source = self._source = self._source or self._opened()
            block = source.read()
            self.ended, self.loss = source.ended, source.loss
            self._demand_life(block)
        except SourceError as error:
            self._fail(str(error))
            return None
        return self._heard(block) if block else None

    def close(self) -> None:
        """Let go of the source."""
        if self._source:
            self._source.close()
            self._source = None

    def _opened(self) -> Source:
        self._offset = self.heard + 1 if self.heard else 0  # a jump, so that no clip spans the break
        self._last, self._watch = None, self._new_watch()
        return self.open_source()

    def _new_watch(self) -> Watch:
        return Watch(self.rate, self.live, self.floor_dbfs, self.baseline)

    def _demand_life(self, block: Block | None) -> None:
        now = self.clock()
        if block:
            self._last = now
        elif self.live and self._last is not None and now - self._last > AGE_S:
            msg = f"no audio for {AGE_S:.0f} s: the source hangs"
            raise SourceError(msg)

    def _heard(self, block: Block) -> Block:
        now = self.clock()
        if self._well_since is None:
            self._well_since = now
        if now - self._well_since >= HEALTHY_S:
            self._wait = BACK_OFF_S[0]
        if self.state is SourceState.LOST:
            self.condition = Condition(SourceState.RECOVERING, "audio flows again")
        moved = replace(block, start=block.start + self._offset)
        self.heard = moved.start + moved.samples.size
        self.clipped += clipped(moved.samples)
        for shown in self._watch.push(moved, now):
            self.condition = advance(self.condition, shown)
        self._judge()
        return moved

    def _judge(self) -> None:
        """Say what of the audio so far must not be scored although every segment of it looks well."""
        lost = self._watch.tempo.missing()
        self.missing += lost
        if lost or self.condition.holds(UNSEEN):
            self.fit_from = self.heard

    def _fail(self, reason: str) -> None:
        self.close()
        self.restarts += 1
        self.condition = Condition(SourceState.LOST, reason)
        self._well_since = None
        self._retry_at = self.clock() + self._wait
        self._wait = min(2 * self._wait, BACK_OFF_S[1])
