"""What leaves the device: where it goes, and how it is carried (``device.md`` section 2.2)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

    from edge_asd.deliver.payload import AlarmState, Event, FloodEvent, Health, Info, Score, Source, SourceLevel

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


class Verb(StrEnum):
    """What a node can be asked to do."""

    ACK = "ack"
    RESET = "reset"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    SUPPRESS = "suppress"
    OUT_OF_SERVICE = "out_of_service"
    THRESHOLD = "threshold"
    LABEL = "label"
    SNAPSHOT = "snapshot"
    HEALTH_CHECK = "health_check"
    DISCOVERY = "discovery"
    RESTART = "restart"


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
        return Message(self._topic("info"), wire(info), Kind.INFO)

    def health(self, health: Health) -> Message:
        """How the node itself is."""
        return Message(self._topic("health"), wire(health), Kind.HEALTH)

    def source(self, source: Source) -> Message:
        """How an ear is."""
        return Message(self._topic("source", source.source, "state"), wire(source), Kind.SOURCE)

    def level(self, level: SourceLevel) -> Message:
        """How loud it is at an ear."""
        return Message(self._topic("source", level.source, "level"), wire(level), Kind.LEVEL)

    def score(self, score: Score) -> Message:
        """What a clip sounded like."""
        return Message(self._topic("machine", score.machine, "score"), wire(score), Kind.SCORE)

    def alarm(self, alarm: AlarmState) -> Message:
        """The alarm as it stands."""
        return Message(self._topic("machine", alarm.machine, "alarm"), wire(alarm), Kind.ALARM)

    def event(self, event: Event) -> Message:
        """One transition, or one thing done about an alarm."""
        return Message(self._topic("machine", event.machine, "event"), wire(event), Kind.EVENT)

    def flood(self, event: FloodEvent) -> Message:
        """What takes the place of many events."""
        return Message(self._topic("event"), wire(event), Kind.EVENT)

    def forgotten(self, machine: str) -> tuple[Message, Message]:
        """Empty, which removes what the broker keeps of a machine that is listened to no more."""
        alarm, availability = self._topic("machine", machine, "alarm"), self._topic("machine", machine, "availability")
        return Message(alarm, b"", Kind.ALARM), Message(availability, b"", Kind.AVAILABILITY)

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


def wire(body: BaseModel) -> bytes:
    """As it is sent."""
    return body.model_dump_json(by_alias=True).encode()
