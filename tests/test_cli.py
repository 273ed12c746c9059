"""What a person types, and what is answered: each command as a process of its own, and what goes wrong in the field."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, resample, sosfiltfilt

from edge_asd.archive import store
from edge_asd.bundle import BUILTIN, HEADS
from edge_asd.demo import demo
from edge_asd.render.machine import Condition
from edge_asd.render.performance import machine, render_clip
from edge_asd.render.room import Room
from tests.conftest import PATIENCE, free_port, until
from tests.example import bundle, contents, noise, resealed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Broker

RATE = 16_000
FAN = "rendered/fan/00"
STRANGER = "usb-id:dead:beef:0"
"""a microphone that nobody has"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("EDGE_ASD__", "CREDENTIALS_", "NOTIFY_", "WATCHDOG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EDGE_ASD__TRUST__ALLOW_UNSIGNED", "true")  # of bundles that tests make


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge_asd", *map(str, arguments)]


def edge_asd(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run to its end; whatever happens, nobody is shown a traceback."""
    answer = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in answer.stderr
    return answer


def refusal(code: int, *arguments: object) -> str:
    """The one line in which a command says what is wrong."""
    answer = edge_asd(*arguments)
    assert (answer.returncode, answer.stdout) == (code, ""), answer.stderr
    assert answer.stderr.count("\n") == 1
    assert answer.stderr.startswith("error: ")
    return answer.stderr.removeprefix("error: ").strip()


def tampered(path: Path) -> Path:
    """With other numbers in its heads than the manifest vouches for."""
    files = contents(path)
    store(path, files | {HEADS: files[HEADS][:-4] + bytes(4)})
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# Help -----------------------------------------------------------------------------------------------------------------


def test_help_names_the_commands_without_loading_what_they_need() -> None:
    python = [sys.executable, "-X", "importtime", "-m", "edge_asd", "--help"]
    answer = subprocess.run(python, capture_output=True, text=True, timeout=60, check=True)

    for name in ("run", "demo", "score", "devices", "check", "doctor", "bench", "clips"):
        assert f" {name} " in answer.stdout
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in answer.stderr.splitlines()}
    assert "typer" in loaded
    assert not {"onnxruntime", "numpy", "sounddevice"} & loaded


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("run", ["--config", "the daemon"]),
        ("demo", ["--machine", "--fault", "--mqtt", "--json", "Needs no microphone"]),
        ("score", ["--bundle", "--head", "--channel", "--json", "the built-in one by default"]),
        ("devices", ["--json", "paste into the config"]),
        ("check", ["--config", "what is wrong"]),
        ("doctor", ["--config", "--out", "passwords stay here"]),
        ("bench", ["--bundle", "--head", "--rounds", "--json", "int8 against fp32"]),
    ],
)
def test_every_command_explains_itself(name: str, told: list[str]) -> None:
    answer = edge_asd(name, "--help")

    assert answer.returncode == 0
    words = " ".join(answer.stdout.replace("│", " ").split())
    assert all(word in words for word in told)
    assert str(BUILTIN.parent) not in words, "help is the same on every computer"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["scroe"], "No such command 'scroe'"), (["score"], "Missing argument"), (["run"], "Missing option '--config'")],
    ids=["command", "argument", "option"],
)
def test_what_cannot_be_a_command_is_told_with_the_way_to_help(arguments: list[str], told: str) -> None:
    answer = edge_asd(*arguments)

    assert answer.returncode == 2
    assert told in answer.stderr
    assert "--help" in answer.stderr


# Score ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recordings_of_all_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good recordings and everything that is not one."""
    folder = tmp_path_factory.mktemp("recordings")
    fan = render_clip(machine("fan"), Room(), Condition(), 10 * RATE, 7)
    soundfile.write(folder / "good.wav", fan, RATE, "FLOAT")
    soundfile.write(folder / "hifi.wav", resample(fan, 441_000), 44_100, "FLOAT")
    soundfile.write(folder / "short.wav", fan[:4_800], RATE, "FLOAT")
    tiled = np.resize(fan[:4_800], 2 * RATE)
    tiled[::4_801] += 1e-6  # what repeats itself to the last bit is no microphone
    soundfile.write(folder / "tiled.wav", tiled, RATE, "FLOAT")
    soundfile.write(folder / "stereo.wav", np.stack([fan[::-1], fan], axis=1), RATE, "FLOAT")
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "nan.wav", np.where(np.arange(fan.size) == 5, np.nan, fan), RATE, "FLOAT")
    soundfile.write(folder / "nothing.wav", np.zeros(0), RATE)
    written(folder / "text.wav", "this is no sound\n")
    (folder / "empty.wav").touch()
    (folder / "cut.wav").write_bytes((folder / "good.wav").read_bytes()[:-1000])
    return folder


