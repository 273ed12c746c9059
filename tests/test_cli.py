"""What a person types, and what they are told when it is wrong: one line, no traceback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Broker

RATE = 16_000
HEAD = "rendered/valve/00"
CONFIG_EXIT = 78


def edge_asd(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_asd", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done


def sound(path: Path, seconds: float = 10.0, rate: int = RATE, **how: object) -> Path:
    samples = 0.05 * np.random.default_rng(0).standard_normal(round(seconds * rate))
    soundfile.write(path, samples.astype(np.float32), rate, **how)
    return path


def silent(path: Path) -> Path:
    soundfile.write(path, np.zeros(RATE), RATE)
    return path


def stereo(path: Path) -> Path:
    soundfile.write(path, np.full((RATE, 2), 0.1), RATE)
    return path


def not_finite(path: Path) -> Path:
    soundfile.write(path, np.full(RATE, np.nan, np.float32), RATE, "FLOAT")
    return path


def truncated(path: Path) -> Path:
    path.write_bytes(sound(path).read_bytes()[:50_000])
    return path


def text(path: Path) -> Path:
    path.write_text("no sound")
    return path


def test_help_names_every_command() -> None:
    said = edge_asd("--help").stdout

    assert all(command in said for command in ("run", "demo", "score", "devices", "check", "bench"))


@pytest.mark.parametrize("seconds_and_rate", [(0.3, RATE), (10.0, RATE), (12.0, 44_100)])
def test_a_recording_of_any_length_and_rate_gets_one_score(tmp_path: Path, seconds_and_rate: tuple[float, int]) -> None:
    file = sound(tmp_path / "a.wav", *seconds_and_rate)

    done = edge_asd("score", file, "--head", HEAD, "--json")

    (line,) = done.stdout.splitlines()
    assert done.returncode == 0
    assert set(json.loads(line)["parts"]) == {"indicators", "spectrum", "neighbour", "network"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (silent, "is silent"),
        (stereo, "2 channels"),
        (not_finite, "NaN"),
        (truncated, "truncated"),
        (text, "no audio file"),
        (lambda path: path, "no file"),
    ],
)
def test_what_cannot_be_scored_is_named_and_the_rest_is_scored(tmp_path: Path, make: object, said: str) -> None:
    bad, good = make(tmp_path / "bad.wav"), sound(tmp_path / "good.wav", 2.0)  # type: ignore[operator]

    done = edge_asd("score", bad, good, "--head", HEAD, "--json")

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(bad) in done.stderr
    assert said in done.stderr
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == [str(good)]


def test_an_unknown_head_lists_what_there_is(tmp_path: Path) -> None:
    done = edge_asd("score", sound(tmp_path / "a.wav"), "--head", "nobody")

    assert done.returncode == 1
    assert "rendered/fan/00, rendered/valve/00" in done.stderr


def test_a_tampered_bundle_is_refused(tmp_path: Path) -> None:
    from edge_asd.bundle import BUILTIN  # noqa: PLC0415 - the other tests need no bundle here

    content = bytearray(BUILTIN.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "b.asd").write_bytes(content)

    done = edge_asd("score", sound(tmp_path / "a.wav"), "--bundle", tmp_path / "b.asd", "--head", HEAD)

    assert done.returncode == 1
    assert "b.asd" in done.stderr


def config(path: Path, source: str, mqtt: str = "") -> Path:
    path.write_text(
        f'node = "wall"\nmetrics.listen = ""\nsources.ear.input = "{source}"\n'
        f'machines.valve = {{ source = "ear", head = "{HEAD}" }}\n{mqtt}\n'
    )
    return path


def test_an_unknown_setting_is_named_with_a_suggestion_and_an_exit_code_of_its_own(tmp_path: Path) -> None:
    done = edge_asd("run", "--config", config(tmp_path / "c.toml", "render:valve", 'mqtt.hots = "b"'))

    assert done.returncode == CONFIG_EXIT
    assert "mqtt.hots: is unknown; did you mean host" in done.stderr


def test_a_machine_that_cannot_be_rendered_is_a_broken_setting(tmp_path: Path) -> None:
    done = edge_asd("run", "--config", config(tmp_path / "c.toml", "render:pump"))

    assert done.returncode == CONFIG_EXIT
    assert "'pump', choose one of fan, valve" in done.stderr


def test_check_names_all_that_is_wrong(tmp_path: Path) -> None:
    done = edge_asd(
        "check", "--config", config(tmp_path / "c.toml", "file:/nowhere.wav", 'mqtt = { host = "127.0.0.1", port = 9 }')
    )

    found = dict(line[6:].split(": ", 1) for line in done.stdout.splitlines())
    assert done.returncode == 1
    assert "golden test passed" in found["bundle of valve"]
    assert "/nowhere.wav" in found["source ear"]
    assert "127.0.0.1:9" in found["broker"]


@pytest.mark.system
def test_check_is_content_when_all_is_well(tmp_path: Path, broker: Broker) -> None:
    mqtt = f'mqtt = {{ host = "{broker.host}", port = {broker.port} }}'

    done = edge_asd("check", "--config", config(tmp_path / "c.toml", "render:valve", mqtt))

    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout


@pytest.mark.system
def test_a_microphone_that_does_not_exist_is_announced_and_the_daemon_goes_on(tmp_path: Path, broker: Broker) -> None:
    mqtt = f'mqtt = {{ host = "{broker.host}", port = {broker.port} }}'
    heard = broker.subscribe("edge_asd/v1/wall/#")
    path = config(tmp_path / "c.toml", "microphone:usb-id:dead:beef", mqtt)
    command = [sys.executable, "-m", "edge_asd", "run", "--config", str(path)]

    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        lost = heard.wait_for(lambda m: m.topic.endswith("/source/ear/state") and m.json()["state"] == "lost")
        alive = daemon.poll() is None
        daemon.send_signal(signal.SIGINT)
        code = daemon.wait(10)

    assert "usb-id:dead:beef" in lost.json()["reason"]
    assert alive
    assert code == 0
    heard.wait_for(lambda m: m.topic.endswith("/status") and m.payload == b"stopped")


def test_bench_compares_in_the_same_run() -> None:
    said = json.loads(edge_asd("bench", "--rounds", 3, "--json").stdout)

    assert {"front end, a segment", "statistics, a clip", "whole clip"} <= {stage["stage"] for stage in said["stages"]}
    assert 0 < said["real_time_factor"] < 1


def test_the_demo_raises_its_alarm_after_the_fault_began_and_can_be_piped(capsys: pytest.CaptureFixture[str]) -> None:
    from edge_asd.demo import FAULT_AFTER_S, demo  # noqa: PLC0415 - loads the whole daemon

    raised = demo("valve", "leak", None, as_json=True, speed=0.0)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (alarm,) = [number for number, line in enumerate(lines) if line["event"] == "activated"]
    assert raised
    assert lines[alarm - 1]["start"] >= FAULT_AFTER_S * RATE


def test_a_broken_address_is_named() -> None:
    done = edge_asd("demo", "--mqtt", "nowhere")

    assert done.returncode == CONFIG_EXIT
    assert "HOST:PORT" in done.stderr
