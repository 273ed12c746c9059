"""The seam between what the daemon says and who carries it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edge_asd.deliver.message import Kind
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_asd.deliver.message import Message

OUTCOMES = ("ok", "refused", "unreachable")
"""how an attempt to connect ends"""
REASONS = ("away", "full", "refused")
"""why a message is dropped: no broker, no room, or the broker does not want it (what waits is the outbox's to count)"""


@dataclass(frozen=True, slots=True)
class Tls:
    """How the broker proves who it is, and we who we are."""

    ca_file: Path | None = None
    """certificate authorities to trust; the system's when None"""
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    """do not verify the broker"""

    def context(self) -> ssl.SSLContext:
        """What we trust, and the certificate we show; at least TLS 1.2.

        Raises:
            ConfigError: a file is missing or holds something else.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:
            files = ", ".join(str(path) for path in (self.ca_file, self.cert, self.key) if path)
            why = error.strerror or error
            msg = f"mqtt.tls: {files} cannot be used: {why}; give pem files that the daemon may read"
            raise ConfigError(msg) from error
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and how to speak to it."""

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    keepalive: int = 20
    """seconds; a frozen broker is noticed after twice as long at most"""
    reconnect_s: tuple[float, float] = (1.0, 5.0)
    """seconds between attempts, first and longest: retained topics are back within ten of the broker's return"""
    replay_rate: float = 20.0
    """messages a second at most of those that waited while the broker was away"""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What became of everything that was to be published, since the daemon started."""

    connected: bool = False
    trouble: str = ""
    """why there is no connection, for people; empty when there is one"""
    insecure: bool = False
    """the broker is not verified"""
    connects: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    published: Mapping[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    """acknowledged; with QoS 0: written to the connection"""
    dropped: Mapping[tuple[Kind, str], int] = field(
        default_factory=lambda: {(kind, reason): 0 for kind in Kind for reason in REASONS}
    )
    waiting: int = 0
    """messages in the outbox"""
    waiting_bytes: int = 0
    heard: int = 0
    """messages that came in"""
    unheard: int = 0
    """came in, but nobody took those before: too many or too large"""
    deaf: tuple[str, ...] = ()
    """filters that the broker does not let us subscribe to"""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What somebody sent us, unjudged."""

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None = None
    """where an answer is wanted (MQTT 5)"""
    correlation: bytes | None = None
    """to be given back with the answer (MQTT 5)"""


class Publisher(Protocol):
    """Where messages go. Nothing here blocks but ``close``, which is bounded."""

    def publish(self, message: Message) -> None:
        """State, which is said anew on every connection, or what is of use now or never.

        An empty payload removes a retained topic. Whether and when a message arrives shows in the traffic.

        Raises:
            ValueError: it must arrive, so it belongs in the outbox.
        """
        ...

    def wake(self) -> None:
        """The outbox has something new."""
        ...

    def incoming(self) -> list[Incoming]:
        """What came in since the last call, in order."""
        ...

    def traffic(self) -> Traffic:
        """A snapshot, from any thread."""
        ...

    def close(self, timeout: float = 5.0) -> None:
        """Say goodbye, waiting at most so many seconds. Safe to call twice."""
        ...


class NullPublisher:
    """No broker is configured."""

    def publish(self, message: Message) -> None:
        """Nobody listens."""

    def wake(self) -> None:
        """Nothing is sent."""

    def incoming(self) -> list[Incoming]:
        """Nobody speaks."""
        return []

    def traffic(self) -> Traffic:
        """There is none."""
        return Traffic()

    def close(self, timeout: float = 5.0) -> None:
        """Nothing to close."""