def score(folder: Path, *names: str) -> tuple[subprocess.CompletedProcess[str], dict[str, dict[str, Any]]]:
    """The answer, and what it says of each file."""
    answer = edge_asd("score", *(folder / name for name in names), "--head", FAN, "--json")
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    return answer, {Path(line["file"]).name: line for line in lines}


def test_bad_recordings_are_told_one_line_each_and_the_others_scored(recordings_of_all_kinds: Path) -> None:
    bad = {
        "text.wav": "is no audio file that can be read, use WAV or FLAC",
        "empty.wav": "is no audio file that can be read, use WAV or FLAC",
        "nothing.wav": "is empty: it has no samples",
        "cut.wav": "is truncated: its header promises 640000 bytes of audio, 639000 are there",
        "nan.wav": "holds 1 samples that are NaN or infinite: record it again",
        "silent.wav": "is silent, which says nothing of a machine; record it again",
        "stereo.wav": "has 2 channels: pick one with channel = 1 to 2",
        "missing.wav": "is no file",
        "a" * 300: "is no file",
        ".": "is no file",
    }
    answer, scored = score(recordings_of_all_kinds, "good.wav", *bad, "short.wav")

    assert answer.returncode == 1
    assert list(scored) == ["good.wav", "short.wav"]
    said = answer.stderr.splitlines()
    assert len(said) == len(bad)
    for line, (name, why) in zip(said, bad.items(), strict=True):
        assert line.startswith(f"error: {recordings_of_all_kinds / name} {why}")


def test_other_rates_are_resampled_and_short_recordings_repeated(recordings_of_all_kinds: Path) -> None:
    answer, scored = score(recordings_of_all_kinds, "good.wav", "hifi.wav", "short.wav", "tiled.wav")
    good, hifi, short, tiled = scored.values()

    assert answer.returncode == 0
    assert hifi["level_dbfs"] == pytest.approx(good["level_dbfs"], abs=0.1)
    # only these: spectra and the network hear that the resampler's filter takes away the topmost of the band
    assert hifi["parts"]["indicators"] == pytest.approx(good["parts"]["indicators"], abs=0.05)
    assert hifi["samples"] == 160_000
    network = short["parts"].pop("network"), tiled["parts"].pop("network")
    assert network[0] == pytest.approx(network[1], abs=0.1)  # a millionth may round an activation of int8 otherwise
    assert short["parts"] == pytest.approx(tiled["parts"], abs=0.01)
    assert (short["samples"], tiled["samples"]) == (4_800, 32_000)


def test_below_its_filter_the_resampler_changes_nothing_that_is_heard(tmp_path: Path) -> None:
    fan = render_clip(machine("fan"), Room(), Condition(), 10 * RATE, 7)
    low = sosfiltfilt(butter(12, 6_500, fs=RATE, output="sos"), fan)
    soundfile.write(tmp_path / "low.wav", low, RATE, "FLOAT")
    soundfile.write(tmp_path / "hifi.wav", resample(low, 441_000), 44_100, "FLOAT")
    plain, resampled = (clip["parts"] for clip in score(tmp_path, "low.wav", "hifi.wav")[1].values())

    assert resampled["indicators"] == pytest.approx(plain["indicators"], abs=0.001)
    assert resampled["network"] == pytest.approx(plain["network"], rel=0.01)


def test_a_score_has_its_parts_and_what_is_made_of_it(recordings_of_all_kinds: Path) -> None:
    _, scored = score(recordings_of_all_kinds, "good.wav")
    said = scored["good.wav"]

    assert set(said["parts"]) == {"indicators", "spectrum", "neighbour", "network"}
    z = said["parts"]
    assert said["score"] == pytest.approx((sum(z.values()) - 0.75 * z["network"]) / 3.25)
    assert (said["samples"], len(said["segment_scores"])) == (160_000, 8)
    assert 1 <= said["health_index"] <= 10
    assert said["surprise"] >= 0


