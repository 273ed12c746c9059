"""Every usual reason not to reach a broker, made for real, and the advice that goes with it."""

from __future__ import annotations

import socket
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest

from edge_asd.deliver.message import Status
from edge_asd.deliver.probe import Stage, probe
from edge_asd.deliver.publisher import Broker, Tls
from edge_asd.deliver.topic import Topics
from edge_asd.errors import ConfigError
from tests.conftest import Broker as Mosquitto
from tests.conftest import free_port
from tests.deliver.cable import grudging, relay, saying

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Recorder

system = pytest.mark.system

TOPICS = Topics("node-1")
PROBE = "edge_asd/v1/node-1/probe"
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def probed(port: int, host: str = "127.0.0.1", patience: float = 5.0, **settings: Any) -> list[Stage]:  # noqa: ANN401
    return list(probe(Broker(host, port, **settings), TOPICS, patience))


def failure(stages: list[Stage], name: str) -> Stage:
    """The last stage, which must be this one and the only one that failed."""
    assert [stage.well for stage in stages] == [True] * (len(stages) - 1) + [False], stages
    assert stages[-1].name == name, stages
    assert all(stage.advice == "" for stage in stages[:-1])
    return stages[-1]


# All is well ----------------------------------------------------------------------------------------------------------


@system
def test_a_broker_that_is_well_passes_every_stage_and_keeps_nothing(broker: Mosquitto) -> None:
    said = broker.subscribe("#")
    stages = probed(broker.port)

    assert [stage.name for stage in stages] == ["dns", "tcp", "connect", "subscribe", "publish", "read back"]
    assert all(stage.well and stage.said and not stage.advice for stage in stages)
    assert all(0 <= stage.seconds < 5 for stage in stages)
    said.wait_for(lambda message: message.topic == PROBE)
    assert kept(broker.subscribe("#"), broker) == set()


def kept(recorder: Recorder, broker: Mosquitto) -> set[str]:
    """Topics that the broker retains; the mark comes after them."""
    probed(broker.port)
    recorder.wait_for(lambda message: message.topic == PROBE)
    return {message.topic for message in recorder.messages if message.retain}


@system
def test_a_daemon_that_runs_is_not_disturbed(broker: Mosquitto) -> None:
    ended: list[object] = []
    daemon = paho.Client(paho.CallbackAPIVersion.VERSION2, "edge-asd-node-1")
    daemon.on_disconnect = lambda *_: ended.append(1)
    daemon.connect("127.0.0.1", broker.port)
    daemon.loop_start()
    probed(broker.port)
    assert daemon.publish(TOPICS.status(Status.ONLINE).topic, b"", 1).rc == 0
    assert ended == []
    daemon.disconnect()
    daemon.loop_stop()


@system
def test_an_old_broker_is_tried_in_its_own_words(broker: Mosquitto) -> None:
    with relay(broker.port, refuse_mqtt_5=True) as cable:
        stages = probed(cable.port)

    assert all(stage.well for stage in stages)
    assert "mqtt 3.1.1" in stages[2].said


# Not reached ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_an_unknown_name(host: str) -> None:
    failed = failure(probed(1883, host), "dns")

    assert host in failed.said
    assert "mqtt.host" in failed.advice


def test_a_port_where_nobody_listens() -> None:
    failed = failure(probed(free_port()), "tcp")

    assert "refuses connections" in failed.said
    assert "start the broker" in failed.advice


def test_a_port_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for waiting in (first, second):  # the queue is full: further callers are not answered
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        failed = failure(probed(full.getsockname()[1], patience=0.3), "tcp")

    assert "does not answer within 0.3 s" in failed.said
    assert "firewall" in failed.advice


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_port_of_something_else(answer: bytes) -> None:
    with saying(answer) as port:
        failed = failure(probed(port), "connect")

    assert "does not answer as an mqtt broker does" in failed.said
    assert "mqtt.port" in failed.advice


