"""Versions side by side: `current` names a whole tree at any moment, whenever the power fails."""

from __future__ import annotations

import marshal
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

LAY = Path(__file__).resolve().parents[2] / "deploy" / "debian" / "lay"
FILES = 20


class Box:
    """What dpkg has brought, and what runs."""

    def __init__(self, folder: Path) -> None:
        self.payload, self.root = folder / "payload", folder / "opt"
        self.environment = os.environ | {"EDGE_ASD_PAYLOAD": str(self.payload), "EDGE_ASD_ROOT": str(self.root)}

    def bring(self, word: str) -> None:
        """As dpkg does: the old files go, the new ones come by another name first."""
        package = self.payload / "lib" / "package"
        package.mkdir(parents=True, exist_ok=True)
        for number in range(FILES):
            fresh = package / "fresh"
            fresh.write_text(f'WORD = "{word}"\n')
            fresh.replace(package / f"module{number}.py")

    def lay(self, version: str) -> None:
        """Install a version."""
        self.bring(version)
        subprocess.run([LAY, version], env=self.environment, check=True)

    def says(self, link: str = "current") -> str:
        """The one word of a tree's every file."""
        words = {path.read_text() for path in (self.root / link / "lib" / "package").glob("module*.py")}
        count = len(list((self.root / link / "lib" / "package").glob("module*.py")))
        assert (len(words), count) == (1, FILES), "half a tree"
        return words.pop().split('"')[1]

    @property
    def trees(self) -> set[str]:
        """Versions that are there."""
        return {path.name for path in self.root.iterdir() if path.is_dir() and not path.is_symlink()}


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_the_version_before_stays_whole_when_its_files_are_taken_away(box: Box) -> None:
    box.lay("1")
    box.lay("2")
    assert (box.says("current"), box.says("previous")) == ("2", "1")


def test_there_are_never_more_than_two(box: Box) -> None:
    for version in ("1", "2", "3"):
        box.lay(version)
    assert box.trees == {"2", "3"}


def test_going_back_is_an_upgrade_too(box: Box) -> None:
    for version in ("1", "2", "1"):
        box.lay(version)
    assert (box.says("current"), box.says("previous")) == ("1", "2")


def test_the_same_version_built_anew_takes_its_own_place(box: Box) -> None:
    box.lay("1")
    box.lay("2")
    box.bring("mended")
    subprocess.run([LAY, "2"], env=box.environment, check=True)
    assert (box.says("current"), box.says("previous"), box.trees) == ("mended", "1", {"1", "2"})


def test_a_version_that_was_still_on_trial_is_not_what_one_goes_back_to(box: Box) -> None:
    box.lay("1")
    box.lay("2")
    (box.root / "trial").write_text("1\nscoring\n")
    box.lay("3")
    assert (box.says("current"), box.says("previous"), box.trees) == ("3", "1", {"1", "3"})


def test_what_runs_is_compiled_under_the_name_it_runs_by(box: Box) -> None:
    box.lay("1")
    tree = box.root / "1" / "lib"
    (compiled,) = tree.glob("package/__pycache__/module0.*.pyc")
    code = marshal.loads(compiled.read_bytes()[16:])  # noqa: S302 - we have just compiled it
    assert code.co_filename == str(tree / "package" / "module0.py")


def test_killed_at_any_moment_the_old_one_or_the_new_one_is_whole(box: Box) -> None:
    lots = random.Random(7)  # noqa: S311 - lots, not secrets
    box.lay("0")
    for number in range(1, 51):
        before, version = box.says(), str(number % 3)
        box.bring(version)
        lay = subprocess.Popen([LAY, version], env=box.environment, start_new_session=True)
        try:
            lay.wait(lots.uniform(0, 0.15))
        except subprocess.TimeoutExpired:
            os.killpg(lay.pid, signal.SIGKILL)
            lay.wait()
        assert box.says() in {before, version}
    box.lay("last")
    assert box.says() == "last"
    assert not {name for name in box.trees if name.startswith(".")}
