"""Home Assistant finds a node and its machines by itself (``device.md`` section 2.6).

One device for each machine and one for the node, each in one retained message. Ids hold a colon, which no name can:
node ``a_b`` with machine ``c`` is never taken for node ``a`` with machine ``b_c``. What belongs to the sound of a
machine vanishes with it; what is needed just when the sound is missing, the microphone's fault and the operator's
buttons, vanishes only with the node.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from edge_asd.alarm.alarm import State, Suppression, Transition
from edge_asd.alarm.flood import FloodStage
from edge_asd.deliver.command import ALLOWED, Teaching
from edge_asd.deliver.message import Kind, Message, Verb, checked_name
from edge_asd.deliver.payload import LessonStage, Notice

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from edge_asd.deliver.payload import Health
    from edge_asd.deliver.topic import Topics

Component: TypeAlias = dict[str, Any]

SENDER = "home_assistant"
ALIVE = "{{ 'online' if value == 'online' else 'offline' }}"
ANOMALY = (
    "{{ 'ON' if (value_json.alarm.active or value_json.alarm.latched) "
    "and value_json.alarm.suppression == 'none' else 'OFF' }}"
)
EVENT = (
    "{{ {'event_type': value_json.event, 'id': value_json.id, 'alarm_id': value_json.alarm_id, "
    "'state': value_json.alarm.state, 'score': value_json.evidence.score if value_json.evidence else none, "
    "'by': value_json.by, 'comment': value_json.comment, 'ts': value_json.ts, 'late': value_json.late} | tojson }}"
)
FLOOD = (
    "{{ {'event_type': value_json.event, 'id': value_json.id, 'machines': value_json.machines, "
    "'ts': value_json.ts, 'late': value_json.late} | tojson }}"
)
NOW = "{{ utcnow().isoformat() }}"
EXPIRY_S, EXPIRY_CLIPS = 120, 6
"""how long a score counts as the present one: two minutes, or six clips where those last longer"""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What Home Assistant is told of a node. Announce the node first: its machines refer to it."""

    topics: Topics
    version: str
    """of edge_asd"""
    allowed: Collection[Verb] = ALLOWED
    """verbs that get a button; one that gets none is taken away where it was"""
    prefix: str = "homeassistant"
    """Home Assistant's discovery prefix, levels joined by slashes"""

    def __post_init__(self) -> None:
        for level in self.prefix.split("/"):
            checked_name(level)

    @property
    def birth(self) -> str:
        """Where Home Assistant says ``online``: then wait up to five seconds, by chance, and announce everything."""
        return f"{self.prefix}/status"

    def node(self, sources: Iterable[str], health: Health) -> Message:
        """The node as a device, with a microphone for each source and what ``health`` shows to be measured."""
        topic = self.topics.health(health).topic
        components = _node_health(topic, health)
        components |= {f"microphone_{name}": self._microphone(name) for name in sources}
        components["flood"] = _event("Alarm flood", self.topics.root + "/event", FLOOD, [*FloodStage])
        components["announce"] = self._button("Announce again", Verb.DISCOVERY, {})
        components["restart"] = self._timed_button("Restart", Verb.RESTART) | {"device_class": "restart"}
        alive = [self._alive()]
        components = {name: {"availability": alive, **component} for name, component in components.items()}
        components["status"] = {
            **_binary("Status", f"{self.topics.root}/status", "{{ 'ON' if value == 'online' else 'OFF' }}"),
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "availability": [],  # it must be seen just when the node is not
        }
        return self._device(None, {"name": self.topics.node, "model": "Node"}, components)

    def machine(self, machine: str, source: str, clip_seconds: float) -> Message:
        """A machine as a device."""
        available = self.topics.availability(machine, online=True).topic
        heard = {"availability": [self._alive(), {"topic": available}], "availability_mode": "all"}
        alive = {"availability": [self._alive()]}
        root = f"{self.topics.root}/machine/{machine}"
        components = {key: {**heard, **part} for key, part in _sound(root, clip_seconds).items()}
        rest = _alarm(root) | {"microphone": self._microphone(source)} | self._acts(machine, root)
        components |= {key: {**alive, **part} for key, part in rest.items()}
        name = f"{self.topics.node} {machine}"
        device = {"name": name, "model": "Acoustic monitor", "via_device": self._identifier(None)}
        return self._device(machine, device, components)

    def removed(self, machine: str) -> Message:
        """Take away the device of a machine that is listened to no more."""
        return Message(self._topic(machine), b"", Kind.DISCOVERY)

    # What is done

    def _acts(self, machine: str, root: str) -> dict[str, Component]:
        """What an operator may press."""
        config = {"entity_category": "config"}
        of = {"machine": machine}
        return {
            "ack": self._button("Acknowledge", Verb.ACK, of),
            "reset": self._button("Reset", Verb.RESET, of),
            "shelve": self._button("Shelve 60 min", Verb.SHELVE, of | {"minutes": 60}) | config,
            "unshelve": self._button("Unshelve", Verb.UNSHELVE, of) | config,
            "true_alarm": self._button("True alarm", Verb.LABEL, of | {"verdict": True}) | config,
            "false_alarm": self._button("False alarm", Verb.LABEL, of | {"verdict": False}) | config,
            "snapshot": self._button("Keep sound", Verb.SNAPSHOT, of) | config,
            "suppress": self._switch("Machine is off", Verb.SUPPRESS, machine, f"{root}/alarm", "by_design"),
            "out_of_service": self._switch(
                "Out of service", Verb.OUT_OF_SERVICE, machine, f"{root}/alarm", "out_of_service"
            ),
            "threshold": self._threshold(machine, root),
            "learn": self._lesson_button("Learn 30 min", machine, Teaching.START),
            "commit": self._lesson_button("Use what was learned", machine, Teaching.COMMIT),
            "undo": self._lesson_button("Undo learning", machine, Teaching.UNDO),
            "lesson": self._lesson(root),
        }

    def _button(self, name: str, verb: Verb, body: Component) -> Component:
        payload = json.dumps(body | {"by": SENDER})
        return self._command("button", verb, {"name": name, "payload_press": payload})

    def _timed_button(self, name: str, verb: Verb) -> Component:
        return self._command("button", verb, {"name": name, "command_template": _timed({})})

    def _lesson_button(self, name: str, machine: str, action: Teaching) -> Component:
        template = _timed({"machine": machine, "action": action})
        settings = {"name": name, "command_template": template, "entity_category": "config"}
        return self._command("button", Verb.CALIBRATE, settings)

    def _lesson(self, root: str) -> Component:
        """How far it is; nothing where none can be ordered."""
        if Verb.CALIBRATE not in self.allowed:
            return {"platform": "sensor"}
        topic = f"{root}/lesson"
        diagnostic = {"state_topic": topic, "json_attributes_topic": topic, "entity_category": "diagnostic"}
        words = {"device_class": "enum", "options": [*LessonStage]}
        return _sensor("Lesson", "{{ value_json.stage }}") | words | diagnostic

    def _switch(self, name: str, verb: Verb, machine: str, state: str, flag: str) -> Component:
        settings = {
            "name": name,
            "state_topic": state,
            "value_template": f"{{{{ 'true' if value_json.alarm.{flag} else 'false' }}}}",
            "payload_on": "true",
            "payload_off": "false",
            "command_template": _timed({"machine": machine, "on": "{{ value }}"}),
            "entity_category": "config",
        }
        return self._command("switch", verb, settings)

    def _threshold(self, machine: str, root: str) -> Component:
        settings = {
            "name": "Threshold",
            "state_topic": f"{root}/score",
            "value_template": "{{ value_json.threshold }}",
            "command_template": _timed({"machine": machine, "value": "{{ value }}"}),
            "min": 0.1,
            "max": 100,
            "step": 0.1,
            "mode": "box",
            "entity_category": "config",
        }
        return self._command("number", Verb.THRESHOLD, settings)

    def _command(self, platform: str, verb: Verb, settings: Component) -> Component:
        """Something to press; only its platform, which takes it away, where the verb is not allowed."""
        if verb not in self.allowed:
            return {"platform": platform}
        return {"platform": platform, "command_topic": f"{self.topics.root}/cmd/{verb}", **settings}

    # What is seen

    def _microphone(self, source: str) -> Component:
        template = "{{ 'OFF' if value_json.state == 'ok' else 'ON' }}"
        topic = f"{self.topics.root}/source/{source}/state"
        fault = _binary(f"Microphone {source} fault", topic, template)
        return {
            **fault,
            "device_class": "problem",
            "entity_category": "diagnostic",
            "json_attributes_topic": topic,
        }

    def _alive(self) -> Component:
        """The node has a third word, ``stopped``, which is offline here."""
        return {"topic": f"{self.topics.root}/status", "value_template": ALIVE}

    def _device(self, machine: str | None, device: Component, components: dict[str, Component]) -> Message:
        mine = self._identifier(machine)
        body = {
            "device": {"identifiers": [mine], "manufacturer": "edge_asd", "sw_version": self.version, **device},
            "origin": {"name": "edge_asd", "sw_version": self.version},
            "qos": 1,
            "components": {key: _identified(f"{mine}:{key}", part) for key, part in components.items()},
        }
        payload = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        return Message(self._topic(machine), payload, Kind.DISCOVERY)

    def _identifier(self, machine: str | None) -> str:
        return ":".join(["edge_asd", self.topics.node, *([machine] if machine else [])])

    def _topic(self, machine: str | None) -> str:
        """The node is a level of its own, so that a broker can grant it just this."""
        last = f"edge_asd_{checked_name(machine)}" if machine else "edge_asd"
        return f"{self.prefix}/device/{self.topics.node}/{last}/config"


