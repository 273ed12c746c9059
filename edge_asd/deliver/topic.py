"""Where everything that a node says, and is told, belongs (``device.md`` section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_asd.deliver.message import Kind, Message, Status, checked_name

if TYPE_CHECKING:
    from pydantic import BaseModel

    from edge_asd.deliver.payload import (
        AlarmState,
        Event,
        FloodEvent,
        Health,
        Info,
        LessonState,
        Score,
        Source,
        SourceLevel,
    )

EVERYBODY = "all"
"""stands for every node in a topic"""


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

    def lesson(self, lesson: LessonState) -> Message:
        """What a machine is being taught."""
        return Message(self._topic("machine", lesson.machine, "lesson"), wire(lesson), Kind.LESSON)

    def flood(self, event: FloodEvent) -> Message:
        """What takes the place of many events."""
        return Message(self._topic("event"), wire(event), Kind.EVENT)

    def forgotten(self, machine: str) -> tuple[Message, ...]:
        """Empty, which removes what the broker keeps of a machine that is listened to no more."""
        kinds = (Kind.ALARM, Kind.AVAILABILITY, Kind.LESSON)
        return tuple(Message(self._topic("machine", machine, kind), b"", kind) for kind in kinds)

    def _topic(self, *levels: str) -> str:
        return "/".join([self.root, *map(checked_name, levels)])


def wire(body: BaseModel) -> bytes:
    """As it is sent."""
    return body.model_dump_json(by_alias=True).encode()
