"""Is a model whole whatever happens? ``python -m tests.soak.install --kills 500``; as root, ``--cuts 100``.

A process installs models, activates them and rolls them back without end. It is killed at a moment by lot, again and
again. Each time the shelf must say what it said before the change that was cut off or what it would have said after it,
each model on it must open and pass its golden test, and the next change must leave nothing that has no role.

A kill leaves what the kernel still holds, a power cut does not. So ``--cuts`` lets it work on a disk image, takes each
time what has reached the image by then, mounts that, and looks at it.
"""

from __future__ import annotations

import argparse
import filecmp
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge_asd.bundle import open_bundle
from edge_asd.errors import EdgeAsdError
from edge_asd.model.opening import open_model
from edge_asd.model.shelf import FOLDER, Shelf
from edge_asd.signature import Trust
from tests.example import bundle, contents, resealed
from tests.soak.kill import Outcome, killed

ANYBODY = Trust(allow_unsigned=True)
NAME = "toy"
VERSIONS = 4
DISK = 48 * 2**20
"""bytes of the disk image"""
LONGEST_S = 0.25
"""from the first change to the kill: a few changes"""


@dataclass
class Disk:
    """An ext4 file system in a file, whose power is cut; as root."""

    folder: Path

    def __post_init__(self) -> None:
        self.image, self.left, self.place = (self.folder / name for name in ("image", "left", "place"))
        self.place.mkdir()
        with self.image.open("wb") as file:
            file.truncate(DISK)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)
        self._mount()

    def cut(self) -> None:
        """Take what has reached the image by now; it may be written to meanwhile, so until two looks agree."""
        shutil.copyfile(self.image, self.left)
        while not filecmp.cmp(self.image, self.left, shallow=False):
            shutil.copyfile(self.image, self.left)

    def back(self) -> None:
        """The power is back: that is what there is."""
        self.unmount()
        self.left.replace(self.image)
        self._mount()

    def unmount(self) -> None:
        """Nothing works on it any more."""
        subprocess.run(["umount", self.place], check=True)

    def _mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.place], check=True)


def change(folder: Path, toys: list[Path], seed: int) -> None:
    """Without end; what is done is said, before and after."""
    shelf, lots = Shelf(folder, ANYBODY), random.Random(seed)
    print("ready", flush=True)
    while True:
        toy = lots.choice(toys)
        print(f"begin {' '.join(_found(shelf))}", flush=True)
        shelf.install(toy)
        if any(model.role == "candidate" for model in shelf.list()):
            print(f"begin {' '.join(_found(shelf))}", flush=True)
            shelf.activate(NAME)


def endure(kills: int, folder: Path, seed: int = 0, disk: Disk | None = None) -> Outcome:
    """Kill it so often, or cut the power of the disk it works on."""
    outcome, lots = Outcome(), random.Random(seed)
    toys, shelf = _toys(folder), Shelf((disk.place if disk else folder / "state") / FOLDER, ANYBODY)
    shelf.install(toys[0])
    for number in range(kills):
        said = _killed(shelf.folder, toys, seed + number, lots.uniform(0, LONGEST_S), disk)
        outcome.count(said, _strays(shelf), _wrong(shelf, said, len(toys)))
    return outcome


def _killed(folder: Path, toys: list[Path], seed: int, after_s: float, disk: Disk | None) -> list[set[str]]:
    """What the shelf held before each change, as far as it came."""

    def cut(process: subprocess.Popen[str]) -> None:
        if disk:
            process.send_signal(signal.SIGSTOP)
            disk.cut()

    options = ["--change", str(folder), "--seed", str(seed), *map(str, toys)]
    lines = killed("tests.soak.install", options, after_s, cut)
    if disk:
        disk.back()
    return [set(line.split()[1:]) for line in lines if line.startswith("begin")]


def _wrong(shelf: Shelf, said: list[set[str]], versions: int) -> list[str]:
    """Everything that should not be."""
    try:
        before, found = said[-1] if said else None, _found(shelf)
        open_model(f"installed:{NAME}", shelf.folder.parent, ANYBODY).scorer()
        other = [model.version for model in shelf.list() if open_bundle(model.path).digest != model.digest]
        shelf.pin(NAME)
        shelf.unpin(NAME)
        after = _found(shelf)
    except EdgeAsdError as error:
        return [str(error)]
    wrong = [f"version {version} is another bundle" for version in other]
    wrong += [] if after == found else [f"pinning changed {found} to {after}"]
    wrong += [] if _strays(shelf) == "nothing" else [f"left behind: {_strays(shelf)}"]
    if before is not None and not _follows(set(found), before, versions):
        wrong.append(f"from {sorted(before)} no single change leads to {found}")
    return wrong


def _follows(found: set[str], before: set[str], versions: int) -> bool:
    """Whether it is as before, or as after one more candidate or one activation."""
    was, now = (dict(role.split(":") for role in each) for each in (before, found))
    if now == was:
        return True
    installed = now | {"candidate": ""} == was | {"candidate": ""} and int(now["candidate"]) in range(versions)
    activated = now == {"current": was.get("candidate"), "previous": was["current"]}
    return installed or activated


def _found(shelf: Shelf) -> list[str]:
    return [f"{model.role}:{model.version}" for model in shelf.list()]


def _strays(shelf: Shelf) -> str:
    """Kinds of files that no role needs."""
    known = {model.path.name for model in shelf.list()} | {"shelf.json", "lock"}
    strays = (path.name for path in shelf.folder.iterdir() if path.name not in known)
    return ", ".join(sorted("model" if name.endswith(".asd") else name for name in strays)) or "nothing"


def _toys(folder: Path) -> list[Path]:
    files = contents(bundle(folder / "toy.asd"))
    return [
        resealed(folder / f"v{number}.asd", files, lambda m, number=number: m.update(version=str(number)))
        for number in range(VERSIONS)
    ]


def main() -> None:
    """As a command, with the counts printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--cuts", type=int, default=0, help="cut the power so often instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--change", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("toys", type=Path, nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.change:
        change(asked.change, asked.toys, asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder)) if asked.cuts else None
        try:
            outcome = endure(asked.cuts or asked.kills, Path(folder), asked.seed, disk)
        finally:
            if disk:
                disk.unmount()
    print(outcome)
    sys.exit(0 if outcome.well else 1)


if __name__ == "__main__":
    main()
