"""The daemon on a disk that fails under it: it hears on, says so, and forgets nothing once the disk works again.

The disk is a real one of a megabyte in a mount namespace of the daemon's own; we reach into it by ``nsenter``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import paho.mqtt.publish as paho_publish
import pytest
import soundfile

from edge_asd.deliver.store import read_history
from tests.conftest import PATIENCE, until
from tests.example import bundle, noise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Broker, Recorder

RATE = 16_000
SETTINGS = """
node = "node1"
state_dir = "{state}"
flood_limit = 0
metrics.listen = ""
mqtt = {{ host = "127.0.0.1", port = {port} }}
sources.mic = {{ input = "file:{folder}/mic.wav", loop = true, speed = 4.0 }}
machines.pump1 = {{ source = "mic", bundle = "{folder}/toy.asd", alarm = {{ on_delay = 1, off_delay = 1 }} }}
"""
BREAK = {
    "full": "cat /dev/zero > {state}/filler",
    "read-only": "",  # from the start: while a file is open for writing, no disk is remounted
    "no inodes": "i=0; while touch {state}/filler-$i; do i=$((i+1)); done",
}
MEND = {
    "full": "rm {state}/filler",
    "read-only": "mount -o remount,rw {state}",
    "no inodes": "rm {state}/filler-*",
}


@contextmanager
def daemon(config: Path, state: Path, *, read_only: bool) -> Iterator[subprocess.Popen[bytes]]:
    """With a disk of its own for its state."""
    state.mkdir()
    start = (
        f"mount -t tmpfs -o size=1m,nr_inodes=40{',ro' if read_only else ''} none {state} && "
        f"exec {sys.executable} -m edge_asd run --config {config}"
    )
    user = [] if subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0 else ["-U", "-r"]
    command = ["unshare", *user, "--mount", "sh", "-c", start]
    with (config.with_suffix(".log")).open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def inside(process: subprocess.Popen[bytes], command: str) -> None:
    """Do it where the daemon's disk is; a disk that is filled complains, as it should."""
    enter = ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "sh", "-c", command]
    subprocess.run(enter, check=False, capture_output=True, timeout=30)


def health(broker: Broker, recorder: Recorder) -> dict[str, Any]:
    """Asked for, and answered."""
    before = len(recorder.messages)
    paho_publish.single("edge_asd/v1/node1/cmd/health_check", "{}", 1, hostname="127.0.0.1", port=broker.port)
    answer = recorder.wait_for(lambda m: m in recorder.messages[before:] and m.topic.endswith("/rsp/health_check"))
    said: dict[str, Any] = answer.json()["data"]
    return said


def events(recorder: Recorder) -> list[dict[str, Any]]:
    return [message.json() for message in list(recorder.messages) if message.topic.endswith("/event")]


@pytest.mark.system
@pytest.mark.parametrize("trouble", BREAK)
def test_while_the_disk_fails_alarms_go_out_it_is_announced_and_nothing_is_missing_after(
    tmp_path: Path, broker: Broker, trouble: str
) -> None:
    bundle(tmp_path / "toy.asd")
    pieces = [noise(i, 4 * RATE, 0.2 if i % 2 else 0.05) for i in range(4)]
    soundfile.write(tmp_path / "mic.wav", np.concatenate(pieces), RATE)
    state, config = tmp_path / "disk", tmp_path / "edge-asd.toml"
    config.write_text(SETTINGS.format(state=state, port=broker.port, folder=tmp_path))
    recorder = broker.subscribe("edge_asd/v1/node1/#")

    def came(count: int) -> None:
        wanted = len(events(recorder)) + count
        until(lambda: len(events(recorder)) >= wanted, PATIENCE, "no more events")

    with daemon(config, state, read_only=trouble == "read-only") as process:
        came(2)
        inside(process, BREAK[trouble].format(state=state))
        came(4)
        if trouble != "no inodes":  # what is open may grow: only new files cannot be made, and none is needed
            assert not health(broker, recorder)["outbox"]["kept"]
            assert health(broker, recorder)["outbox"]["trouble"]
        scores = sum(message.topic.endswith("/score") for message in recorder.messages)
        inside(process, MEND[trouble].format(state=state))
        until(lambda: health(broker, recorder)["outbox"]["kept"], 60, "the disk works, and is not used")
        came(2)
        assert sum(message.topic.endswith("/score") for message in recorder.messages) > scores
        seen = {event["id"] for event in events(recorder)}
        inside(process, f"cp {state}/edge-asd.db* {tmp_path}/")
    sent = {event["id"]: event for event in events(recorder)}
    assert sorted(event["event_seq"] for event in sent.values()) == list(range(1, len(sent) + 1))
    journal = {json.loads(entry.body).get("id") for entry in read_history(tmp_path / "edge-asd.db")}
    assert seen <= journal <= sent.keys() | {None}
