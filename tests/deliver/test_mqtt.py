"""Against a real broker that is killed, frozen, restarted without memory, and absent."""

from __future__ import annotations

import json
import logging
import random
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_asd.deliver.message import Kind, Message, Status
from edge_asd.deliver.mqtt import HEARD, MqttPublisher
from edge_asd.deliver.publisher import Broker, Publisher, Tls
from edge_asd.deliver.store import Change, Store
from edge_asd.deliver.topic import Topics
from edge_asd.errors import ConfigError
from tests.conftest import Broker as Mosquitto
from tests.conftest import free_port
from tests.deliver.cable import grudging, relay, saying
from tests.deliver.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_asd.deliver.outbox import Entry, Outbox
    from tests.conftest import Recorder

    Eventually = Callable[..., object]

system = pytest.mark.system

TOPICS = Topics("node-1")
STATUS = "edge_asd/v1/node-1/status"
EVENT = "edge_asd/v1/node-1/machine/pump1/event"
ALARM = "edge_asd/v1/node-1/machine/pump1/alarm"
SCORE = "edge_asd/v1/node-1/machine/pump1/score"
LEVEL = "edge_asd/v1/node-1/source/mic0/level"
COMMAND = "edge_asd/v1/node-1/cmd/ack"


def alarm(text: str) -> Message:
    return Message(ALARM, text.encode(), Kind.ALARM)


@contextmanager
def publishing(
    port: int,
    shelf: Outbox | None = None,
    subscriptions: tuple[str, ...] = (),
    *,
    node: str = "node-1",
    **settings: Any,  # noqa: ANN401 - what a broker may be set to
) -> Iterator[MqttPublisher]:
    broker = Broker("127.0.0.1", port, **{"reconnect_s": (0.05, 0.2), "replay_rate": 2000.0, **settings})
    publisher = MqttPublisher(broker, Topics(node), Shelf() if shelf is None else shelf, subscriptions)
    try:
        yield publisher
    finally:
        publisher.close(timeout=2.0)


@contextmanager
def serving(folder: Path, *settings: str) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, settings=settings)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@contextmanager
def frozen(broker: Mosquitto) -> Iterator[None]:
    process = broker.service.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def put(publisher: MqttPublisher, shelf: Shelf, count: int, kind: Kind = Kind.EVENT) -> None:
    for _ in range(count):
        shelf.put(kind)
        publisher.wake()


def ids(recorder: Recorder) -> list[int]:
    return [message.json()["id"] for message in list(recorder.messages)]


def last(recorder: Recorder, number: int) -> None:
    recorder.wait_for(lambda message: message.json()["id"] == number)


# State ----------------------------------------------------------------------------------------------------------------


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
        "from edge_asd.deliver.topic import Topics; from tests.deliver.shelf import Shelf;"
        f"MqttPublisher(Broker('127.0.0.1', {broker.port}), Topics('node-1'), Shelf()); threading.Event().wait()"
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
def test_online_is_said_after_everything_else_is_true(broker: Mosquitto, eventually: Eventually) -> None:
    broker.stop()
    with publishing(broker.port) as publisher:
        publisher.publish(alarm("raised"))
        broker.start()
        said = broker.subscribe("edge_asd/#")
        said.wait_for(lambda message: message.payload == b"online")
        eventually(lambda: publisher.traffic().published[Kind.STATUS], 5, "the status is confirmed")

    assert [message.topic for message in said.messages][:2] == [ALARM, STATUS]


@system
def test_an_empty_payload_takes_a_retained_topic_away(broker: Mosquitto, eventually: Eventually) -> None:
    config = "homeassistant/device/edge_asd_node-1_pump1/config"
    with publishing(broker.port) as publisher:
        publisher.publish(Message(config, b"{}", Kind.DISCOVERY))
        eventually(lambda: publisher.traffic().published[Kind.DISCOVERY] == 1, 5, "announced")
        publisher.publish(Message(config, b"", Kind.DISCOVERY))
        eventually(lambda: publisher.traffic().published[Kind.DISCOVERY] == 2, 5, "taken back")

    said = broker.subscribe("#")
    said.wait_for(lambda message: message.topic == STATUS)
    assert config not in {message.topic for message in said.messages}


