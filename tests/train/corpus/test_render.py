from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edge_asd.errors import ConfigError
from edge_asd.render.performance import MACHINES
from train.corpus.render import DOMAINS, PLACED, Plan, Take, scene, takes, write_dataset

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.train

SMALL = Plan(source_train=4, target_train=2, test=3, seconds=0.5, seed=5)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "rendered"
    assert write_dataset(out, SMALL) == len(MACHINES) * (4 + 2 + 4 * 3)
    return out


def test_by_default_a_section_has_as_many_clips_as_in_dcase_2022() -> None:
    names = [(take.kind, take.domain, take.split, take.label) for take in takes(Plan())]
    for kind in MACHINES:
        assert names.count((kind, "source", "train", "normal")) == 990
        assert names.count((kind, "target", "train", "normal")) == 10
        for domain in ("source", "target"):
            for label in ("normal", "anomaly"):
                assert names.count((kind, domain, "test", label)) == 50
    assert len(names) == len(MACHINES) * 1200


def test_clips_are_sixteen_bit_mono_of_the_asked_length(small: Path) -> None:
    for path in small.rglob("*.wav"):
        found = soundfile.info(path)
        assert (found.samplerate, found.channels, found.subtype, found.frames) == (16_000, 1, "PCM_16", 8000)
        assert 0.003 < np.max(np.abs(soundfile.read(path)[0])) < 0.9


def test_every_file_is_in_the_attribute_table_and_nothing_else_is(small: Path) -> None:
    for kind, pairs in (("fan", 3), ("valve", 4), ("pump", 4), ("gearbox", 4)):
        rows = table(small / kind / "attributes_00.csv")
        expected = ["file_name", *(f"d{i}{part}" for i in range(1, pairs + 1) for part in "pv")]
        assert list(rows[0]) == expected
        on_disk = {str(path.relative_to(small)) for path in (small / kind).rglob("*.wav")}
        assert {row["file_name"] for row in rows} == on_disk


def test_a_name_carries_domain_split_label_number_and_the_tables_attributes(small: Path) -> None:
    for row in table(small / "valve" / "attributes_00.csv"):
        kind, split, name = row["file_name"].split("/")
        parts = name.removesuffix(".wav").split("_")
        assert parts[:2] == ["section", "00"]
        assert (kind, parts[3]) == ("valve", split)
        assert parts[2] in {"source", "target"}
        assert parts[4] in {"normal", "anomaly"}
        assert len(parts[5]) == 4
        assert parts[6:] == list(row.values())[1:]


def test_anomalies_are_named_with_fault_and_severity_apart_from_the_attributes(small: Path) -> None:
    rows = table(small / "fan" / "faults_00.csv")
    assert {row["file_name"] for row in rows} == {
        str(path.relative_to(small)) for path in (small / "fan" / "test").glob("*_anomaly_*")
    }
    assert {row["fault"] for row in rows} == {"imbalance", "bearing", "blade"}
    assert all(0.3 <= float(row["severity"]) <= 0.9 for row in rows)


def test_the_plan_lies_beside_the_clips(small: Path) -> None:
    assert json.loads((small / "plan.json").read_text())["seed"] == 5


def test_domains_share_no_condition() -> None:
    source, target = DOMAINS["source"], DOMAINS["target"]
    assert not set(source.speeds) & set(target.speeds)
    assert not set(source.loads) & set(target.loads)
    assert not set(source.patterns) & set(target.patterns)
    assert not set(source.rooms) & set(target.rooms)
    assert not set(source.microphones) & set(target.microphones)
    assert not set(source.microphones.values()) & set(target.microphones.values())


