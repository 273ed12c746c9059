"""What is really on the wire in a run of the daemon, held against the contract and Home Assistant's templates."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import paho.mqtt.publish as paho_publish
import pytest
import soundfile

from tests.conftest import until
from tests.deliver.test_discovery import SCHEMA, fits, rendered
from tests.deliver.test_schema import checker
from tests.example import bundle, noise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Broker, Message, Recorder

RATE = 16_000
ROOT = "edge_asd/v1/node1"
SETTINGS = """
node = "node1"
metrics.listen = ""
flood_limit = 2
evidence.enabled = true
mqtt = {{ host = "127.0.0.1", port = {port}, commands = ["ack", "shelve", "threshold", "label", "snapshot",
                                                         "health_check", "discovery", "out_of_service"] }}
sources.mic = {{ input = "file:{folder}/mic.wav", loop = true }}
machines.pump1 = {{ source = "mic", bundle = "{folder}/toy.asd", alarm = {{ on_delay = 1, off_delay = 1 }} }}
"""


@contextmanager
def daemon(folder: Path, broker: Broker, machine: str = "pump1") -> Iterator[Recorder]:
    """Whose machine sounds wrong every other second, and all that it says; it has said an event when this begins."""
    bundle(folder / "toy.asd")
    pieces = [noise(n, RATE, 0.2 if n % 2 else 0.05) for n in range(4)]
    soundfile.write(folder / "mic.wav", np.concatenate(pieces), RATE)
    settings = folder / "edge-asd.toml"
    settings.write_text(SETTINGS.format(port=broker.port, folder=folder).replace("pump1", machine))
    recorder = broker.subscribe("#")
    command = [sys.executable, "-m", "edge_asd", "run", "--config", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            recorder.wait_for(lambda m: m.topic == f"{ROOT}/machine/{machine}/event")
            yield recorder
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def run(tmp_path: Path, broker: Broker) -> Iterator[Recorder]:
    with daemon(tmp_path, broker) as recorder:
        yield recorder


def send(broker: Broker, topic: str, payload: str) -> None:
    paho_publish.single(topic, payload, 1, hostname="127.0.0.1", port=broker.port)


def command(broker: Broker, recorder: Recorder, verb: str, **body: object) -> dict[str, Any]:
    """The answer."""
    transaction = f"{verb}-{len(recorder.messages)}"
    send(broker, f"{ROOT}/cmd/{verb}", json.dumps(body | {"transaction": transaction}))
    answer = recorder.wait_for(lambda m: m.topic == f"{ROOT}/rsp/{verb}" and transaction.encode() in m.payload)
    said: dict[str, Any] = answer.json()
    return said


def latest(recorder: Recorder) -> dict[str, bytes]:
    return {message.topic: message.payload for message in recorder.messages}


def shapes(recorder: Recorder) -> set[str]:
    """Of everything that was said; none objected to."""
    seen = set()
    for message in list(recorder.messages):
        if message.topic.startswith(ROOT) and "/cmd/" not in message.topic and message.payload.startswith(b"{"):
            body = message.json()
            name = body["schema"].removeprefix("edge_asd.").removesuffix("/1")
            checker(name).validate(body)
            seen.add(name)
    return seen


@pytest.mark.system
def test_all_that_a_run_says_keeps_to_the_files_that_are_shipped(run: Recorder, broker: Broker) -> None:
    machine, now = {"machine": "pump1"}, "2026-11-25T00:00:00Z"
    assert command(broker, run, "ack", **machine)["status"] == "ok"
    assert command(broker, run, "shelve", **machine, minutes=1)["data"]["suppression"] == "shelved"
    assert command(broker, run, "label", **machine, verdict=True)["status"] == "ok"
    assert command(broker, run, "threshold", **machine, value=-3.0, ts=now)["reason"] == "invalid"
    assert command(broker, run, "dance")["reason"] == "unknown_verb"
    kept = command(broker, run, "snapshot", **machine, seconds=1)["data"]
    assert soundfile.info(kept["file"]).duration == kept["seconds"] == 1.0
    assert command(broker, run, "health_check")["data"]["well"]
    until(lambda: any(m.topic == f"{ROOT}/source/mic/level" for m in run.messages), 15, "no level")
    wanted = {"info", "health", "source", "level", "score", "alarm", "event", "reply"}
    assert shapes(run) >= wanted


@pytest.mark.system
def test_a_flood_on_the_wire_keeps_to_its_file_too(run: Recorder) -> None:
    flood = run.wait_for(lambda m: m.topic == f"{ROOT}/event").json()
    assert (flood["event"], flood["machines"]) == ("began", {"pump1": 3})
    assert "flood" in shapes(run)


@pytest.mark.system
def test_every_template_of_the_announced_devices_gives_a_state_of_what_was_really_said(run: Recorder) -> None:
    run.wait_for(lambda m: m.topic == f"{ROOT}/health")
    run.wait_for(lambda m: m.topic == f"{ROOT}/machine/pump1/score")
    run.wait_for(lambda m: m.topic == f"{ROOT}/source/mic/level")
    said = latest(run)
    devices = [json.loads(payload) for topic, payload in said.items() if topic.startswith("homeassistant/device/")]
    assert len(devices) == 2
    looked_at = 0
    for device in devices:
        jsonschema.validate(device, SCHEMA)
        for part in device["components"].values():
            if part.get("state_topic") in said:
                state = rendered(part["value_template"], said[part["state_topic"]])
                assert fits(part, state), (part, state)
                looked_at += 1
    assert looked_at >= 8


@pytest.mark.system
def test_when_home_assistant_starts_everything_is_announced_again(run: Recorder, broker: Broker) -> None:
    before = len(run.messages)
    send(broker, "homeassistant/status", "online")

    def new(message: Message, ending: str) -> bool:
        return message in run.messages[before:] and message.topic.endswith(ending)

    for ending in ("edge_asd_pump1/config", "pump1/availability", "pump1/alarm", "mic/state", "/info"):
        run.wait_for(lambda m, ending=ending: new(m, ending))


@pytest.mark.system
def test_a_machine_that_is_listened_to_no_more_is_taken_away(tmp_path: Path, broker: Broker) -> None:
    with daemon(tmp_path, broker):
        pass
    with daemon(tmp_path, broker, "pump2") as recorder:
        for ending in ("edge_asd_pump1/config", "machine/pump1/alarm", "machine/pump1/availability"):
            recorder.wait_for(lambda m, ending=ending: m.topic.endswith(ending) and m.payload == b"")
