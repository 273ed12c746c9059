"""The main job on a real path: recordings, a microphone, a broker, a metrics store, and the command line.

A valve plays through a PulseAudio microphone: three minutes of normal clips, then clips with faults. Nobody may be
woken by the first, and everybody must by the second, within 45 s.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from tests.conftest import Broker, Prometheus, PulseMicrophone, Recorder

pytestmark = [pytest.mark.train, pytest.mark.system, pytest.mark.recordings, pytest.mark.timeout(900)]

RATE, CLIP, CHECK = 16_000, 160_000, 32_000
NORMAL_CLIPS, FAULTY_CLIPS = 18, 6
WITHIN_S = 45.0
ROOT = Path(__file__).resolve().parents[1]


def train(*arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "train", *map(str, arguments)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
    )


@pytest.fixture
def metrics_port() -> int:
    return free_port()


@pytest.fixture
def bundle(recordings: Path, tmp_path: Path) -> Path:
    """Learned from the valve's normal clips through the real command line, in seconds."""
    train("fit", "statistics", "--data", recordings / "valve", "--out", tmp_path / "run")
    train("export", tmp_path / "run", "--out", tmp_path / "valve.asd")
    return tmp_path / "valve.asd"


@pytest.fixture
def broadcast(recordings: Path, tmp_path: Path) -> Path:
    """Test normals for three minutes, then test anomalies for one: the first of each, in the shifted domain."""
    test = recordings / "valve" / "test"
    normal = islice(sorted(test.glob("*_target_test_normal_*")), NORMAL_CLIPS)
    faulty = islice(sorted(test.glob("*_target_test_anomaly_*")), FAULTY_CLIPS)
    clips = [soundfile.read(file, dtype="int16")[0] for file in (*normal, *faulty)]
    path = tmp_path / "broadcast.wav"
    soundfile.write(path, np.concatenate(clips), RATE, "PCM_16")
    return path


def settings(path: Path, bundle: Path, microphone: PulseMicrophone, broker: Broker, port: int) -> Path:
    path.write_text(
        f"""
node = "wall"
mqtt = {{ host = "{broker.host}", port = {broker.port} }}
metrics.listen = "127.0.0.1:{port}"
sources.mic0.input = "microphone:{microphone.token}"
machines.valve = {{ source = "mic0", bundle = "{bundle}" }}
"""
    )
    return path


@pytest.fixture
def daemon(
    tmp_path: Path, bundle: Path, pulse_microphone: PulseMicrophone, broker: Broker, metrics_port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """``edge-asd run``, as systemd would start it."""
    config = settings(tmp_path / "edge-asd.toml", bundle, pulse_microphone, broker, metrics_port)
    notify = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(notify))
        systemd.settimeout(30)
        command = [sys.executable, "-m", "edge_asd", "run", "--config", str(config)]
        with subprocess.Popen(command, env=os.environ | {"NOTIFY_SOCKET": str(notify)}) as process:
            while b"READY=1" not in systemd.recv(4096):
                pass
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def scores(recorder: Recorder) -> list[dict[str, Any]]:
    return [m.json() for m in recorder.messages if m.topic.endswith("/score")]


def alignment(sound: NDArray[np.float32], levels: list[float]) -> int:
    """Where in the broadcast the daemon's first scored clip began, from its exact levels."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=np.float64))])
    starts = np.arange(min(CLIP, energy.size - len(levels) * CLIP - 1))
    error = np.zeros(starts.size)
    for number, level in enumerate(levels):
        first = starts + number * CLIP
        error += np.abs(10 * np.log10((energy[first + CLIP] - energy[first]) / CLIP) - level)
    assert error.min() / len(levels) < 1e-6, "the daemon heard something else than what was played"
    return int(starts[error.argmin()])


@pytest.mark.usefixtures("daemon")
def test_a_valve_goes_wrong_and_everyone_hears_of_it_within_45_seconds(
    bundle: Path,
    broadcast: Path,
    pulse_microphone: PulseMicrophone,
    broker: Broker,
    prometheus: Callable[[int], Prometheus],
    metrics_port: int,
) -> None:
    heard = broker.subscribe("edge_asd/v1/wall/#")
    store = prometheus(metrics_port)

    playing = pulse_microphone.play(broadcast)
    began = time.monotonic()
    onset = began + NORMAL_CLIPS * CLIP / RATE
    alarm = heard.wait_for(lambda m: m.topic.endswith("/machine/valve/event"), timeout=300)
    playing.wait(120)

    assert alarm.json()["event"] == "activated"
    assert 0 < alarm.time - onset < WITHIN_S, "an alarm before the fault, or too late after it"
    retained = heard.wait_for(lambda m: m.topic.endswith("/machine/valve/alarm") and m.json()["alarm"]["active"])
    assert retained.json()["alarm_id"] == alarm.json()["alarm_id"]
    (sample,) = store.wait_for('edge_asd_clip_score{machine="valve"} > 0')
    assert float(sample["value"][1]) > 0
    same_as_offline(bundle, broadcast, scores(heard))


def same_as_offline(bundle: Path, broadcast: Path, live: list[dict[str, Any]]) -> None:
    """Every clip scored live scores the same from the file (decision 8)."""
    from edge_asd.bundle import TOLERANCE, open_bundle  # noqa: PLC0415 - the fixtures' environment first

    sound = soundfile.read(broadcast, dtype="float32")[0]
    whole = live[: (sound.size - CLIP) // CLIP]
    start = alignment(sound, [clip["level_dbfs"] for clip in whole[:10]])
    listener = open_bundle(bundle).scorer()
    assert len(whole) >= NORMAL_CLIPS
    for number, clip in enumerate(whole):
        piece = sound[start + number * CLIP : start + (number + 1) * CLIP]
        if piece.size < CLIP:
            break
        offline = {part.name: part.z for part in listener.score(piece).parts}
        for name, z in clip["parts"].items():
            assert abs(z - offline[name]) <= TOLERANCE, f"clip {number}, {name}: live {z}, offline {offline[name]}"
