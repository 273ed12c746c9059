"""Does a box learn its machine from minutes of it? ``python -m tests.soak.lesson /path/to/valve``.

A valve plays through a PulseAudio microphone, in real time, to a daemon that has never met it: all its normal training
clips, each once, while ``edge-asd learn`` listens; then its normal test clips, of which nobody may be woken; then the
faulty ones, operating pattern by operating pattern, normal clips between them. With ``--add`` the lesson is of the
source domain alone; the target domain's training clips are added when its normal clips have been judged without them.

Everything is played as one piece that begins where the daemon begins a clip: recordings that lie side by side there
have nothing to do with each other, and a clip over the seam of two is a sound that no machine makes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from tests.conftest import Broker, PulseMicrophone, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RATE, CLIP_S = 16_000, 10.0
REST = 8
"""normal clips between two patterns, in which an alarm is over"""
LOST = 2
"""clips of a lesson that may pass before the daemon has noticed that it was asked"""
START_S = 0.15
"""from asking for a sound to its being heard, about"""
PATIENCE_S = 60.0
SETTINGS = """
node = "lesson"
state_dir = "{folder}/state"
trust.allow_unsigned = true
metrics.listen = ""
mqtt = {{ host = "127.0.0.1", port = {port} }}
sources.mic0.input = "microphone:{token}"
machines.valve.source = "mic0"
machines.valve.bundle = "{bundle}"
machines.valve.head = "{head}"
machines.valve.alarm = {{ on_delay = {on_delay}, cusum = {cusum} }}
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Clips that are played, and what is to come of them."""

    name: str
    clips: Sequence[Path]
    alarm: bool | None = None
    """whether one must be raised, or must not; None where either may be"""
    learn: tuple[str, ...] | None = None
    """options of the lesson that begins with it"""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a scene."""

    scene: Scene
    scores: tuple[float, ...]
    threshold: float
    raised_s: tuple[float, ...]
    """from the beginning of the scene to each alarm"""
    stood: bool
    """whether an alarm of before stood when it began"""

    @property
    def well(self) -> bool:
        """As it was to be."""
        return self.scene.alarm is None or (self.scene.alarm is bool(self.raised_s) and not self.stood)

    def __str__(self) -> str:
        over = sum(score >= self.threshold for score in self.scores)
        raised = ", ".join(f"{after:.0f} s" for after in self.raised_s) or "none"
        raised += ", one stood before" if self.stood else ""
        return f"{self.scene.name:28}{over:3} of {len(self.scores):3} clips over {self.threshold:.2f}; alarms: {raised}"


def scenes(valve: Path, *, add: bool) -> Iterator[Scene]:
    """Of a data set in the layout of DCASE."""
    source, target = _clips(valve, "train/*_source_*"), _clips(valve, "train/*_target_*")
    known, new = _clips(valve, "test/*_source_*_normal_*"), _clips(valve, "test/*_target_*_normal_*")
    rest = Scene("rest", known[:REST])
    if add:
        yield from (Scene("lesson", source, learn=()), rest)
        yield from (Scene("target, not yet added", new), Scene("added", target, learn=("--add", "target")), rest)
    else:
        yield from (Scene("lesson", [*source, *target], learn=()), rest)
    yield Scene("normal", [*known, *new], alarm=False)
    faulty = _clips(valve, "test/*_anomaly_*")
    for pattern in sorted({clip.stem.split("_pat_")[1] for clip in faulty}):
        yield Scene(f"faulty, pat_{pattern}", [c for c in faulty if c.stem.endswith(f"pat_{pattern}")], alarm=True)
        yield rest


def _clips(valve: Path, what: str) -> list[Path]:
    return sorted(valve.glob(what))


