"""Why a node does not reach its broker: one stage after the other, each with advice.

The client has a name of its own, so that it does not take over the connection of a daemon that runs.
"""

from __future__ import annotations

import queue
import secrets
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_asd.deliver.publisher import Tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paho.mqtt.reasoncodes import ReasonCode

    from edge_asd.deliver.publisher import Broker
    from edge_asd.deliver.topic import Topics

PORTS = "mostly 1883, or 8883 with tls"


@dataclass(frozen=True, slots=True)
class Stage:
    """One step towards the broker."""

    name: str
    well: bool
    said: str
    """what was found"""
    advice: str
    """what to do about it; empty when all is well"""
    seconds: float


class _Failed(Exception):
    """Ends a stage: what was found, and what to do about it."""


def probe(broker: Broker, topics: Topics, patience: float = 5.0) -> Iterator[Stage]:
    """Each stage as it ends; the first that fails is the last.

    Args:
        broker: as the daemon would use it.
        topics: of the node; ``topics.probe`` is written and read, and not retained.
        patience: seconds for each stage.

    Raises:
        ConfigError: a certificate or key cannot be used.
    """
    trial = _Trial(broker, topics, patience)
    stages: dict[str, Callable[[], str]] = {"dns": trial.resolve, "tcp": trial.reach}
    stages |= {"tls": trial.encrypt} if broker.tls else {}
    stages |= {"connect": trial.connect, "subscribe": trial.subscribe}
    stages |= {"publish": trial.publish, "read back": trial.read_back}
    try:
        for name, act in stages.items():
            stage = _staged(name, act)
            yield stage
            if not stage.well:
                return
    finally:
        trial.close()


