"""MQTT delivery that survives its broker: absent at start, killed, frozen, restarted without memory.

What must arrive goes out one message at a time, in a thread of our own: the next leaves when the broker has confirmed
the last. So order holds over any reconnection, and no stale retained value can overtake a newer one. paho's own queue
is emptied at each connect; its return codes are not believed, since it says "not connected" of messages that it
delivers later. Only ``on_publish`` counts.
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_asd.deliver.message import Kind, Status
from edge_asd.deliver.outbox import MemoryOutbox
from edge_asd.deliver.publisher import Traffic
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from edge_asd.deliver.message import Message, Topics
    from edge_asd.deliver.outbox import Outbox
    from edge_asd.deliver.publisher import Broker, Tls

log = logging.getLogger(__name__)

RECONNECT_S = (1, 5)
"""seconds between attempts, first and longest: retained topics are back within ten of the broker's return"""


@dataclass(slots=True)
class _Sent:
    """The one message that waits for its confirmation."""

    message: Message
    key: int | None
    """its place in the outbox; None for retained state"""
    mid: int | None = None


class MqttPublisher:
    """One node's connection. ``publish`` from any thread; paho calls back in its own; a third one sends."""

    def __init__(self, broker: Broker, topics: Topics, outbox: Outbox | None = None) -> None:
        """Connect when the broker is there; until then, and whenever it is away, events wait.

        Raises:
            ConfigError: a certificate or key cannot be used.
        """
        self._broker, self._topics = broker, topics
        self._outbox: Outbox = outbox if outbox is not None else MemoryOutbox()
        self._turn = threading.Condition()  # guards all below; never held while calling paho, which has locks too
        self._connected = self._closed = self._old_broker = False
        self._trouble = "not connected yet"
        self._retained: dict[str, Message] = {}
        self._unsent: dict[str, None] = {}  # retained topics whose value the broker does not have, in order
        self._sent: _Sent | None = None
        self._confirmed: deque[tuple[int, bool]] = deque(maxlen=64)  # confirmations that came before publish returned
        self._backlog = -1  # what was put up to this key, was put before the present connection
        start = Traffic()
        self._connects, self._published, self._dropped = (
            dict(start.connects),
            dict(start.published),
            dict(start.dropped),
        )
        self._tls = _context(broker.tls) if broker.tls else None
        self.publish(topics.status(Status.ONLINE))
        self._client = self._connecting(MQTTProtocolVersion.MQTTv5)
        self._sender = threading.Thread(target=self._send_all, name="mqtt-sender", daemon=True)
        self._sender.start()

    # What the daemon calls

    def publish(self, message: Message) -> None:
        """Retained state replaces what was said before, events wait for their turn, scores go now or never."""
        if message.kind is Kind.SCORE:
            self._publish_once(message)
            return
        with self._turn:
            if message.kind.retained:
                self._retained[message.topic] = message
                self._unsent[message.topic] = None
            else:
                for lost in self._outbox.put(message):
                    self._dropped[lost.kind, "full"] += 1
            self._turn.notify_all()

    def traffic(self) -> Traffic:
        """A snapshot, from any thread."""
        with self._turn:
            return Traffic(
                connected=self._connected,
                trouble=self._trouble,
                insecure=self._broker.tls is not None and self._broker.tls.insecure,
                connects=dict(self._connects),
                published=dict(self._published),
                dropped=dict(self._dropped),
                waiting=len(self._outbox),
                waiting_bytes=self._outbox.size,
            )

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what waits, then say ``stopped``, each for at most half of so many seconds."""
        with self._turn:
            if self._closed:
                return
            self._turn.wait_for(self._idle, timeout / 2)
        self.publish(stopped := self._topics.status(Status.STOPPED))
        with self._turn:
            told = self._turn.wait_for(self._idle, timeout / 2)
            self._closed = True
            self._turn.notify_all()
        self._sender.join(timeout)
        self._hang_up(None if told else stopped)

    # The sending thread

    def _send_all(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._closed or self._old_broker or self._may_send())
                if self._closed:
                    return
                sent = None if self._old_broker else self._choose()
            if sent is None:
                self._fall_back()
            else:
                self._send(sent)

    def _idle(self) -> bool:
        return not (self._connected and (self._sent or self._unsent or len(self._outbox)))

    def _may_send(self) -> bool:
        return self._connected and self._sent is None and bool(self._unsent or len(self._outbox))

    def _choose(self) -> _Sent | None:
        """State first, since it is small and the truth; then the oldest event."""
        if self._unsent:
            topic = next(iter(self._unsent))
            del self._unsent[topic]
            self._sent = _Sent(self._retained[topic], key=None)
        elif entry := self._outbox.oldest():
            late = entry.key <= self._backlog
            self._sent = _Sent(entry.message.late() if late else entry.message, entry.key)
        return self._sent

    def _send(self, sent: _Sent) -> None:
        mid = self._hand(sent.message).mid
        with self._turn:
            if self._sent is not sent:  # reconnected meanwhile: it is queued again
                return
            sent.mid = mid
            early = dict(self._confirmed)
            self._confirmed.clear()
            if mid in early:
                self._settle(sent, accepted=early[mid])

    def _hand(self, message: Message) -> paho.MQTTMessageInfo:
        return self._client.publish(message.topic, message.payload, message.kind.qos, message.kind.retained)

    def _publish_once(self, message: Message) -> None:
        with self._turn:
            connected = self._connected
        delivered = connected and self._hand(message).rc is paho.MQTT_ERR_SUCCESS  # reliable for QoS 0
        with self._turn:
            if delivered:
                self._published[message.kind] += 1
            else:
                self._dropped[message.kind, "away"] += 1

    def _settle(self, sent: _Sent, *, accepted: bool) -> None:
        """The broker has spoken; called with the turn taken."""
        self._sent = None
        if sent.key is not None:
            self._outbox.remove(sent.key)
        if accepted:
            self._published[sent.message.kind] += 1
        else:
            self._dropped[sent.message.kind, "refused"] += 1
            log.error(
                "mqtt.message_refused", extra={"topic": sent.message.topic, "advice": "allow it in the broker's acl"}
            )
        self._turn.notify_all()

    # The connection

    def _connecting(self, version: MQTTProtocolVersion) -> paho.Client:
        broker, will = self._broker, self._topics.status(Status.OFFLINE)
        client = paho.Client(CallbackAPIVersion.VERSION2, f"edge-asd-{self._topics.node}", protocol=version)
        client.username_pw_set(broker.username, broker.password)
        if self._tls:
            client.tls_set_context(self._tls)
        client.will_set(will.topic, will.payload, will.kind.qos, will.kind.retained)
        client.reconnect_delay_set(*RECONNECT_S)
        client.on_connect, client.on_connect_fail = self._on_connect, self._on_connect_fail
        client.on_disconnect, client.on_publish = self._on_disconnect, self._on_publish
        client.connect_async(broker.host, broker.port, broker.keepalive)
        client.loop_start()
        return client

    def _fall_back(self) -> None:
        """The broker knows no MQTT 5; try 3.1.1 from now on."""
        self._client.disconnect()
        self._client.loop_stop()
        with self._turn:
            self._old_broker = False
        self._client = self._connecting(MQTTProtocolVersion.MQTTv311)

    def _hang_up(self, last: Message | None) -> None:
        """End the connection; ``last`` goes first when the broker does not answer any more.

        Its network thread is then not waited for, since paho's ends only when the broker reads; it dies with us.
        """
        if last:
            self._hand(last)
        self._client.disconnect()
        self._client.drop_out_messages()
        if not last:
            self._client.loop_stop()

    # What paho calls, in its thread

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: paho.ConnectFlags, reason: ReasonCode, _: Properties | None
    ) -> None:
        if reason.is_failure:
            self._on_refused(reason)
            return
        client.drop_out_messages()  # the outbox is the only queue
        with self._turn:
            self._connected, self._trouble, self._sent = True, "", None
            self._connects["ok"] += 1
            self._confirmed.clear()
            # "online" comes last: whoever reads it finds everything else true
            last = sorted(self._retained, key=lambda topic: self._retained[topic].kind is Kind.STATUS)
            self._unsent = dict.fromkeys(last)
            self._backlog = self._outbox.newest
            self._turn.notify_all()
        log.info("mqtt.connected", extra={"host": self._broker.host, "port": self._broker.port})

    def _on_refused(self, reason: ReasonCode) -> None:
        if reason == "Unsupported protocol version":
            with self._turn:
                self._old_broker = True
                self._turn.notify_all()
            return
        self._missed("refused", f"the broker refuses us: {reason}".lower())

    def _on_connect_fail(self, _client: paho.Client, _data: object) -> None:
        error = sys.exception()
        reason = getattr(error, "strerror", None) or error
        self._missed("unreachable", f"{self._broker.host}:{self._broker.port} cannot be reached: {reason}".lower())

    def _missed(self, outcome: str, trouble: str) -> None:
        with self._turn:
            self._connects[outcome] += 1
            known, self._trouble = self._trouble, trouble
        if trouble != known:  # one line an episode, not one an attempt
            log.warning("mqtt.not_connected", extra={"reason": trouble})

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._turn:
            was, self._connected = self._connected, False
            if was:
                self._trouble = f"connection lost: {reason}".lower()
            self._turn.notify_all()
        if was and reason.is_failure:
            advice = "give each node its own name" if reason == "Session taken over" else "wait, it is tried again"
            log.warning("mqtt.disconnected", extra={"reason": str(reason).lower(), "advice": advice})

    def _on_publish(
        self, _client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        with self._turn:
            if self._sent and self._sent.mid == mid:
                self._settle(self._sent, accepted=not reason.is_failure)
            else:
                self._confirmed.append((mid, not reason.is_failure))


def _context(tls: Tls) -> ssl.SSLContext:
    """What we trust, and the certificate we show; at least TLS 1.2.

    Raises:
        ConfigError: a file is missing or holds something else.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:
        files = ", ".join(str(path) for path in (tls.ca_file, tls.cert, tls.key) if path)
        msg = f"mqtt.tls: {files} cannot be used: {error.strerror or error}; give pem files that the daemon may read"
        raise ConfigError(msg) from error
    if tls.insecure:
        log.warning("mqtt.insecure", extra={"advice": "set mqtt.tls.ca_file: anybody can pretend to be the broker"})
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
