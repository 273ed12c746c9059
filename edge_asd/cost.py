"""What the whole daemon costs on this machine: how soon it scores, how busy it keeps a core, how much memory it holds.

A real one is started in processes of its own, with a recording that plays for ever or a microphone, and looked at from
outside.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from edge_asd.bundle import open_bundle
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_asd.bundle import Bundle

PATIENCE_S = 120.0
NAP_S = 0.02
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one daemon."""

    machines: int
    ready_s: float
    """from its start until it is READY"""
    first_score_s: float
    """from its start until the first clip is scored, the clip's own length not counted"""
    cpu: float
    """share of one core, the capture processes' included, while it listens"""
    memory_bytes: int
    """proportional set size of the daemon"""
    capture_bytes: int
    """the same of its capture processes together"""

    @property
    def cpu_per_machine(self) -> float:
        """Share of one core."""
        return self.cpu / self.machines


def cost(path: Path, head: str | None, machines: int = 1, seconds: float = 60.0, source: str | None = None) -> Cost:
    """Start a daemon with so many machines, each at a source of its own, and look at it for a while.

    Args:
        path: of the bundle.
        head: of the bundle; not needed when it has only one.
        machines: how many, all judged alike.
        seconds: how long to look, from the first score on.
        source: what each listens to; by default a recording of the golden waveform, at the pace of time.

    Raises:
        BundleError: it cannot be opened.
        ConfigError: the daemon does not come up or scores nothing.
    """
    bundle = open_bundle(path)
    key, windows = bundle.key(head), bundle.manifest.windows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port = _free_port()
        source = source or f"file:{_recording(bundle, key, folder)}"
        settings = folder / "edge-asd.toml"
        settings.write_text(_settings(path, key, machines, source, port), "utf-8")
        with _daemon(settings, folder) as (pid, systemd, began):
            ready_s = _ready(systemd) - began
            first_s = _first_score(port, pid) - began
            return _watched(pid, machines, ready_s, first_s - windows.clip / windows.sample_rate, seconds)


def _watched(pid: int, machines: int, ready_s: float, first_s: float, seconds: float) -> Cost:
    began, busy = time.monotonic(), _busy_s(pid)
    time.sleep(seconds)
    share = (_busy_s(pid) - busy) / (time.monotonic() - began)
    return Cost(machines, ready_s, first_s, share, _memory(pid), sum(map(_memory, _children(pid))))


def _recording(bundle: Bundle, key: str, folder: Path) -> Path:
    windows = bundle.manifest.windows
    file = folder / "golden.wav"
    soundfile.write(file, np.resize(bundle.golden[key].waveform, 6 * windows.clip), windows.sample_rate, "PCM_16")
    return file


def _settings(path: Path, key: str, machines: int, source: str, port: int) -> str:
    lines = [f'metrics.listen = "127.0.0.1:{port}"']
    for number in range(machines):
        lines.append(f'sources.s{number} = {{ input = "{source}", loop = true }}')
        lines.append(f'machines.m{number} = {{ source = "s{number}", bundle = "{path}", head = "{key}" }}')
    return "\n".join(lines) + "\n"


@contextmanager
def _daemon(settings: Path, folder: Path) -> Iterator[tuple[int, socket.socket, float]]:
    """Its process, what it tells systemd, and when it was started (monotonic seconds)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(PATIENCE_S)
        environment = os.environ | {"NOTIFY_SOCKET": str(folder / "notify"), "STATE_DIRECTORY": str(folder / "state")}
        began = time.monotonic()
        command = [sys.executable, "-m", "edge_asd", "run", "--config", str(settings)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                yield process.pid, systemd, began
            finally:
                process.send_signal(signal.SIGTERM)


def _ready(systemd: socket.socket) -> float:
    try:
        while b"READY=1" not in systemd.recv(4096):
            pass
    except TimeoutError as error:
        msg = f"the daemon was not ready within {PATIENCE_S:g} s; see what `edge-asd run` says"
        raise ConfigError(msg) from error
    return time.monotonic()


def _first_score(port: int, pid: int) -> float:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
            if any(_scored(line) for line in answer.read().decode().splitlines()):
                return time.monotonic()
        time.sleep(10 * NAP_S)
    msg = f"no clip was scored within {PATIENCE_S:g} s; is the source silent, or the machine too slow?"
    raise ConfigError(msg)


def _scored(line: str) -> bool:
    series, _, value = line.rpartition(" ")
    return series.startswith("edge_asd_clips_total{") and 'outcome="scored"' in series and float(value) > 0


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def _busy_s(pid: int) -> float:
    """Processor time of a process and its children, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS + sum(map(_busy_s, _children(pid)))


def _memory(pid: int) -> int:
    """Proportional set size, bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
