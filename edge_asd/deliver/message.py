"""What leaves the device: topics and payloads, the contract that people build on (``device.md`` section 2).

Field names are snake_case, a ``schema`` string names each shape, and changes are additive. Numbers are finite, times
are UTC. Wall time is an argument: nothing here looks at a clock.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from edge_asd.alarm.alarm import Transition
from edge_asd.capture.source import SourceState

if TYPE_CHECKING:
    from edge_asd.alarm.alarm import Alarm, Policy
    from edge_asd.score.clip import ClipScore

NAME = re.compile(r"[a-zA-Z0-9_-]+")
"""what nodes, machines and sources may be called; Home Assistant and MQTT allow no more"""

EVERYBODY = "all"
"""stands for every node in a topic"""


class Kind(StrEnum):
    """What a message is about; its delivery follows from it."""

    STATUS = "status"
    INFO = "info"
    HEALTH = "health"
    SOURCE = "source"
    LEVEL = "level"
    AVAILABILITY = "availability"
    SCORE = "score"
    ALARM = "alarm"
    EVENT = "event"
    REPLY = "reply"
    DISCOVERY = "discovery"

    @property
    def retained(self) -> bool:
        """The broker keeps the last one: state, never an event, a measurement or an answer."""
        return self not in {Kind.LEVEL, Kind.SCORE, Kind.EVENT, Kind.REPLY}

    @property
    def queued(self) -> bool:
        """Waits in the outbox while the broker is away; state is said anew, the rest is of use now or never."""
        return self in {Kind.EVENT, Kind.SCORE}

    @property
    def qos(self) -> int:
        """What comes again within a minute may be lost, nothing else. QoS 2 buys nothing: events carry an id."""
        return 0 if self in {Kind.LEVEL, Kind.HEALTH} else 1

    @property
    def expiry_s(self) -> int | None:
        """Seconds that a broker (MQTT 5) keeps it for a subscriber that is away; None: for as long as it likes."""
        return {Kind.SCORE: 3600, Kind.LEVEL: 60, Kind.REPLY: 60}.get(self)


class Status(StrEnum):
    """How a node is; ``offline`` is its last will."""

    ONLINE = "online"
    OFFLINE = "offline"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Message:
    """One publication, ready for the wire."""

    topic: str
    payload: bytes
    kind: Kind
    correlation: bytes | None = None
    """given back to who asked (MQTT 5)"""

    def late(self) -> Message:
        """The same, marked as replayed: it must not overwrite a live value."""
        body = json.loads(self.payload) | {"late": True}
        return replace(self, payload=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())


def rfc3339(moment: datetime) -> str:
    """UTC to the millisecond, ending in Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Payloads -------------------------------------------------------------------------------------------------------------

Moment = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]


