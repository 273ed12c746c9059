"""The services of conftest.py do what the other tests rely on."""

from __future__ import annotations

import http.server
import json
import math
import struct
import subprocess
import sys
import textwrap
import threading
import wave
from typing import TYPE_CHECKING

import paho.mqtt.publish
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Broker, Prometheus, PulseMicrophone

pytestmark = pytest.mark.system


def test_a_recorder_is_given_what_is_published(broker: Broker) -> None:
    recorder = broker.subscribe("edge/#")
    paho.mqtt.publish.single("edge/score", b'{"surprise": 3.5}', qos=1, hostname=broker.host, port=broker.port)
    message = recorder.wait_for(lambda message: message.topic == "edge/score")
    assert message.json() == {"surprise": 3.5}
    assert not message.retain


def test_a_recorder_that_waits_in_vain_says_what_came(broker: Broker) -> None:
    recorder = broker.subscribe("#")
    paho.mqtt.publish.single("edge/score", b"17", qos=1, hostname=broker.host, port=broker.port)
    recorder.wait_for(lambda message: message.payload == b"17")
    with pytest.raises(AssertionError, match="edge/score b'17'"):
        recorder.wait_for(lambda message: message.topic == "edge/alarm", timeout=0.01)


def test_a_recorder_comes_back_with_the_broker(broker: Broker) -> None:
    recorder = broker.subscribe("edge/#")
    broker.kill()
    broker.start()
    message = {"payload": b"again", "qos": 1, "retain": True}  # retained: it may come before the recorder does
    paho.mqtt.publish.single("edge/status", **message, hostname=broker.host, port=broker.port)
    assert recorder.wait_for(lambda message: message.topic == "edge/status").payload == b"again"


def test_a_broker_with_a_password_turns_strangers_away(broker_with_password: Broker) -> None:
    broker = broker_with_password
    recorder = broker.subscribe("#")
    command = ["mosquitto_pub", "-h", broker.host, "-p", str(broker.port), "-t", "edge/score", "-m", "1"]
    stranger = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "not authorised" in stranger.stderr
    name, password = broker.credentials or ("", "")
    auth = {"username": name, "password": password}
    paho.mqtt.publish.single("edge/score", b"2", qos=1, hostname=broker.host, port=broker.port, auth=auth)
    assert recorder.wait_for(lambda _: True).payload == b"2"


@pytest.fixture
def sine(tmp_path: Path) -> Path:
    """Three seconds of 440 Hz at half of full scale."""
    path, rate = tmp_path / "sine.wav", 16000
    samples = [round(16384 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(3 * rate)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return path


HEAR = """
    import json
    import numpy as np, sounddevice
    with sounddevice.RawInputStream(16000, 1600, "default", 1, "float32") as stream:
        print("open", flush=True)
        heard = np.concatenate([np.frombuffer(stream.read(1600)[0], np.float32) for _ in range(40)])
    first = int(np.argmax(np.abs(heard) > 0.1))
    second = heard[first + 8000 :][:16000]
    spectrum = np.abs(np.fft.rfft(second * np.hanning(second.size)))
    print(json.dumps({"hertz": int(np.argmax(spectrum)), "rms": float(np.sqrt(np.mean(second**2)))}))
"""


def test_the_microphone_hears_what_is_played(pulse_microphone: PulseMicrophone, sine: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(HEAR)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "open\n"
        assert pulse_microphone.play(sine).wait(10) == 0
        heard = json.loads(child.stdout.readline())
    assert heard["hertz"] == 440
    assert heard["rms"] == pytest.approx(0.5 / math.sqrt(2), rel=0.001)


class Metrics(http.server.BaseHTTPRequestHandler):
    """One gauge."""

    def do_GET(self) -> None:
        """Answer a scrape."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b"edge_asd_score 3.5\n")

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def metrics() -> Iterator[int]:
    """The port of a page with one gauge."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_prometheus_scrapes_the_page_it_is_given(prometheus: Callable[[int], Prometheus], metrics: int) -> None:
    store = prometheus(metrics)
    assert store.wait_for("edge_asd_score > 3")[0]["value"][1] == "3.5"
    assert store.query("edge_asd_score > 4") == []
