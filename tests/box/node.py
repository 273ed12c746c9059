"""The daemon as Debian's package runs it in a box, and who listens to it outside."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.box.box import INSIDE, Box
from tests.box.root import BOOTED, Root
from tests.conftest import Broker, free_port, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.box.package import Package
    from tests.conftest import Message

UNIT = "edge-asd.service"
CONFIG = "/etc/edge_asd/edge-asd.toml"
CREDENTIAL = "/etc/credstore/edge_asd.mqtt__password"
CREDENTIALS = ("box", "correct horse battery")
BACK_S = 60.0
"""at most, on a busy computer, from the start of a process to its first score"""
SETTINGS = """
node = "box"
[mqtt]
host = "{host}"
port = {port}
username = "{user}"
[metrics]
listen = "127.0.0.1:{metrics}"
[sources.valve]
input = "render:valve"
speed = 10
fault = "leak"
severity = 1.0
[machines.valve]
source = "valve"
head = "rendered/valve/00"
[sources.fan]
input = "render:fan"
speed = 10
[machines.fan]
source = "fan"
head = "rendered/fan/00"
"""
"""a valve that leaks from the beginning, so that its alarm stands whatever is started anew, and a fan that is well"""


@dataclass
class Node:
    """A box with the daemon's package in it, and the broker that it speaks to with a password."""

    box: Box
    broker: Broker
    metrics: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.recorder = self.broker.subscribe("edge_asd/v1/box/#")

    def install(self, package: Package) -> None:
        """With no network: all that it needs is in it, or in Debian's packages that are there."""
        self.box.do("unshare", "--net", "dpkg", "--install", f"{INSIDE}/{package.file.name}")

    def configure(self) -> None:
        """The password is only where systemd finds it."""
        user, password = self.broker.credentials or ("", "")
        host, port = self.broker.host, self.broker.port
        self.box.write(CONFIG, SETTINGS.format(host=host, port=port, user=user, metrics=self.metrics))
        self.box.write(CREDENTIAL, password)

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Until another process of the service is READY."""
        before = self.show("InvocationID")
        yield
        until(
            lambda: self.show("InvocationID") != before and self.show("ActiveState") == "active",
            BACK_S,
            lambda: self.box.call("systemctl", "status", "--no-pager", UNIT).stdout,
        )

    def start(self) -> None:
        """Returns when it is READY, and will be after each boot."""
        self.box.do("systemctl", "enable", "--now", UNIT)

    def show(self, name: str) -> str:
        """What systemd says of the service."""
        return self.box.do("systemctl", "show", f"--property={name}", "--value", UNIT)

    @property
    def process(self) -> psutil.Process:
        """The daemon, as this computer sees it."""
        inside = int(self.show("MainPID"))
        for process in psutil.Process(self.box.leader).children(recursive=True):
            if _innermost(process.pid) == inside:
                return process
        msg = f"no process of the box is its number {inside}"
        raise AssertionError(msg)

    @property
    def process_folder(self) -> Path:
        """What the kernel says of it."""
        return Path(f"/proc/{self.process.pid}")

    def environment(self) -> list[bytes]:
        """What anybody who may look at its process sees of its settings."""
        return [(self.process_folder / name).read_bytes() for name in ("environ", "cmdline")]

    def settle(self, name: str, **settings: str) -> None:
        """Let the unit have other settings until further notice, and start it with them; its own with none."""
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        self.box.write(f"/etc/systemd/system/{UNIT}.d/{name}.conf", f"[Service]\n{lines}")
        self.box.do("systemctl", "daemon-reload")
        self.box.do("systemctl", "restart", UNIT)

    def be_patient(self, seconds: float) -> None:
        """Let a new version be tried for so long."""
        line = f"ExecStart=\nExecStart=/usr/lib/edge_asd/trial judge {seconds:g}\n"
        self.box.write("/etc/systemd/system/edge-asd-trial.service.d/patience.conf", f"[Service]\n{line}")
        self.box.do("systemctl", "daemon-reload")

    def crashes(self) -> int:
        """How often the service was ended by an abort, as systemd told the journal."""
        return self.box.do("journalctl", "--unit", UNIT, "--no-pager").count("status=6/ABRT")

    @property
    def version(self) -> str:
        """That of the process that runs, whatever is installed; nothing where none does."""
        read = f"tr '\\0' ' ' </proc/$(systemctl show --property=MainPID --value {UNIT})/cmdline"
        program = self.box.call("sh", "-c", read).stdout.partition(" ")[0]
        return Path(program).parts[3] if program.startswith("/opt/edge_asd/") else ""

    @property
    def ready_s(self) -> float:
        """From the start of its process to READY, the latest time."""
        began, ready = self.show("ExecMainStartTimestampMonotonic"), self.show("ActiveEnterTimestampMonotonic")
        return (int(ready) - int(began)) / 1e6

    def told(self, ending: str, wanted: Callable[[Any], object], since: float, timeout: float = BACK_S) -> Message:
        """The first message on a topic that ends so, later than that moment, whose payload is wanted."""

        def fits(message: Message) -> object:
            fresh = message.time >= since and not message.retain
            return fresh and message.topic.endswith(ending) and wanted(message.json())

        return self.recorder.wait_for(fits, timeout)

    def scored(self, since: float | None = None, not_by: str = "", timeout: float = BACK_S) -> Message:
        """The first score of the leaking valve from now on, by another process than that one."""
        since = time.monotonic() if since is None else since
        return self.told("machine/valve/score", lambda score: score["boot_id"] != not_by, since, timeout)

    def life(self) -> str:
        """Which process is speaking: another one has another."""
        return str(self.scored().json()["boot_id"])

    def alarm(self) -> dict[str, Any]:
        """The leaking valve's, as somebody learns who asks only now."""
        newcomer = self.broker.subscribe("edge_asd/v1/box/machine/valve/alarm")
        return dict(newcomer.wait_for(lambda _: True).json())

    def events(self) -> list[dict[str, Any]]:
        """All that came, once each."""
        came = [m.json() for m in self.recorder.messages if m.topic.endswith("/event")]
        return list({event["id"]: event for event in came}.values())


@contextmanager
def plugged_in(folder: Path, shared: Path) -> Iterator[Node]:
    """A box that has booted, and a broker; at the end nothing is left of it."""
    broker = Broker(folder, CREDENTIALS)
    box = Box(Root("amd64", BOOTED).copy(folder / "root"), shared)
    try:
        broker.start()
        box.boot()
        yield Node(box, broker)
    finally:
        box.cut_power()
        broker.close()
        shutil.rmtree(box.root)


def _innermost(process: int) -> int:
    """A process's number in the namespace it lives in."""
    try:
        status = Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:  # it has ended meanwhile
        return 0
    return int(next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1])
