"""What is asked of the node over HTTP. Time is the test's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest

from edge_asd.daemon import Daemon
from edge_asd.deliver.command import ALLOWED, Gate
from edge_asd.deliver.store import Store
from edge_asd.deliver.topic import Topics
from edge_asd.herald import HANGS_S, Herald
from edge_asd.observe.clock import Clock
from edge_asd.observe.notify import Notifier
from tests.deliver.test_schema import checker
from tests.example import bundle
from tests.test_daemon import Tap, Time, config

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Node:
    """A daemon of one machine at a tap, and who speaks for it."""

    folder: Path

    def __post_init__(self) -> None:
        self.time, self.tap, self.set_by_s = Time(), Tap(), 0.0
        clock = Clock(lambda: self.time.now, lambda: self.time.clock.wall() + timedelta(seconds=self.set_by_s))
        settings = config(bundle(self.folder / "toy.asd"), pump1="file:unused.wav")
        self.daemon = Daemon(settings, clock=self.time.clock)
        self.daemon.ears["pump1"].open_source = lambda: self.tap
        topics = Topics("node1")
        gate, store, notifier = Gate(topics, frozenset({"pump1"}), ALLOWED), Store(None), Notifier(None)
        d = self.daemon
        self.herald = Herald(
            d, settings, d.ears, d.wards, {}, topics, gate, store, d.metrics, clock, notifier, d.boot_id
        )

    def live(self, seconds: int) -> None:
        """A round a second."""
        for _ in range(seconds):
            self.daemon.step()
            self.herald.tell()
            self.time.now += 1

    def asked(self, path: str) -> tuple[bool, dict[str, Any]]:
        """Whether all is well there, and what is said."""
        page = self.herald.pages()[path]()
        return page.well, json.loads(page.body)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def unwell(said: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["said"] for check in said["checks"] if not check["well"]}


def test_a_node_that_hears_its_machine_is_well_and_alive(node: Node) -> None:
    node.live(5)
    well, said = node.asked("/healthz")

    assert well
    assert unwell(said) == {}
    checker("health").validate(said)
    assert node.asked("/livez") == (True, {"alive": True, "said": "alive"})


def test_a_microphone_that_is_gone_is_not_well_but_no_restart_would_help(node: Node) -> None:
    node.live(5)
    node.tap.trouble = "unplugged"
    node.live(60)
    well, said = node.asked("/healthz")

    assert not well
    assert unwell(said) == {"source pump1": "unplugged"}
    assert node.asked("/livez")[0]


def test_a_silence_that_nobody_can_explain_calls_for_a_restart(node: Node) -> None:
    node.live(5)
    node.tap.runs = False
    node.live(20)

    assert node.asked("/livez") == (
        False,
        {"alive": False, "said": "no clip scored of pump1, nobody knows why"},
    )


def test_a_daemon_that_hangs_says_so_by_another_thread(node: Node) -> None:
    node.live(5)
    node.time.now += HANGS_S + 1
    well, said = node.asked("/healthz")

    assert not well
    assert unwell(said) == {"daemon": f"no round for {HANGS_S + 2:.0f} s: it hangs"}
    assert not node.asked("/livez")[0]


def test_a_clock_that_is_set_is_counted_and_logged_once(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.live(5)
    node.set_by_s = -3600.0
    node.live(5)

    (line,) = [r for r in caplog.records if r.getMessage() == "clock.stepped"]
    assert vars(line)["seconds"] == -3600.0
    page = generate_latest(node.daemon.metrics.registry).decode()
    assert 'edge_asd_clock_steps_total{direction="backward"} 1.0' in page
    assert 'edge_asd_clock_steps_total{direction="forward"} 0.0' in page
