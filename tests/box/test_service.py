"""The service under a real systemd: whatever is done to it, it scores again. One box for all of it."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.box.limit import limited
from tests.box.node import BACK_S, CONFIG, CREDENTIALS, UNIT, plugged_in
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.box.node import Node
    from tests.box.package import Package
    from tests.conftest import Prometheus

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
WATCHDOG_S = 4.0
"""in the test of it; the unit's own is looked at elsewhere"""
ABORT_S = 5.0
"""that a process has between being told and being killed"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, package: Package, figures: dict[str, str]) -> Iterator[Node]:
    with plugged_in(tmp_path_factory.mktemp("box"), package.file.parent) as node:
        began = time.monotonic()
        node.install(package)
        figures["install, without a network"] = f"{time.monotonic() - began:.1f} s"
        node.configure()
        node.start()
        until(node.events, BACK_S, "no alarm")  # in whatever order the tests come
        yield node


def test_an_alarm_reaches_a_broker_whose_password_is_a_credential(node: Node, figures: dict[str, str]) -> None:
    alarm = node.recorder.wait_for(lambda m: m.topic.endswith("machine/valve/event")).json()

    assert (alarm["event"], alarm["event_seq"], alarm["evidence"]["clips_over"]) == ("activated", 1, 3)
    assert CREDENTIALS[1] not in (node.box.root / CONFIG.lstrip("/")).read_text()
    assert CREDENTIALS[1].encode() not in b"".join(node.environment())
    assert node.show("StatusText").startswith("2 machines")
    figures["READY, from the start of its process"] = f"{node.ready_s:.2f} s"
    figures["resident memory, two machines at ten times"] = f"{node.process.memory_info().rss / 2**20:.0f} MB"


def test_what_it_may_do_is_little_in_the_booted_system_too(node: Node, figures: dict[str, str]) -> None:
    exposure = node.box.do("systemd-analyze", "security", "--no-pager", UNIT).splitlines()[-1]
    figures["exposure"] = exposure.partition(": ")[2].split()[0]

    status = (node.process_folder / "status").read_text()
    limits = dict(line.split(":\t", 1) for line in status.splitlines())
    assert (limits["CapEff"], limits["CapBnd"], limits["NoNewPrivs"], limits["Seccomp"]) == (
        "0" * 16,
        "0" * 16,
        "1",
        "2",
    )
    assert int(limits["Uid"].split()[0]) >= 61184, "not a user that systemd made up"
    assert float(figures["exposure"]) <= 1.6


def test_killed_it_scores_again(node: Node, figures: dict[str, str]) -> None:
    life, restarts, began = node.life(), int(node.show("NRestarts")), time.monotonic()
    os.kill(node.process.pid, signal.SIGKILL)
    back = node.scored(not_by=life)

    assert int(node.show("NRestarts")) == restarts + 1
    assert back.json()["machine"] == "valve"
    figures["scoring again after kill -9, a clip of 1 s included"] = f"{back.time - began:.1f} s"


def test_frozen_it_is_found_by_the_watchdog_and_scores_again(node: Node, figures: dict[str, str]) -> None:
    node.settle("watchdog", WatchdogSec=f"{WATCHDOG_S:g}")
    life, process = node.life(), node.process
    began = time.monotonic()
    process.suspend()
    until(lambda: not process.is_running(), WATCHDOG_S + ABORT_S + 5, "a frozen daemon lives on")
    ended = time.monotonic()
    node.scored(not_by=life)
    node.settle("watchdog")

    assert ended - began < WATCHDOG_S + ABORT_S + 2
    assert "Watchdog timeout" in node.box.do("journalctl", "--unit", UNIT, "--no-pager")
    figures[f"frozen, ended by a watchdog of {WATCHDOG_S:g} s"] = f"{ended - began:.1f} s"


def test_out_of_memory_it_scores_again(node: Node, figures: dict[str, str]) -> None:
    life = node.life()
    with limited(node.process.pid, size=2**12):
        pass
    began = time.monotonic()
    back = node.scored(since=began, not_by=life)

    assert node.show("ActiveState") == "active"
    figures["scoring again after the kernel killed it for memory"] = f"{back.time - began:.1f} s"


def test_after_a_reboot_it_scores_with_nobody_there_and_its_alarm_stands(node: Node, figures: dict[str, str]) -> None:
    raised = node.recorder.wait_for(lambda m: m.topic.endswith("machine/valve/event"))
    life, began = node.life(), time.monotonic()
    node.box.reboot()
    back = node.scored(since=began, not_by=life)
    stands = node.alarm()

    assert (stands["alarm"]["active"], stands["alarm_id"]) == (True, raised.json()["alarm_id"])
    figures["scoring again after a reboot was asked for"] = f"{back.time - began:.1f} s"


def test_after_a_power_cut_it_scores_with_nobody_there(node: Node, figures: dict[str, str]) -> None:
    life, began = node.life(), time.monotonic()
    node.box.cut_power()
    node.box.boot()
    back = node.scored(since=began, not_by=life)

    assert node.events()[-1]["event_seq"] == 1, "an alarm that stands is not told again"
    figures["scoring again after a power cut"] = f"{back.time - began:.1f} s"


def test_prometheus_outside_sees_both_machines(node: Node, prometheus: Callable[[int], Prometheus]) -> None:
    store = prometheus(node.metrics)
    stands = store.wait_for('edge_asd_alarms{machine="valve",edge_asd_alarm_state="active_unacked"} == 1', BACK_S)

    assert [sample["metric"]["job"] for sample in stands] == ["edge_asd"]
    assert store.wait_for('edge_asd_alarms{machine="fan",edge_asd_alarm_state="normal"} == 1', BACK_S)
    assert store.wait_for('edge_asd_clips_total{machine="fan",outcome="scored"} > 0', BACK_S)
