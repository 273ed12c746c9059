"""Between a node and its broker: a cable that can be cut, servers that are none, a broker that lets nobody listen."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


class Cable:
    """Passes bytes both ways; may answer MQTT 5 like a broker that has never heard of it."""

    def __init__(self, target: int, *, refuse_mqtt_5: bool = False) -> None:
        self._target, self._refuse, self._whole = target, refuse_mqtt_5, threading.Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.deaf = False
        """loses confirmations on their way to the node"""
        self.cut_after: int | None = None
        """bytes from the node, after which it breaks"""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def whole(self) -> bool:
        """Whether new connections get through."""
        return self._whole.is_set()

    def cut(self) -> None:
        """End every connection, and all that are tried."""
        self._whole.clear()
        self._end(*self._ends)
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
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # nobody is there
                near.close()
                continue
            far.sendall(first)
            self._ends += [near, far]
            for here, there, to_broker in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass, args=(here, there), kwargs={"to_broker": to_broker}).start()

    def _pass(self, here: socket.socket, there: socket.socket, *, to_broker: bool) -> None:
        with here, there, suppress(OSError):
            while data := here.recv(4096):
                if self.deaf and not to_broker and data[0] >> 4 == 4:  # PUBACK
                    continue
                left = self.cut_after if to_broker else None
                there.sendall(data[:left])
                if left is not None:
                    self.cut_after = left - len(data) if left > len(data) else None
                    if self.cut_after is None:
                        break
            self._end(here, there)

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):  # the other side was faster
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(target: int, *, refuse_mqtt_5: bool = False) -> Iterator[Cable]:
    """A cable to this port."""
    cable = Cable(target, refuse_mqtt_5=refuse_mqtt_5)
    try:
        yield cable
    finally:
        cable.close()


@contextmanager
def saying(answer: bytes, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that says one thing to everybody and hangs up; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    caller, _ = listener.accept()
                    with caller, suppress(OSError), context.wrap_socket(caller, True) if context else caller as line:
                        line.recv(4096)
                        line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def grudging(folder: Path) -> Iterator[str]:
    """Settings of a broker that lets a node speak and not listen."""
    plugin = next(iter(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")))
    file = folder / "dynamic-security.json"
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    file.write_text(json.dumps({"clients": [], "groups": [], "roles": [], "defaultACLAccess": access}))
    yield f"plugin {plugin}"
    yield f"plugin_opt_config_file {file}"
