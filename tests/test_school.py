"""A daemon that listens takes up what is learned beside it, second by second, of noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from edge_asd.bundle import open_bundle
from edge_asd.capture.source import Loss
from edge_asd.config import Config
from edge_asd.daemon import Daemon, Nobody
from edge_asd.learn.fit import Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.learn.notebook import Notebook
from edge_asd.learn.overlay import Note
from edge_asd.observe.clock import Clock
from edge_asd.school import CLIPS, LOOK_S
from edge_asd.score.listener import evidence
from edge_asd.signal.segment import Block
from tests.conftest import PATIENCE, until
from tests.example import MACHINE, SECOND, bundle, front_end, noise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_asd.alarm.alarm import Policy
    from edge_asd.score.clip import ClipScore

RATE = 16_000
LOUD = 0.2
"""four times as loud as what the bundle knows"""


@dataclass
class Noise:
    """A source that gives a second of a loud machine each time it is asked."""

    seconds: int = 0
    ended: bool = False
    loss: Loss = field(default_factory=Loss)
    fill: float = 0.0

    def read(self) -> Block:
        """Unbroken."""
        self.seconds += 1
        return Block((self.seconds - 1) * RATE, noise(self.seconds, RATE, LOUD))

    def close(self) -> None:
        """Nothing to let go of."""


class Ears(Nobody):
    """Remembers the scores."""

    def __init__(self) -> None:
        self.clips: list[ClipScore] = []

    def scored(self, machine: str, clip: ClipScore, policy: Policy) -> None:  # noqa: ARG002 - there is one machine
        """A clip got its score."""
        self.clips.append(clip)


class Noted(Daemon):
    """Its journal is open to whoever looks on."""

    def __init__(self, config: Config, ears: Ears, notes: list[tuple[str, dict[str, Any]]], clock: Clock) -> None:
        self.notes = notes
        super().__init__(config, ears, clock=clock)

    def note(self, event: str, said: dict[str, Any]) -> None:
        """Keep it in sight, too."""
        self.notes.append((event, said))
        super().note(event, said)


class Scene:
    """A daemon with one machine, and its notebook."""

    def __init__(self, folder: Path) -> None:
        self.now, self.ears, self.notes = 0.0, Ears(), list[tuple[str, dict[str, Any]]]()
        self.bundle = open_bundle(bundle(folder / "toy.asd"))
        self.notebook = Notebook.of(folder / "state", "press")
        config = Config(
            state_dir=folder / "state",
            metrics={"listen": ""},
            trust={"allow_unsigned": True},
            sources={"mic": {"input": "file:unused.wav"}},
            machines={"press": {"source": "mic", "bundle": str(folder / "toy.asd")}},
        )
        clock = Clock(lambda: self.now, lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now))
        self.daemon = Noted(config, self.ears, self.notes, clock)
        self.daemon.ears["mic"].open_source = Noise

    def learn(self, level: float = LOUD) -> None:
        """A candidate."""
        told = Memory()
        for seed in range(1_000, 1_030):
            told = told.with_clip(evidence(SECOND, front_end(SECOND), None, noise(seed, SECOND.clip, level)), FIRST)
        learnt = learn(self.bundle.heads[MACHINE], told, Goal(1.0))
        points, digest = learnt.memory.counts(), self.bundle.digest
        self.notebook.propose(
            Note(machine="press", bundle_sha256=digest, key=MACHINE, created="", card=learnt.card, points=points),
            learnt,
        )

    def hear(self, seconds: int = 1) -> None:
        """So many clips."""
        for _ in range(seconds):
            self.now += 1
            self.daemon.step()

    def until_noted(self, event: str) -> dict[str, Any]:
        """Listen until that is written into the journal."""

        def noted() -> dict[str, Any] | None:
            self.hear()
            return dict(self.notes).get(event)

        return until(noted, PATIENCE, lambda: f"{event}: {self.notes}")

    @property
    def speaks(self) -> str:
        """Version of what judges the machine."""
        return self.daemon.wards["press"].voice.model.version

    @property
    def along(self) -> float:
        """What the candidate says of the last clip, as Prometheus sees it; NaN: nobody hears along."""
        found = self.daemon.metrics.registry.get_sample_value("edge_asd_shadow_clip_score", {"machine": "press"})
        assert found is not None
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.daemon._school.close()  # noqa: SLF001 - as its run() does
    scene.daemon._store.close()  # noqa: SLF001 - same


def test_a_candidate_hears_along_and_what_both_say_is_counted(scene: Scene) -> None:
    scene.learn()
    scene.until_noted("learnt_hears_along")
    found = scene.until_noted("learnt_heard_along")
    assert scene.speaks == "1.2.3"
    assert found == {
        "machine": "press",
        "version": "1.2.3+learnt.1",
        "clips": CLIPS,
        "over": found["over"],
        "spoken_over": CLIPS,
    }
    assert found["over"] <= 2
    assert scene.along < scene.ears.clips[-1].surprise


def test_what_is_committed_speaks_from_the_next_clip_on_and_what_is_undone_no_more(scene: Scene) -> None:
    scene.hear()
    scene.learn()
    scene.notebook.commit()
    assert scene.until_noted("learnt_speaks")["version"] == scene.speaks == "1.2.3+learnt.1"
    scene.hear(3)
    starts = [clip.start for clip in scene.ears.clips]
    assert starts == list(range(0, len(starts) * RATE, RATE))  # no clip was lost over it
    assert scene.ears.clips[-1].surprise < scene.ears.clips[0].surprise
    scene.notes.clear()
    scene.notebook.undo()
    scene.until_noted("learnt_speaks")
    assert scene.speaks == "1.2.3"


def test_a_candidate_that_is_discarded_hears_nothing_more(scene: Scene) -> None:
    scene.learn()
    scene.until_noted("learnt_hears_along")
    scene.hear(2)
    assert not math.isnan(scene.along)
    scene.notebook.discard()

    def hushed() -> bool:
        scene.hear(int(LOOK_S))
        return math.isnan(scene.along)

    until(hushed, PATIENCE, lambda: f"it says {scene.along}")


def test_what_cannot_be_read_changes_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.learn()
    scene.notebook.commit()
    scene.notebook.path(1).write_bytes(b"damaged")

    def said() -> bool:
        scene.hear()
        return any(record.message == "learnt.ignored" for record in caplog.records)

    until(said, PATIENCE, lambda: str(caplog.records))
    scene.hear(2)
    assert scene.speaks == "1.2.3"
    assert len(scene.ears.clips) == scene.now
