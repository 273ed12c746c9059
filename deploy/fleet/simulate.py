"""How many nodes does a broker carry? Runs them: the real daemon, with a rendered valve in the place of its microphone.

    python -m deploy.fleet.simulate --nodes 50 --seconds 120
    python -m deploy.fleet.simulate --nodes 50 --broker central.example:1883

Every node hears a valve that is well for a while and leaks for a while, so that there are alarms, too. Without --broker
a mosquitto is started on this computer. What every node says it has scored is compared with what a subscriber got.
"""
# ruff: noqa: INP001, T201 - a command, no package

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paho.mqtt.client as paho
import soundfile
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.config import Config
from edge_asd.daemon import Daemon
from edge_asd.observe.log import start_logging
from edge_asd.render.machine import Condition
from edge_asd.render.performance import Performance, machine
from edge_asd.render.room import Room

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

RATE = 16_000
SPELL_S = 30
"""how long the valve is well, and how long it leaks"""
THRESHOLD = 2.0
"""between the scores of both spells, so that each is told at its first clip"""
BASE = "fleet"
READY_S = 120.0
"""until all nodes are there"""
SETTLE_S = 10.0
"""for the last messages"""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    nodes: int
    processes: int
    seconds: float
    speed: float
    host: str
    port: int
    folder: Path

    def share(self, process: int) -> list[str]:
        """Names of the nodes of one process."""
        return [f"node{number:05d}" for number in range(process, self.nodes, self.processes)]


@dataclass(frozen=True)
class Account:
    """What some nodes have to say for themselves."""

    scored: dict[str, int]
    """clips by node"""
    events: dict[str, int]
    """events that the broker has acknowledged, by node"""
    cpu_s: float
    resident_mb: float


@dataclass(frozen=True)
class Result:
    """Of a run."""

    nodes: int
    seconds: float
    messages_per_s: dict[str, float]
    """that the subscriber was given, by kind"""
    bytes_per_message: float
    """topic and payload"""
    scored: int
    scores_lost: int
    events: int
    events_lost: int
    node_cores: float
    """of all nodes together"""
    node_mb: float
    """resident, by node"""
    broker_cores: float | None
    """None for a broker elsewhere"""
    broker_mb: float | None

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {rate:.2f}" for kind, rate in sorted(self.messages_per_s.items()))
        broker = (
            "broker elsewhere"
            if self.broker_cores is None
            else f"broker: {self.broker_cores:.3f} cores, {self.broker_mb:.1f} MB resident"
        )
        return "\n".join(
            [
                f"{self.nodes} nodes for {self.seconds:.0f} s",
                f"messages/s: {sum(self.messages_per_s.values()):.1f} ({kinds})",
                f"a message has {self.bytes_per_message:.0f} bytes",
                f"scores: {self.scored}, lost {self.scores_lost}; events: {self.events}, lost {self.events_lost}",
                f"nodes: {self.node_cores:.2f} cores in all, {self.node_mb:.1f} MB resident each",
                broker,
            ]
        )


def simulate(plan: Plan, broker: int | None = None) -> Result:
    """Run the nodes for so long; ``broker`` is its process, if it is here."""
    sound(plan.folder / "valve.wav")
    with ExitStack() as stack:
        hearer = stack.enter_context(Hearer(plan))
        pipes = [stack.enter_context(_process(plan, number)) for number in range(plan.processes)]
        hearer.wait_for_all()
        before, spent = hearer.counted(), _spent(broker)
        began = time.monotonic()
        time.sleep(plan.seconds)
        passed, after, spent_then = time.monotonic() - began, hearer.counted(), _spent(broker)
        for pipe in pipes:
            pipe.send("stop")
        accounts = [pipe.recv() for pipe in pipes]
        hearer.settle(accounts)
        return _result(
            plan, passed, {k: (after[k] - before[k]) / passed for k in after}, hearer, accounts, spent, spent_then
        )


def _result(
    plan: Plan,
    passed: float,
    rates: dict[str, float],
    hearer: Hearer,
    accounts: list[Account],
    spent: tuple[float, float] | None,
    spent_then: tuple[float, float] | None,
) -> Result:
    return Result(
        plan.nodes,
        passed,
        rates,
        hearer.bytes / max(hearer.counted().total(), 1),
        sum(sum(account.scored.values()) for account in accounts),
        hearer.missing("score", accounts),
        sum(sum(account.events.values()) for account in accounts),
        hearer.missing("event", accounts),
        sum(account.cpu_s for account in accounts) / passed,
        sum(account.resident_mb for account in accounts) / plan.nodes,
        (spent_then[0] - spent[0]) / passed if spent and spent_then else None,
        spent_then[1] if spent_then else None,
    )


def sound(path: Path) -> None:
    """A valve that is well, then leaks; rendered once, lest the nodes spend their time on it."""
    performance = Performance(machine("valve", 0), Room(number=0), seed=0, rate=RATE)
    spells = (Condition(), Condition(fault="leak", severity=1.0))
    soundfile.write(path, np.concatenate([performance.render(SPELL_S * RATE, spell) for spell in spells]), RATE)


# The nodes ------------------------------------------------------------------------------------------------------------