# What must arrive -----------------------------------------------------------------------------------------------------


@system
def test_events_wait_for_a_broker_that_is_away_and_arrive_once_in_order(
    broker: Mosquitto, eventually: Eventually
) -> None:
    said, shelf = broker.subscribe(EVENT), Shelf()
    with publishing(broker.port, shelf) as publisher:
        put(publisher, shelf, 5)
        last(said, 4)
        broker.kill()
        eventually(lambda: not publisher.traffic().connected, 5, "the broker is missed")
        put(publisher, shelf, 200)
        assert publisher.traffic().waiting == 200
        assert publisher.traffic().waiting_bytes == shelf.size
        broker.start()
        eventually(lambda: publisher.traffic().waiting == 0, 15, "the outbox is empty")

        traffic = publisher.traffic()
    assert traffic.published[Kind.EVENT] == 205
    assert set(traffic.dropped.values()) == {0}


@system
def test_a_subscriber_gets_what_was_queued_once_in_order_and_marked_late(
    broker: Mosquitto, eventually: Eventually
) -> None:
    """The broker is there, the node is the one that was cut off: the subscriber misses nothing."""
    said, shelf = broker.subscribe(EVENT), Shelf()
    with relay(broker.port) as cable, publishing(cable.port, shelf) as publisher:
        eventually(lambda: publisher.traffic().connected, 5, "connected")
        put(publisher, shelf, 1)
        last(said, 0)
        cable.cut()
        eventually(lambda: not publisher.traffic().connected, 5, "the broker is missed")
        put(publisher, shelf, 100)
        cable.mend()
        last(said, 100)
        put(publisher, shelf, 1)
        last(said, 101)

    assert ids(said) == list(range(102))
    assert [message.json()["late"] for message in said.messages] == [False] + [True] * 100 + [False]


@system
def test_a_backlog_is_replayed_slowly_and_a_live_event_passes_it(broker: Mosquitto, eventually: Eventually) -> None:
    broker.stop()
    shelf = Shelf()
    with publishing(broker.port, shelf, replay_rate=20.0) as publisher:
        for _ in range(2000):
            shelf.put(Kind.EVENT)
        broker.start()
        said = broker.subscribe(EVENT)
        said.wait_for(lambda message: message.json()["late"])
        put(publisher, shelf, 1)
        last(said, 2000)
        eventually(lambda: len(said.messages) > 15, 10, "most of a second of replay")

    order = ids(said)
    assert order.index(2000) < 15
    assert [number for number in order if number < 2000] == sorted(range(order[0], order[-1] + 1))
    times = [message.time for message in said.messages if message.json()["late"]]
    # arrivals may bunch on a busy computer, departures do not: the whole is bounded
    assert len(times) <= 20.0 * (times[-1] - times[0]) + 5
    assert shelf.largest <= 20


@system
def test_scores_wait_as_well_and_come_after_events(broker: Mosquitto, eventually: Eventually) -> None:
    broker.stop()
    shelf = Shelf()
    with publishing(broker.port, shelf) as publisher:
        put(publisher, shelf, 3, Kind.SCORE)
        put(publisher, shelf, 3)
        broker.start()
        said = broker.subscribe("edge_asd/v1/node-1/machine/#")
        eventually(lambda: publisher.traffic().waiting == 0, 10, "the outbox is empty")
        put(publisher, shelf, 1, Kind.SCORE)
        last(said, 6)

        eventually(lambda: publisher.traffic().published[Kind.SCORE] == 4, 10, "the last was confirmed")
        traffic = publisher.traffic()
    assert (traffic.published[Kind.EVENT], traffic.published[Kind.SCORE]) == (3, 4)


