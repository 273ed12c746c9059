"""The package for 64-bit ARM, run by an emulator: what small computers beside machines have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import soundfile

from edge_asd.bundle import TOLERANCE
from edge_asd.render.machine import Condition
from edge_asd.render.performance import machine, render_clip
from edge_asd.render.room import Room
from tests.box.package import build
from tests.box.root import BELOW, Root, emulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
RATE = 16_000
FAULTS = {"fan": "bearing", "valve": "leak"}
SAME = 1e-4
"""how far what is not rounded may be from this computer's"""
PYTHON = "/opt/edge_asd/current/bin/python"
SCORE = """
import json, pathlib, sys
from edge_asd.bundle import BUILTIN, open_bundle
from edge_asd.capture.file import read_audio
bundle = open_bundle(BUILTIN)
for file in map(pathlib.Path, sys.argv[1:]):
    clip = bundle.scorer(f"rendered/{file.stem.partition('-')[0]}/00").score(read_audio(file, 16_000))
    print(json.dumps({part.name: part.z for part in clip.parts} | {"surprise": clip.surprise}))
"""
"""opening a bundle proves its golden clips, too"""
SETTINGS = """
state_dir = "/{folder}"
metrics.listen = ""
sources.mic = {{ input = "file:/{folder}/sound.wav", speed = 0 }}
machines.valve = {{ source = "mic", head = "rendered/valve/00" }}
"""


class Board:
    """A Debian for ARM with the package in it, and without a network.

    It sees no /proc and no /sys: they would describe this computer's processors, which ONNX Runtime for ARM takes for
    its own, and crashes.
    """

    def __init__(self, root: Path) -> None:
        self._inside = ("unshare", "--net", "chroot", str(root), "/usr/bin/env", "-i", f"PATH={os.defpath}:/usr/sbin")

    def do(self, *command: str) -> list[str]:
        """Run there; the lines that it printed."""
        done = subprocess.run([*self._inside, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, figures: dict[str, str]) -> Iterator[Path]:
    """All that the board sees."""
    emulate("aarch64")
    began = time.monotonic()
    root = Root("arm64", BELOW).copy(tmp_path_factory.mktemp("board") / "root")
    figures["arm64: a root"] = f"{time.monotonic() - began:.0f} s"
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def board(root: Path, figures: dict[str, str]) -> Board:
    """A board on which the package was installed."""
    board, began = Board(root), time.monotonic()
    board.do("ldconfig")
    board.do("dpkg", "--install", f"/{build('arm64', root).file.name}")
    figures["arm64: package built and installed, emulated"] = f"{time.monotonic() - began:.0f} s"
    return board


def test_scores_are_those_of_any_other_computer(board: Board, root: Path) -> None:
    """A number rounded to eight bits may round the other way: a network's part may move as far as a golden clip's."""
    for name, fault in FAULTS.items():
        for condition in (Condition(), Condition(fault=fault, severity=1.0)):
            clip = render_clip(machine(name), Room(), condition, 10 * RATE, 7)
            soundfile.write(root / f"{name}-{condition.fault or 'well'}.wav", clip, RATE)
    files = sorted(root.glob("*.wav"))
    ours = subprocess.run([sys.executable, "-c", SCORE, *files], capture_output=True, text=True, check=True)
    here = [json.loads(line) for line in ours.stdout.splitlines()]
    there = [json.loads(line) for line in board.do(PYTHON, "-I", "-c", SCORE, *(f"/{file.name}" for file in files))]

    assert len(here) == len(there) == 4
    for mine, theirs in zip(here, there, strict=True):
        for rounded in ("network", "surprise"):
            assert abs(theirs.pop(rounded) - mine.pop(rounded)) < TOLERANCE
        assert set(mine) == {"indicators", "spectrum", "neighbour"}
        assert theirs == pytest.approx(mine, abs=SAME)


def test_the_daemon_hears_the_fault_and_nothing_where_there_is_none(
    board: Board, root: Path, figures: dict[str, str]
) -> None:
    """As fast as it can: an emulator may take as long for a clip as it lasts."""
    began, raised = time.monotonic(), {}
    for name, condition in (("well", Condition()), ("leak", Condition(fault=FAULTS["valve"], severity=1.0))):
        folder = root / name
        folder.mkdir()
        sound = render_clip(machine("valve"), Room(), condition, 30 * RATE, 7)
        soundfile.write(folder / "sound.wav", sound, RATE)
        (folder / "edge.toml").write_text(SETTINGS.format(folder=folder.name))
        board.do("edge-asd", "run", "--config", f"/{folder.name}/edge.toml")
        told = [json.loads(line) for line in board.do("edge-asd", "events", "--state", f"/{folder.name}", "--json")]
        raised[name] = [event["event"] for event in told].count("activated")
    figures["arm64: twice 30 s of a valve heard by the daemon, emulated"] = f"{time.monotonic() - began:.0f} s"

    assert raised == {"well": 0, "leak": 1}
