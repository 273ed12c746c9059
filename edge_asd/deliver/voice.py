"""Who says what: payloads from what a node hears and what is done about it.

Wall time is an argument: nothing here looks at a clock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from edge_asd.alarm.alarm import Transition
from edge_asd.deliver.payload import (
    AlarmState,
    Condition,
    Drifted,
    Event,
    Evidence,
    FloodEvent,
    Labelled,
    Model,
    Notice,
    Score,
    SourceLevel,
    ThresholdSet,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_asd.alarm.alarm import Alarm, Policy
    from edge_asd.alarm.drift import Shift
    from edge_asd.alarm.flood import FloodNotice
    from edge_asd.score.clip import ClipScore
    from edge_asd.signal.level import Level


@dataclass(frozen=True, slots=True)
class Stamp:
    """When and as which message something is said."""

    boot_id: str
    seq: int
    """of the score, or of the event"""
    ts: datetime
    clock_synced: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """An alarm as it stands, with what the alarm itself does not know."""

    alarm: Alarm
    since: datetime | None = None
    """wall time of ``alarm.since``, also of an alarm that outlived a restart"""
    raised_by: str | None = None
    """id of the event that raised the present or last alarm"""
    clip: ClipScore | None = None
    """the latest; None before the first since the daemon started"""


@dataclass(frozen=True, slots=True)
class Act:
    """Who did something, and why; of what a clip did, nothing is known."""

    by: str | None = None
    comment: str | None = None
    transaction: str | None = None


NOBODY = Act()


@dataclass(frozen=True, slots=True)
class Voice:
    """One machine of a node, with what stays the same in all it says."""

    node: str
    machine: str
    source: str
    model: Model
    sample_rate: int
    """hertz"""
    clip: int
    """samples of a whole clip"""
    policy: Policy

    def score(self, stamp: Stamp, clip: ClipScore) -> Score:
        """What a clip sounded like."""
        return Score(
            **self._head(stamp, "score"),
            seq=stamp.seq,
            clip_seconds=clip.samples / self.sample_rate,
            segments=len(clip.segment_scores),
            segments_valid=len(clip.segment_scores),
            score=clip.surprise,
            threshold=self.policy.threshold,
            health_index=clip.health_index,
            segment_scores=clip.segment_scores,
            level_dbfs=clip.level_dbfs,
            parts={part.name: part.z for part in clip.parts},
            model=self.model,
        )

    def alarm(self, stamp: Stamp, standing: Standing) -> AlarmState:
        """The alarm as the daemon finds it at its start, without an event."""
        return AlarmState(**self._head(stamp, "alarm"), **self._body(stamp, standing, standing.raised_by))

    def transition(
        self, stamp: Stamp, transition: Transition, standing: Standing, act: Act = NOBODY
    ) -> tuple[Event, AlarmState]:
        """The event of a transition, and the retained alarm after it.

        Args:
            stamp: of the event; both messages carry it.
            transition: what happened.
            standing: the alarm after it. An activation begins an episode: ``raised_by`` is not looked at, and
                ``alarm_id`` of the event is what to remember in its place.
            act: who did it; nobody, when a clip or time did.
        """
        head = self._head(stamp, "event")
        raised_by = head["id"] if transition is Transition.ACTIVATED else standing.raised_by
        body = self._body(stamp, standing, raised_by)
        return Event(**head, **body, event=transition, **asdict(act)), AlarmState(**head, **body)

    def threshold(self, stamp: Stamp, standing: Standing, act: Act, *, own: bool) -> Event:
        """Another threshold is in force: the policy's."""
        detail = ThresholdSet(threshold=self.policy.threshold, own=own)
        return self._notice(stamp, standing, Notice.THRESHOLD, detail, act)

    def label(self, stamp: Stamp, standing: Standing, act: Act, label: Labelled) -> Event:
        """An alarm was judged."""
        return self._notice(stamp, standing, Notice.LABELLED, label, act)

    def drift(self, stamp: Stamp, standing: Standing, shift: Shift) -> Event:
        """The scores have changed slowly, or are again as they were."""
        detail = Drifted(
            quantity=shift.quantity,
            before=shift.before,
            spread=shift.spread,
            now=shift.now,
            days=shift.days,
            advice=shift.advice,
        )
        return self._notice(stamp, standing, Notice.DRIFTED if shift.begins else Notice.SETTLED, detail)

    def _notice(
        self,
        stamp: Stamp,
        standing: Standing,
        event: Notice,
        detail: ThresholdSet | Labelled | Drifted,
        act: Act = NOBODY,
    ) -> Event:
        body = self._body(stamp, standing, standing.raised_by)
        return Event(**self._head(stamp, "event"), **body, event=event, detail=detail, **asdict(act))

    def _head(self, stamp: Stamp, kind: str) -> dict[str, Any]:
        return _said(self.node, stamp, kind) | {"machine": self.machine, "source": self.source}

    def _body(self, stamp: Stamp, standing: Standing, raised_by: str | None) -> dict[str, Any]:
        return {
            "event_seq": stamp.seq,
            "alarm_id": raised_by,
            "alarm": self.condition(standing, stamp.ts),
            "evidence": self.evidence(standing.alarm, standing.clip) if standing.clip else None,
            "model": self.model,
        }

    def condition(self, standing: Standing, now: datetime) -> Condition:
        """The alarm as it stands, in the words of the contract."""
        alarm = standing.alarm
        return Condition(
            state=alarm.state,
            active=alarm.active,
            acked=alarm.acked,
            latched=alarm.latched,
            suppression=alarm.suppression,
            shelved_until=None if alarm.shelved_s is None else now + timedelta(seconds=alarm.shelved_s),
            one_shot=alarm.one_shot,
            by_design=alarm.by_design,
            out_of_service=alarm.out_of_service,
            priority=self.policy.priority,
            chattering=alarm.chattering,
            since=standing.since,
            repeat_count=alarm.count,
        )

    def evidence(self, alarm: Alarm, clip: ClipScore) -> Evidence:
        """What a clip sounded like, and how it was judged."""
        return Evidence(
            score=clip.surprise,
            threshold=self.policy.threshold,
            deadband=self.policy.deadband,
            on_delay_seconds=self.policy.on_delay * self.clip / self.sample_rate,
            clips_over=alarm.clips_over,
            sum=alarm.sum if self.policy.cusum else None,
            sum_limit=self.policy.limit if self.policy.cusum else None,
            health_index=clip.health_index,
            level_dbfs=clip.level_dbfs,
            segment_scores=clip.segment_scores,
            parts={part.name: part.z for part in clip.parts},
            bands={str(hertz): share for hertz, share in clip.why.bands.items()},
            indicators=clip.why.indicators,
            nearest=clip.why.nearest,
            words=(*self._for_long(alarm), *clip.why.words),
        )

    def _for_long(self, alarm: Alarm) -> Iterator[str]:
        """What no part of a single clip can say."""
        if self.policy.cusum and alarm.sum > self.policy.limit / 2:
            yield f"a little strange for long: sum {alarm.sum:.1f}, an alarm from {self.policy.limit:.1f} on"


def flood_event(node: str, stamp: Stamp, notice: FloodNotice) -> FloodEvent:
    """A flood of alarms on a node."""
    return FloodEvent(
        **_said(node, stamp, "event"),
        event_seq=stamp.seq,
        event=notice.stage,
        machines=dict(notice.counts),
        held=notice.held,
    )


def source_level(node: str, source: str, ts: datetime, level: Level, *, clock_synced: bool) -> SourceLevel:
    """How loud it is at an ear."""
    return SourceLevel(node=node, source=source, ts=ts, clock_synced=clock_synced, **asdict(level))


def _said(node: str, stamp: Stamp, kind: str) -> dict[str, Any]:
    return {
        "node": node,
        "id": f"{stamp.boot_id}-{kind}-{stamp.seq}",
        "boot_id": stamp.boot_id,
        "ts": stamp.ts,
        "clock_synced": stamp.clock_synced,
    }