def test_equal_seeds_give_equal_bytes_whoever_renders(small: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", SMALL, workers=2)
    assert digests(tmp_path / "again") == digests(small)


def test_another_seed_gives_other_sound(small: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", replace(SMALL, machines=("fan",), seed=6))
    assert not set(digests(tmp_path / "other").values()) & set(digests(small).values())


@given(index=st.integers(0, 3), counts=st.tuples(*[st.integers(4, 2000)] * 3), sections=st.integers(2, 5))
def test_a_clip_does_not_depend_on_how_many_others_there_are(
    index: int, counts: tuple[int, int, int], sections: int
) -> None:
    take = Take("valve", 1, "source", "test", "anomaly", index)
    more = Plan(source_train=counts[0], target_train=counts[1], test=counts[2], sections=sections, seed=5)
    assert scene(more, take) == scene(SMALL, take)


@pytest.mark.parametrize("kind", sorted(PLACED))
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_microphone_hangs_where_its_attribute_says(kind: str, domain: Literal["source", "target"]) -> None:
    scenes = [scene(SMALL, Take(kind, 0, domain, "train", "normal", i)) for i in range(20)]
    places = {(drawn.attributes["mic"], drawn.room.microphone) for drawn in scenes}
    assert places == set(DOMAINS[domain].microphones.items())
    assert {drawn.attributes["noise"] for drawn in scenes} == set(DOMAINS[domain].rooms)


def test_every_clip_of_a_plan_has_its_own_seed_and_name() -> None:
    plan = Plan(source_train=20, target_train=10, test=10, sections=3)
    scenes = [scene(plan, take) for take in takes(plan)]
    assert len({drawn.seed for drawn in scenes}) == len({drawn.name for drawn in scenes}) == len(scenes)


def test_sections_are_individuals() -> None:
    first, second = (scene(SMALL, Take("fan", section, "source", "train", "normal", 0)).machine for section in (0, 1))
    assert first != second


def test_only_the_faults_asked_for_are_rendered() -> None:
    plan = Plan(("fan", "valve"), faults=("bearing", "leak"))
    drawn = (scene(plan, Take(kind, 0, "source", "test", "anomaly", i)) for kind in plan.machines for i in range(6))
    faults = {anomaly.condition.fault for anomaly in drawn}
    assert faults == {"bearing", "leak"}


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("bearing", ["vel", "loc", "load", "noise"]),
        ("slider", ["vel", "ac", "load", "noise"]),
        ("motor", ["line", "pwm", "load", "noise"]),
    ],
)
def test_every_attribute_shifts_from_domain_to_domain(kind: str, keys: list[str]) -> None:
    source, target = (
        [scene(SMALL, Take(kind, 0, domain, "train", "normal", i)).attributes for i in range(40)]
        for domain in ("source", "target")
    )
    for drawn in (*source, *target):
        assert list(drawn) == keys
    for key in keys:
        values = [{drawn[key] for drawn in domain} for domain in (source, target)]
        assert len(values[0]) > 1
        assert len(values[1]) > 1
        assert not values[0] & values[1]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"machines": ("toaster",)}, "called 'toaster', choose one of fan, valve"),
        ({"faults": ("leak",)}, "a fan has none of the faults leak, choose from imbalance, bearing, blade"),
        ({"severity": (0.9, 0.1)}, "need 0 < severity"),
        ({"severity": (0.0, 0.5)}, "need 0 < severity"),
        ({"seconds": 0.0}, "need 0 < severity"),
        ({"source_train": -1}, "need 0 < severity"),
    ],
)
def test_a_plan_that_cannot_be_rendered_is_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan(**setting)  # type: ignore[arg-type]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not empty, name a folder that is new or empty"):
        write_dataset(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        write_dataset(tmp_path / "out", SMALL)


ENDLESS = """
from pathlib import Path
from train.corpus.render import Plan, write_dataset
write_dataset(Path({out!r}), Plan(source_train=3000, seconds=0.5), workers={workers})
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_whole_clips_and_no_table(tmp_path: Path, workers: int) -> None:
    out = tmp_path / "out"
    script = ENDLESS.format(out=str(out), workers=workers)
    # a terminal sends the signal to the whole group, workers included
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + 60
        while len(list(out.rglob("*.wav"))) < 3 and time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                run.wait(0.05)
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=30)[1]
    assert (run.returncode, said.count("Traceback"), said.splitlines()[-1]) == (-signal.SIGINT, 1, "KeyboardInterrupt")
    left = [path for path in out.rglob("*") if path.is_file()]
    assert len(left) >= 3
    assert {path.suffix for path in left} == {".wav"}
    assert all(soundfile.info(path).frames == 8000 for path in left)


def test_progress_counts_clips(tmp_path: Path) -> None:
    shown = io.StringIO()
    plan = Plan(machines=("valve",), source_train=2, target_train=0, test=0, seconds=0.1)
    write_dataset(tmp_path / "out", plan, console=Console(file=shown, force_terminal=True))
    assert "2/2" in shown.getvalue()