@dataclass
class Stage:
    """The microphone, the broker, the daemon, and what is typed."""

    folder: Path
    bundle: str
    head: str
    on_delay: int
    cusum: bool
    lessons: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "pulse").mkdir(mode=0o700)
        self.microphone, self.broker = PulseMicrophone(self.folder / "pulse"), Broker(self.folder)
        self.microphone.service.start()
        self.broker.start()
        self.heard = self.broker.subscribe("edge_asd/v1/lesson/machine/valve/#")
        self.config = self.folder / "lesson.toml"
        said = {"folder": self.folder, "port": self.broker.port, "token": self.microphone.token}
        asked = {"bundle": self.bundle, "head": self.head, "on_delay": self.on_delay, "cusum": str(self.cusum).lower()}
        self.config.write_text(SETTINGS.format(**said, **asked))
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(self._typed("run"), env=self._environment, stdout=log, stderr=log)

    def close(self) -> None:
        """Everything, however it ended."""
        processes: list[subprocess.Popen[Any]] = [*self.lessons, self.daemon]
        for process in processes:
            process.terminate()
            process.wait(30)
        self.microphone.close()
        self.broker.close()

    def perform(self, valve: Path, *, add: bool) -> Iterator[Told]:
        """All of it, told scene by scene."""
        programme = list(scenes(valve, add=add))
        at = self._begin([clip for scene in programme for clip in scene.clips])
        for scene in programme:
            if scene.learn is not None:
                minutes = (len(scene.clips) - LOST) * CLIP_S / 60
                words = ("learn", "valve", f"--minutes={minutes}", "--yes", "--json", *scene.learn)
                self.lessons.append(
                    subprocess.Popen(self._typed(*words), env=self._environment, stdout=subprocess.PIPE, text=True)
                )
            end = at + len(scene.clips) * CLIP_S
            time.sleep(max(0.0, end + CLIP_S / 2 - time.monotonic()))  # its last clip is scored when it has ended
            if scene.name == "rest":
                self._learned()
            yield self._told(scene, at, end)
            at = end

    def _begin(self, clips: Sequence[Path]) -> float:
        """Play them as one piece from where the daemon begins a clip on; when that is."""
        lead, piece = self.folder / "lead.wav", self.folder / "piece.wav"
        soundfile.write(lead, np.tile(_sound(clips[:1]), 30), RATE)
        soundfile.write(piece, _sound(clips), RATE)
        leading = self.microphone.play(lead)
        complaint = f"no clip is scored: {(self.folder / 'daemon.log').read_text()[-2000:]}"
        scored = until(
            lambda: [m for m in list(self.heard.messages) if m.topic.endswith("/score")], PATIENCE_S, complaint
        )
        at = scored[0].time + CLIP_S
        time.sleep(max(0.0, at - START_S - time.monotonic()))
        self.microphone.play(piece)
        time.sleep(START_S)
        leading.kill()
        return at

    def _scores(self) -> list[float]:
        """When each came."""
        return [message.time for message in list(self.heard.messages) if message.topic.endswith("/score")]

    def _learned(self) -> None:
        for lesson in self.lessons:
            said, _ = lesson.communicate(timeout=PATIENCE_S)
            print(said.strip(), flush=True)
            if lesson.returncode:
                msg = f"the lesson ended with {lesson.returncode}"
                raise AssertionError(msg)
        self.lessons.clear()

    def _told(self, scene: Scene, begin: float, end: float) -> Told:
        said: list[tuple[float, str, dict[str, Any]]] = [
            (m.time - begin, m.topic.rpartition("/")[2], m.json())
            for m in list(self.heard.messages)
            if m.topic.endswith(("/score", "/event")) and begin + CLIP_S / 2 < m.time <= end + CLIP_S / 2
        ]
        scores = [body for _, kind, body in said if kind == "score"]
        raised = tuple(after for after, kind, body in said if kind == "event" and body["event"] == "activated")
        alarms = [m for m in list(self.heard.messages) if m.topic.endswith("/alarm") and m.time <= begin + CLIP_S / 2]
        stood = bool(alarms) and alarms[-1].json()["alarm"]["active"]
        return Told(scene, tuple(body["score"] for body in scores), scores[-1]["threshold"], raised, stood)

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | self.microphone.environment

    def _typed(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "edge_asd", *words, "--config", str(self.config)]


def _sound(clips: Sequence[Path]) -> Any:  # noqa: ANN401 - (L,) int16
    return np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in clips])


def main() -> None:
    """As a command, told as it happens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("valve", type=Path, help="data set")
    parser.add_argument("--bundle", default="builtin")
    parser.add_argument("--head", default="rendered/valve/00")
    parser.add_argument("--on-delay", type=int, default=3, help="clips in a row that raise the alarm")
    parser.add_argument("--cusum", action="store_true", help="a sum raises the alarm, too, as after a lesson of days")
    parser.add_argument("--add", action="store_true", help="learn the source domain first, then add the target's")
    asked = parser.parse_args()
    well = True
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), asked.bundle, asked.head, asked.on_delay, asked.cusum)
        try:
            for told in stage.perform(asked.valve, add=asked.add):
                print(told, np.round(told.scores, 1).tolist(), flush=True)
                well &= told.well
        finally:
            stage.close()
    print("well" if well else "not well")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
