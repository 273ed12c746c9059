"""What leaves the device, and how it is carried (``device.md`` section 2.2)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

NAME = re.compile(r"[a-zA-Z0-9_-]+")
"""what nodes, machines and sources may be called; Home Assistant and MQTT allow no more"""


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
    LESSON = "lesson"
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
    MODEL = "model"
    CALIBRATE = "calibrate"


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


def checked_name(name: str) -> str:
    """A name that may stand in a topic.

    Raises:
        ValueError: it holds anything but letters, digits, ``_`` and ``-``.
    """
    if not NAME.fullmatch(name):
        msg = f"the name {name!r} cannot be used in a topic: use letters, digits, _ and -"
        raise ValueError(msg)
    return name
