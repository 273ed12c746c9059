from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from jinja2.sandbox import SandboxedEnvironment

from edge_asd.capture.source import SourceState
from edge_asd.deliver.command import ALLOWED, REQUESTS, Gate, parse
from edge_asd.deliver.discovery import Discovery
from edge_asd.deliver.message import Kind, Message, Status, Verb
from edge_asd.deliver.publisher import Incoming
from edge_asd.deliver.topic import Topics
from tests.deliver.scene import ALARMS, HEALTH, NOON, SOURCE, STAMP, STANDING, TOPICS, VOICE, everything

if TYPE_CHECKING:
    from collections.abc import Iterator


SCHEMA = json.loads(Path(__file__).with_name("device_discovery.schema.json").read_text("utf-8"))
DISCOVERY = Discovery(TOPICS, "0.1.0", frozenset(Verb))
WARM = HEALTH.model_copy(update={"temperature_celsius": 48.5})
MACHINE = DISCOVERY.machine("pump1", "mic0", 10.0)
NODE = DISCOVERY.node(["mic0", "mic1"], WARM)
BOTH = pytest.mark.parametrize("message", [MACHINE, NODE], ids=["machine", "node"])
HOME_ASSISTANT = SandboxedEnvironment()
HOME_ASSISTANT.globals["utcnow"] = lambda: NOON


def components(message: Message) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = json.loads(message.payload)["components"]
    return parts


def rendered(template: str, payload: bytes) -> str:
    """What Home Assistant makes of a payload."""
    text = payload.decode()
    variables = {"value": text, "value_json": json.loads(text)} if text.startswith("{") else {"value": text}
    return HOME_ASSISTANT.from_string(template).render(variables).strip()


def said() -> Iterator[Message]:
    """All that a node says in a run, on the topics that it says it on."""
    yield from (message for message in everything() if message.kind is not Kind.HEALTH)
    yield TOPICS.health(WARM)  # the device that shows a temperature has one
    yield from map(TOPICS.status, Status)
    yield from (TOPICS.availability("pump1", online=online) for online in (True, False))
    yield from (TOPICS.source(SOURCE.model_copy(update={"source": name})) for name in ("mic0", "mic1"))


def states(part: dict[str, Any], *, late: bool = False) -> list[str]:
    """What a component becomes of every message on its topic."""
    messages = [message for message in said() if message.topic == part["state_topic"]]
    messages = [message.late() if late else message for message in messages]
    assert messages, part["state_topic"]
    return [rendered(part["value_template"], message.payload) for message in messages]


# What is announced ----------------------------------------------------------------------------------------------------


@BOTH
def test_a_device_keeps_to_home_assistants_documentation(message: Message) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(message.payload))

    assert (message.kind, message.kind.retained, message.kind.qos) == (Kind.DISCOVERY, True, 1)


def test_the_documentation_is_told_from_what_is_near_it() -> None:
    body = json.loads(MACHINE.payload)
    check = jsonschema.Draft202012Validator(SCHEMA)
    wrong = [
        {key: value for key, value in body.items() if key != "origin"},
        body | {"device": {"name": "x"}},
        body | {"components": body["components"] | {"score": body["components"]["score"] | {"state_topik": "x"}}},
        body | {"components": {"score": {"platform": "sensor", "name": "Score"}}},
        body | {"components": {"alarm": body["components"]["alarm"] | {"state_class": "measurement"}}},
    ]

    assert all(list(check.iter_errors(one)) for one in wrong)


def test_a_machine_and_its_node_are_two_devices_that_belong_together() -> None:
    machine, node = json.loads(MACHINE.payload)["device"], json.loads(NODE.payload)["device"]

    assert MACHINE.topic == "homeassistant/device/press-hall-3/edge_asd_pump1/config"
    assert NODE.topic == "homeassistant/device/press-hall-3/edge_asd/config"
    assert (machine["name"], node["name"]) == ("press-hall-3 pump1", "press-hall-3")
    assert machine["via_device"] in node["identifiers"]


