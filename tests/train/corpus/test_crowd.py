from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import ConfigError
from edge_asd.render.performance import MACHINES, machine
from train.corpus.clip import normals
from train.corpus.crowd import Crowd, heard, room, state, states, write_crowd
from train.corpus.group import groups

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.train

SMALL = Crowd(individuals=1, states=2, clips=2, seconds=0.5, seed=5)
ONE = state(SMALL, "fan", 1000, 1)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.*")}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crowd") / "crowd"
    assert write_crowd(out, SMALL) == len(MACHINES) * 2 * 2
    return out


@given(kind=st.sampled_from(sorted(MACHINES)), number=st.integers(0, 10**5), pair=st.integers(0, 20))
def test_twins_differ_in_wear_alone(kind: str, number: int, pair: int) -> None:
    sound, worn = (state(SMALL, kind, number, 2 * pair + which) for which in (0, 1))
    assert sound.condition.fault is None
    assert worn.condition.fault in machine(kind).faults
    assert 0.3 <= worn.condition.severity <= 0.9
    assert replace(worn.condition, fault=None, severity=0.0) == sound.condition
    assert worn.machine == sound.machine


@given(index=st.integers(0, 2), more=st.tuples(*[st.integers(2, 5)] * 3))
def test_a_state_does_not_depend_on_how_many_others_there_are(index: int, more: tuple[int, int, int]) -> None:
    larger = replace(SMALL, individuals=more[0], states=more[1], clips=more[2])
    assert list(states(SMALL))[index] in set(states(larger))


def test_pairs_of_twins_are_apart_and_so_are_individuals() -> None:
    conditions = [each.condition for each in states(Crowd(individuals=5, states=6))]
    assert len(set(conditions)) == len(conditions)
    assert machine("fan", 1000) != machine("fan", 1001)


def test_every_pattern_of_a_kind_that_has_any_occurs() -> None:
    for kind, setting in (("valve", "pattern"), ("slider", "stroke"), ("motor", "carrier"), ("bearing", "location")):
        found: list[Any] = [each.machine for each in states(Crowd(kinds=(kind,), individuals=20))]
        assert {getattr(one, setting) for one in found} == set(range(5))


def test_no_clip_is_heard_in_the_room_of_another() -> None:
    assert not np.allclose(heard(SMALL, ONE, 0), heard(SMALL, ONE, 1), atol=1e-3)
    rooms = [room(np.random.default_rng(number)) for number in range(100)]
    assert len({one.number for one in rooms}) == 100
    assert np.ptp([one.microphone.gain for one in rooms]) > 15


@given(share=st.sampled_from([0.0, 1.0]), index=st.integers(0, 50))
def test_a_neighbour_is_heard_above_the_machine_that_runs_alone(share: float, index: int) -> None:
    """Its level is drawn between −25 and 3 dB of the machine's."""
    short = replace(SMALL, seconds=0.15)
    alone, beside = (heard(replace(short, neighbour=n), ONE, index).astype(float) for n in (0.0, share))
    added = np.sqrt(np.mean((beside - alone) ** 2) / np.mean(alone**2))
    assert added == 0.0 if share == 0.0 else 10 ** (-26 / 20) < added < 10 ** (3.5 / 20)


def test_clips_are_sixteen_bit_mono_of_the_asked_length(small: Path) -> None:
    files = list(small.rglob("*.wav"))
    assert len(files) == 28
    for path in files:
        found = soundfile.info(path)
        assert (found.samplerate, found.channels, found.subtype, found.frames) == (16_000, 1, "PCM_16", 8000)
        assert 0.0005 < np.max(np.abs(soundfile.read(path)[0])) <= 0.99


def test_it_is_a_data_set_whose_groups_are_the_states(small: Path) -> None:
    clips = normals([small])
    assert len(clips) == 28
    assert len({clip.key for clip in clips}) == len(MACHINES)
    assert len(set(groups(clips, 0, None))) == len(MACHINES) * 2  # type: ignore[arg-type]  # nothing is clustered
    assert len({clip.recording for clip in clips}) == 28


def test_the_manifest_tells_people_what_is_worn(small: Path) -> None:
    for row in table(small / "manifest.csv"):
        known = state(SMALL, row["machine"], int(row["section"]), int(row["attribute"].removeprefix("state_")))
        assert (row["fault"], float(row["severity"])) == (known.condition.fault or "", known.condition.severity)
        assert float(row["speed"]) == known.condition.speed
    assert json.loads((small / "crowd.json").read_text())["seed"] == 5


def test_equal_seeds_give_equal_bytes_whoever_renders(small: Path, tmp_path: Path) -> None:
    few = replace(SMALL, kinds=("fan", "slider"))
    write_crowd(tmp_path / "again", few, workers=2)
    again, before = digests(tmp_path / "again" / "train"), digests(small / "train")
    assert again
    assert again.items() <= before.items()


def test_another_seed_gives_other_sound(small: Path, tmp_path: Path) -> None:
    write_crowd(tmp_path / "other", replace(SMALL, kinds=("fan",), seed=6))
    assert not set(digests(tmp_path / "other" / "train").values()) & set(digests(small / "train").values())


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not empty, name a folder that is new or empty"):
        write_crowd(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kinds": ("toaster",)}, "called 'toaster', choose one of fan, valve"),
        ({"kinds": ()}, "need a kind"),
        ({"clips": 0}, "need a kind, an individual, a state, a clip"),
        ({"seconds": 0.0}, "a length at least"),
        ({"seed": -1}, "no negative number"),
        ({"neighbour": 1.1}, "a share of neighbours up to 1"),
        ({"first": 10**6}, "individuals below 1000000"),
    ],
)
def test_a_crowd_that_cannot_be_rendered_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Crowd(**setting)