def _staged(name: str, act: Callable[[], str]) -> Stage:
    began = time.monotonic()
    try:
        said = act()
    except _Failed as failed:
        said, advice = failed.args
        return Stage(name, False, said, advice, time.monotonic() - began)
    return Stage(name, True, said, "", time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the broker said, and about what."""

    about: str
    reason: str = ""
    failed: bool = False
    payload: bytes = b""


class _Trial:
    """The stages, in order. Each says what it found, or fails."""

    def __init__(self, broker: Broker, topics: Topics, patience: float) -> None:
        self._broker, self._topic, self._patience = broker, topics.probe, patience
        self._name = f"edge-asd-{topics.node}-probe"
        self._where = f"{broker.host}:{broker.port}"
        self._context = broker.tls.context() if broker.tls else None
        self._found: list[str] = []
        self._client: paho.Client | None = None
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._early: list[_Answer] = []  # came before they were asked for: a message may overtake its confirmation
        self._token = secrets.token_hex(8).encode()

    def resolve(self) -> str:
        host = self._broker.host
        try:
            found = socket.getaddrinfo(host, self._broker.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _unresolved(host, error) from error
        self._found = list(dict.fromkeys(str(address[0]) for *_, address in found))
        return f"{host} is {', '.join(self._found)}"

    def reach(self) -> str:
        failed = _unreached(self._where, OSError("it has no address"), self._patience)
        for address in self._found:
            try:
                with socket.create_connection((address, self._broker.port), self._patience):
                    return f"{address} port {self._broker.port} accepts connections"
            except OSError as error:
                failed = _unreached(self._where, error, self._patience)
        raise failed

    def encrypt(self) -> str:
        try:
            with self._encrypted(self._context) as line:
                spoken = line.version()
                _listen(line)
        except (OSError, ValueError) as error:
            raise _unencrypted(self._where, error) from error
        return f"{spoken}, the broker is {'not ' if self._broker.tls and self._broker.tls.insecure else ''}verified"

    def connect(self) -> str:
        answer, spoken = self._asked(MQTTProtocolVersion.MQTTv5), "5"
        if answer.reason == "unsupported protocol version":
            answer, spoken = self._asked(MQTTProtocolVersion.MQTTv311), "3.1.1"
        if answer.failed:
            raise _unaccepted(self._broker, self._name, answer.reason)
        return f"accepted {self._who}, mqtt {spoken}"

    def subscribe(self) -> str:
        if self._client:
            self._client.subscribe(self._topic, 1)
        failed = _Failed(f"{self._topic}: a subscription is not answered", "look into the broker's log")
        self._judge(self._wait("subscribe", failed), "read")
        return f"{self._topic} granted"

    def publish(self) -> str:
        if self._client:
            self._client.publish(self._topic, self._token, 1)
        advice = f"{self._allow('write')}: some brokers hang up on what they forbid"
        answer = self._wait("publish", _Failed(f"{self._topic}: a message is not confirmed", advice))
        self._judge(answer, "write")
        return f"{self._topic} confirmed"

    def read_back(self) -> str:
        advice = f"{self._allow('read and write')}: some brokers accept what they then drop"
        failed, deadline = _Failed(f"{self._topic}: what was written does not come back", advice), time.monotonic()
        while self._wait("message", failed, deadline).payload != self._token:  # another probe's
            pass
        return "what was written came back"

    def close(self) -> None:
        if self._client:
            self._client.disconnect()
            self._client.loop_stop()
            # paho closes its own sockets only when nobody knows it any more, and these know us
            self._client.on_connect = self._client.on_disconnect = self._client.on_subscribe = None
            self._client.on_publish = self._client.on_message = None
            self._client = None

    @property
    def _who(self) -> str:
        return f"as {self._broker.username}" if self._broker.username else "without a user name"

    def _allow(self, what: str) -> str:
        whom = f"user {self._broker.username}" if self._broker.username else f"client {self._name}"
        return f"let {whom} {what} {self._topic} in the broker's acl"

    def _judge(self, answer: _Answer, what: str) -> None:
        if answer.failed:
            said = f"{self._topic}: {answer.reason}"
            raise _Failed(said, self._allow(what))

    def _encrypted(self, context: ssl.SSLContext | None) -> ssl.SSLSocket:
        """A connection of its own; without a context it trusts anybody."""
        plain = socket.create_connection((self._broker.host, self._broker.port), self._patience)
        try:
            return (context or Tls(insecure=True).context()).wrap_socket(plain, server_hostname=self._broker.host)
        except BaseException:
            plain.close()
            raise

    def _asked(self, version: MQTTProtocolVersion) -> _Answer:
        """The broker's word on whether we may connect."""
        self.close()
        self._answers = answers = queue.SimpleQueue[_Answer]()
        self._early = []
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, self._name, protocol=version, reconnect_on_failure=False
        )
        client.username_pw_set(self._broker.username, self._broker.password)
        if self._context:
            client.tls_set_context(self._context)
        client.on_connect = lambda _c, _d, _f, reason, _p: answers.put(_answer("connect", reason))
        client.on_disconnect = lambda _c, _d, _f, reason, _p: answers.put(_answer("end", reason))
        client.on_subscribe = lambda _c, _d, _m, reasons, _p: answers.put(_answer("subscribe", reasons[0]))
        client.on_publish = lambda _c, _d, _m, reason, _p: answers.put(_answer("publish", reason))
        client.on_message = lambda _c, _d, message: answers.put(_Answer("message", payload=bytes(message.payload)))
        try:
            client.connect(self._broker.host, self._broker.port, self._broker.keepalive)
        except OSError as error:
            raise _unreached(self._where, error, self._patience) from error
        client.loop_start()
        try:
            return self._wait("connect", _Failed())
        except _Failed:
            raise self._speechless() from None

    def _wait(self, about: str, failed: _Failed, began: float | None = None) -> _Answer:
        """The next answer about this; others keep."""
        deadline = (began or time.monotonic()) + self._patience
        while not (fitting := [answer for answer in self._early if answer.about == about]):
            try:
                self._early.append(self._answers.get(timeout=max(deadline - time.monotonic(), 0.0)))
            except queue.Empty:
                raise failed from None
            if self._early[-1].about == "end":
                raise failed
        self._early.remove(fitting[0])
        return fitting[0]

    def _speechless(self) -> _Failed:
        """Somebody is there who does not answer as a broker does."""
        if self._broker.tls is None and self._speaks_tls():
            advice = "add the table [mqtt.tls], with ca_file, or set mqtt.port to the unencrypted one, mostly 1883"
            return _Failed(f"{self._where} wants tls", advice)
        advice = f"set mqtt.port to the broker's mqtt port, {PORTS}; a websocket port is none"
        return _Failed(f"{self._where} does not answer as an mqtt broker does", advice)

    def _speaks_tls(self) -> bool:
        try:
            self._encrypted(None).close()
        except (OSError, ValueError) as error:
            return "ALERT" in str(getattr(error, "reason", ""))  # it wants more than we show
        return True


