"""MQTT delivery that survives its broker: absent at start, killed, frozen, restarted without memory.

One thread does everything that touches paho: it connects, reads, writes and waits. So nothing is ever sent on another
connection than the one it was chosen for, and no stale value can overtake a newer one. paho's own queue is emptied
before each attempt; its return codes are not believed, since it says "not connected" of messages that it delivers
later. Only ``on_publish`` counts.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_asd.deliver.agenda import WINDOW, Agenda
from edge_asd.deliver.message import Status
from edge_asd.deliver.publisher import Incoming, Traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from edge_asd.deliver.agenda import Sending
    from edge_asd.deliver.message import Kind, Message
    from edge_asd.deliver.outbox import Outbox
    from edge_asd.deliver.publisher import Broker
    from edge_asd.deliver.topic import Topics

log = logging.getLogger(__name__)

HEARD = 1000
"""messages that came in and wait to be taken"""
HEARD_BYTES = 65_536
"""largest packet that may come in; a command is far smaller"""
BRIEF = 3
"""connections in a row that end at once, until we suspect somebody of having our name"""
UNCONFIRMED = 3
"""keepalives after which a message without confirmation shows that the connection is of no use"""


class MqttPublisher:
    """One node's connection. All methods may be called from any thread."""

    def __init__(self, broker: Broker, topics: Topics, outbox: Outbox, subscriptions: Sequence[str] = ()) -> None:
        """Connect when the broker is there, and again whenever it was away.

        Args:
            broker: where, and how.
            topics: of this node; they say whether it is online.
            outbox: what must arrive. Rows leave it when the broker has them.
            subscriptions: topic filters, subscribed to at each connection.

        Raises:
            ConfigError: a certificate or key cannot be used.
        """
        self._broker, self._topics, self._outbox, self._filters = broker, topics, outbox, tuple(subscriptions)
        self._tls = broker.tls.context() if broker.tls else None
        if broker.tls and broker.tls.insecure:
            log.warning("mqtt.insecure", extra={"advice": "set mqtt.tls.ca_file: anybody can pretend to be the broker"})
        self._agenda = Agenda(outbox, broker.replay_rate)
        self._agenda.say(topics.status(Status.ONLINE))
        self._lock = threading.Lock()  # guards what is counted and heard; nothing waits with it
        self._connected, self._trouble = False, "not connected yet"
        self._deaf: tuple[str, ...] = ()
        self._connects: Counter[str] = Counter()
        self._published: Counter[Kind] = Counter()
        self._dropped: Counter[tuple[Kind, str]] = Counter()
        self._heard: deque[Incoming] = deque()
        self._taken = self._unheard = 0
        # The rest is the thread's own, but for when it has to end
        self._ends_at: tuple[float, float] | None = None  # say goodbye, and hang up; monotonic seconds
        self._parting = False
        self._refused: set[str] = set()  # topics already complained of
        self._attempt_at, self._delay, self._answered, self._since = 0.0, broker.reconnect_s[0], False, 0.0
        self._brief = 0  # connections in a row that ended at once
        self._largest = 0  # bytes of a packet that the broker takes; 0: any
        self._client = self._made(MQTTProtocolVersion.MQTTv5)
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    # What the daemon calls

    def publish(self, message: Message) -> None:
        """State is said at once and on every connection; a level, a health report or a reply now or never.

        Raises:
            ValueError: it must arrive, so it belongs in the outbox.
        """
        if reason := self._agenda.say(message):
            self._count_dropped(message, reason)
        else:
            self.wake()

    def wake(self) -> None:
        """Look into the outbox."""
        with self._lock, suppress(OSError):  # it rings already, or has been taken down
            self._rope.send(b"\0")

    def incoming(self) -> list[Incoming]:
        """What came in since the last call, in order."""
        with self._lock:
            heard, self._heard = [*self._heard], deque()
        return heard

    def traffic(self) -> Traffic:
        """A snapshot."""
        waiting, size = len(self._outbox), self._outbox.size
        nothing = Traffic()
        with self._lock:
            return Traffic(
                connected=self._connected,
                trouble=self._trouble,
                insecure=self._broker.tls is not None and self._broker.tls.insecure,
                connects={**nothing.connects, **self._connects},
                published={**nothing.published, **self._published},
                dropped={**nothing.dropped, **self._dropped},
                waiting=waiting,
                waiting_bytes=size,
                heard=self._taken,
                unheard=self._unheard,
                deaf=self._deaf,
            )

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what waits, then say ``stopped``, each for at most half of so many seconds."""
        if self._ends_at is None:
            now = time.monotonic()
            self._ends_at = now + timeout / 2, now + timeout
            self.wake()
        self._thread.join(timeout + 0.5)  # it may be inside the system's name lookup, which cannot be ended

    # The thread

    def _run(self) -> None:
        try:
            while not self._finished():
                try:
                    self._turn()
                except Exception as error:  # whatever it is, alarms must still leave
                    log.exception("mqtt.failed")
                    self._start_over(f"{self._address} cannot be talked to: {error!r}")
        finally:
            self._hang_up()

    def _turn(self) -> None:
        """One round: connect, or send what may be sent and hear what there is."""
        if self._line is None:
            self._reach()
            return
        while self._connected and (sending := self._agenda.choose(time.monotonic())):
            self._send(sending)
        self._converse()
        self._agenda.settle()
        self._judge()

    def _finished(self) -> bool:
        """Whether to hang up: all is said, or there is no more time for it."""
        if self._ends_at is None:
            return False
        parts_at, ends_at = self._ends_at
        now = time.monotonic()
        if not self._parting and (self._quiet() or now >= parts_at):
            self._parting = True
            self._agenda.say(self._topics.status(Status.STOPPED))
        return self._parting and (self._quiet() or now >= ends_at)

    def _quiet(self) -> bool:
        return not self._connected or self._agenda.idle

    def _reach(self) -> None:
        """Try to connect, if it is time to."""
        wait = self._attempt_at - time.monotonic()
        if wait > 0:
            self._rest(wait)
            return
        self._client.drop_out_messages()  # the outbox is the only queue
        self._answered = False
        try:
            self._client.reconnect()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            self._missed("unreachable", f"{self._address} cannot be reached: {reason}".lower())
            self._postpone()
            return
        if line := self._line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each small message waits for the last

    def _send(self, sending: Sending) -> None:
        try:
            mid = self._handed(sending.message)
        except ValueError as error:
            self._agenda.drop(sending)
            self._refuse(sending.message, str(error).lower())
        else:
            self._agenda.sent(sending, mid, time.monotonic())

    def _handed(self, message: Message) -> int:
        """The number that paho gave it.

        Raises:
            ValueError: its topic is none, or the broker would hang up on its size, each time.
        """
        packet = len(message.topic.encode()) + len(message.payload) + len(message.correlation or b"") + 32
        if self._largest and packet > self._largest:
            msg = f"of {packet} bytes, where the broker takes {self._largest}"
            raise ValueError(msg)
        kind, properties = message.kind, self._properties(message)
        return self._client.publish(message.topic, message.payload, kind.qos, kind.retained, properties).mid

    def _converse(self) -> None:
        """Read and write what the connection allows; wait if there is nothing."""
        line = self._line
        if line is None:
            return
        pending = isinstance(line, ssl.SSLSocket) and line.pending() > 0  # decrypted already: select cannot know
        writes = [line] if self._client.want_write() else []
        readable, writable, _ = select.select([line, self._bell], writes, [], 0 if pending else self._patience())
        if self._bell in readable:
            self._silence()
        if line in readable or pending:
            self._client.loop_read()
        if line in writable:
            self._client.loop_write()
        self._client.loop_misc()

    def _judge(self) -> None:
        """A connection on which nothing is confirmed any more is no connection, though it answers pings."""
        oldest, line = self._agenda.oldest, self._line
        if line and oldest is not None and time.monotonic() - oldest > UNCONFIRMED * self._broker.keepalive:
            log.warning("mqtt.unconfirmed", extra={"advice": "look for what holds the broker's answers back"})
            with suppress(OSError):  # it has ended by itself
                line.shutdown(socket.SHUT_RDWR)  # what waits for it reads the end, and tries again

    def _patience(self) -> float:
        """Seconds until there is something to do again, if nobody calls."""
        moments = [self._agenda.replay_at] if self._connected else []
        moments += self._ends_at or ()
        now = time.monotonic()
        return min([1.0, *(max(moment - now, 0.0) for moment in moments if moment is not None and moment >= now)])

    def _rest(self, wait: float) -> None:
        readable, _, _ = select.select([self._bell], [], [], wait)
        if readable:
            self._silence()

    def _silence(self) -> None:
        with suppress(BlockingIOError):
            self._bell.recv(4096)

    def _hang_up(self) -> None:
        """Leave; a broker that does not answer finds our last words when it wakes."""
        if not self._quiet():
            last = self._topics.status(Status.STOPPED)
            self._client.publish(last.topic, last.payload, last.kind.qos, last.kind.retained)
        self._client.disconnect()
        self._client.loop_write()
        if line := self._line:
            line.close()
        self._lost("closed")
        with self._lock:
            self._rope.close()
            self._bell.close()

    # The connection

    def _made(self, version: MQTTProtocolVersion) -> paho.Client:
        broker, will = self._broker, self._topics.status(Status.OFFLINE)
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            f"edge-asd-{self._topics.node}",
            protocol=version,
            reconnect_on_failure=False,  # that is ours to do
        )
        client.username_pw_set(broker.username, broker.password)
        if self._tls:
            client.tls_set_context(self._tls)
        client.will_set(will.topic, will.payload, will.kind.qos, will.kind.retained)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_message = self._on_publish, self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_socket_register_write = lambda *_: None  # it writes when we let it, never while we hand it something
        if version is MQTTProtocolVersion.MQTTv5:
            limits = _properties(PacketTypes.CONNECT, MaximumPacketSize=HEARD_BYTES)
            client.connect_async(broker.host, broker.port, broker.keepalive, clean_start=True, properties=limits)
        else:
            client.connect_async(broker.host, broker.port, broker.keepalive)
        return client

    def _start_over(self, trouble: str) -> None:
        """Nothing of the old connection is trusted any more."""
        if line := self._line:
            line.close()
        self._client = self._made(self._client.protocol)
        if not self._lost(trouble):
            self._missed("unreachable", trouble)
        self._postpone()

    def _postpone(self) -> None:
        self._attempt_at = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, self._broker.reconnect_s[1])

    def _lost(self, trouble: str) -> bool:
        """There is no connection any more; whether there was one."""
        for message in self._agenda.end():
            self._count_dropped(message, "away")
        with self._lock:
            was, self._connected = self._connected, False
            if was:
                self._trouble = trouble
        if was:
            lasted = time.monotonic() - self._since > self._broker.reconnect_s[1]
            self._brief = 0 if lasted else self._brief + 1
            self._delay = self._broker.reconnect_s[0] if lasted else self._delay  # what ends at once need not hurry
        return was

    def _missed(self, outcome: str, trouble: str) -> None:
        with self._lock:
            self._connects[outcome] += 1
            known, self._trouble = self._trouble, trouble
        if trouble != known:  # one line an episode, not one an attempt
            log.warning("mqtt.not_connected", extra={"reason": trouble})

    def _refuse(self, message: Message, reason: str) -> None:
        self._count_dropped(message, "refused")
        if message.topic not in self._refused and len(self._refused) < WINDOW:  # once a connection, not once a message
            self._refused.add(message.topic)
            advice = "allow it in the broker's acl and limits"
            log.error("mqtt.message_refused", extra={"topic": message.topic, "reason": reason, "advice": advice})

    def _count_dropped(self, message: Message, reason: str) -> None:
        with self._lock:
            self._dropped[message.kind, reason] += 1

    @property
    def _address(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"

    @property
    def _line(self) -> socket.socket | None:
        line = self._client.socket()
        return line if isinstance(line, socket.socket) else None

    @property
    def _modern(self) -> bool:
        return self._client.protocol is MQTTProtocolVersion.MQTTv5

    def _properties(self, message: Message) -> Properties | None:
        if not self._modern or (message.kind.expiry_s is None and message.correlation is None):
            return None
        wanted = {"MessageExpiryInterval": message.kind.expiry_s, "CorrelationData": message.correlation}
        return _properties(PacketTypes.PUBLISH, **{name: value for name, value in wanted.items() if value is not None})

    # What paho calls, in our thread

    def _on_connect(
        self,
        client: paho.Client,
        _data: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._on_refused(reason)
            return
        self._since, self._largest = time.monotonic(), getattr(properties, "MaximumPacketSize", 0)
        self._refused.clear()
        if self._filters:
            # a retained command must be known by its flag also when it comes while we listen
            options = SubscribeOptions(qos=1, retainAsPublished=True)
            old, new = [(name, 1) for name in self._filters], [(name, options) for name in self._filters]
            client.subscribe(new if self._modern else old)
        self._agenda.begin(getattr(properties, "ReceiveMaximum", WINDOW))
        with self._lock:
            self._connected, self._trouble, self._deaf = True, "", ()
            self._connects["ok"] += 1
        log.info("mqtt.connected", extra={"host": self._broker.host, "port": self._broker.port})

    def _on_refused(self, reason: ReasonCode) -> None:
        if self._modern and reason == "Unsupported protocol version":
            self._client = self._made(MQTTProtocolVersion.MQTTv311)  # from now on
            self._attempt_at = 0.0
            return
        self._missed("refused", f"the broker refuses us: {reason}".lower())

    def _on_disconnect(
        self,
        client: paho.Client,
        _data: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if client is not self._client:  # given up before
            return
        was = self._lost(f"connection lost: {reason}".lower())
        if not self._answered:
            self._missed("unreachable", f"{self._address} does not answer as an mqtt broker does: {reason}".lower())
        self._postpone()
        if was and reason.is_failure and self._brief <= BRIEF:  # not for ever, if it goes on like this
            shared = reason == "Session taken over" or self._brief == BRIEF  # not every broker says so
            advice = "give each node its own name, if another has ours" if shared else "wait, it is tried again"
            log.warning("mqtt.disconnected", extra={"reason": str(reason).lower(), "advice": advice})

    def _on_publish(
        self, _client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        message = self._agenda.confirm(mid)
        if message is None:
            return
        if reason.is_failure:
            self._refuse(message, str(reason).lower())
            return
        with self._lock:
            self._published[message.kind] += 1

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        deaf = tuple(name for name, reason in zip(self._filters, reasons, strict=False) if reason.is_failure)
        with self._lock:
            self._deaf = deaf
        if deaf:
            advice = "allow reading them in the broker's acl, or no command is heard"
            log.error("mqtt.subscription_refused", extra={"topics": ", ".join(deaf), "advice": advice})

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        asked = message.properties
        incoming = Incoming(
            message.topic,
            bytes(message.payload),
            message.retain,
            getattr(asked, "ResponseTopic", None),
            getattr(asked, "CorrelationData", None),
        )
        with self._lock:
            if len(self._heard) >= HEARD or len(incoming.payload) > HEARD_BYTES:
                self._unheard += 1
            else:
                self._taken += 1
                self._heard.append(incoming)


def _properties(packet: int, **values: int | bytes) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call] # paho leaves it untyped
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
