"""Tell systemd how we are (sd_notify(3)); silent when nobody asked."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Notifier:
    """Speaks the datagram protocol of ``Type=notify`` services."""

    address: str | None = None
    """path of the socket; a leading ``@`` means the abstract namespace"""
    watchdog_s: float | None = None
    """seconds within which ``WATCHDOG=1`` must be sent; None when nobody watches"""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """As systemd asked for it in ``$NOTIFY_SOCKET``, ``$WATCHDOG_USEC`` and ``$WATCHDOG_PID``."""
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environment.get("WATCHDOG_USEC", "")
        watchdog_s = int(period) / 1e6 if ours and period.isdecimal() and int(period) else None
        return cls(environment.get("NOTIFY_SOCKET") or None, watchdog_s)

    def send(self, *states: str) -> None:
        """Send e.g. ``READY=1``, ``STATUS=2 machines``; a systemd that does not listen is not our trouble."""
        if not self.address:
            return
        path = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            try:
                channel.sendto("\n".join(states).encode(), path)
            except OSError:  # full or gone: the watchdog decides what that means
                return

    def ready(self, status: str) -> None:
        """Started; others may rely on us."""
        self.send("READY=1", f"STATUS={status}")

    def extend(self, seconds: float) -> None:
        """What comes now may take so long; only then is the start overdue."""
        self.send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self.send(f"STATUS={status}")

    def alive(self) -> None:
        """Feed the watchdog: only ever after honest work."""
        self.send("WATCHDOG=1")

    def stopping(self) -> None:
        """On the way out."""
        self.send("STOPPING=1")