def test_a_port_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        failed = failure(probed(silent.getsockname()[1], patience=0.3), "connect")

    assert "does not answer as an mqtt broker does" in failed.said


# Encryption -----------------------------------------------------------------------------------------------------------


@dataclass
class TlsMosquitto(Mosquitto):
    """Shows the certificates of an authority: good, expired, of another name; one listener wants to see ours."""

    good: int = field(default_factory=free_port)
    expired: int = field(default_factory=free_port)
    other: int = field(default_factory=free_port)
    mutual: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.issue("authority", "-x509", "-addext", "basicConstraints=critical,CA:TRUE")
        self.issue("stranger", "-x509", "-addext", "basicConstraints=critical,CA:TRUE")
        for name, address, days in (("good", "127.0.0.1", 2), ("expired", "127.0.0.1", -1), ("other", "10.9.8.7", 2)):
            self.issue(name)
            self.sign(name, address, days)
        self.issue("node")
        self.sign("node", "127.0.0.1", 2)
        super().__post_init__()

    def issue(self, name: str, *more: str) -> None:
        """A key, and a request or a certificate of its own."""
        files = ["-keyout", str(self.folder / f"{name}.key"), "-out", str(self.folder / f"{name}.pem")]
        self.openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/CN={name}",
            *files,
            *more,
        )

    def sign(self, name: str, address: str, days: int) -> None:
        """By the authority."""
        (self.folder / "names").write_text(f"subjectAltName=IP:{address}\n")
        authority = ["-CA", str(self.folder / "authority.pem"), "-CAkey", str(self.folder / "authority.key")]
        file = str(self.folder / f"{name}.pem")
        names = ["-extfile", str(self.folder / "names")]
        self.openssl(
            "x509", "-req", "-in", file, "-out", file, "-days", str(days), "-CAcreateserial", *authority, *names
        )

    @staticmethod
    def openssl(*arguments: str) -> None:
        """Run it."""
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def _settings(self) -> Iterator[str]:
        yield from super()._settings()
        for name in ("good", "expired", "other", "mutual"):
            yield f"listener {getattr(self, name)} {self.host}"
            shown = "good" if name == "mutual" else name
            yield f"certfile {self.folder / shown}.pem"
            yield f"keyfile {self.folder / shown}.key"
        yield f"cafile {self.folder / 'authority.pem'}"
        yield "require_certificate true"

    def tls(self, trusted: str = "authority", shown: str | None = None) -> Tls:
        """Trust this authority, show this certificate."""
        pair = (self.folder / f"{shown}.pem", self.folder / f"{shown}.key") if shown else (None, None)
        return Tls(self.folder / f"{trusted}.pem", *pair)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsMosquitto]:
    broker = TlsMosquitto(tmp_path_factory.mktemp("tls"))
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@system
def test_an_encrypted_connection_is_a_stage_of_its_own(encrypted: TlsMosquitto) -> None:
    stages = probed(encrypted.good, tls=encrypted.tls())

    assert [stage.name for stage in stages] == ["dns", "tcp", "tls", "connect", "subscribe", "publish", "read back"]
    assert all(stage.well for stage in stages)
    assert stages[2].said == "TLSv1.3, the broker is verified"


@system
def test_what_is_not_verified_is_said(encrypted: TlsMosquitto) -> None:
    stages = probed(encrypted.expired, tls=Tls(insecure=True))

    assert stages[-1].well
    assert "not verified" in stages[2].said


@system
def test_our_certificate_may_be_wanted_and_accepted(encrypted: TlsMosquitto) -> None:
    assert probed(encrypted.mutual, tls=encrypted.tls(shown="node"))[-1].well