def _identified(unique_id: str, component: Component) -> Component:
    """A component that is taken away must have nothing but its platform."""
    if not {"name"} & set(component):
        return {"platform": component["platform"]}
    return {**component, "unique_id": unique_id}


def _sound(root: str, clip_seconds: float) -> dict[str, Component]:
    """What a machine sounds like."""
    score = {
        "state_topic": f"{root}/score",
        "state_class": "measurement",
        "expire_after": max(EXPIRY_S, round(EXPIRY_CLIPS * clip_seconds)),
    }
    anomaly = _binary("Anomaly", f"{root}/alarm", ANOMALY)
    return {
        "anomaly": {**anomaly, "device_class": "problem", "json_attributes_topic": f"{root}/alarm"},
        "score": _sensor("Score", _live("score")) | score | {"suggested_display_precision": 2},
        "health": _sensor("Health index", _live("health_index")) | score,
        "level": _sensor("Level", _live("level_dbfs"))
        | score
        | {"unit_of_measurement": "dBFS", "suggested_display_precision": 1, "entity_category": "diagnostic"},
    }


def _alarm(root: str) -> dict[str, Component]:
    """The alarm in words, and what happens to it."""
    words: Component = {"device_class": "enum", "state_topic": f"{root}/alarm"}
    event = _event("Alarm event", f"{root}/event", EVENT, [*Transition, *Notice])
    return {
        "alarm": _sensor("Alarm", "{{ value_json.alarm.state }}") | words | {"options": [*State]},
        "suppression": _sensor("Suppression", "{{ value_json.alarm.suppression }}")
        | words
        | {"options": [*Suppression]},
        "event": event,
    }