@system
def test_a_broker_that_is_absent_at_start_stops_nothing(broker: Mosquitto, eventually: Eventually) -> None:
    broker.stop()
    shelf = Shelf()
    with publishing(broker.port, shelf) as publisher:
        put(publisher, shelf, 1)
        eventually(lambda: publisher.traffic().connects["unreachable"], 5, "the absence is counted")
        assert "refused" in publisher.traffic().trouble
        broker.start()
        eventually(lambda: publisher.traffic().published[Kind.EVENT], 15, "the event is delivered")


@system
def test_what_waits_from_an_earlier_life_is_delivered_late(broker: Mosquitto) -> None:
    said, shelf = broker.subscribe(EVENT), Shelf()
    shelf.put(Kind.EVENT)
    with publishing(broker.port, shelf):
        last(said, 0)

    assert said.messages[0].json()["late"]


@system
def test_what_a_store_kept_over_a_restart_of_the_daemon_arrives_once(
    broker: Mosquitto, tmp_path: Path, eventually: Eventually
) -> None:
    said = broker.subscribe(EVENT)
    with relay(broker.port) as cable:
        cable.cut()
        for life in range(2):
            store = Store(tmp_path / "edge-asd.db")
            with publishing(cable.port, store) as publisher:
                for number in range(20 * life, 20 * life + 20):
                    payload = json.dumps({"id": number, "late": False}).encode()
                    store.commit(Change(number + 1, (Message(EVENT, payload, Kind.EVENT),)))
                    publisher.wake()
                if life:
                    cable.mend()
                    eventually(lambda: len(store) == 0, 10, "the outbox is empty")  # noqa: B023 - asked at once
            store.close()

    assert ids(said) == list(range(40))


