"""A daemon that listens takes up what is learned beside it, second by second, of noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from edge_asd.learn.fit import Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.learn.overlay import Note
from edge_asd.school import CLIPS, LOOK_S
from edge_asd.score.listener import evidence
from tests.conftest import PATIENCE, until
from tests.example import MACHINE, SECOND, front_end, noise
from tests.hall import LOUD, RATE, Hall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Scene(Hall):
    """Somebody learns beside the daemon."""

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


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.end()


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