def test_a_machine_has_all_that_the_specification_names() -> None:
    named = {"anomaly", "score", "health", "event", "ack", "shelve", "microphone"}

    assert named < set(components(MACHINE))
    assert components(MACHINE)["score"]["expire_after"] == 120
    assert components(DISCOVERY.machine("pump1", "mic0", 60.0))["score"]["expire_after"] == 360


@pytest.mark.parametrize("prefix", ["homeassistant", "ha/test"])
def test_topics_are_ones_that_home_assistant_listens_to(prefix: str) -> None:
    discovery = replace(DISCOVERY, prefix=prefix)
    form = re.compile(rf"{prefix}/\w+/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")

    for message in (discovery.machine("pump1", "mic0", 10.0), discovery.node(["mic0"], HEALTH)):
        assert form.fullmatch(message.topic)
    assert discovery.birth == f"{prefix}/status"


@pytest.mark.parametrize("prefix", ["", "a//b", "homeassistant/#", "+"])
def test_a_prefix_that_is_no_topic_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="letters, digits, _ and -"):
        Discovery(TOPICS, "0.1.0", prefix=prefix)


def test_names_with_underscores_are_never_taken_for_one_another() -> None:
    pairs = [("a", "b_c"), ("a_b", "c"), ("a", "b"), ("a_b", "b")]
    told = [Discovery(Topics(node), "0.1.0").machine(machine, "m", 10.0) for node, machine in pairs]
    told += [Discovery(Topics(node), "0.1.0").node(["m", "m_c"], HEALTH) for node in ("a", "a_b", "a_b_c")]
    ids = [part["unique_id"] for message in told for part in components(message).values() if "unique_id" in part]

    assert len(set(ids)) == len(ids)
    assert len({message.topic for message in told}) == len(told)
    assert len({json.loads(message.payload)["device"]["identifiers"][0] for message in told}) == len(told)


def test_a_machine_that_is_gone_is_taken_away() -> None:
    removed = DISCOVERY.removed("pump1")

    assert (removed.topic, removed.payload, removed.kind) == (MACHINE.topic, b"", Kind.DISCOVERY)


@pytest.mark.parametrize("health", [HEALTH, WARM])
def test_only_what_is_measured_is_shown(health: Any) -> None:  # noqa: ANN401 - of the scene
    parts = components(DISCOVERY.node(["mic0"], health))

    assert ("temperature" in parts) is (health.temperature_celsius is not None)
    assert "disk_free" in parts
    diskless = DISCOVERY.node([], health.model_copy(update={"disk_free_bytes": None}))
    assert "disk_free" not in components(diskless)


# What becomes of what is said -----------------------------------------------------------------------------------------


@BOTH
def test_every_template_gives_a_state_of_every_real_payload(message: Message) -> None:
    for key, part in components(message).items():
        if "state_topic" not in part:
            continue
        for state in states(part):
            assert state not in {"", "None", "unknown", "Unknown"}, key
            assert fits(part, state), (key, state)


def fits(part: dict[str, Any], state: str) -> bool:
    """Whether the platform knows what to do with a state."""
    match part["platform"]:
        case "binary_sensor":
            return state in {"ON", "OFF"}
        case "switch":
            return state in {part["payload_on"], part["payload_off"]}
        case "event":
            return json.loads(state)["event_type"] in part["event_types"]
        case "sensor" if part.get("device_class") == "enum":
            return state in part["options"]
    return float(state) == float(state)


def test_all_that_can_be_is_seen() -> None:
    parts = components(MACHINE) | components(NODE)

    assert set(states(parts["alarm"])) == set(parts["alarm"]["options"])
    assert set(states(parts["suppression"])) == set(parts["suppression"]["options"])
    assert {json.loads(state)["event_type"] for state in states(parts["event"])} == set(parts["event"]["event_types"])
    assert {json.loads(state)["event_type"] for state in states(parts["flood"])} == set(parts["flood"]["event_types"])


