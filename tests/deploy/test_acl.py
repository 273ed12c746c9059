"""The broker's example settings, as they are shipped, in a real mosquitto."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.deliver.command import ALLOWED
from edge_asd.deliver.discovery import Discovery
from edge_asd.deliver.message import Message, Status, Verb
from edge_asd.deliver.topic import Topics
from tests.conftest import PATIENCE, Broker
from tests.deliver.scene import HEALTH, everything

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "mosquitto"
HOME = "/etc/mosquitto/edge_asd"
NODES = ("press-hall-3", "press-hall-4")
PEOPLE = ("viewer", "operator", "engineer", "homeassistant")
T = TypeVar("T")
OURS, THEIRS = (Topics(node) for node in NODES)


@dataclass
class Guarded(Broker):
    """A broker with the shipped settings; only places and the port are others."""

    def _settings(self) -> Iterator[str]:
        (self.folder / "acl").write_text((SHIPPED / "acl").read_text())
        self._certificate()
        for user in (*NODES, *PEOPLE):
            create = [] if (self.folder / "passwords").exists() else ["-c"]
            command = ["mosquitto_passwd", *create, "-b", str(self.folder / "passwords"), user, f"secret of {user}"]
            subprocess.run(command, check=True, capture_output=True)
        text = (SHIPPED / "mosquitto.conf").read_text()
        yield text.replace(HOME, str(self.folder)).replace("listener 8883", f"listener {self.port} {self.host}")
        yield "user root"  # only heeded when started as root: the folder of a test is closed to other users

    def _certificate(self) -> None:
        files = ["-keyout", str(self.folder / "broker.key"), "-out", str(self.folder / "broker.pem")]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        subject = ["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(["openssl", "req", "-x509", *key, *files, *subject], check=True, capture_output=True)


class Peer:
    """Somebody at the broker, who is told what became of each publication."""

    def __init__(self, broker: Broker, user: str, password: str | None = None) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._news = threading.Condition()
        self._connected: deque[str] = deque()
        self._answers: dict[int, str] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.username_pw_set(user, password or f"secret of {user}")
        self._client.tls_set_context(ssl.create_default_context(cafile=broker.folder / "broker.pem"))
        self._client.on_connect = lambda _c, _d, _f, reason, _p: self._note(self._connected.append, str(reason))
        self._client.on_publish = lambda _c, _d, mid, reason, _p: self._answered(mid, str(reason))
        self._client.on_subscribe = lambda _c, _d, mid, _r, _p: self._answered(mid, "granted")
        self._client.on_message = lambda _c, _d, m: self._note(self.got.append, (m.topic, m.payload))
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        self.welcome = self._wait(lambda: self._connected[0] if self._connected else "")

    def subscribe(self, topic_filter: str) -> None:
        """Mosquitto grants any subscription, and delivers what may be read."""
        _, mid = self._client.subscribe(topic_filter, qos=1)
        self._wait(lambda: self._answers.get(mid or 0, ""))

    def say(self, topic: str, payload: bytes = b"", *, retain: bool = False) -> bool:
        """Whether the broker took it."""
        mid = self._client.publish(topic, payload, qos=1, retain=retain).mid
        return self._wait(lambda: self._answers.get(mid, "")) != "Not authorized"

    def hears(self, topic: str) -> None:
        """Wait for a message there."""
        self._wait(lambda: "yes" if any(topic == came for came, _ in self.got) else "")

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_connect = self._client.on_publish = self._client.on_subscribe = self._client.on_message = None
        del self._client  # paho closes its own sockets only when nobody knows it any more

    def _answered(self, mid: int, reason: str) -> None:
        with self._news:
            self._answers[mid] = reason
            self._news.notify_all()

    def _note(self, where: Callable[[T], None], what: T) -> None:
        with self._news:
            where(what)
            self._news.notify_all()

    def _wait(self, what: Callable[[], str]) -> str:
        with self._news:
            assert self._news.wait_for(what, PATIENCE), f"nothing within {PATIENCE:g} s; came: {self.got}"
            return str(what())


Peers: TypeAlias = Callable[[str], Peer]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path_factory.mktemp("guarded"))
    try:
        guarded.start()
        yield guarded
    finally:
        guarded.close()


@pytest.fixture
def peers(broker: Guarded) -> Iterator[Peers]:
    known: dict[str, Peer] = {}

    def named(user: str) -> Peer:
        if user not in known:
            known[user] = Peer(broker, user)
        return known[user]

    yield named
    for peer in known.values():
        peer.close()


def own() -> Iterator[Message]:
    """All that a node publishes."""
    discovery = Discovery(OURS, "0.1.0")
    yield from everything()
    yield OURS.status(Status.ONLINE)
    yield OURS.availability("pump1", online=True)
    yield discovery.node(["mic0"], HEALTH)
    yield discovery.machine("pump1", "mic0", 10.0)


def test_a_node_may_say_all_that_it_has_to_say(peers: Peers) -> None:
    node = peers(NODES[0])
    topics = {message.topic for message in own()} | {f"{OURS.replies}ack", OURS.probe}

    assert {topic for topic in topics if not node.say(topic)} == set()


def test_a_node_may_say_nothing_in_the_place_of_another(peers: Peers) -> None:
    node = peers(NODES[0])
    topics = {message.topic.replace(*NODES) for message in own()}
    topics |= {THEIRS.roll_call, f"{THEIRS.root}/cmd/ack", "homeassistant/status", "edge_asd/v2/x", "elsewhere"}

    assert {topic for topic in topics if node.say(topic)} == set()


def test_a_node_hears_its_own_commands_and_nothing_of_others(peers: Peers) -> None:
    mine, other, engineer = peers(NODES[0]), peers(NODES[1]), peers("engineer")
    mine.subscribe("#")
    assert other.say(f"{THEIRS.root}/machine/pump1/alarm", b"{}")
    assert engineer.say(f"{THEIRS.root}/cmd/restart", b"{}")
    assert mine.say(f"{OURS.root}/machine/pump1/alarm", b"{}")
    told = [f"{OURS.root}/cmd/ack", OURS.roll_call]
    assert [engineer.say(topic, b"{}") for topic in told] == [True, True]
    assert mine.say(OURS.probe, b"1")  # read back by `edge-asd mqtt test`
    mine.hears(OURS.probe)  # the last of all: what could have come has come

    assert [topic for topic, _ in mine.got] == [*told, OURS.probe]


def test_home_assistant_finds_devices_and_a_node_hears_of_its_start(peers: Peers) -> None:
    node, home = peers(NODES[0]), peers("homeassistant")
    node.subscribe("homeassistant/status")
    home.subscribe("homeassistant/#")
    device = Discovery(OURS, "0.1.0").machine("pump1", "mic0", 10.0)
    assert home.say("homeassistant/status", b"online")
    assert node.say(device.topic, device.payload)

    node.hears("homeassistant/status")
    home.hears(device.topic)


@pytest.mark.parametrize(
    ("user", "verbs"),
    [
        ("viewer", set()),
        ("operator", ALLOWED - {Verb.DISCOVERY}),
        ("engineer", set(Verb)),
        ("homeassistant", set(Verb)),
    ],
)
def test_people_may_command_what_is_theirs_to_command(peers: Peers, user: str, verbs: set[Verb]) -> None:
    somebody = peers(user)
    somebody.subscribe("edge_asd/v1/#")

    assert {verb for verb in Verb if somebody.say(f"{OURS.root}/cmd/{verb}")} == verbs
    assert not somebody.say(f"{OURS.root}/machine/pump1/alarm", b"{}")
    assert peers(NODES[0]).say(f"{OURS.root}/machine/pump1/alarm", b"{}")
    somebody.hears(f"{OURS.root}/machine/pump1/alarm")


def test_nobody_comes_in_with_a_wrong_password(broker: Guarded) -> None:
    peer = Peer(broker, NODES[0], "guessed")
    try:
        assert peer.welcome == "Not authorized"
    finally:
        peer.close()
