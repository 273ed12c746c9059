"""Against a real broker that is killed, frozen, restarted without memory, and absent."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from edge_asd.deliver.message import Kind, Message, Status, Topics
from edge_asd.deliver.mqtt import MqttPublisher
from edge_asd.deliver.outbox import MemoryOutbox
from edge_asd.deliver.publisher import Broker, Publisher, Tls
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Broker as Mosquitto
    from tests.conftest import Recorder

system = pytest.mark.system

TOPICS = Topics("node-1")
STATUS = "edge_asd/v1/node-1/status"
EVENT = "edge_asd/v1/node-1/machine/pump1/event"
ALARM = "edge_asd/v1/node-1/machine/pump1/alarm"
SCORE = "edge_asd/v1/node-1/machine/pump1/score"


def event(number: int) -> Message:
    return Message(EVENT, json.dumps({"id": number, "late": False}).encode(), Kind.EVENT)


def alarm(text: str) -> Message:
    return Message(ALARM, text.encode(), Kind.ALARM)


@contextmanager
def publishing(port: int, username: str | None = None, password: str | None = None) -> Iterator[MqttPublisher]:
    publisher = MqttPublisher(Broker("127.0.0.1", port, username, password), TOPICS)
    try:
        yield publisher
    finally:
        publisher.close(timeout=2.0)


def ids(recorder: Recorder) -> list[int]:
    return [message.json()["id"] for message in list(recorder.messages)]


@system
def test_a_node_is_online_and_says_so_when_it_stops(broker: Mosquitto) -> None:
    said = broker.subscribe(STATUS)
    with publishing(broker.port) as publisher:
        said.wait_for(lambda message: message.payload == b"online")
        assert publisher.traffic().connected

    said.wait_for(lambda message: message.payload == b"stopped")
    assert [message.payload for message in said.messages] == [b"online", b"stopped"]
    assert broker.subscribe(STATUS).wait_for(lambda message: message.retain).payload == b"stopped"


@system
def test_the_last_will_speaks_for_a_node_that_was_killed(broker: Mosquitto) -> None:
    said = broker.subscribe(STATUS)
    program = (
        "import threading; from edge_asd.deliver.mqtt import *; from edge_asd.deliver.publisher import Broker;"
        "from edge_asd.deliver.message import Topics;"
        f"MqttPublisher(Broker('127.0.0.1', {broker.port}), Topics('node-1')); threading.Event().wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as node:
        said.wait_for(lambda message: message.payload == b"online")
        node.send_signal(signal.SIGKILL)

    said.wait_for(lambda message: message.payload == b"offline")


@system
def test_retained_topics_are_back_after_a_broker_restart_without_memory(broker: Mosquitto) -> None:
    with publishing(broker.port) as publisher:
        publisher.publish(alarm("first"))
        publisher.publish(alarm("second"))
        publisher.publish(TOPICS.availability("pump1", online=True))
        broker.subscribe(ALARM).wait_for(lambda message: message.payload == b"second")
        broker.kill()
        publisher.publish(alarm("third"))
        broker.start()

        said = broker.subscribe("edge_asd/#")
        said.wait_for(lambda message: (message.topic, message.payload) == (STATUS, b"online"), timeout=10)

    now = {message.topic: message.payload for message in said.messages}
    assert now[ALARM] == b"third"
    assert now["edge_asd/v1/node-1/machine/pump1/availability"] == b"online"


@system
def test_online_is_said_after_everything_else_is_true(broker: Mosquitto, eventually: Callable[..., object]) -> None:
    broker.stop()
    with publishing(broker.port) as publisher:
        publisher.publish(alarm("raised"))
        broker.start()
        said = broker.subscribe("edge_asd/#")
        said.wait_for(lambda message: message.payload == b"online")
        eventually(lambda: publisher.traffic().published[Kind.STATUS], 5, "the status is confirmed")

    assert [message.topic for message in said.messages][:2] == [ALARM, STATUS]


@system
def test_events_wait_for_a_broker_that_is_away_and_arrive_once_in_order(
    broker: Mosquitto, eventually: Callable[..., object]
) -> None:
    said = broker.subscribe(EVENT)
    with publishing(broker.port) as publisher:
        for number in range(5):
            publisher.publish(event(number))
        said.wait_for(lambda message: message.json()["id"] == 4)
        broker.kill()
        eventually(lambda: not publisher.traffic().connected, 5, "the broker is missed")
        for number in range(5, 205):
            publisher.publish(event(number))
        assert publisher.traffic().waiting == 200
        broker.start()
        eventually(lambda: publisher.traffic().connected, 15, "connected again")
        eventually(lambda: publisher.traffic().waiting == 0, 15, "the outbox is empty")

        traffic = publisher.traffic()
    assert traffic.published[Kind.EVENT] == 205
    assert set(traffic.dropped.values()) == {0}


@system
def test_a_subscriber_gets_what_was_queued_once_in_order_and_marked_late(
    broker: Mosquitto, eventually: Callable[..., object]
) -> None:
    """The broker is there, the node is the one that was cut off: the subscriber misses nothing."""
    said = broker.subscribe(EVENT)
    with relay(broker.port) as cable, publishing(cable.port) as publisher:
        eventually(lambda: publisher.traffic().connected, 5, "connected")
        publisher.publish(event(0))
        said.wait_for(lambda message: message.json()["id"] == 0)
        cable.cut()
        eventually(lambda: not publisher.traffic().connected, 5, "the broker is missed")
        for number in range(1, 101):
            publisher.publish(event(number))
        cable.mend()
        said.wait_for(lambda message: message.json()["id"] == 100)
        publisher.publish(event(101))
        said.wait_for(lambda message: message.json()["id"] == 101)

    assert ids(said) == list(range(102))
    assert [message.json()["late"] for message in said.messages] == [False] + [True] * 100 + [False]


@system
def test_a_broker_that_is_absent_at_start_stops_nothing(broker: Mosquitto, eventually: Callable[..., object]) -> None:
    broker.stop()
    with publishing(broker.port) as publisher:
        publisher.publish(event(1))
        eventually(lambda: publisher.traffic().connects["unreachable"], 5, "the absence is counted")
        assert "refused" in publisher.traffic().trouble
        broker.start()
        eventually(lambda: publisher.traffic().published[Kind.EVENT], 15, "the event is delivered")


@system
def test_scores_are_dropped_and_counted_while_the_broker_is_away(
    broker: Mosquitto, eventually: Callable[..., object]
) -> None:
    broker.stop()
    with publishing(broker.port) as publisher:
        publisher.publish(Message(SCORE, b"old", Kind.SCORE))
        assert publisher.traffic().dropped[Kind.SCORE, "away"] == 1
        broker.start()
        said = broker.subscribe(SCORE)
        eventually(lambda: publisher.traffic().connected, 15, "connected")
        publisher.publish(Message(SCORE, b"new", Kind.SCORE))
        said.wait_for(lambda message: message.payload == b"new")

    assert [message.payload for message in said.messages] == [b"new"]


@system
def test_a_wrong_password_is_a_counted_state_and_never_in_a_log(
    broker_with_password: Mosquitto, eventually: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    with publishing(broker_with_password.port, username="listener", password="wrong horse") as publisher:  # noqa: S106
        eventually(lambda: publisher.traffic().connects["refused"] >= 2, 10, "the refusal is counted")
        traffic = publisher.traffic()

    assert not traffic.connected
    assert "not authorized" in traffic.trouble
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.message for record in warnings] == ["mqtt.not_connected"]  # one line, not one an attempt
    assert "wrong horse" not in caplog.text


@system
def test_the_right_password_opens(broker_with_password: Mosquitto, eventually: Callable[..., object]) -> None:
    username, password = broker_with_password.credentials
    with publishing(broker_with_password.port, username=username, password=password) as publisher:
        eventually(lambda: publisher.traffic().connected, 10, "connected")


@system
def test_a_broker_that_knows_no_mqtt_5_is_spoken_to_in_3_1_1(broker: Mosquitto) -> None:
    said = broker.subscribe(EVENT)
    with relay(broker.port, refuse_mqtt_5=True) as cable, publishing(cable.port) as publisher:
        publisher.publish(event(1))
        said.wait_for(lambda message: message.json()["id"] == 1)


@system
def test_a_frozen_broker_delays_the_goodbye_only_so_long(broker: Mosquitto, eventually: Callable[..., object]) -> None:
    publisher = MqttPublisher(Broker("127.0.0.1", broker.port), TOPICS)
    eventually(lambda: publisher.traffic().published[Kind.STATUS], 5, "online")
    process = broker.service.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        closing = threading.Thread(target=publisher.close, args=(1.0,))
        closing.start()
        closing.join(5)
        assert not closing.is_alive()
    finally:
        process.send_signal(signal.SIGCONT)
    # which of the two depends on whether it could still answer; a stopped node never stays online
    broker.subscribe(STATUS).wait_for(lambda message: message.payload in {b"stopped", b"offline"})


def test_closing_without_a_broker_is_quick_and_may_be_repeated(free_port_number: int) -> None:
    publisher: Publisher = MqttPublisher(Broker("127.0.0.1", free_port_number), TOPICS, MemoryOutbox(2))
    for number in range(3):
        publisher.publish(event(number))

    assert publisher.traffic().dropped[Kind.EVENT, "full"] == 1
    publisher.close()
    publisher.close()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_cannot_be_used_is_the_operators_to_fix(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"ca\.pem cannot be used"):
        MqttPublisher(Broker("127.0.0.1", 1, tls=Tls(ca_file=file)), TOPICS)


def test_status_words_are_those_of_the_contract() -> None:
    assert [*Status] == ["online", "offline", "stopped"]


# A cable between node and broker that can be cut ----------------------------------------------------------------------


class Cable:
    """Passes bytes both ways; may answer MQTT 5 like a broker that has never heard of it."""

    def __init__(self, target: int, *, refuse_mqtt_5: bool) -> None:
        self._target, self._refuse, self._whole = target, refuse_mqtt_5, threading.Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, and all that are tried."""
        self._whole.clear()
        for end in self._ends:
            with suppress(OSError):  # the other side was faster
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def mend(self) -> None:
        """Let new ones through."""
        self._whole.set()

    def close(self) -> None:
        """Take it away."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                first = near.recv(4096) if self._whole.is_set() else b""
            except OSError:
                return
            level = first[8] if len(first) > 8 else 0  # fixed header 2, name 2 + 4, then the protocol's level
            if self._refuse and level == 5:
                near.sendall(b"\x20\x02\x00\x01")
            if not first or (self._refuse and level == 5):
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            far.sendall(first)
            self._ends += [near, far]
            for here, there in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(here, there), daemon=True).start()

    @staticmethod
    def _pass(here: socket.socket, there: socket.socket) -> None:
        with here, there, suppress(OSError):
            while data := here.recv(4096):
                there.sendall(data)


@contextmanager
def relay(target: int, *, refuse_mqtt_5: bool = False) -> Iterator[Cable]:
    cable = Cable(target, refuse_mqtt_5=refuse_mqtt_5)
    try:
        yield cable
    finally:
        cable.close()


@pytest.fixture
def free_port_number() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