def test_the_table_is_read_as_well_when_piped_and_a_channel_can_be_picked(recordings_of_all_kinds: Path) -> None:
    files = [recordings_of_all_kinds / name for name in ("good.wav", "stereo.wav")]
    mono = edge_asd("score", files[0], "--head", FAN)
    second = edge_asd("score", files[1], "--head", FAN, "--channel", 2)

    assert mono.returncode == second.returncode == 0
    head, row = (line.split() for line in mono.stdout.splitlines())
    assert head == ["file", "surprise", "health", "score", "level", "dBFS", "parts"]
    assert row[0] == str(files[0])
    assert second.stdout.splitlines()[1].split()[1:] == row[1:], "the second channel is the mono recording"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--head", "valve"], f"builtin.asd: no head 'valve'; choose one of {FAN}, rendered/valve/00"),
        ([], f"builtin.asd: no head was named; choose one of {FAN}, rendered/valve/00"),
        (["--bundle", "nowhere.asd"], "no bundle at nowhere.asd; export one with: python -m train export RUN"),
        (["--bundle", __file__], "is no bundle, or is damaged (it does not begin like one); copy it here again"),
    ],
    ids=["unknown head", "no head", "no bundle", "another file"],
)
def test_a_bundle_or_head_that_is_not_there_is_told_with_what_is(arguments: list[str], told: str) -> None:
    assert told in refusal(1, "score", "unread.wav", *arguments)


# Check ----------------------------------------------------------------------------------------------------------------


def findings(config: Path) -> tuple[int, dict[str, str]]:
    """The exit code and, by what was looked at, the line said of it."""
    answer = edge_asd("check", "--config", config)
    assert answer.stderr == ""
    lines = answer.stdout.splitlines()
    assert all(line.startswith(("ok    ", "FAIL  ")) for line in lines)
    return answer.returncode, {line[6:].partition(": ")[0]: line for line in lines}


@pytest.mark.system
def test_all_is_well_with_the_shipped_settings_but_for_a_microphone(tmp_path: Path, broker: Broker) -> None:
    shipped = (Path(__file__).parents[1] / "deploy" / "edge-asd.toml").read_text()
    text = shipped.replace('"microphone:name:default"', '"render:valve"').replace("9464", str(free_port()))
    text = text.replace("# [mqtt]", "[mqtt]").replace('# host = "broker.example"', 'host = "127.0.0.1"')
    text = text.replace("# port = 1883", f"port = {broker.port}")
    code, said = findings(written(tmp_path / "edge-asd.toml", text))

    assert code == 0
    assert list(said) == ["config", "bundle of machine1", "source mic0", "metrics", "broker"]
    assert all(line.startswith("ok  ") for line in said.values())
    assert "golden test passed" in said["bundle of machine1"]


def test_everything_that_is_missing_is_told_at_once_with_what_to_do(tmp_path: Path) -> None:
    good = bundle(tmp_path / "good.asd")
    bad = tampered(bundle(tmp_path / "bad.asd"))
    away = free_port()
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = somebody.getsockname()[1]
        code, said = findings(
            written(
                tmp_path / "edge-asd.toml",
                f"""
                metrics.listen = "127.0.0.1:{taken}"
                mqtt = {{host = "127.0.0.1", port = {away}}}
                sources.mic = {{input = "microphone:{STRANGER}"}}
                sources.gone = {{input = "file:{tmp_path}/gone.wav"}}
                sources.moon = {{input = "render:moon"}}
                machines.a = {{source = "mic", bundle = "{good}"}}
                machines.b = {{source = "gone", bundle = "{tmp_path}/nowhere.asd"}}
                machines.c = {{source = "moon", bundle = "{bad}"}}
                machines.d = {{source = "moon"}}
                """,
            )
        )

    assert code == 1
    assert said.pop("config").startswith("ok  ")
    assert said.pop("bundle of a").startswith("ok  ")
    expected = {
        "bundle of b": f"no bundle at {tmp_path}/nowhere.asd; export one with: python -m train export RUN --out",
        "bundle of c": f"{bad}: {HEADS} has digest ",
        "bundle of d": f"no head was named; choose one of {FAN}, ",
        "source mic": f"no microphone is called '{STRANGER}', there are: ",
        "source gone": f"{tmp_path}/gone.wav is no file",
        "source moon": "cannot render a machine called 'moon', choose one of fan, valve",
        "metrics": f"cannot listen on 127.0.0.1:{taken}: address already in use; set metrics.listen to another port",
        "broker": f"mqtt.port {away}: tcp: 127.0.0.1:{away} refuses connections; start the broker, ",
    }
    assert list(said) == list(expected)
    for what, told in expected.items():
        assert said[what].startswith("FAIL  ")
        assert told in said[what]


