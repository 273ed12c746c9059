"""Another version of the package on a computer that runs: what was known stays known, and what is bad goes back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.box.node import BACK_S, CONFIG, UNIT, plugged_in
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.box.node import Node
    from tests.box.package import Package

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
TREES = "opt/edge_asd"
PATIENCE_S = 24.0
"""of the trial in these tests; its own is three minutes"""
LEFT = {"./etc/credstore/edge_asd.mqtt__password"}
"""what an operator wrote, and no package touches"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, package: Package) -> Iterator[Node]:
    """A box in which nothing of ours is installed."""
    with plugged_in(tmp_path_factory.mktemp("box"), package.file.parent) as node:
        yield node


@pytest.fixture
def node(bare: Node, package: Package) -> Iterator[Node]:
    """The daemon scores, its alarm was told; at the end nothing is installed."""
    bare.install(package)
    bare.configure()
    bare.start()
    bare.scored()
    until(bare.events, BACK_S, "no alarm")
    yield bare
    bare.box.call("dpkg", "--purge", "edge-asd")
    bare.recorder.messages.clear()


def say(node: Node, what: str) -> None:
    """Somebody at the box does something about the alarm: an event that must not be lost."""
    node.box.do("edge-asd", "alarm", "shelve", "valve", "--minutes", "60", "--comment", what)


def current(node: Node) -> str:
    """The version that runs when it is started."""
    return str((node.box.root / TREES / "current").readlink())


def test_versions_come_and_go_and_nothing_is_forgotten(node: Node, package: Package, figures: dict[str, str]) -> None:
    (raised,), newer = node.events(), package.next()
    settings = (node.box.root / CONFIG.lstrip("/")).read_text()

    node.broker.stop()  # what is said now must outlive the version that said it
    say(node, "older")
    began = time.monotonic()
    with node.replaced():
        node.install(newer)
    figures["another version runs, from dpkg --install on"] = f"{time.monotonic() - began:.1f} s"
    assert current(node) == newer.version
    say(node, "newer")
    with node.replaced():
        node.install(package)
    assert current(node) == package.version
    say(node, "older again")
    node.box.do("systemctl", "stop", "edge-asd")  # the broker has forgotten who listens: first him
    node.broker.start()
    until(lambda: node.recorder.present, BACK_S, "the recorder does not come back")
    node.box.do("systemctl", "start", "edge-asd")

    until(lambda: len(node.events()) == 4, BACK_S, lambda: str(node.events()))
    told = [(event["event_seq"], event["comment"]) for event in node.events()]
    assert told == [(1, None), (2, "older"), (3, "newer"), (4, "older again")]
    assert {event["alarm_id"] for event in node.events()} == {raised["alarm_id"]}
    assert (node.box.root / CONFIG.lstrip("/")).read_text() == settings


def test_a_version_that_refuses_the_settings_goes_back_by_itself(
    node: Node, package: Package, figures: dict[str, str]
) -> None:
    began = time.monotonic()
    node.install(package.next(refuse))
    until(lambda: current(node) == package.version, BACK_S, "the bad version stays")
    back = node.scored()

    assert back.json()["late"] is False
    assert "back to" in node.box.do("journalctl", "--unit", "edge-asd-trial", "--no-pager")
    figures["scoring again after a version that refuses to start"] = f"{back.time - began:.1f} s"


@pytest.mark.parametrize("mistake", ["it dies again and again", "it starts and hears nothing"])
def test_a_version_that_does_not_do_its_work_is_replaced_when_patience_ends(
    node: Node, package: Package, figures: dict[str, str], mistake: str
) -> None:
    ruin = die if mistake.startswith("it dies") else hear_nothing
    node.be_patient(PATIENCE_S)
    crashes = node.crashes()
    began = time.monotonic()
    node.install(package.next(ruin))
    until(lambda: current(node) != package.version, BACK_S, "the bad version is not tried")
    until(lambda: current(node) == package.version == node.version, PATIENCE_S + BACK_S, "the bad version stays")
    back, stands, crashes = node.scored(), node.alarm(), node.crashes() - crashes

    assert crashes >= 2 if ruin is die else crashes == 0, node.box.do("journalctl", "--unit", UNIT, "--no-pager")
    assert back.time - began >= PATIENCE_S, "nobody could know so soon"
    assert (stands["alarm"]["active"], [event["event_seq"] for event in node.events()]) == (True, [1])
    figures[f"scoring again after a trial of {PATIENCE_S:g} s: {mistake}"] = f"{back.time - began:.1f} s"


def refuse(tree: Path) -> None:
    """A mistake in a new version: it wants settings that nobody has."""
    exchange(
        tree, "config.py", "def load_config(", "def load_config(*_):\n    raise ConfigError('none')\n\n\ndef was_("
    )


def die(tree: Path) -> None:
    """A mistake in a new version: what it calls crashes while it works."""
    crash = f"__import__('threading').Timer({PATIENCE_S / 8:g}, __import__('os').abort).start()"
    begin = "            self._start(stack)\n"
    exchange(tree, "daemon.py", begin, f"{begin}            {crash}\n")


def hear_nothing(tree: Path) -> None:
    """A mistake in a new version: sound is lost on its way, and all else goes on."""
    exchange(
        tree,
        "capture/rendered.py",
        "yield performance.render(piece, conditions[1])",
        "yield 0 * performance.render(piece, conditions[1])",
    )


def exchange(tree: Path, module: str, right: str, wrong: str) -> None:
    """Write something else into the program."""
    (file,) = tree.glob(f"usr/lib/edge_asd/payload/lib/*/site-packages/edge_asd/{module}")
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))


def test_purge_leaves_nothing(bare: Node, package: Package) -> None:
    before = bare.box.files()
    bare.install(package)
    bare.configure()
    bare.start()
    bare.scored()
    there = bare.box.files() - before
    assert {Path(path).name for path in there} >= {"edge-asd", "edge-asd.db", "edge-asd.toml", UNIT}
    bare.box.do("dpkg", "--purge", "edge-asd")

    left = {path for path in bare.box.files() - before if "edge_asd" in path or "edge-asd" in path}
    assert left <= LEFT
    assert bare.box.call("systemctl", "cat", UNIT).returncode != 0
