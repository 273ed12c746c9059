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
    node.broker.start()
    say(node, "older again")

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


def refuse(tree: Path) -> None:
    """A mistake in a new version: it wants settings that nobody has."""
    (config,) = tree.glob("usr/lib/edge_asd/payload/lib/*/site-packages/edge_asd/config.py")
    mistake = "def load_config(*_):\n    raise ConfigError('none')\n\n\ndef was_load_config("
    config.write_text(config.read_text().replace("def load_config(", mistake))


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