@pytest.mark.parametrize("name", ALARMS)
def test_an_anomaly_is_on_when_people_are_to_be_shown_it(name: str) -> None:
    alarm = ALARMS[name]
    payload = TOPICS.alarm(VOICE.alarm(STAMP, replace(STANDING, alarm=alarm))).payload

    shown = rendered(components(MACHINE)["anomaly"]["value_template"], payload)
    assert shown == ("ON" if alarm.annunciated else "OFF")


def test_a_replayed_score_does_not_overwrite_a_live_one() -> None:
    for key in ("score", "health", "level"):
        assert states(components(MACHINE)[key], late=True) == [""], key  # Home Assistant passes over empty numbers


def test_a_replayed_event_is_an_event_and_says_that_it_is_late() -> None:
    assert all(json.loads(state)["late"] for state in states(components(MACHINE)["event"], late=True))


@pytest.mark.parametrize(("status", "seen"), [("online", "online"), ("offline", "offline"), ("stopped", "offline")])
def test_a_node_that_was_stopped_is_not_available(status: str, seen: str) -> None:
    message = TOPICS.status(Status(status))
    nodes = [
        one
        for part in chain(components(MACHINE).values(), components(NODE).values())
        for one in part.get("availability", [])
        if one["topic"] == message.topic
    ]

    assert nodes
    assert {rendered(one["value_template"], message.payload) for one in nodes} == {seen}


def test_what_is_needed_when_the_sound_is_missing_vanishes_only_with_the_node() -> None:
    vanish = {
        key
        for key, part in components(MACHINE).items()
        if any(one["topic"].endswith("/availability") for one in part["availability"])
    }

    assert vanish == {"anomaly", "score", "health", "level"}
    assert components(NODE)["status"]["availability"] == []


@pytest.mark.parametrize("state", [SourceState.OK, SourceState.SILENT, SourceState.LOST])
def test_a_microphone_that_does_not_hear_is_a_fault(state: SourceState) -> None:
    payload = TOPICS.source(SOURCE.model_copy(update={"state": state})).payload

    for part in (components(MACHINE)["microphone"], components(NODE)["microphone_mic0"]):
        assert rendered(part["value_template"], payload) == ("OFF" if state == "ok" else "ON")


# What is pressed ------------------------------------------------------------------------------------------------------


def presses(message: Message) -> Iterator[tuple[str, str]]:
    """Topic and payload of everything that can be pressed, switched or set."""
    for part in components(message).values():
        if "command_topic" not in part:
            continue
        values = [part[key] for key in ("payload_on", "payload_off", "payload_press") if key in part]
        values = ["4.5"] if part["platform"] == "number" else values or ["PRESS"]
        template = part.get("command_template", "{{ value }}")
        yield from ((part["command_topic"], HOME_ASSISTANT.from_string(template).render(value=v)) for v in values)


@BOTH
@pytest.mark.parametrize("allowed", [ALLOWED, frozenset(Verb)], ids=["usual", "everything"])
def test_the_node_obeys_whatever_is_pressed(message: Message, allowed: frozenset[Verb]) -> None:
    discovery = replace(DISCOVERY, allowed=allowed)
    told = discovery.machine("pump1", "mic0", 10.0) if message is MACHINE else discovery.node(["mic0"], HEALTH)
    gate = Gate(TOPICS, {"pump1"}, allowed)
    obeyed = [
        parse(Incoming(topic, payload.encode(), retained=False), gate, NOON, clock_synced=True)
        for topic, payload in presses(told)
    ]

    assert {command.request.by for command in obeyed} == {"home_assistant"}
    of_machine = {verb for verb in Verb if "machine" in REQUESTS[verb].model_fields}
    shown = of_machine if message is MACHINE else {Verb.DISCOVERY, Verb.RESTART}
    assert {command.verb for command in obeyed} == shown & allowed


def test_what_is_not_allowed_is_taken_away() -> None:
    usual = components(Discovery(TOPICS, "0.1.0").machine("pump1", "mic0", 10.0))

    assert usual["threshold"] == {"platform": "number"}
    assert usual["out_of_service"] == {"platform": "switch"}