def test_a_pipe_is_checked_at_the_rate_that_is_written_to_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sound")
    with (tmp_path / "sound").open("r+b", buffering=0) as writer:
        writer.write(bytes(1600))
        _, said = findings(
            written(
                tmp_path / "edge-asd.toml",
                f"""
                metrics.listen = ""
                sources.line = {{input = "pcm:{tmp_path}/sound", format = "s16le", rate = 8000}}
                machines.a = {{source = "line", bundle = "{bundle(tmp_path / "good.asd")}"}}
                """,
            )
        )
    assert said["source line"] == "ok    source line: delivers sound"


@pytest.mark.system
def test_a_broker_that_wants_a_password_says_so(tmp_path: Path, broker_with_password: Broker) -> None:
    text = f"""
        metrics.listen = ""
        mqtt = {{host = "127.0.0.1", port = {broker_with_password.port}}}
        sources.fan = {{input = "render:fan"}}
        machines.fan = {{source = "fan", head = "{FAN}"}}
        """
    code, said = findings(written(tmp_path / "edge-asd.toml", text))

    assert code == 1
    assert [what for what, line in said.items() if line.startswith("FAIL")] == ["broker"]
    assert "the broker refuses us: not authorized; set mqtt.username and mqtt.password" in said["broker"]


def test_every_mistake_in_the_settings_fails_on_a_line_of_its_own(tmp_path: Path) -> None:
    text = 'nodes = "a"\n[sources.mic]\ninptu = "render:fan"\n[machines.fan]\nsource = "mic"\n'
    answer = edge_asd("check", "--config", written(tmp_path / "edge-asd.toml", text))

    assert answer.returncode == 1
    lines = answer.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"FAIL  config: {tmp_path}/edge-asd.toml: ") for line in lines)
    assert any("nodes: is unknown; did you mean node" in line for line in lines)
    assert any("sources.mic.inptu: is unknown; did you mean input" in line for line in lines)


# Run ------------------------------------------------------------------------------------------------------------------

REPLAY = """
    node = "node1"
    mqtt = {{host = "127.0.0.1", port = {port}}}
    metrics.listen = "127.0.0.1:{metrics}"
    sources.replay = {{input = "file:{folder}/mic.wav", loop = true, speed = 10}}
    machines.pump = {{source = "replay", bundle = "{folder}/toy.asd"}}
    """


def replay(folder: Path, port: int, metrics: int, more: str = "") -> Path:
    """Settings that play a recording to a toy bundle."""
    bundle(folder / "toy.asd")
    soundfile.write(folder / "mic.wav", noise(10, 5 * RATE), RATE)
    return written(folder / "edge-asd.toml", REPLAY.format(port=port, metrics=metrics, folder=folder) + more)


@contextmanager
def daemon(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Running; ended by the test, or killed."""
    with log.open("wb") as out, subprocess.Popen(command("run", "--config", config), stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.kill()


def events(log: Path) -> list[dict[str, Any]]:
    """What the daemon has logged, which must be nothing but lines of JSON."""
    whole = log.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def metric(port: int, series: str) -> float:
    """Its value now; 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as page:
            lines = page.read().decode().splitlines()
    except OSError:
        return 0.0
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(series)), 0.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes = 1\n", "nodes: is unknown; did you mean node"),
        ('metrics.listen = "127.0.0.1:99999"\n', "metrics.listen: need HOST:PORT with a port up to 65535"),
        ('sources.mic.fault = "rust"\n', "sources.mic: a fan has no fault called 'rust', choose one of imbalance, "),
        ('sources.mic.input = "pigeon:post"\n', "sources.mic: cannot listen to 'pigeon:post', use one of microphone:"),
    ],
    ids=["unknown", "port", "fault", "input"],
)
def test_a_broken_setting_ends_the_daemon_with_a_code_that_systemd_heeds(tmp_path: Path, text: str, told: str) -> None:
    """RestartPreventExitStatus=78."""
    rest = 'machines.fan = {source = "mic", head = "rendered/fan/00"}\n'
    own = "" if "sources.mic.input" in text else 'sources.mic.input = "render:fan"\n'

    assert told in refusal(78, "run", "--config", written(tmp_path / "edge-asd.toml", text + own + rest))


