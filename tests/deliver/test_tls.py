"""Over TLS, against a real broker with a certificate of its own."""

from __future__ import annotations

import gc
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from edge_asd.deliver.mqtt import MqttPublisher
from edge_asd.deliver.publisher import Broker, Tls
from edge_asd.deliver.topic import Topics
from tests.conftest import Broker as Mosquitto
from tests.conftest import free_port
from tests.deliver.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.system


@dataclass
class TlsMosquitto(Mosquitto):
    """Has a second listener that shows a certificate and wants to see one."""

    tls_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        for name in ("broker", "node", "stranger"):
            files = ["-keyout", str(self.folder / f"{name}.key"), "-out", str(self.folder / f"{name}.pem")]
            subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
            command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *subject]
            subprocess.run(command, check=True, capture_output=True)
        super().__post_init__()

    def _settings(self) -> Iterator[str]:
        yield from super()._settings()
        yield f"listener {self.tls_port} {self.host}"
        yield f"certfile {self.folder / 'broker.pem'}"
        yield f"keyfile {self.folder / 'broker.key'}"
        yield f"cafile {self.folder / 'node.pem'}"
        yield "require_certificate true"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TlsMosquitto]:
    broker = TlsMosquitto(tmp_path)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@contextmanager
def publishing(broker: TlsMosquitto, tls: Tls) -> Iterator[MqttPublisher]:
    publisher = MqttPublisher(Broker(broker.host, broker.tls_port, tls=tls), Topics("node-1"), Shelf())
    try:
        yield publisher
    finally:
        publisher.close(timeout=2.0)


def mutual(folder: Path, authority: str, *, insecure: bool = False) -> Tls:
    return Tls(folder / f"{authority}.pem", folder / "node.pem", folder / "node.key", insecure)


def test_node_and_broker_prove_who_they_are(broker: TlsMosquitto, eventually: Callable[..., object]) -> None:
    with publishing(broker, mutual(broker.folder, "broker")) as publisher:
        eventually(lambda: publisher.traffic().connected, 10, lambda: publisher.traffic().trouble)
        assert not publisher.traffic().insecure


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a failed socket to the gc
def test_a_broker_that_cannot_prove_itself_is_not_spoken_to(
    broker: TlsMosquitto, eventually: Callable[..., object]
) -> None:
    with publishing(broker, mutual(broker.folder, "stranger")) as publisher:
        eventually(lambda: publisher.traffic().connects["unreachable"], 10, "the failure is counted")
        assert "certificate verify failed" in publisher.traffic().trouble
    gc.collect()  # here, where the warning is expected


def test_verification_can_be_switched_off_and_that_is_shown(
    broker: TlsMosquitto, eventually: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    with publishing(broker, mutual(broker.folder, "stranger", insecure=True)) as publisher:
        eventually(lambda: publisher.traffic().connected, 10, lambda: publisher.traffic().trouble)
        assert publisher.traffic().insecure
    assert "mqtt.insecure" in caplog.text
