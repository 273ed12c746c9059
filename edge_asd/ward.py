"""One machine that is listened to, and what is remembered of it over a restart."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edge_asd.alarm.alarm import Alarm, resume
from edge_asd.alarm.drift import Chart, Drift
from edge_asd.deliver.voice import Standing
from edge_asd.score.queue import WAIT_S, Queue

if TYPE_CHECKING:
    from edge_asd.alarm.alarm import Policy
    from edge_asd.capture.ear import Ear
    from edge_asd.deliver.payload import Model
    from edge_asd.deliver.voice import Voice
    from edge_asd.score.clip import ClipScore
    from edge_asd.score.listener import Listener

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""clip lengths without a score before a machine counts as unheard"""
CALM_S = 60.0
FLEETING = frozenset({"sum", "sum_start"})
"""of an alarm: not kept, nor known to a version of before that goes on with it"""
"""without a clip shed before a machine counts as followed again"""


@dataclass(frozen=True, slots=True)
class Mind:
    """What a machine is judged by: one head of one bundle."""

    listener: Listener
    model: Model
    threshold: float
    """alarm threshold as configured, or the bundle's"""
    digest: str
    """SHA-256 that the bundle is known by"""
    unsigned: bool
    """nobody vouches for it but who may write to this disk"""
    cusum: bool = False
    """as configured, or where its head knows days"""


@dataclass(slots=True)
class Ward:
    """One machine that is listened to."""

    name: str
    ear: Ear
    listener: Listener
    voice: Voice
    last_scored: float
    """monotonic seconds; the start counts as a score, so that the first clip has its time"""
    own_threshold: float
    """as configured, or the bundle's"""
    digest: str = ""
    """SHA-256 that the bundle is known by"""
    unsigned: bool = False
    """nobody vouches for the bundle but who may write to this disk"""
    threshold: float | None = None
    """set by an operator in its place"""
    alarm: Alarm = field(default_factory=Alarm)
    chart: Chart = field(default_factory=Chart)
    """how a slow change of its scores is found"""
    drift: Drift = field(default_factory=Drift)
    """its scores so far, as the present model has them"""
    since: datetime | None = None
    """beginning of the clips that brought the present condition"""
    raised_by: str | None = None
    """id of the event that raised the present or last alarm"""
    clip: ClipScore | None = None
    """scored last"""
    online: bool | None = None
    """availability as last published"""
    queue: Queue = field(default_factory=Queue)
    """audio whose turn to be scored has not come"""
    failure: str = ""
    """why its last clip could not be scored"""
    unproven: str = ""
    """why it may not be the ear and the bundle that were commissioned; empty when they are, or none was"""
    shed_at: float = -math.inf
    """monotonic seconds at which a clip was last shed"""

    @property
    def policy(self) -> Policy:
        """In force now."""
        return self.voice.policy

    @property
    def standing(self) -> Standing:
        """The alarm with what it does not know itself."""
        return Standing(self.alarm, self.since, self.raised_by, self.clip)

    def heed(self, threshold: float | None) -> None:
        """Judge by this from now on; None: as configured."""
        self.threshold = threshold
        in_force = self.own_threshold if threshold is None else threshold
        self.voice = replace(self.voice, policy=replace(self.policy, threshold=in_force))
        self.listener.alarm = in_force

    @property
    def between(self) -> bool:
        """No clip is in progress."""
        return self.listener.end == self.listener.start

    def adopt(self, mind: Mind, start: int) -> Mind:
        """Be judged by another mind, from the clip on that begins at ``start``; the one until now comes back.

        The alarm stays as it is, and so does a threshold that an operator set. Scores of another model cannot be
        compared with those so far: whether they drift is looked at anew.
        """
        former = Mind(
            self.listener, self.voice.model, self.own_threshold, self.digest, self.unsigned, self.policy.cusum
        )
        self.listener, self.own_threshold = mind.listener, mind.threshold
        self.digest, self.unsigned = mind.digest, mind.unsigned
        self.listener.forget(start)
        self.drift = Drift()
        self.alarm = replace(self.alarm, sum=0.0)
        self.voice = replace(self.voice, model=mind.model, policy=replace(self.policy, cusum=mind.cusum))
        self.heed(self.threshold)
        return former

    def followed(self, now: float) -> bool:
        """The computer has time for more: little waits, and no clip was shed lately."""
        waits = self.queue.samples / self.listener.windows.sample_rate
        return waits <= WAIT_S / 2 and now - self.shed_at >= CALM_S

    def when(self, index: int, now: datetime) -> datetime:
        """Wall time of a sample: now, less the audio heard since; a device's clock may drift for years."""
        since = (self.ear.heard - index) / self.listener.windows.sample_rate
        return datetime.fromtimestamp(now.timestamp() - since, UTC)

    def overdue(self, now: float) -> bool:
        """No clip was scored for too long."""
        windows = self.listener.windows
        return now - self.last_scored > PATIENCE * windows.clip / windows.sample_rate

    def trouble(self, now: float) -> str:
        """What keeps it from being heard though its source is well; empty when nothing does."""
        if self.failure:
            return f"scoring fails: {self.failure}"
        if now - self.shed_at < CALM_S:
            return "this computer is too slow: clips are shed"
        return ""

    @property
    def _judge(self) -> str:
        """Whose scores they are: of the bundle and, as the version tells, of what was learned over it."""
        return f"{self.voice.model.version} {self.digest}"

    def text(self) -> str:
        """What must survive a restart."""
        since = self.since and self.since.isoformat()
        alarm = {name: value for name, value in asdict(self.alarm).items() if name not in FLEETING}
        kept = {"alarm": alarm, "since": since, "raised_by": self.raised_by, "threshold": self.threshold}
        return json.dumps(kept | {"drift": self.drift.kept() | {"of": self._judge}})

    def recall(self, text: str) -> None:
        """Go on where the last daemon stood; clips that argued for a change then are too long ago."""
        try:
            kept = json.loads(text)
            alarm = replace(resume(Alarm(**kept["alarm"])), streak=0)
            since = kept["since"] and datetime.fromisoformat(kept["since"])
            threshold, raised_by = kept["threshold"], kept["raised_by"]
        except (ValueError, TypeError, KeyError) as error:
            log.error("alarm.forgotten", extra={"machine": self.name, "reason": f"its state cannot be read: {error}"})  # noqa: TRY400 - the reason says it
            return
        self.alarm, self.since, self.raised_by = alarm, since, raised_by
        self.heed(threshold)
        self._recall_drift(kept.get("drift") or {})

    def _recall_drift(self, kept: dict[str, Any]) -> None:
        """What was kept of the scores, if they are the present model's; daemons of old kept none."""
        if kept.get("of") != self._judge:
            return
        try:
            self.drift = Drift.recalled(kept)
        except (ValueError, TypeError, KeyError) as error:
            log.warning("drift.forgotten", extra={"machine": self.name, "reason": f"it cannot be read: {error!r}"})