def test_settings_that_are_not_there_are_named() -> None:
    assert refusal(78, "run", "--config", "nowhere.toml") == "nowhere.toml: cannot be read: no such file or directory"


def test_a_port_that_is_taken_ends_the_daemon_with_advice(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = somebody.getsockname()[1]
        with daemon(replay(tmp_path, free_port(), taken), tmp_path / "log") as process:
            assert process.wait(PATIENCE) == 78

    said = (tmp_path / "log").read_text()
    assert f"error: metrics.listen: cannot listen on 127.0.0.1:{taken} (address already in use); choose another" in said
    assert "Traceback" not in said


def test_a_bundle_that_was_tampered_with_is_not_run(tmp_path: Path) -> None:
    config = replay(tmp_path, free_port(), 0)
    tampered(tmp_path / "toy.asd")

    assert f"toy.asd: {HEADS} has digest" in refusal(1, "run", "--config", config)


def test_without_its_broker_the_daemon_scores_on_says_so_once_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    away, metrics, log = free_port(), free_port(), tmp_path / "log"
    with daemon(replay(tmp_path, away, metrics), log) as process:
        attempts = 'edge_asd_mqtt_connects_total{outcome="unreachable"}'
        until(lambda: metric(metrics, attempts) >= 2, 2 * PATIENCE, log.read_text)
        clips = 'edge_asd_clips_total{machine="pump",outcome="scored"}'
        until(lambda: metric(metrics, clips) >= 3, PATIENCE, log.read_text)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0

    said = events(log)
    assert [e["reason"] for e in said if e["event"] == "mqtt.not_connected"] == [
        f"127.0.0.1:{away} cannot be reached: connection refused"
    ]
    assert said[-1]["event"] == "daemon.stopped"


@pytest.mark.system
def test_without_its_microphone_the_daemon_announces_it_lost_and_serves_the_other_machine(
    tmp_path: Path, broker: Broker
) -> None:
    deaf = f"""
        sources.mic = {{input = "microphone:{STRANGER}"}}
        machines.deaf = {{source = "mic", bundle = "{tmp_path}/toy.asd"}}
        """
    recorder, log = broker.subscribe("edge_asd/v1/node1/#"), tmp_path / "log"
    with daemon(replay(tmp_path, broker.port, 0, deaf), log) as process:
        lost = recorder.wait_for(
            lambda m: m.topic.endswith("source/mic/state") and b'"lost"' in m.payload, 2 * PATIENCE
        )
        assert f"no microphone is called '{STRANGER}'" in lost.json()["reason"]
        recorder.wait_for(lambda m: m.topic.endswith("deaf/availability") and m.payload == b"offline")
        recorder.wait_for(lambda m: m.topic.endswith("pump/availability") and m.payload == b"online")
        later = len(recorder.messages)
        recorder.wait_for(lambda m: m in recorder.messages[later:] and m.topic.endswith("pump/score"))
        process.terminate()
        assert process.wait(5) == 0

    recorder.wait_for(lambda m: m.topic.endswith("node1/status") and m.payload == b"stopped")
    assert events(log)[-1]["event"] == "daemon.stopped"


# Demo -----------------------------------------------------------------------------------------------------------------


@pytest.mark.system
def test_the_demo_hears_the_fault_and_tells_a_pipe_and_a_broker(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = broker.subscribe("edge_asd/v1/demo/#")

    assert demo("valve", "leak", (broker.host, broker.port), as_json=True, speed=0)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    scores = [line for line in lines if line["event"] == "score"]
    alarms = [line for line in lines if line["event"] == "activated"]
    assert len(scores) == 12
    assert [line["machine"] for line in alarms] == ["valve"]
    third = lines.index(alarms[0])  # the third of three in a row
    assert all(line["surprise"] > line["threshold"] for line in lines[third - 3 : third])
    assert recorder.wait_for(lambda m: m.topic.endswith("valve/event")).json()["event"] == "activated"
    assert recorder.wait_for(lambda m: m.topic.endswith("valve/score")).json()["health_index"] in range(1, 11)
    recorder.wait_for(lambda m: m.topic.endswith("valve/alarm") and b'"active' in m.payload)
    recorder.wait_for(lambda m: m.topic.endswith("demo/status") and m.payload == b"stopped")


def test_the_demo_piped_is_a_line_a_clip_and_the_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo("fan", "bearing", None, as_json=False, speed=0)
    lines = capsys.readouterr().out.splitlines()

    assert sum("surprise" in line for line in lines) == 12
    assert sum(line == "ALARM activated: fan" for line in lines) == 1
    assert re.fullmatch(
        r"the alarm was raised; what was heard: network [\d.]+ σ; \w+ [\d.]+ σ: .* [+-][\d.]+ dB", lines[-1]
    )
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--machine", "moon"], "cannot render a machine called 'moon', choose one of fan, valve"),
        (["--machine", "fan", "--fault", "leak"], "a fan has no fault called 'leak', choose one of imbalance, "),
        (["--mqtt", "broker"], "--mqtt wants HOST:PORT, such as localhost:1883, got 'broker'"),
        (["--mqtt", "broker:99999"], "--mqtt wants HOST:PORT, such as localhost:1883, got 'broker:99999'"),
        (["--mqtt", "the broker:1883"], "--mqtt wants HOST:PORT, such as localhost:1883, got 'the broker:1883'"),
    ],
)
def test_a_demo_of_what_cannot_be_is_refused_with_what_can(arguments: list[str], told: str) -> None:
    assert told in refusal(78, "demo", *arguments)