def _answer(about: str, reason: ReasonCode) -> _Answer:
    return _Answer(about, str(reason).lower(), reason.is_failure)


def _listen(line: ssl.SSLSocket) -> None:
    """A broker that misses our certificate says so only after the handshake (TLS 1.3); all others wait for us."""
    line.settimeout(0.5)
    try:
        if not line.recv(1):
            raise ssl.SSLError(0, "the broker hung up after the handshake")
    except TimeoutError:
        return


# What may be wrong, and what to do about it ---------------------------------------------------------------------------


def _unresolved(host: str, error: Exception) -> _Failed:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        advice = "check this computer's network and its name server, or set mqtt.host to the broker's address"
        return _Failed(f"no name server answers for {host}", advice)
    advice = "correct mqtt.host, or set it to the broker's address; names in .local need mdns on this computer"
    return _Failed(f"{host} is not known", advice)


def _unreached(where: str, error: OSError, patience: float) -> _Failed:
    if isinstance(error, ConnectionRefusedError):
        advice = f"start the broker, let it listen to more than its own localhost, and check mqtt.port ({PORTS})"
        return _Failed(f"{where} refuses connections", advice)
    if isinstance(error, TimeoutError):
        advice = "check that the broker's computer is on and that no firewall drops the port"
        return _Failed(f"{where} does not answer within {patience:g} s", advice)
    advice = "check this computer's network: cable, address, route"
    return _Failed(f"{where} cannot be reached: {error.strerror or error}".lower(), advice)


_CERTIFICATES = {
    9: "check this computer's clock: the broker's certificate is not valid yet",
    10: "renew the broker's certificate; if it is still good, check this computer's clock",
    18: "set mqtt.tls.ca_file to the broker's own certificate, which signs itself",
    19: "set mqtt.tls.ca_file to the pem file of the authority that signed the broker's certificate",
    20: "set mqtt.tls.ca_file to the pem file of the authority that signed the broker's certificate",
    21: "set mqtt.tls.ca_file to the pem file of the authority that signed the broker's certificate",
    62: "set mqtt.host to a name in the broker's certificate, or put this one into its subjectAltName",
    64: "set mqtt.host to a name in the broker's certificate, or put this address into its subjectAltName",
}
"""by OpenSSL's X509_V_ERR number"""
_WANTED = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
_UNWANTED = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "CERTIFICATE_REVOKED")


def _unencrypted(where: str, error: Exception) -> _Failed:
    reason = str(getattr(error, "reason", None) or "")
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = _CERTIFICATES.get(error.verify_code, "have the broker's certificate issued anew")
        return _Failed(f"{where}: {error.verify_message}".lower(), advice)
    if any(word in reason for word in _WANTED) or "after the handshake" in str(error):
        return _Failed(f"{where} wants a client certificate", "set mqtt.tls.cert and mqtt.tls.key")
    if any(word in reason for word in _UNWANTED):
        advice = "set mqtt.tls.cert to one that is valid and signed by an authority that the broker trusts"
        return _Failed(f"{where} does not accept our certificate: {reason}".lower(), advice)
    advice = "remove the table [mqtt.tls], or set mqtt.port to the encrypted one, mostly 8883"
    return _Failed(f"{where} does not speak tls: {reason or error}".lower(), advice)


def _unaccepted(broker: Broker, name: str, reason: str) -> _Failed:
    if reason in {"not authorized", "bad user name or password"}:
        advice = "set mqtt.username and mqtt.password"
        if broker.username:
            advice = f"check mqtt.username, now {broker.username}, and mqtt.password; the broker may know neither"
    elif reason == "client identifier not valid":
        advice = f"let the broker accept the client id {name}, and the same without -probe for the daemon"
    else:
        advice = "look into the broker's log"
    return _Failed(f"the broker refuses us: {reason}", advice)