@system
@pytest.mark.parametrize(
    ("port", "trusted", "shown", "said", "advice"),
    [
        (
            "good",
            "stranger",
            None,
            "unable to get local issuer",
            "set mqtt.tls.ca_file to the pem file of the authority",
        ),
        ("expired", "authority", None, "certificate has expired", "renew the broker's certificate"),
        ("other", "authority", None, "ip address mismatch", "set mqtt.host to a name in the broker's certificate"),
        ("mutual", "authority", None, "wants a client certificate", "set mqtt.tls.cert and mqtt.tls.key"),
        (
            "mutual",
            "authority",
            "stranger",
            "does not accept our certificate",
            "signed by an authority that the broker",
        ),
        ("port", "authority", None, "does not speak tls", "remove the table [mqtt.tls], or set mqtt.port"),
    ],
)
def test_why_no_encrypted_connection_comes_about(
    encrypted: TlsMosquitto, port: str, trusted: str, shown: str | None, said: str, advice: str
) -> None:
    failed = failure(probed(getattr(encrypted, port), tls=encrypted.tls(trusted, shown)), "tls")

    assert said in failed.said
    assert advice in failed.advice


@system
@pytest.mark.parametrize("port", ["good", "mutual"])
def test_plain_words_to_an_encrypted_port(encrypted: TlsMosquitto, port: str) -> None:
    failed = failure(probed(getattr(encrypted, port)), "connect")

    assert "wants tls" in failed.said
    assert "[mqtt.tls]" in failed.advice


def test_a_certificate_authority_that_signs_itself_is_named(tmp_path: Path) -> None:
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "pem")]
    names = ["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1"]
    TlsMosquitto.openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *files, *names
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem", tmp_path / "key")
    with saying(b"", context) as port:
        failed = failure(probed(port, tls=Tls()), "tls")

    assert "self-signed" in failed.said
    assert "the broker's own certificate" in failed.advice


def test_a_certificate_that_cannot_be_read_is_the_operators_to_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        list(probe(Broker("127.0.0.1", 1, tls=Tls(tmp_path / "nowhere")), TOPICS))


# Not let in -----------------------------------------------------------------------------------------------------------


@system
def test_a_broker_that_wants_a_name(broker_with_password: Mosquitto) -> None:
    failed = failure(probed(broker_with_password.port), "connect")

    assert "not authorized" in failed.said
    assert failed.advice == "set mqtt.username and mqtt.password"


@system
def test_a_wrong_password_is_not_repeated(broker_with_password: Mosquitto) -> None:
    stages = probed(broker_with_password.port, username="listener", password="wrong horse")  # noqa: S106
    failed = failure(stages, "connect")

    assert "check mqtt.username, now listener" in failed.advice
    assert "wrong horse" not in str(stages)


@contextmanager
def serving(folder: Path, *settings: str) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, settings=settings)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@system
def test_an_acl_that_forbids_writing(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text(f"topic read {PROBE}\n")
    with serving(tmp_path, f"acl_file {tmp_path / 'acl'}") as broker:
        failed = failure(probed(broker.port), "publish")

    assert failed.said == f"{PROBE}: not authorized"
    assert failed.advice == f"let client edge-asd-node-1-probe write {PROBE} in the broker's acl"


@system
def test_an_acl_that_forbids_reading_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text(f"topic write {PROBE}\n")
    with serving(tmp_path, f"acl_file {tmp_path / 'acl'}") as broker:
        failed = failure(probed(broker.port, patience=0.5), "read back")

    assert "does not come back" in failed.said
    assert "read and write" in failed.advice


@system
def test_a_broker_that_refuses_subscriptions(tmp_path: Path) -> None:
    with serving(tmp_path, *grudging(tmp_path)) as broker:
        failed = failure(probed(broker.port), "subscribe")

    assert failed.said == f"{PROBE}: not authorized"
    assert f"read {PROBE}" in failed.advice


@system
def test_a_broker_that_hangs_up_on_what_it_forbids(broker: Mosquitto) -> None:
    with relay(broker.port) as cable:
        stages = probe(Broker("127.0.0.1", cable.port), TOPICS)
        seen = [next(stages) for _ in range(4)]
        cable.cut_after = 1
        seen += stages

    assert "hang up on what they forbid" in failure(seen, "publish").advice