@system
def test_whatever_goes_wrong_the_alarms_still_leave(
    broker: Mosquitto, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    @dataclass
    class Faulty(Shelf):
        """Fails like a mistake in the program would."""

        faults: int = 0

        def waiting(self, kind: Kind, after: int, until: int, limit: int) -> list[Entry]:
            """Twice."""
            self.faults += 1
            if self.faults <= 2:
                msg = "not foreseen"
                raise RuntimeError(msg)
            return super().waiting(kind, after, until, limit)

    shelf = Faulty()
    with publishing(broker.port, shelf) as publisher:
        put(publisher, shelf, 10)
        eventually(lambda: publisher.traffic().waiting == 0, 10, "all went")

    assert "not foreseen" in caplog.text


@system
def test_a_broker_frozen_for_longer_than_the_keepalive_loses_nothing(broker: Mosquitto, eventually: Eventually) -> None:
    said, shelf = broker.subscribe(EVENT), Shelf()
    with publishing(broker.port, shelf, keepalive=1) as publisher:
        put(publisher, shelf, 10)
        last(said, 9)
        with frozen(broker):
            put(publisher, shelf, 50)
            eventually(lambda: not publisher.traffic().connected, 5, "the frozen broker is missed")
            put(publisher, shelf, 50)
        last(said, 109)
        eventually(lambda: publisher.traffic().waiting == 0, 10, "all is confirmed")

    assert once(ids(said)) == list(range(110))


@system
def test_a_connection_on_which_nothing_is_confirmed_is_given_up(broker: Mosquitto, eventually: Eventually) -> None:
    said, shelf = broker.subscribe(EVENT), Shelf()
    with relay(broker.port) as cable, publishing(cable.port, shelf, keepalive=1) as publisher:
        eventually(lambda: publisher.traffic().published[Kind.STATUS], 5, "online")
        cable.deaf = True  # pings are answered, confirmations get lost
        put(publisher, shelf, 1)
        last(said, 0)
        eventually(lambda: not publisher.traffic().connected, 8, "it is given up")
        cable.deaf = False
        eventually(lambda: publisher.traffic().waiting == 0, 5, "confirmed on the next")

    assert set(ids(said)) == {0}


@system
@pytest.mark.parametrize("seed", range(3))
def test_however_the_cable_is_cut_every_event_arrives_in_order(
    broker: Mosquitto, eventually: Eventually, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - where a cable breaks is no secret
    said, shelf = broker.subscribe("edge_asd/v1/node-1/machine/#"), Shelf()
    with relay(broker.port) as cable, publishing(cable.port, shelf, reconnect_s=(0.01, 0.05)) as publisher:
        for _ in range(25):
            cable.cut_after = chance.choice([None, chance.randrange(4000)])  # bytes, so in the middle of a packet
            for _ in range(chance.randrange(30)):
                put(publisher, shelf, 1, chance.choice([Kind.EVENT, Kind.EVENT, Kind.SCORE]))
                publisher.publish(alarm(str(shelf.newest)))
            if chance.random() < 0.5:
                cable.cut()
            cable.mend()
            if chance.random() < 0.5:
                eventually(lambda: publisher.traffic().connected, 5, "connected")
        cable.cut_after = None
        cable.cut()
        cable.mend()
        eventually(lambda: publisher.traffic().connected and len(shelf) == 0, 20, "the outbox is empty")
        publisher.publish(alarm("last"))
        said.wait_for(lambda message: message.payload == b"last")

    for topic in (EVENT, SCORE):
        first: dict[int, bool] = {}
        for message in said.messages:
            if message.topic == topic:
                first.setdefault(message.json()["id"], message.json()["late"])
        for late in (True, False):
            order = [number for number, was_late in first.items() if was_late is late]
            assert order == sorted(order)
    everything = {message.json()["id"] for message in said.messages if message.topic != ALARM}
    assert everything == set(range(shelf.newest + 1))
    state = [int(message.payload) for message in said.messages if message.topic == ALARM and message.payload != b"last"]
    assert state == sorted(state)  # no stale value after a newer one


# What a broker may refuse ---------------------------------------------------------------------------------------------


@system
def test_what_the_acl_forbids_is_counted_given_up_and_said_once(
    tmp_path: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "acl").write_text(f"topic readwrite {STATUS}\ntopic readwrite {SCORE}\n")
    with serving(tmp_path, f"acl_file {tmp_path / 'acl'}") as broker:
        shelf = Shelf()
        with publishing(broker.port, shelf) as publisher:
            put(publisher, shelf, 30)
            put(publisher, shelf, 1, Kind.SCORE)
            eventually(lambda: publisher.traffic().waiting == 0, 10, "nothing blocks the rest")
            traffic = publisher.traffic()

    assert traffic.dropped[Kind.EVENT, "refused"] == 30
    assert (traffic.published[Kind.EVENT], traffic.published[Kind.SCORE]) == (0, 1)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [(record.message, record.__dict__["topic"]) for record in errors] == [("mqtt.message_refused", EVENT)]


@system
def test_a_message_too_large_for_the_broker_does_not_block_the_rest(tmp_path: Path, eventually: Eventually) -> None:
    with serving(tmp_path, "max_packet_size 1000") as broker:
        shelf = Shelf()
        with publishing(broker.port, shelf) as publisher:
            eventually(lambda: publisher.traffic().connected, 5, "connected")
            shelf.put(Kind.EVENT, text="x" * 2000)
            put(publisher, shelf, 1)
            eventually(lambda: publisher.traffic().waiting == 0, 10, "nothing blocks the rest")
            traffic = publisher.traffic()

    assert (traffic.dropped[Kind.EVENT, "refused"], traffic.published[Kind.EVENT]) == (1, 1)
    assert traffic.connects["ok"] == 1


def test_a_broker_that_takes_few_at_once_is_given_no_more() -> None:
    shelf = Shelf()
    for _ in range(10):
        shelf.put(Kind.EVENT)
    with socket.create_server(("127.0.0.1", 0)) as server, publishing(server.getsockname()[1], shelf, keepalive=1):
        line, _ = server.accept()
        with line:
            line.recv(4096)
            line.sendall(b"\x20\x06\x00\x00\x03\x21\x00\x02")  # welcome; two at once
            got = b""
            while not got.endswith(b"\xc0\x00"):  # it has nothing more to say, and asks whether we are there
                got += line.recv(4096)

    assert got.count(EVENT.encode()) + got.count(STATUS.encode()) == 2


@system
@pytest.mark.parametrize("topic", ["edge_asd/v1/node-1/rsp/#", "edge_asd/v1/node-1/rsp/+", "\ud800", "a" * 65_536])
def test_a_topic_that_is_none_is_dropped_and_counted(broker: Mosquitto, eventually: Eventually, topic: str) -> None:
    with publishing(broker.port) as publisher:
        eventually(lambda: publisher.traffic().connected, 5, "connected")
        publisher.publish(Message(topic, b"{}", Kind.REPLY))
        eventually(lambda: publisher.traffic().dropped[Kind.REPLY, "refused"] == 1, 5, "it is counted")
        assert publisher.traffic().connects["ok"] == 1


@system
def test_a_wrong_password_is_a_counted_state_and_never_in_a_log(
    broker_with_password: Mosquitto, eventually: Eventually, caplog: pytest.LogCaptureFixture
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
def test_the_right_password_opens(broker_with_password: Mosquitto, eventually: Eventually) -> None:
    username, password = broker_with_password.credentials or ("", "")
    with publishing(broker_with_password.port, username=username, password=password) as publisher:
        eventually(lambda: publisher.traffic().connected, 10, "connected")


@system
def test_two_nodes_of_one_name_are_told_so(
    broker: Mosquitto, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with publishing(broker.port) as one:
        eventually(lambda: one.traffic().connected, 5, "connected")
        with publishing(broker.port):
            eventually(lambda: "give each node its own name, if another has ours" in advices(caplog), 5, "advice")


def advices(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__.get("advice", "") for record in list(caplog.records)]


@system
def test_a_broker_that_knows_no_mqtt_5_is_spoken_to_in_3_1_1(broker: Mosquitto, eventually: Eventually) -> None:
    said, shelf = broker.subscribe(EVENT), Shelf()
    with (
        relay(broker.port, refuse_mqtt_5=True) as cable,
        publishing(cable.port, shelf, (COMMAND,)) as publisher,
    ):
        put(publisher, shelf, 1)
        last(said, 0)
        tell(broker, COMMAND, b"{}")
        (heard,) = listen(publisher, eventually, 1)
        cable.cut()
        cable.mend()
        put(publisher, shelf, 1)
        last(said, 1)

    assert (heard.topic, heard.payload, heard.retained, heard.correlation) == (COMMAND, b"{}", False, None)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x20\x00", b"\x20\x7f\xff\xff\xff\xff\xff", bytes(range(64, 256)) * 3],
)
def test_what_speaks_no_mqtt_is_a_counted_state(answer: bytes, eventually: Eventually) -> None:
    with saying(answer) as port, publishing(port) as publisher:
        eventually(lambda: publisher.traffic().connects["unreachable"] >= 3, 10, "it is tried again")

        assert not publisher.traffic().connected
        assert "mqtt" in publisher.traffic().trouble


# What comes in --------------------------------------------------------------------------------------------------------


@system
def test_a_command_is_heard_with_its_flag_and_where_the_answer_goes(broker: Mosquitto, eventually: Eventually) -> None:
    tell(broker, COMMAND, b"stale", retain=True)
    with publishing(broker.port, subscriptions=TOPICS.commands) as publisher:
        stale = listen(publisher, eventually, 1)
        tell(broker, COMMAND, b"1", response="edge_asd/v1/node-1/rsp/ack/7", correlation=b"\x00\x07")
        tell(broker, COMMAND, b"2")
        tell(broker, "edge_asd/v1/all/cmd/health_check", b"3")
        tell(broker, COMMAND, b"4", retain=True)
        heard = listen(publisher, eventually, 4)
        assert publisher.incoming() == []
        assert publisher.traffic().heard == 5

    assert [(one.payload, one.retained) for one in stale] == [(b"stale", True)]
    assert [one.payload for one in heard] == [b"1", b"2", b"3", b"4"]
    assert [one.retained for one in heard] == [False, False, False, True]  # known as retained even while we listen
    assert (heard[0].response_topic, heard[0].correlation) == ("edge_asd/v1/node-1/rsp/ack/7", b"\x00\x07")
    assert (heard[1].response_topic, heard[1].correlation) == (None, None)


@system
def test_commands_are_heard_again_after_a_broker_restart_without_memory(
    broker: Mosquitto, eventually: Eventually
) -> None:
    with publishing(broker.port, subscriptions=TOPICS.commands) as publisher:
        eventually(lambda: publisher.traffic().connected, 5, "connected")
        broker.kill()
        broker.start()
        eventually(lambda: publisher.traffic().connects["ok"] == 2, 10, "connected again")
        eventually(lambda: tell(broker, COMMAND, b"{}") or publisher.traffic().heard, 10, "it hears")


@system
def test_a_flood_of_commands_is_bounded_and_what_is_lost_is_counted(broker: Mosquitto, eventually: Eventually) -> None:
    with publishing(broker.port, subscriptions=(COMMAND,)) as publisher:
        eventually(lambda: publisher.traffic().published[Kind.STATUS], 5, "connected")
        with speaking(broker) as client:
            for number in range(HEARD + 50):
                client.publish(COMMAND, str(number), qos=0)
            eventually(lambda: publisher.traffic().unheard == 50, 10, lambda: str(publisher.traffic()))

        assert [int(one.payload) for one in publisher.incoming()] == list(range(HEARD))
        assert publisher.traffic().heard == HEARD


@system
def test_a_packet_of_many_bytes_is_not_taken(broker: Mosquitto, eventually: Eventually) -> None:
    with publishing(broker.port, subscriptions=(COMMAND,)) as publisher:
        eventually(lambda: publisher.traffic().published[Kind.STATUS], 5, "connected")
        tell(broker, COMMAND, b"x" * 70_000)
        tell(broker, COMMAND, b"small")
        heard = listen(publisher, eventually, 1)

    assert [one.payload for one in heard] == [b"small"]


@system
def test_what_we_may_not_subscribe_to_is_shown(tmp_path: Path, eventually: Eventually) -> None:
    with (
        serving(tmp_path, *grudging(tmp_path)) as broker,
        publishing(broker.port, subscriptions=TOPICS.commands) as publisher,
    ):
        eventually(lambda: publisher.traffic().deaf, 10, lambda: publisher.traffic().trouble)

        assert publisher.traffic().deaf == TOPICS.commands
        assert publisher.traffic().connected


# What is of use now or never ------------------------------------------------------------------------------------------


@system
@pytest.mark.parametrize("kind", [Kind.LEVEL, Kind.HEALTH, Kind.REPLY])
def test_what_is_of_use_now_or_never_is_dropped_and_counted_while_the_broker_is_away(
    broker: Mosquitto, eventually: Eventually, kind: Kind
) -> None:
    broker.stop()
    with publishing(broker.port) as publisher:
        publisher.publish(Message(LEVEL, b"old", kind))
        assert publisher.traffic().dropped[kind, "away"] == 1
        broker.start()
        said = broker.subscribe(LEVEL)
        eventually(lambda: publisher.traffic().connected, 15, "connected")
        publisher.publish(Message(LEVEL, b"new", kind))
        said.wait_for(lambda message: message.payload == b"new")
        eventually(lambda: publisher.traffic().published[kind] == 1, 5, "it is counted")

    assert [message.payload for message in said.messages] == [b"new"]


@system
def test_a_reply_carries_its_correlation_and_what_expires_says_so(broker: Mosquitto, eventually: Eventually) -> None:
    reply = "edge_asd/v1/node-1/rsp/ack"
    with speaking(broker, "edge_asd/v1/node-1/#") as client, publishing(broker.port, shelf := Shelf()) as publisher:
        eventually(lambda: publisher.traffic().connected, 5, "connected")
        publisher.publish(Message(reply, b"{}", Kind.REPLY, correlation=b"\x01\x02"))
        put(publisher, shelf, 1, Kind.SCORE)
        put(publisher, shelf, 1)
        eventually(lambda: {reply, SCORE, EVENT} <= client.user_data_get().keys(), 5, "all three came")

    came = {topic: message.properties for topic, message in client.user_data_get().items()}
    assert came[reply].CorrelationData == b"\x01\x02"
    assert 3590 <= came[SCORE].MessageExpiryInterval <= 3600
    assert not hasattr(came[EVENT], "MessageExpiryInterval")


def test_what_must_arrive_is_not_taken_by_the_publisher() -> None:
    with publishing(free_port()) as publisher, pytest.raises(ValueError, match="put it into the outbox"):
        publisher.publish(Message(EVENT, b"{}", Kind.EVENT))


# The end --------------------------------------------------------------------------------------------------------------


@system
def test_what_waits_is_delivered_before_the_goodbye(broker: Mosquitto, eventually: Eventually) -> None:
    said, shelf = broker.subscribe("edge_asd/#"), Shelf()
    with publishing(broker.port, shelf) as publisher:
        eventually(lambda: publisher.traffic().connected, 5, "connected")
        put(publisher, shelf, 100)

    said.wait_for(lambda message: message.payload == b"stopped")
    assert [message.topic for message in said.messages] == [STATUS, *[EVENT] * 100, STATUS]


@system
def test_a_frozen_broker_delays_the_goodbye_only_so_long(broker: Mosquitto, eventually: Eventually) -> None:
    publisher = MqttPublisher(Broker("127.0.0.1", broker.port), TOPICS, shelf := Shelf())
    eventually(lambda: publisher.traffic().published[Kind.STATUS], 5, "online")
    with frozen(broker):
        put(publisher, shelf, 50)  # more than may be on their way
        closing = threading.Thread(target=publisher.close, args=(1.0,))
        closing.start()
        closing.join(5)
        assert not closing.is_alive()
        assert len(shelf) == 50
    # which of the two depends on whether it could still answer; a stopped node never stays online
    broker.subscribe(STATUS).wait_for(lambda message: message.payload in {b"stopped", b"offline"})


def test_closing_without_a_broker_is_quick_and_may_be_repeated() -> None:
    publisher: Publisher = MqttPublisher(Broker("127.0.0.1", free_port()), TOPICS, shelf := Shelf())
    shelf.put(Kind.EVENT)
    threads = threading.active_count()
    publisher.close()
    publisher.close()
    publisher.wake()  # too late, and harmless

    assert threading.active_count() == threads - 1
    assert publisher.traffic().waiting == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_cannot_be_used_is_the_operators_to_fix(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"ca\.pem cannot be used"):
        MqttPublisher(Broker("127.0.0.1", 1, tls=Tls(ca_file=file)), TOPICS, Shelf())


def test_status_words_are_those_of_the_contract() -> None:
    assert [*Status] == ["online", "offline", "stopped"]


# Those who speak to a node --------------------------------------------------------------------------------------------


@contextmanager
def speaking(broker: Mosquitto, topic_filter: str = "") -> Iterator[paho.Client]:
    """A client of the broker that knows MQTT 5; its user data are the last messages it was given, by topic."""
    ready = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, userdata={})
    client.on_connect = lambda *_: client.subscribe(topic_filter, 1) if topic_filter else ready.set()
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _client, came, message: came.update({message.topic: message})
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert ready.wait(10)
        yield client
    finally:
        client.disconnect()
        client.loop_stop()
        client.on_connect = client.on_subscribe = None  # they know the client: it would never go


def tell(
    broker: Mosquitto, topic: str, payload: bytes, *, retain: bool = False, response: str = "", correlation: bytes = b""
) -> None:
    """Say one thing, and wait until the broker has it."""
    properties = Properties(PacketTypes.PUBLISH)
    if response:
        properties.ResponseTopic = response
    if correlation:
        properties.CorrelationData = correlation
    with speaking(broker) as client:
        client.publish(topic, payload, 1, retain, properties).wait_for_publish(10)


def listen(publisher: MqttPublisher, eventually: Eventually, count: int) -> list[Any]:
    heard: list[Any] = []
    eventually(lambda: heard.extend(publisher.incoming()) or len(heard) >= count, 10, lambda: str(heard))
    return heard


def once(numbers: list[int]) -> list[int]:
    """Without repeats, as a subscriber that knows ids would have it."""
    return [*dict.fromkeys(numbers)]