def test_a_demo_of_a_machine_that_the_package_has_not_learnt_is_refused() -> None:
    told = "no head 'rendered/pump/00'; choose one of rendered/fan/00, rendered/valve/00"
    assert told in refusal(1, "demo", "--machine", "pump")


def test_a_demo_that_is_interrupted_says_nothing_of_alarms_and_that_its_broker_is_away() -> None:
    away = free_port()
    arguments = command("demo", "--json", "--mqtt", f"127.0.0.1:{away}")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert json.loads(process.stdout.readline())["event"] == "score"
            process.send_signal(signal.SIGINT)
            rest, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()

    assert (process.returncode, rest) == (130, "")
    away_line, stopped = said.splitlines()
    assert f"127.0.0.1:{away} cannot be reached" in away_line
    assert stopped == "stopped before anything could be said"


def test_a_demo_whose_reader_goes_away_ends_quietly() -> None:
    with subprocess.Popen(command("demo"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert "surprise" in process.stdout.readline()
            process.stdout.close()
            said = process.stderr.read() if process.stderr else ""
            process.wait(PATIENCE)
        finally:
            process.kill()

    assert said == ""


# Devices and bench ----------------------------------------------------------------------------------------------------

NO_LIBRARY = "import ctypes.util as u; u.find_library = lambda _: None\n"
NO_DEVICES = "import sounddevice; sounddevice.query_devices = lambda *_: ()\n"


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (NO_LIBRARY, 1, "error: the PortAudio library is missing: apt install libportaudio2\n"),
        (NO_DEVICES, 0, "no microphone found; is it plugged in, and may this user read /dev/snd?\n"),
    ],
    ids=["no library", "no device"],
)
def test_a_computer_without_microphones_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, code: int, told: str
) -> None:
    written(tmp_path / "sitecustomize.py", change)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    answer = edge_asd("devices")

    assert (answer.returncode, answer.stdout + answer.stderr) == (code, told)


def test_bench_compares_the_graphs_that_the_bundle_carries(tmp_path: Path) -> None:
    """The built-in bundle carries one; with a second one, which is the same here, there is a ratio."""
    files = contents(BUILTIN)
    both = resealed(tmp_path / "both.asd", files | {"backbone.fp32.onnx": files["backbone.int8.onnx"]})

    def ratios(path: Path) -> dict[str, float | None]:
        answer = edge_asd("bench", "--bundle", path, "--head", FAN, "--rounds", 15, "--json")
        assert answer.returncode == 0
        said = json.loads(answer.stdout)
        assert 0 < said["real_time_factor"] < 1
        assert all(stage["seconds"] > 0 for stage in said["stages"])
        return {stage["stage"]: stage["ratio"] for stage in said["stages"] if stage["stage"].startswith("backbone")}

    assert ratios(BUILTIN) == {"backbone int8, a segment": None}
    compared = ratios(both)
    assert list(compared) == ["backbone int8, a segment", "backbone fp32, a segment"]
    assert compared["backbone fp32, a segment"] == 1.0
    assert 0.3 < (compared["backbone int8, a segment"] or 0) < 3
