"""Commands from the person at the box: a Unix socket beside the state, one request and one reply a connection.

Whoever may open the socket may command: it belongs to the daemon's user, and root.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAME = "control.sock"
LONGEST = 16 * 1024
"""bytes of a request, as over MQTT"""
SLOW_S = 0.2
"""a client at the box sends at once; the daemon waits no longer, since it has a microphone to listen to"""
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and the way back."""

    verb: str
    body: dict[str, Any]
    by: str
    """name of the user who asks"""
    connection: socket.socket

    def answer(self, reply: bytes) -> None:
        """Reply and hang up; a client that has gone is none of our business."""
        with self.connection:
            self.connection.settimeout(SLOW_S)
            try:
                self.connection.sendall(reply + b"\n")
            except OSError:
                return


class Control:
    """The daemon's side. Nothing blocks for longer than one slow client does."""

    def __init__(self, folder: Path) -> None:
        """Listen.

        Raises:
            OSError: no socket can be made there; the broker remains as a way to command.
        """
        self._path = folder / NAME
        self._path.unlink(missing_ok=True)  # of a daemon that was killed; the store's lock says that none runs
        self._socket = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            with _short(self._path) as path:
                self._socket.bind(path)
        finally:
            os.umask(before)
        self._socket.listen(8)
        self._socket.setblocking(False)

    def asked(self) -> Iterator[Asked]:
        """Who has asked since the last time."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(SLOW_S)
            if request := _request(connection):
                yield request

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def answers(folder: Path) -> bool:
    """Whether a daemon listens that keeps its state in ``folder``; True also when this user may not speak to it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            with _short(folder / NAME) as path:
                connection.connect(path)
        except PermissionError:
            return True
        except OSError:
            return False
    return True


def ask(folder: Path, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the daemon that keeps its state in ``folder``.

    Raises:
        ConfigError: none runs there, or this user may not command it.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            with _short(folder / NAME) as path:
                connection.connect(path)
            connection.sendall(json.dumps({"verb": verb, "body": dict(body)}).encode() + b"\n")
            reply: dict[str, Any] = json.loads(_line(connection))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            msg = (
                f"no daemon answers at {folder / NAME} ({reason.lower()}); is edge-asd running, is this its state_dir, "
                "and are you root or its user?"
            )
            raise ConfigError(msg) from error
    return reply


def _request(connection: socket.socket) -> Asked | None:
    try:
        said = json.loads(_line(connection))
        verb, body = str(said["verb"]), dict(said["body"])
    except (OSError, ValueError, KeyError, TypeError):
        connection.close()
        return None
    return Asked(verb, body, _user(connection), connection)


def _line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece or len(line) > 2 * LONGEST:
            msg = "no whole line"
            raise ValueError(msg)
        line += piece
    return line


def _user(connection: socket.socket) -> str:
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A path of any length: a socket's may have 107 bytes, so it is named through a descriptor of its folder."""
    folder = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
