"""What is kept of what was learned, and which of it counts."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_asd.archive import store
from edge_asd.bundle import Bundle, open_bundle
from edge_asd.errors import BundleCorrupt, BundleError, UpdateRefused
from edge_asd.learn.export import export
from edge_asd.learn.fit import Goal, Learnt, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.learn.notebook import LESSON, Notebook, Slots, overlaid
from edge_asd.learn.overlay import NOTE, Note, read_overlay
from edge_asd.score.listener import evidence
from tests.example import MACHINE, SECOND, bundle, contents, front_end, noise, resealed

if TYPE_CHECKING:
    from pathlib import Path

UNHEARD = noise(999, SECOND.clip, level=0.2)


def taught(of: Bundle, seed: int) -> tuple[Note, Learnt]:
    """Noise that is louder than what the bundle knows."""
    told = Memory()
    for number in range(6):
        told = told.with_clip(
            evidence(SECOND, front_end(SECOND), None, noise(seed + number, SECOND.clip, level=0.2)), FIRST
        )
    learnt = learn(of.heads[MACHINE], told, Goal(1.0))
    points = learnt.memory.counts()
    note = Note(machine="press", bundle_sha256=of.digest, key=MACHINE, created="now", card=learnt.card, points=points)
    return note, learnt


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    return open_bundle(bundle(tmp_path / "toy.asd"))


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook.of(tmp_path / "state", "press")


def test_what_was_learned_is_read_as_it_was_written(toy: Bundle, notebook: Notebook) -> None:
    note, learnt = taught(toy, 0)
    slots = notebook.propose(note, learnt)
    read = read_overlay(notebook.path(1), toy)
    assert slots == Slots(candidate=1, last=1)
    heard = evidence(SECOND, front_end(SECOND), None, UNHEARD)
    assert read.head.judge(heard) == learnt.head.judge(heard)
    assert read.memory.counts() == {FIRST: 6}


def test_a_candidate_counts_once_it_is_committed_and_can_be_undone_and_brought_back(
    toy: Bundle, notebook: Notebook
) -> None:
    assert notebook.active(toy) is None
    notebook.propose(*taught(toy, 0))
    assert notebook.active(toy) is None
    notebook.commit()
    notebook.propose(*taught(toy, 10))
    assert notebook.commit() == Slots(active=2, previous=1, last=2)
    assert notebook.undo() == Slots(active=1, previous=2, last=2)
    assert notebook.undo() == Slots(active=2, previous=1, last=2)
    found = notebook.active(toy)
    assert found
    assert found[0] == 2


def test_undoing_the_first_leads_back_to_the_own_head_of_the_bundle(toy: Bundle, notebook: Notebook) -> None:
    notebook.propose(*taught(toy, 0))
    notebook.commit()
    assert notebook.undo().active == 0
    assert notebook.active(toy) is None


def test_nothing_lies_there_that_has_no_part(toy: Bundle, notebook: Notebook) -> None:
    for seed in (0, 10, 20):
        notebook.propose(*taught(toy, seed))
        notebook.commit()
    notebook.propose(*taught(toy, 30))
    notebook.propose(*taught(toy, 40))
    (notebook.folder / "6.learnt.partial").write_bytes(b"cut off")
    notebook.discard()
    assert sorted(path.name for path in notebook.folder.iterdir()) == ["2.learnt", "3.learnt", "lock", "slots.json"]


def test_what_cannot_be_done_is_refused(toy: Bundle, notebook: Notebook) -> None:
    with pytest.raises(UpdateRefused, match="nothing waits to be committed"):
        notebook.commit()
    with pytest.raises(UpdateRefused, match="nothing was ever committed"):
        notebook.undo()
    notebook.propose(*taught(toy, 0))
    notebook.discard()
    with pytest.raises(UpdateRefused, match="nothing waits to be committed"):
        notebook.commit()
    (notebook.folder / "slots.json").write_text("{")
    with pytest.raises(UpdateRefused, match="cannot be read"):
        notebook.slots()


def test_a_lesson_that_is_not_over_goes_on_with_the_same_listener_alone(toy: Bundle, notebook: Notebook) -> None:
    memory = taught(toy, 0)[1].memory
    notebook.keep_heard(memory, toy.digest, MACHINE)
    again = notebook.heard(toy.digest, MACHINE)
    assert again.points == memory.points
    np.testing.assert_array_equal(again.features["mean"], memory.features["mean"])
    assert len(notebook.heard(toy.digest, "another/head/00")) == 0
    assert len(notebook.heard("another digest", MACHINE)) == 0
    notebook.keep_heard(Memory(), toy.digest, MACHINE)
    assert not (notebook.folder / LESSON).exists()
    notebook.keep_heard(memory, toy.digest, MACHINE)
    notebook.propose(*taught(toy, 0))
    assert not (notebook.folder / LESSON).exists()


def test_over_another_bundle_it_is_nothing_and_that_is_logged(
    toy: Bundle, notebook: Notebook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notebook.propose(*taught(toy, 0))
    notebook.commit()
    other = open_bundle(resealed(tmp_path / "v2.asd", contents(toy.path), lambda told: told.update(version="2")))
    state = notebook.folder.parent.parent
    with caplog.at_level(logging.WARNING):
        assert overlaid(state, "press", other, MACHINE) is other
        assert overlaid(state, "press", toy, "another/head/00") is toy
    reasons = [record.__dict__["reason"] for record in caplog.records]
    assert f"learned over bundle {toy.digest[:16]}" in reasons[0]
    assert f"in the place of head {MACHINE}" in reasons[1]
    with pytest.raises(BundleError, match="learn again"):
        notebook.active(other)


def test_over_its_bundle_it_judges_in_the_place_of_one_head_and_the_version_says_so(
    toy: Bundle, notebook: Notebook
) -> None:
    note, learnt = taught(toy, 0)
    notebook.propose(note, learnt)
    notebook.commit()
    known = overlaid(notebook.folder.parent.parent, "press", toy, MACHINE)
    assert known.manifest.version == "1.2.3+learnt.1"
    assert known.digest == toy.digest
    assert known.listener(MACHINE).score(UNHEARD).surprise < 1 < toy.listener(MACHINE).score(UNHEARD).surprise
    assert overlaid(None, "press", toy, MACHINE) is toy


@pytest.mark.parametrize("spoiled", ["head.safetensors", "heard.safetensors"])
def test_a_changed_byte_is_found(toy: Bundle, notebook: Notebook, spoiled: str) -> None:
    notebook.propose(*taught(toy, 0))
    path = notebook.path(1)
    content = bytearray(path.read_bytes())
    content[content.index(spoiled.encode()) + 600] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt):
        read_overlay(path, toy)


def test_what_is_not_understood_or_gone_is_refused(toy: Bundle, notebook: Notebook) -> None:
    notebook.propose(*taught(toy, 0))
    path = notebook.path(1)
    files = contents(path)
    told = json.loads(files[NOTE])
    store(path, files | {NOTE: json.dumps(told | {"schema": "edge_asd.learnt/2"}).encode()})
    with pytest.raises(BundleError, match="not understood"):
        read_overlay(path, toy)
    path.unlink()
    with pytest.raises(BundleError, match="is gone"):
        read_overlay(path, toy)


def test_what_was_learned_travels_as_a_bundle_that_scores_alike(
    toy: Bundle, notebook: Notebook, tmp_path: Path
) -> None:
    note, learnt = taught(toy, 0)
    notebook.propose(note, learnt)
    export(toy, read_overlay(notebook.path(1), toy), 1, tmp_path / "learnt.asd")
    other = open_bundle(tmp_path / "learnt.asd")
    heard = evidence(SECOND, front_end(SECOND), None, UNHEARD)
    assert other.scorer().head.judge(heard) == learnt.head.judge(heard)
    assert other.manifest.version == "1.2.3+learnt.1"
    assert "learned" in other.manifest.licence
    assert [path.name for path in tmp_path.glob(".*")] == []
