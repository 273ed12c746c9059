"""One machine that is listened to, and what is remembered of it over a restart."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edge_asd.alarm.alarm import Alarm, resume
from edge_asd.deliver.voice import Standing
from edge_asd.score.queue import Queue

if TYPE_CHECKING:
    from edge_asd.alarm.alarm import Policy
    from edge_asd.capture.ear import Ear
    from edge_asd.deliver.voice import Voice
    from edge_asd.score.clip import ClipScore
    from edge_asd.score.listener import Listener

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""clip lengths without a score before a machine counts as unheard"""
CALM_S = 60.0
"""without a clip shed before a machine counts as followed again"""


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
    threshold: float | None = None
    """set by an operator in its place"""
    alarm: Alarm = field(default_factory=Alarm)
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

    def text(self) -> str:
        """What must survive a restart."""
        since = self.since and self.since.isoformat()
        kept = {"alarm": asdict(self.alarm), "since": since, "raised_by": self.raised_by, "threshold": self.threshold}
        return json.dumps(kept)

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
