"""Is the program whole whenever dpkg is killed? As root: ``python -m tests.box.kill --kills 50``.

In a Debian without systemd two versions of the package take turns. Each installation is killed, with all it started, at
a moment by lot. What is there then must be the old version or the new one and pass its golden test, and the same
installation, begun again, must end well.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.box.package import Package, build
from tests.box.root import BELOW, Root

LONGEST_S = 6.0
"""of an installation"""
SETTINGS = """
sources.mic0 = { input = "render:fan" }
machines.fan = { source = "mic0", head = "rendered/fan/00" }
"""


def endure(kills: int, root: Path, packages: tuple[Package, Package], seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Kill it so often; which version was there then, and everything that should not be."""
    lots, found, wrong = random.Random(seed), Counter[str](), list[str]()
    for package in packages:
        shutil.copy(package.file, root)
    (root / "settings.toml").write_text(SETTINGS)
    _done(root, "dpkg", "--install", f"/{packages[0].file.name}")
    for number in range(kills):
        old, new = (packages[(number + turn) % 2] for turn in (0, 1))
        _kill(root, new, lots.uniform(0, LONGEST_S))
        is_new = _current(root) == new.version
        found["new" if is_new else "old"] += 1
        wrong += [] if is_new or _current(root) == old.version else [f"kill {number} left {_current(root)}"]
        wrong += [f"kill {number}: {what}" for what in _ruined(root, new)]
    return found, wrong


def _kill(root: Path, package: Package, after_s: float) -> None:
    dpkg = subprocess.Popen(_within(root, "dpkg", "--install", f"/{package.file.name}"), start_new_session=True)
    try:
        dpkg.wait(after_s)
    except subprocess.TimeoutExpired:
        os.killpg(dpkg.pid, signal.SIGKILL)
        dpkg.wait()


def _ruined(root: Path, new: Package) -> list[str]:
    """The program must prove its bundle now; and be the new one once somebody has tried again."""
    try:
        _done(root, "edge-asd", "check", "--config", "/settings.toml")
        _done(root, "dpkg", "--configure", "-a")
        _done(root, "dpkg", "--install", f"/{new.file.name}")
        _done(root, "edge-asd", "check", "--config", "/settings.toml")
    except AssertionError as error:
        return [str(error)]
    return [] if _current(root) == new.version else [f"installed again it is {_current(root)}"]


def _current(root: Path) -> str:
    return str((root / "opt/edge_asd/current").readlink())


def _done(root: Path, *command: str) -> None:
    done = subprocess.run(_within(root, *command), capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(command)}: {(done.stdout + done.stderr)[-1000:]}"
        raise AssertionError(msg)


def _within(root: Path, *command: str) -> list[str]:
    return ["chroot", str(root), "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", *command]


def main() -> None:
    """As a command, with the counts printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        package = build("amd64", Path(folder))
        root = Root("amd64", BELOW).copy(Path(folder) / "root")
        found, wrong = endure(asked.kills, root, (package, package.next()), asked.seed)
    print(f"{asked.kills} kills; then there was {dict(found)}; wrong: {wrong or 'nothing'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
