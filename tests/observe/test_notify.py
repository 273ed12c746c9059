from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from edge_asd.observe.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address a service is given, and the socket behind it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@edge-asd-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0", 1) if request.param == "abstract" else address)
        listener.settimeout(5)
        yield address, listener


def test_systemd_is_told_what_it_understands(systemd: tuple[str, socket.socket]) -> None:
    address, listener = systemd
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})

    notifier.ready("2 machines")
    notifier.alive()
    notifier.status("mic0 lost")
    notifier.stopping()

    said = [listener.recv(4096).decode() for _ in range(4)]
    assert said == ["READY=1\nSTATUS=2 machines", "WATCHDOG=1", "STATUS=mic0 lost", "STOPPING=1"]


def test_without_systemd_nothing_is_said() -> None:
    notifier = Notifier.from_environment({})
    notifier.ready("started")

    assert notifier == Notifier(address=None, watchdog_s=None)


def test_a_systemd_that_is_gone_does_not_hurt(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "gone")).alive()


def test_a_systemd_that_does_not_read_blocks_nothing(systemd: tuple[str, socket.socket]) -> None:
    address, _ = systemd
    for _ in range(10_000):
        Notifier(address).alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_watches_the_process_it_names(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier.from_environment(environment).watchdog_s == seconds
