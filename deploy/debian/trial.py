#!/usr/bin/python3 -I
"""Whether a new version scores; if not, back to the one before.

    trial begin TREE   the new version is laid and about to be started; TREE, which runs now, is the last good one
    trial judge [S]    wait until the new one scores; after S seconds, or when it has failed, start TREE again
    trial health       what the daemon says of itself; exit code 1 if it does not answer or something is not well

It belongs to no version: whatever is wrong with the new one, this runs with Debian's Python and nothing else.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 180.0
SETTLED = 1 / 6
"""of the patience, as long as it must have run: one that scores a clip and dies is not good"""
LOOK_S = 2.0
"""between two looks"""
ANSWER_S = 10.0
UNIT = "edge-asd.service"


@dataclass(frozen=True, slots=True)
class Place:
    """Where versions, and what the operator wrote, lie."""

    root: Path = Path("/opt/edge_asd")
    config: Path = Path("/etc/edge_asd/edge-asd.toml")
    state: Path = Path("/var/lib/edge_asd")

    @property
    def note(self) -> Path:
        """There while a version is on trial: the last good tree, whether that was scoring, and the id of its run."""
        return self.root / "trial"


@dataclass(frozen=True, slots=True)
class Node:
    """The service, as seen from outside."""

    health: Callable[[], dict[str, Any] | None]
    """what the daemon says of itself; None when nothing answers"""
    failed: Callable[[], bool]
    """systemd has given it up"""
    restart: Callable[[], None]


def begin(place: Place, good: str, node: Node) -> None:
    """Write down what to go back to, and how that was; a version that was itself on trial is not it."""
    said = node.health()
    was = "scoring" if said and said.get("scored") else "deaf"
    if place.note.exists():
        good, was, _ = place.note.read_text().split()
    run = said["boot_id"] if said else "none"
    written = place.note.with_name(".trial")
    written.write_text(f"{good}\n{was}\n{run}\n")
    written.replace(place.note)


def judge(
    place: Place,
    node: Node,
    clock: Callable[[], float],
    rest: Callable[[float], None],
    patience_s: float = PATIENCE_S,
) -> bool:
    """Whether the new version may stay; until that is known, wait, at most so many seconds."""
    good, was, run = place.note.read_text().split()
    until = clock() + patience_s
    while clock() < until and not node.failed():
        if settled(node.health(), run, patience_s * SETTLED, scoring=was == "scoring"):
            place.note.unlink()
            return True
        rest(LOOK_S)
    back(place, good)
    node.restart()
    return False


def settled(said: dict[str, Any] | None, before: str, while_s: float, *, scoring: bool) -> bool:
    """It has run for so many seconds, and scores if the one before did: a microphone that was away is nobody's fault.

    The run ``before`` may answer until systemd has stopped it.
    """
    if said is None or said["boot_id"] == before or said["uptime_s"] < while_s:
        return False
    return bool(said.get("scored")) or not scoring


def back(place: Place, good: str) -> None:
    """Point `current` to the last good tree, and `previous` to the one that failed."""
    failed = (place.root / "current").readlink()
    for name, tree in (("current", good), ("previous", failed)):
        link = place.root / ".link"
        link.unlink(missing_ok=True)
        link.symlink_to(tree)
        link.replace(place.root / name)
    place.note.unlink()


def health(place: Place) -> dict[str, Any] | None:
    """Ask the daemon over its control socket."""
    request = json.dumps({"verb": "health_check", "body": {}}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(_state(place) / "control.sock"))
            connection.sendall(request)
            with connection.makefile("rb") as reply:
                said: dict[str, Any] | None = json.loads(reply.readline())["data"]
    except (OSError, ValueError, KeyError):
        return None
    return said


def complaint(said: dict[str, Any] | None) -> str:
    """What is not well, in one line; nothing when all is."""
    if said is None:
        return "the daemon does not answer"
    return "; ".join(f"{check['name']}: {check['said']}" for check in said["checks"] if not check["well"])


def _state(place: Place) -> Path:
    try:
        told = tomllib.loads(place.config.read_text("utf-8")).get("state_dir")
    except (OSError, ValueError):
        told = None
    return Path(told) if told else place.state


def _systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], check=False, capture_output=True, text=True)  # noqa: S607 - as in PATH
    return done.stdout.strip()


def main() -> None:
    """Do what the package or the unit asks."""
    place = Place()
    node = Node(
        health=lambda: health(place),
        failed=lambda: _systemctl("show", "--property=ActiveState", "--value", UNIT) == "failed",
        restart=lambda: _systemctl("restart", "--no-block", UNIT) and None,
    )
    match sys.argv[1:]:
        case ["begin", good]:
            begin(place, good, node)
        case ["health"]:
            sys.exit(complaint(health(place)) or 0)
        case ["judge", *patience]:
            patience_s = float(patience[0]) if patience else PATIENCE_S
            new, old = (place.root / "current").readlink(), place.note.read_text().split()[0]
            if not judge(place, node, time.monotonic, time.sleep, patience_s):
                sys.exit(f"edge_asd {new} did not score within {patience_s:g} s or failed: back to {old}")
            print(f"edge_asd {new} is good")  # noqa: T201 - the journal
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
