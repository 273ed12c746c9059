"""What the person at the box types, against a daemon that runs there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from edge_asd.deliver.control import NAME
from tests.conftest import until
from tests.example import bundle, noise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Broker

RATE = 16_000
SETTINGS = """
node = "node1"
metrics.listen = ""
mqtt = {{ host = "127.0.0.1", port = {port} }}
sources.mic = {{ input = "file:{folder}/mic.wav", loop = true }}
machines.pump1 = {{ source = "mic", bundle = "{folder}/toy.asd", alarm = {{ on_delay = 1, latch = true }} }}
"""


def edge_asd(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_asd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def daemon(config: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "edge_asd", "run", "--config", str(config)]
    with (config.with_suffix(".log")).open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def settings(tmp_path: Path, broker: Broker) -> Path:
    """A machine that sounds wrong for a second of every four."""
    bundle(tmp_path / "toy.asd")
    loud = np.concatenate([noise(1, RATE, 0.2), noise(2, 3 * RATE)])
    soundfile.write(tmp_path / "mic.wav", loud, RATE)
    path = tmp_path / "edge-asd.toml"
    path.write_text(SETTINGS.format(port=broker.port, folder=tmp_path))
    return path


def logged(*more: object) -> list[dict[str, Any]]:
    """From the box's own log."""
    done = edge_asd("events", "--json", *more)
    return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []


@pytest.mark.system
def test_an_alarm_is_seen_acknowledged_shelved_labelled_and_told_as_the_broker_was_told(
    settings: Path, broker: Broker
) -> None:
    recorder = broker.subscribe("edge_asd/v1/node1/machine/pump1/event")
    with daemon(settings):
        raised = recorder.wait_for(lambda m: b'"activated"' in m.payload).json()
        assert "state active_acked" in edge_asd("alarm", "ack", "pump1", "--comment", "seen").stdout
        assert "suppression shelved" in edge_asd("alarm", "shelve", "pump1", "--minutes", "5").stdout
        assert "verdict False" in edge_asd("alarm", "label", "pump1", raised["id"], "--false-alarm").stdout
        done = edge_asd("label", "pump1", raised["id"], "true", "--fault", "bearing", "--note", "replaced")
        assert "verdict True" in done.stdout
        assert "no sound of it was kept" in done.stdout
        listed = edge_asd("alarm", "list")
        told = recorder.wait_for(lambda m: b'"labelled"' in m.payload).json()
    assert {"pump1", "shelved", raised["id"]} <= set(listed.stdout.split())
    assert told["by"] == logged()[-1]["by"] is not None
    sent = [message.json()["id"] for message in recorder.messages]
    assert [event["id"] for event in logged()][: len(sent)] == sent
    assert [event["event"] for event in logged()][:5] == ["activated", "acked", "shelved", "labelled", "labelled"]
    assert re.search(rf"activated .*{raised['id']}\s+true", edge_asd("events").stdout)
    (label,) = [json.loads(line) for line in edge_asd("labels", "--json").stdout.splitlines()]
    assert (label["alarm_id"], label["verdict"], label["fault"]) == (raised["id"], True, "bearing")
    assert label["score"] == raised["evidence"]["score"]
    assert [event["comment"] for event in logged()][1] == "seen"


@pytest.mark.system
def test_an_act_that_cannot_be_is_refused_with_what_to_do_and_an_exit_code(settings: Path, broker: Broker) -> None:
    recorder = broker.subscribe("edge_asd/v1/node1/machine/pump1/event")
    with daemon(settings):
        recorder.wait_for(lambda m: b'"activated"' in m.payload)
        for arguments, said in {
            ("reset", "pump1"): "cannot reset",
            ("ack", "pump9"): "pump9",
            ("shelve", "pump1", "--minutes", "0"): "minutes",
            ("label", "pump1", "never-was"): "never-was",
        }.items():
            done = edge_asd("alarm", *arguments)
            assert (done.returncode, done.stdout) == (1, "")
            assert said in done.stderr
            assert done.stderr.startswith("error: ")


@pytest.mark.system
def test_what_happened_can_be_read_with_filters_while_nothing_runs(settings: Path, broker: Broker) -> None:
    recorder = broker.subscribe("edge_asd/v1/node1/machine/pump1/event")
    with daemon(settings):
        recorder.wait_for(lambda m: b'"activated"' in m.payload)
    table = edge_asd("events")
    assert table.returncode == 0
    assert "activated" in table.stdout
    assert "active_unacked" in table.stdout
    assert re.search(r"activated .* \d+\.\d σ: (band|peaks at|level|crest) .* dB", table.stdout), "why"
    assert logged("--machine", "pump1", "--since", "1h", "--last", "1")
    assert not logged("--machine", "pump2")
    assert not logged("--since", "2999-01-01T00:00Z")
    assert "nothing has happened at pump2" in edge_asd("events", "--machine", "pump2").stdout


def test_without_a_daemon_or_its_memory_that_is_said(tmp_path: Path) -> None:
    for arguments in (("alarm", "ack", "pump1"), ("alarm", "list"), ("events",)):
        done = edge_asd(*arguments, "--state", tmp_path / "nowhere")
        assert done.returncode == 78
        assert str(tmp_path / "nowhere") in done.stderr
        assert "Traceback" not in done.stderr


def test_an_age_that_is_none_is_refused_with_examples() -> None:
    done = edge_asd("events", "--since", "yesterday")
    assert done.returncode == 78
    assert "30m, 2h or 3d" in done.stderr


@pytest.mark.system
def test_the_broker_is_tried_stage_by_stage(settings: Path, broker: Broker) -> None:
    done = edge_asd("mqtt", "test", "--config", settings)
    assert done.returncode == 0, done.stdout
    assert all(line.startswith("ok  ") for line in done.stdout.splitlines())
    broker.stop()
    stages = [json.loads(line) for line in edge_asd("mqtt", "test", "--json", "--config", settings).stdout.splitlines()]
    assert [stage["well"] for stage in stages] == [True, False]
    assert stages[-1]["advice"]


@pytest.mark.system
def test_two_daemons_cannot_share_a_memory(settings: Path, broker: Broker) -> None:
    recorder = broker.subscribe("edge_asd/v1/node1/status")
    with daemon(settings):
        recorder.wait_for(lambda m: m.payload == b"online")
        second = edge_asd("run", "--config", settings)
        assert second.returncode == 78
        assert os.environ["STATE_DIRECTORY"] in second.stderr


@pytest.mark.system
def test_the_socket_goes_with_the_daemon(settings: Path, broker: Broker, tmp_path: Path) -> None:  # noqa: ARG001 - it must run
    socket = tmp_path / "state" / NAME
    with daemon(settings):
        until(socket.exists, 15, "no socket")
    assert not socket.exists()