@contextmanager
def _process(plan: Plan, number: int) -> Iterator[Connection]:
    """Some of the nodes; they stop when told, and give account."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_nodes, args=(plan, number, theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.join(30)
        process.kill()


def _nodes(plan: Plan, number: int, pipe: Connection) -> None:
    start_logging("error")
    names = plan.share(number)
    daemons = [Daemon(_config(plan, name)) for name in names]
    spent = _cpu_s()
    with ThreadPoolExecutor(len(daemons)) as pool:
        runs = [pool.submit(daemon.run) for daemon in daemons]
        pipe.recv()
        used, resident = _cpu_s() - spent, _resident_mb(os.getpid())
        for daemon in daemons:
            daemon.stop()
    for run in runs:
        run.result()
    scored = {
        name: _count(daemon, "clips_total", machine="valve", outcome="scored")
        for name, daemon in zip(names, daemons, strict=True)
    }
    events = {
        name: _count(daemon, "mqtt_messages_total", kind="event") for name, daemon in zip(names, daemons, strict=True)
    }
    pipe.send(Account(scored, events, used, resident))


def _config(plan: Plan, name: str) -> Config:
    source = {"input": f"file:{plan.folder / 'valve.wav'}", "loop": True, "speed": plan.speed}
    alarm = {"threshold": THRESHOLD, "on_delay": 1, "off_delay": 1, "chatter_clips": 0}
    return Config.model_validate(
        {
            "node": name,
            "state_dir": plan.folder / name,
            "flood_limit": 0,
            "metrics": {"listen": ""},
            "mqtt": {"host": plan.host, "port": plan.port, "base": BASE, "discovery": ""},
            "sources": {"mic": source},
            "machines": {"valve": {"source": "mic", "head": "rendered/valve/00", "alarm": alarm}},
        }
    )


def _count(daemon: Daemon, name: str, **labels: str) -> int:
    return int(daemon.metrics.registry.get_sample_value(f"edge_asd_{name}", labels) or 0)


# Who listens ----------------------------------------------------------------------------------------------------------


class Hearer:
    """A subscriber to everything, who counts."""

    def __init__(self, plan: Plan) -> None:
        """Connected when this returns."""
        self._plan, self._news = plan, threading.Condition()
        self._kinds: Counter[str] = Counter()
        self.bytes = 0
        self._ids: dict[tuple[str, str], set[str]] = {}
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{BASE}/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._heard

    def __enter__(self) -> Hearer:  # noqa: PYI034 - Self is not in Python 3.10's typing, and this is one class
        self._client.connect(self._plan.host, self._plan.port)
        self._client.loop_start()
        self._subscribed.wait(SETTLE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _heard(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        _, _, node, *rest = message.topic.split("/")
        kind = rest[-1]
        with self._news:
            self._kinds[kind] += 1
            self.bytes += len(message.topic) + len(message.payload)
            if kind in {"score", "event"}:
                self._ids.setdefault((kind, node), set()).add(_id(message.payload))
            self._news.notify_all()

    def counted(self) -> Counter[str]:
        """Messages by kind."""
        with self._news:
            return Counter(self._kinds)

    def wait_for_all(self) -> None:
        """Until a score of every node has come; AssertionError when one does not."""
        with self._news:
            there = self._news.wait_for(lambda: self._speaking() == self._plan.nodes, READY_S + self._plan.nodes)
        if not there:
            sys.exit(f"only {self._speaking()} of {self._plan.nodes} nodes have said a score")

    def _speaking(self) -> int:
        return sum(kind == "score" for kind, _ in self._ids)

    def settle(self, accounts: list[Account]) -> None:
        """Give what is under way its time."""
        with self._news:
            self._news.wait_for(lambda: not self.missing("score", accounts) + self.missing("event", accounts), SETTLE_S)

    def missing(self, kind: str, accounts: list[Account]) -> int:
        """Messages that nodes have sent and that never came."""
        sent = {
            k: n for account in accounts for k, n in (account.scored if kind == "score" else account.events).items()
        }
        return sum(max(number - len(self._ids.get((kind, node), ())), 0) for node, number in sent.items())


def _id(payload: bytes) -> str:
    body: dict[str, Any] = json.loads(payload)
    return str(body["id"])


# The computer ---------------------------------------------------------------------------------------------------------


@contextmanager
def mosquitto(folder: Path) -> Iterator[tuple[int, int]]:
    """One of our own on loopback: its port, and its process."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        sys.exit("mosquitto is missing: apt install mosquitto, or name another broker with --broker HOST:PORT")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    with subprocess.Popen([program, "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL) as process:
        try:
            yield port, process.pid
        finally:
            process.terminate()


def _spent(process: int | None) -> tuple[float, float] | None:
    """Processor seconds and resident megabytes of somebody else."""
    if process is None:
        return None
    fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), _resident_mb(process)


def _resident_mb(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """As a command; exit code 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--speed", type=float, default=1.0, help="times real time, to about 10: a node talks like so many"
    )
    parser.add_argument("--broker", default="", help="HOST:PORT; without it one is started here")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        host, _, port = asked.broker.rpartition(":")
        process = None
        if not asked.broker:
            host, (port, process) = "127.0.0.1", stack.enter_context(mosquitto(Path(folder)))
        processes = min(asked.processes, asked.nodes)
        plan = Plan(asked.nodes, processes, asked.seconds, asked.speed, host, int(port), Path(folder))
        result = simulate(plan, process)
    print(json.dumps(asdict(result)) if asked.json else result)
    sys.exit(1 if result.scores_lost or result.events_lost else 0)


if __name__ == "__main__":
    main()