def _node_health(topic: str, health: Health) -> dict[str, Component]:
    state: Component = {"state_topic": topic, "entity_category": "diagnostic"}
    trouble: Component = {"device_class": "problem", "entity_category": "diagnostic"}
    measured: Component = {**state, "state_class": "measurement"}
    parts = {
        "trouble": _binary("Trouble", topic, "{{ 'OFF' if value_json.well else 'ON' }}")
        | trouble
        | {"json_attributes_topic": topic},
        "storage": _binary("Storage fault", topic, "{{ 'OFF' if value_json.outbox.kept else 'ON' }}") | trouble,
        "clock": _binary("Clock not set", topic, "{{ 'OFF' if value_json.clock_synced else 'ON' }}") | trouble,
        "waiting": _sensor("Messages waiting", "{{ value_json.outbox.messages }}") | measured,
    }
    if health.disk_free_bytes is not None:
        free = _sensor("Disk free", "{{ value_json.disk_free_bytes }}") | measured
        parts["disk_free"] = free | {"device_class": "data_size", "unit_of_measurement": "B"}
    if health.temperature_celsius is not None:
        heat = _sensor("Temperature", "{{ value_json.temperature_celsius }}") | measured
        parts["temperature"] = heat | {"device_class": "temperature", "unit_of_measurement": "°C"}
    return parts


def _live(field: str) -> str:
    """Nothing of a replayed message, which Home Assistant passes over: it is not what is now."""
    return f"{{{{ '' if value_json.late else value_json.{field} }}}}"


def _sensor(name: str, template: str) -> Component:
    return {"platform": "sensor", "name": name, "value_template": template}


def _binary(name: str, topic: str, template: str) -> Component:
    return {"platform": "binary_sensor", "name": name, "state_topic": topic, "value_template": template}


def _event(name: str, topic: str, template: str, types: list[str]) -> Component:
    return {
        "platform": "event",
        "name": name,
        "state_topic": topic,
        "value_template": template,
        "event_types": types,
    }


def _timed(body: dict[str, str]) -> str:
    """A template that gives a request with its time; values of ``body`` that are templates stand without quotes."""
    said = "".join(f'"{key}":{value if value.startswith("{{") else json.dumps(value)},' for key, value in body.items())
    return f'{{{said}"by":"{SENDER}","ts":"{NOW}"}}'
