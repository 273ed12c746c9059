"""Data that nobody wished for: each method learns from them something finite, or says in one line why it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console
from rich.progress import Progress

from edge_asd.bundle import open_bundle
from edge_asd.errors import AudioError, ConfigError
from tests.train.judge.test_evaluate import machine
from tests.train.teach.test_fit import Stopper, differing, lines
from tests.train.teach.test_lesson import coloured
from train.compare.sweep import Crew, Plan, sweep
from train.corpus.clip import checked, normals
from train.method import catalogue
from train.pack.export import Wish, export
from train.teach.fit import fit, load_network
from train.teach.lesson import learn_from, middles
from train.teach.recipe import Recipe, load_recipe
from train.teach.run import Run, create

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from train.corpus.clip import Clip

pytestmark = pytest.mark.train

ROOT = Path(__file__).parents[3]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for each other are slow on a busy computer
TRAINED = [name for name in catalogue.NAMES if catalogue.trained(name)]
SMALL: dict[str, Any] = {
    "windows": {"segment": 8_000},
    "front_end": {"n_mels": 32},
    "front_ends": {"image": {"n_mels": 32}},
}
TRAINING = {"epochs": 1, "crops": 1, "batch": 4, "holdout": 0.2}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Features kept by other tests would hide what these make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_ASD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# Data -----------------------------------------------------------------------------------------------------------------

SOURCE = ["source_train_normal_{:04d}_spd_1"] * 3 + ["source_train_normal_{:04d}_spd_2"] * 3
TARGET = ["target_train_normal_{:04d}_spd_3"] * 2
ALIKE = ["source_train_normal_{:04d}_spd_1"] * 6
SINGLE = [f"source_train_normal_{{:04d}}_spd_{number}" for number in range(6)]


def clips(data: Path, kind: str, names: Sequence[str], seconds: float = 0.8) -> None:
    """Of one machine."""
    for number, name in enumerate(names):
        path = data / kind / "train" / f"section_00_{name.format(number)}.wav"
        coloured(path, 0.9 if kind == "fan" else -0.9, seed=number, seconds=seconds)


def no_target(data: Path) -> None:
    clips(data, "fan", SOURCE)
    clips(data, "pump", SOURCE)


def one_target(data: Path) -> None:
    """Of one machine, and none of the other."""
    clips(data, "fan", SOURCE + TARGET[:1])
    clips(data, "pump", SOURCE)


def target_only(data: Path) -> None:
    clips(data, "fan", TARGET * 3)
    clips(data, "pump", TARGET * 3)


def one_section(data: Path) -> None:
    clips(data, "fan", SOURCE + TARGET)


def one_class(data: Path) -> None:
    clips(data, "fan", ALIKE)


def nameless(data: Path) -> None:
    """No attributes, one domain."""
    clips(data, "fan", ["source_train_normal_{:04d}"] * 6)


def one_group_each(data: Path) -> None:
    clips(data, "fan", ALIKE)
    clips(data, "pump", ALIKE)


def a_machine_of_one_clip(data: Path) -> None:
    """And a last batch of one: nine segments, four at a time."""
    clips(data, "fan", SOURCE + TARGET)
    clips(data, "pump", SOURCE[:1])


def classes_of_one_clip(data: Path) -> None:
    clips(data, "fan", SINGLE)
    clips(data, "pump", SINGLE)


def three_clips(data: Path) -> None:
    clips(data, "fan", SOURCE[:2])
    clips(data, "pump", SOURCE[:1])


def all_sorts(data: Path) -> None:
    """From a hundredth of a second on, of four rates, some with two channels, some silent."""
    clips(data, "pump", SOURCE + TARGET)
    kinds = [(0.01, 16_000, 1, 0.1), (0.3, 8_000, 2, 0.1), (0.5, 22_050, 1, 0.1), (2.7, 48_000, 2, 0.1)]
    kinds += [(0.7, 16_000, 1, 0.0), (0.7, 16_000, 2, 0.0)]
    for number, (seconds, rate, channels, level) in enumerate(kinds):
        path = data / "fan" / "train" / f"section_00_source_train_normal_{number:04d}_spd_1.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = level * np.random.default_rng(number).standard_normal((int(seconds * rate), channels))
        soundfile.write(path, noise, rate)


HARD = [
    no_target,
    one_target,
    target_only,
    one_section,
    one_group_each,
    a_machine_of_one_clip,
    classes_of_one_clip,
    three_clips,
    all_sorts,
]


ALONE_NOT = ("mobilenetv2", "oevae")
LEARNABLE = [(m, made) for made in HARD for m in TRAINED if not (m in ALONE_NOT and made == one_section)]
"""all but what is refused below"""


def begun(folder: Path, made: Callable[[Path], None], recipe: Recipe) -> tuple[Run, list[Clip]]:
    made(folder / "set")
    found = checked(normals([folder / "set"], channel=1))
    return create(Run(folder / "run", recipe, (folder / "set",), channel=1), found), found


def fitted(folder: Path, made: Callable[[Path], None], recipe: Recipe) -> tuple[Run, list[Clip]]:
    run, found = begun(folder, made, recipe)
    fit(run, found, (), Progress(disable=True))
    return run, found


# Training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "made"), LEARNABLE, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_learned_from_hard_data_is_finite(tmp_path: Path, method: str, made: Callable[[Path], None]) -> None:
    recipe = load_recipe(method, training=TRAINING, **SMALL)
    run, found = fitted(tmp_path, made, recipe)
    assert all(np.isfinite(value) for value in lines(run)[0].values())
    embedder: Any = load_network(run)[0]
    lesson = replace(learn_from(found, (), recipe, Progress(disable=True)), views=embedder.views)
    shown = middles(lesson, np.arange(len(found)))
    with torch.no_grad():
        given = embedder(*(shown.views[name] for name in embedder.views))
    for output in given if isinstance(given, tuple) else (given,):
        assert torch.isfinite(output).all()
        assert len(output) == len(found)


GROUP = r"attribute groups apart, and there is one, set/fan/00 spd_1( source)?: train on several .*, set pseudo"
SECTION = r"machine identities apart, and there is one, set/fan/00: train on several together"


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        *((method, {}, GROUP) for method in ("grhd", "hmic", "jless", "stgram_mfn", "subcluster")),
        ("mobilenetv2", {}, SECTION),
        (
            "multitask",
            {},
            "one machine, set/fan/00, under one condition: add other machines or attributes to",
        ),
        ("oevae", {}, "there is one, set/fan/00: add other machines to --data .* or background recordings with --outl"),
        ("grhd", {"classifiers": "section"}, SECTION),
        ("jless", {"group": 0.0}, SECTION),
        ("stgram_mfn", {"classes": "section"}, SECTION),
    ],
)
def test_one_class_is_refused_by_methods_that_tell_classes_apart(
    tmp_path: Path, method: str, settings: dict[str, object], said: str
) -> None:
    """Their loss would be 0 from the start and their accuracy 1, with weights that chance made."""
    run, found = begun(tmp_path, one_class, load_recipe(method, training=TRAINING, settings=settings, **SMALL))
    with pytest.raises(ConfigError, match=said):
        fit(run, found, (), Progress(disable=True))
    assert not run.checkpoint.exists()


@pytest.mark.parametrize("method", ["adversarial", "ae", "dg_mix"])
def test_one_class_is_enough_for_methods_that_name_none(tmp_path: Path, method: str) -> None:
    run, _ = fitted(tmp_path, one_class, load_recipe(method, training=TRAINING, **SMALL))
    assert 0 < lines(run)[0]["loss"] < np.inf


def test_pseudo_groups_make_of_one_class_several(tmp_path: Path) -> None:
    run, _ = fitted(tmp_path, nameless, load_recipe("hmic", training=TRAINING, pseudo_groups=2, **SMALL))
    assert lines(run)[0]["loss"] > 0


@pytest.mark.parametrize("method", TRAINED)
def test_whatever_the_method_a_stopped_run_ends_where_an_unbroken_one_does(tmp_path: Path, method: str) -> None:
    """Stopped in the midst of the second epoch of two, once the first is saved."""
    recipe = load_recipe(method, training=TRAINING | {"epochs": 2}, **SMALL)
    unbroken, found = fitted(tmp_path, one_target, recipe)
    broken = create(replace(unbroken, folder=tmp_path / "broken"), found)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, found, (), Stopper(2, "epoch 2"))
    assert len(lines(broken)) == 1
    fit(broken, found, (), Progress(disable=True))
    assert differing(unbroken, broken) == []


# Export ---------------------------------------------------------------------------------------------------------------

BACKENDS = [
    *("knn", "knn4-domain", "density", "difference", "kmeans", "mahalanobis", "selective", "selective-rows"),
    *("gmm", "gmm-max", "centres", "centres-cosine", "bands", "bands-mean"),
    *("knn4+smote", "knn-domain+memmixup", "gmm-max+smote", "gmm+memmixup", "centres+smote", "density+memmixup"),
]
SOUNDS = {
    "noise": 0.05 * np.random.default_rng(0).standard_normal(20_000).astype(np.float32),
    "a click": np.eye(1, 200, dtype=np.float32)[0],
    "silence": np.zeros(16_000, np.float32),
}


@pytest.mark.parametrize("made", [no_target, one_target, one_class, all_sorts], ids=lambda made: made.__name__)
def test_every_back_end_scores_whatever_the_machine_lacks(tmp_path: Path, made: Callable[[Path], None]) -> None:
    parts = [{"name": name, "feature": "mean_residual", "backend": name} for name in BACKENDS]
    training = TRAINING | {"mixup": 0, "cache": True}
    recipe = Recipe.model_validate(SMALL | {"method": "ae", "precision": "fp32", "training": training, "parts": parts})
    run, _ = fitted(tmp_path, made, recipe)
    export(run.folder, tmp_path / "a.asd", Wish("1", "for tests"), Progress(disable=True))
    bundle = open_bundle(tmp_path / "a.asd")
    for key in bundle.heads:
        scores = {name: bundle.scorer(key).score(sound).parts for name, sound in SOUNDS.items()}
        assert [(key, name, p.name) for name, parts in scores.items() for p in parts if not np.isfinite(p.z)] == []
        assert {part.name for part in scores["noise"]} > set(BACKENDS)


def test_a_machine_of_too_few_clips_is_left_out_and_named(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"method": "statistics"})
    run = begun(tmp_path, a_machine_of_one_clip, recipe)[0]
    report = export(run.folder, tmp_path / "a.asd", Wish("1", "for tests"), Progress(disable=True))
    assert (report.heads, report.left_out) == (1, ("set/pump/00",))
    assert str(report).endswith("; too few clips for a head: set/pump/00")
    run = begun(tmp_path / "other", three_clips, recipe)[0]
    with pytest.raises(AudioError, match=r"no machine has 5 normal clips: set/fan/00 2, set/pump/00 1; record more$"):
        export(run.folder, tmp_path / "b.asd", Wish("1", "for tests"), Progress(disable=True))


# The command line -----------------------------------------------------------------------------------------------------


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "train", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=100, check=False)


def test_a_corrupt_file_among_many_is_named_and_skipped_only_on_request(tmp_path: Path) -> None:
    data, run = tmp_path / "set", tmp_path / "run"
    clips(data, "fan", ["source_train_normal_{:04d}_spd_1"] * 300, seconds=0.05)
    clips(data, "pump", ALIKE)
    corrupt = data / "fan" / "train" / "section_00_source_train_normal_0137_spd_1.wav"
    corrupt.write_bytes(corrupt.read_bytes()[:9])

    refused = train("fit", "statistics", "--data", data, "--out", run)
    said = f"error: 1 of 306 recordings cannot be read: {corrupt} is no audio file that can be read"
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith(said)
    assert refused.stderr.endswith("; mend them, or leave them out with --skip-broken\n")
    assert not run.exists()

    skipped = train("fit", "statistics", "--data", data, "--out", run, "--skip-broken")
    assert skipped.returncode == 0
    assert skipped.stderr.startswith("1 of 306 recordings cannot be read and are left out:\n")
    assert skipped.stderr.count(str(corrupt)) == 1
    assert "statistics on 305 clips of 2 machines" in skipped.stdout

    exported = train("export", run, "--out", tmp_path / "a.asd", "--head", "set/pump/00")
    assert exported.returncode == 0, exported.stderr
    assert exported.stderr.count(str(corrupt)) == 1
    assert set(open_bundle(tmp_path / "a.asd").heads) == {"set/pump/00"}


def test_recordings_of_several_channels_want_one_chosen(tmp_path: Path) -> None:
    all_sorts(tmp_path / "set")
    command = "fit", "statistics", "--data", tmp_path / "set", "--out", tmp_path / "run"
    refused = train(*command, "--skip-broken")  # a channel to choose is not a broken file
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "0001_spd_1.wav has 2 channels: pick one of them with --channel 1 to 2" in refused.stderr
    assert not (tmp_path / "run").exists()
    chosen = train(*command, "--channel", 1)
    assert chosen.returncode == 0, chosen.stderr
    assert "statistics on 14 clips of 2 machines" in chosen.stdout


# Sweeps ---------------------------------------------------------------------------------------------------------------


def swept(tmp_path: Path, *kinds: str) -> tuple[str, list[str], list[str]]:
    """What is said, the errors, and the machines of the table."""
    said = Console(file=StringIO(), width=300)
    machines = tuple(f"set/{kind}/*" for kind in kinds)
    plan = Plan(("statistics",), (tmp_path / "set",), tmp_path / "sweep", machines=machines)
    result = sweep(plan, Crew(workers=1), Progress(console=said, disable=True))
    assert isinstance(said.file, StringIO)
    return said.file.getvalue(), [one.error for one in result.failed], [row.machine for row in result.rows]


def test_a_sweep_says_which_machines_cannot_be_judged(tmp_path: Path) -> None:
    machine(tmp_path / "set/fan", anomalies=0)
    machine(tmp_path / "set/pump", target=0)
    said, errors, rows = swept(tmp_path)
    assert "not in the table: set/fan/00; each needs 5 normal clips to train on, and normal and anomalous ones" in said
    assert (errors, set(rows)) == ([], {"set/pump/00", "all"})


def test_nothing_is_trained_that_no_test_clips_can_judge(tmp_path: Path) -> None:
    machine(tmp_path / "set/fan")
    machine(tmp_path / "set/pump")
    for clip in (tmp_path / "set/fan/test").iterdir():
        clip.unlink()
    _, (error,), rows = swept(tmp_path, "fan")
    assert error.startswith("no test clips of set/fan/00 in ")
    assert error.endswith("give others with --test")
    assert not list((tmp_path / "sweep").rglob("bundle.asd"))
    assert rows == []
