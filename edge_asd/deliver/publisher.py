"""The seam between what the daemon says and who carries it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edge_asd.deliver.message import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_asd.deliver.message import Message

OUTCOMES = ("ok", "refused", "unreachable")
"""how an attempt to connect ends"""
REASONS = ("away", "full", "refused")
"""why a message is dropped: no broker, no room, or the broker does not want it"""


@dataclass(frozen=True, slots=True)
class Tls:
    """How the broker proves who it is, and we who we are."""

    ca_file: Path | None = None
    """certificate authorities to trust; the system's when None"""
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    """do not verify the broker"""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and how to speak to it."""

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    keepalive: int = 20
    """seconds; a frozen broker is noticed after one and a half"""


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
    """acknowledged; scores: written to the connection"""
    dropped: Mapping[tuple[Kind, str], int] = field(
        default_factory=lambda: {(kind, reason): 0 for kind in Kind for reason in REASONS}
    )
    waiting: int = 0
    """messages in the outbox"""
    waiting_bytes: int = 0


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
        """Hand over; whether and when it arrives shows in the traffic."""
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

    def traffic(self) -> Traffic:
        """There is none."""
        return Traffic()

    def close(self, timeout: float = 5.0) -> None:
        """Nothing to close."""
