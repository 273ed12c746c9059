"""What the daemon costs: memory of the main process and of the capture child."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until

if TYPE_CHECKING:
    from tests.conftest import Broker, PulseMicrophone

MOST_MB = 160


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, megabytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.system
def test_daemon_and_capture_child_fit_into_160_megabytes_with_the_network_and_a_microphone(
    tmp_path: Path, pulse_microphone: PulseMicrophone, broker: Broker
) -> None:
    config = tmp_path / "edge-asd.toml"
    config.write_text(
        f"""
node = "wall"
mqtt = {{ host = "{broker.host}", port = {broker.port} }}
metrics.listen = "127.0.0.1:0"
sources.mic0.input = "microphone:{pulse_microphone.token}"
machines.valve = {{ source = "mic0", head = "rendered/valve/00" }}
"""
    )
    heard = broker.subscribe("edge_asd/v1/wall/source/mic0/state")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        began = time.monotonic()
        command = [sys.executable, "-m", "edge_asd", "run", "--config", str(config)]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as daemon:
            while b"READY=1" not in systemd.recv(4096):
                pass
            ready_s = time.monotonic() - began
            heard.wait_for(lambda m: m.json()["state"] in {"ok", "silent"})
            until(lambda: children(daemon.pid), 10, "no capture child")
            used = {"daemon": pss_mb(daemon.pid), "capture": sum(map(pss_mb, children(daemon.pid)))}

            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(20) == 0

    print(f"ready after {ready_s:.2f} s; proportional set sizes, MB: {used}")  # noqa: T201 - for pytest -s
    assert sum(used.values()) <= MOST_MB, used
