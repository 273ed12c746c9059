"""The example flow: that it is whole, and that its functions do what they say, run as Node-RED runs them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import quickjs
from paho.mqtt.client import topic_matches_sub

from edge_asd.alarm.alarm import Transition
from edge_asd.alarm.flood import FloodStage
from edge_asd.deliver.command import Gate, meant, parse
from edge_asd.deliver.message import Message, Verb
from edge_asd.deliver.payload import Notice
from edge_asd.deliver.publisher import Incoming
from tests.deliver.scene import NOON, STAMP, STANDING, TOPICS, VOICE, alarms, events, floods

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "node-red"
FLOW: list[dict[str, Any]] = json.loads((FOLDER / "flow.json").read_text("utf-8"))
NODES = {node["id"]: node for node in FLOW}
CORE = {"tab", "comment", "mqtt-broker", "mqtt in", "mqtt out", "function", "switch", "debug", "inject"}
RUNTIME = """
const RED = { util: { generateId: () => '5d0aeafd0968a0e8' } };
const store = (kept = {}) => ({ get: (key) => kept[key], set: (key, value) => { kept[key] = value; } });
const flow = store(), shown = [], warned = [], parts = {};
const node = { status: (what) => shown.push(what), warn: (what) => warned.push(what) };
const add = (name, code) => {
    const context = store(), part = new Function('msg', 'context', 'flow', 'node', 'RED', code);
    parts[name] = (msg) => part(msg, context, flow, node, RED);
};
const run = (name, text) => JSON.stringify(parts[name](JSON.parse(text)) ?? null);
const seen = () => JSON.stringify({ shown: shown[shown.length - 1] ?? null, warned });
"""


class Runtime:
    """The functions of the flow, with the memory that Node-RED gives them."""

    def __init__(self) -> None:
        self._engine = quickjs.Context()
        self._engine.eval(RUNTIME)
        for node in FLOW:
            if node["type"] == "function":
                self._engine.eval("add")(node["name"], node["func"])

    def run(self, name: str, message: dict[str, Any]) -> Any:  # noqa: ANN401 - a message or nothing
        """What a function makes of a message; None when it lets nothing through."""
        return json.loads(self._engine.eval("run")(name, json.dumps(message)))

    def seen(self) -> dict[str, Any]:
        """The latest status, and all warnings."""
        told: dict[str, Any] = json.loads(self._engine.eval("seen")())
        return told


def arrived(message: Message) -> dict[str, Any]:
    """As an `mqtt in` node that detects JSON hands it on."""
    return {"topic": message.topic, "payload": json.loads(message.payload) if message.payload else ""}


def spoken(runtime: Runtime, message: Message) -> dict[str, Any]:
    """An event after its words were made."""
    said: dict[str, Any] = runtime.run("in words", arrived(message))
    return said


def raised(seq: int, **change: Any) -> Message:  # noqa: ANN401 - of the stamp
    return TOPICS.event(VOICE.transition(replace(STAMP, seq=seq, **change), Transition.ACTIVATED, STANDING)[0])


# Whole ----------------------------------------------------------------------------------------------------------------


def test_the_flow_is_whole() -> None:
    assert len(NODES) == len(FLOW)
    assert {node["type"] for node in FLOW} == CORE
    for node in FLOW:
        assert {target for wires in node.get("wires", []) for target in wires} <= set(NODES)
        assert NODES[node["z"]]["type"] == "tab" if "z" in node else node["type"] in {"tab", "mqtt-broker"}
        assert "broker" not in node or node["type"] == "mqtt-broker" or NODES[node["broker"]]["type"] == "mqtt-broker"
        assert node.get("outputs", len(node.get("wires", []))) == len(node.get("wires", []))


def test_nothing_is_wired_to_what_takes_no_input_and_all_that_takes_some_gets_it() -> None:
    wired = {target for node in FLOW for wires in node.get("wires", []) for target in wires}

    takers = {"function", "switch", "debug", "mqtt out"}
    assert {node["id"] for node in FLOW if node["type"] in takers} == wired


def test_there_are_no_secrets_in_it_and_no_command_is_retained() -> None:
    for node in FLOW:
        assert not {"credentials", "user", "password", "username"} & set(node)
        assert node["type"] != "mqtt out" or (node["retain"], node["qos"]) == ("false", "1")


def test_events_are_kept_for_it_while_it_is_away() -> None:
    (broker,) = (node for node in FLOW if node["type"] == "mqtt-broker")

    assert (broker["cleansession"], bool(broker["clientid"])) == (False, True)
    assert {node["qos"] for node in FLOW if node["type"] == "mqtt in"} == {"1"}


@pytest.mark.parametrize(("name", "messages"), [("events", events()), ("floods", floods()), ("alarms", alarms())])
def test_it_listens_where_nodes_speak(name: str, messages: list[Message]) -> None:
    (listener,) = (node for node in FLOW if node["type"] == "mqtt in" and node["name"] == name)

    assert all(topic_matches_sub(listener["topic"], message.topic) for message in messages)


# Alive ----------------------------------------------------------------------------------------------------------------


def test_each_event_comes_through_once() -> None:
    runtime = Runtime()
    first, second = arrived(raised(7)), arrived(raised(8))
    came = [runtime.run("each once", message) for message in (first, second, first, arrived(raised(7).late()), second)]

    assert came == [first, second, None, None, None]


def test_what_it_has_seen_is_bounded() -> None:
    runtime = Runtime()
    for seq in range(5001):
        assert runtime.run("each once", {"payload": {"id": f"b-event-{seq}"}}) is not None

    assert runtime.run("each once", {"payload": {"id": "b-event-5000"}}) is None
    assert runtime.run("each once", {"payload": {"id": "b-event-0"}}) is not None  # forgotten, as the oldest


@pytest.mark.parametrize("payload", ["", "rubbish", {}, None, 7])
def test_what_is_no_event_does_not_come_through(payload: object) -> None:
    assert Runtime().run("each once", {"topic": "x", "payload": payload}) is None


def test_every_event_gets_its_sentence() -> None:
    runtime = Runtime()
    said = {spoken(runtime, message)["payload"] for message in (*events(), *floods())}

    assert "press-hall-3 pump1: activated by j.smith, surprise 2.4, threshold 4.0" in said
    assert "press-hall-3 pump1: shelved by j.smith" in said  # before any clip
    assert "press-hall-3: alarm flood began, pump1 9, fan2 2" in said
    assert spoken(runtime, raised(7).late())["payload"].endswith("(late: the broker was away)")


def way(event: str) -> str:
    """The debug node that an event ends in, by the rules of the switch."""
    (switch,) = (node for node in FLOW if node["type"] == "switch")
    matches = (i for i, rule in enumerate(switch["rules"]) if rule["t"] == "else" or re.search(rule["v"], event))
    (end,) = (name for name in ends(switch["wires"][next(matches)]))
    return end


def ends(wires: list[str]) -> Iterator[str]:
    yield from (NODES[target]["name"] for target in wires if NODES[target]["type"] == "debug")


def test_every_event_leaves_by_what_it_means() -> None:
    ways = {word: way(word) for word in (*Transition, *Notice, *FloodStage)}

    assert {word for word, end in ways.items() if end == "an alarm"} == {"activated", "realarmed"}
    assert {word for word, end in ways.items() if end == "normal again"} == {"returned", "latched"}
    assert {word for word, end in ways.items() if end == "a flood"} == set(FloodStage)
    assert {word for word, end in ways.items() if end == "a notice"} == {"chattering", "drifted", "settled"}


def pressed(runtime: Runtime) -> dict[str, Any] | None:
    """The command that the button sends."""
    command: dict[str, Any] | None = runtime.run("acknowledge", {"payload": 0})
    return command


def test_the_button_acknowledges_the_latest_alarm_and_the_node_obeys() -> None:
    runtime = Runtime()
    runtime.run("the latest alarm", spoken(runtime, raised(7)))
    command = pressed(runtime)
    assert command is not None
    body = command["payload"] | {"ts": NOON.isoformat()}  # the engine's clock is not the test's

    incoming = Incoming(command["topic"], json.dumps(body).encode(), retained=False)
    obeyed = parse(incoming, Gate(TOPICS, {"pump1"}), NOON, clock_synced=True)
    assert (obeyed.verb, obeyed.machine, obeyed.request.by) == (Verb.ACK, "pump1", "node-red")
    assert obeyed.request.transaction == "5d0aeafd0968a0e8"
    assert re.fullmatch(r"[-\dT:.]+Z", command["payload"]["ts"])
    meant(obeyed, "5b0f0d3c-event-7")


def test_a_late_event_does_not_take_the_place_of_a_newer_one() -> None:
    runtime = Runtime()
    for message in (raised(8), raised(7, ts=NOON.replace(hour=11))):
        runtime.run("the latest alarm", spoken(runtime, message))
    command = pressed(runtime)

    assert command is not None
    assert command["payload"]["alarm_id"] == "5b0f0d3c-event-8"


def test_the_button_does_nothing_before_the_first_alarm() -> None:
    runtime = Runtime()

    assert pressed(runtime) is None
    assert runtime.seen()["warned"] == ["no alarm has been raised since this flow was started"]


def test_the_table_shows_what_stands_and_forgets_what_is_gone() -> None:
    runtime = Runtime()
    shown = []
    for message in (*alarms(), TOPICS.forgotten("pump1")[0]):
        table = runtime.run("what stands", arrived(message))["payload"]
        shown.append((table.get("press-hall-3 pump1", {}).get("shown"), runtime.seen()["shown"]["fill"]))

    assert shown == [
        (False, "green"),  # normal
        (True, "red"),  # active_unacked
        (True, "red"),  # active_acked
        (False, "green"),  # rtn_unacked
        (True, "red"),  # latched_unacked
        (True, "red"),  # latched_acked
        (False, "green"),  # shelved
        (False, "green"),  # by_design
        (False, "green"),  # out_of_service
        (None, "green"),  # listened to no more
    ]