class _Shape(BaseModel):
    """Frozen, closed, finite: what is not in the contract cannot be sent."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Model(_Shape):
    """Which bundle speaks, and what computes it."""

    id: str
    version: str
    backend: str
    precision: str


class _Head(_Shape):
    """What every message of a machine begins with."""

    node: Name
    machine: Name
    source: Name
    id: str
    """unique for ever; consumers drop repeats by it"""
    seq: int
    """counts scores, and events, since the daemon started; a gap is a loss. An alarm bears that of its event"""
    boot_id: str
    """differs after every start of the daemon"""
    ts: Moment
    """end of the clip it speaks of"""
    clock_synced: bool
    late: bool = False
    """replayed after the broker was away"""


class Score(_Head):
    """What one clip sounded like."""

    shape: Literal["edge_asd.score/1"] = Field(default="edge_asd.score/1", alias="schema")
    clip_seconds: float
    segments: int
    segments_valid: int
    score: float
    """surprise: -log10 of the probability that a normal clip sounds as strange"""
    threshold: float
    health_index: int
    segment_scores: tuple[float, ...]
    level_dbfs: float
    parts: dict[str, float]
    """how unusual each part of the evidence is, standard deviations"""
    model: Model


class Condition(_Shape):
    """The alarm as it stands, in OPC UA Part 9 words."""

    state: Literal["normal", "active_unacked", "active_acked", "rtn_unacked", "latched_unacked", "latched_acked"]
    active: bool
    acked: bool = False
    latched: bool = False
    suppression: Literal["none", "shelved", "by_design", "out_of_service"] = "none"
    since: Moment | None
    """beginning of the clips that brought this state; null before the first alarm"""
    repeat_count: int
    """alarms raised since the daemon started"""


class Evidence(_Shape):
    """What the alarm rests on."""

    score: float
    threshold: float
    deadband: float
    on_delay_seconds: float
    clips_over: int
    health_index: int
    level_dbfs: float
    segment_scores: tuple[float, ...]
    parts: dict[str, float]


class AlarmState(_Head):
    """The alarm of a machine, retained: what a subscriber that comes late must know."""

    shape: Literal["edge_asd.alarm/1"] = Field(default="edge_asd.alarm/1", alias="schema")
    alarm_id: str | None
    """id of the event that raised the present or last alarm"""
    alarm: Condition
    evidence: Evidence | None
    """null until a clip changed the alarm"""
    model: Model


class Event(_Head):
    """One transition of an alarm: never retained, never lost."""

    shape: Literal["edge_asd.event/1"] = Field(default="edge_asd.event/1", alias="schema")
    event: Transition
    alarm_id: str
    alarm: Condition
    evidence: Evidence
    model: Model


class Device(_Shape):
    """The microphone behind a source."""

    token: str
    name: str


class Source(_Shape):
    """How an ear is, and why; retained."""

    shape: Literal["edge_asd.source/1"] = Field(default="edge_asd.source/1", alias="schema")
    node: Name
    source: Name
    state: SourceState
    reason: str
    since: Moment
    device: Device
    sample_rate_hz: int
    restarts: int


class Info(_Shape):
    """What runs here; retained."""

    shape: Literal["edge_asd.info/1"] = Field(default="edge_asd.info/1", alias="schema")
    node: Name
    boot_id: str
    ts: Moment
    """when the daemon started"""
    version: str
    machines: dict[Name, Model]
    sources: tuple[Name, ...]


# Builders -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stamp:
    """When and as which message something is said."""

    boot_id: str
    seq: int
    ts: datetime
    clock_synced: bool


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

    def alarm(self, stamp: Stamp, alarm: Alarm, since: datetime | None) -> AlarmState:
        """The alarm before any clip changed it."""
        condition = self._condition(alarm, since)
        return AlarmState(**self._head(stamp, "alarm"), alarm_id=None, alarm=condition, evidence=None, model=self.model)

    def transition(
        self,
        stamp: Stamp,
        transition: Transition,
        alarm: Alarm,
        since: datetime,
        clip: ClipScore,
        raised_by: str | None = None,
    ) -> tuple[Event, AlarmState]:
        """The event of a transition, and the retained alarm after it.

        Args:
            stamp: of the event; both messages carry it.
            transition: what ``clip`` did.
            alarm: the state after it.
            since: wall time of ``alarm.since``.
            clip: the clip that changed it.
            raised_by: for a return, ``alarm_id`` of the activation that it ends.
        """
        head = self._head(stamp, "event")
        body: dict[str, Any] = {
            "alarm_id": raised_by if raised_by and transition is Transition.RETURNED else head["id"],
            "alarm": self._condition(alarm, since),
            "evidence": self._evidence(alarm, clip),
            "model": self.model,
        }
        return Event(**head, event=transition, **body), AlarmState(**head, **body)

    def _head(self, stamp: Stamp, kind: str) -> dict[str, Any]:
        return {
            "node": self.node,
            "machine": self.machine,
            "source": self.source,
            "id": f"{stamp.boot_id}-{kind}-{stamp.seq}",
            "seq": stamp.seq,
            "boot_id": stamp.boot_id,
            "ts": stamp.ts,
            "clock_synced": stamp.clock_synced,
        }

    @staticmethod
    def _condition(alarm: Alarm, since: datetime | None) -> Condition:
        state: Literal["active_unacked", "normal"] = "active_unacked" if alarm.active else "normal"
        return Condition(state=state, active=alarm.active, since=since, repeat_count=alarm.count)

    def _evidence(self, alarm: Alarm, clip: ClipScore) -> Evidence:
        return Evidence(
            score=clip.surprise,
            threshold=self.policy.threshold,
            deadband=self.policy.deadband,
            on_delay_seconds=self.policy.on_delay * self.clip / self.sample_rate,
            clips_over=alarm.clips_over,
            health_index=clip.health_index,
            level_dbfs=clip.level_dbfs,
            segment_scores=clip.segment_scores,
            parts={part.name: part.z for part in clip.parts},
        )


# Topics ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Topics:
    """Where everything a node says, and is told, belongs."""

    node: str
    base: str = "edge_asd"
    """levels in front, joined by slashes"""

    def __post_init__(self) -> None:
        for level in [*self.base.split("/"), self.node]:
            checked_name(level)
        if self.node == EVERYBODY:
            msg = f"no node can be called {EVERYBODY!r}: it means every node; choose another name"
            raise ValueError(msg)

    @property
    def root(self) -> str:
        """What all topics of the node begin with."""
        return f"{self.base}/v1/{self.node}"

    @property
    def commands(self) -> tuple[str, ...]:
        """Filters to subscribe to: commands to this node, and the roll call."""
        return f"{self.root}/cmd/+", self.roll_call

    @property
    def roll_call(self) -> str:
        """The one command that every node answers."""
        return f"{self.base}/v1/{EVERYBODY}/cmd/health_check"

    @property
    def replies(self) -> str:
        """What the topic of every answer begins with."""
        return f"{self.root}/rsp/"

    @property
    def probe(self) -> str:
        """Where a connection is tried."""
        return f"{self.root}/probe"

    def status(self, status: Status) -> Message:
        """How the node is."""
        return Message(self._topic("status"), status.encode(), Kind.STATUS)

    def availability(self, machine: str, *, online: bool) -> Message:
        """Whether a machine is heard: valid audio, a model, a clip scored lately."""
        payload = (Status.ONLINE if online else Status.OFFLINE).encode()
        return Message(self._topic("machine", machine, "availability"), payload, Kind.AVAILABILITY)

    def info(self, info: Info) -> Message:
        """What runs on the node."""
        return Message(self._topic("info"), _wire(info), Kind.INFO)

    def source(self, source: Source) -> Message:
        """How an ear is."""
        return Message(self._topic("source", source.source, "state"), _wire(source), Kind.SOURCE)

    def score(self, score: Score) -> Message:
        """What a clip sounded like."""
        return Message(self._topic("machine", score.machine, "score"), _wire(score), Kind.SCORE)

    def alarm(self, alarm: AlarmState) -> Message:
        """The alarm as it stands."""
        return Message(self._topic("machine", alarm.machine, "alarm"), _wire(alarm), Kind.ALARM)

    def event(self, event: Event) -> Message:
        """One transition."""
        return Message(self._topic("machine", event.machine, "event"), _wire(event), Kind.EVENT)

    def _topic(self, *levels: str) -> str:
        return "/".join([self.root, *map(checked_name, levels)])


def checked_name(name: str) -> str:
    """A name that may stand in a topic.

    Raises:
        ValueError: it holds anything but letters, digits, ``_`` and ``-``.
    """
    if not NAME.fullmatch(name):
        msg = f"the name {name!r} cannot be used in a topic: use letters, digits, _ and -"
        raise ValueError(msg)
    return name


def _wire(body: BaseModel) -> bytes:
    return body.model_dump_json(by_alias=True).encode()
