"""From a run to a bundle that a device opens."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st
from rich.progress import Progress
from scipy import stats

from edge_asd.bundle import open_bundle, read_normals
from edge_asd.errors import AudioError, BundleError, ConfigError
from train.corpus.clip import normals
from train.pack.export import Wish, export
from train.pack.publish import decision_threshold, memory_mb
from train.teach.fit import fit
from train.teach.recipe import load_recipe
from train.teach.run import Run, create

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.train
RATE = 16_000
WISH = Wish("7", "for tests")


def data_set(folder: Path, clips: int = 8) -> Path:
    """Two machines of shaped noise; a few short clips each."""
    rng = np.random.default_rng(0)
    for number, machine in enumerate(("hisser", "hummer")):
        (folder / machine / "train").mkdir(parents=True)
        for clip in range(clips):
            noise = rng.standard_normal(3 * RATE)
            tone = np.sin(2 * np.pi * 200 * (number + 1) * np.arange(3 * RATE) / RATE)
            name = f"section_00_source_train_normal_{clip:04d}_spd_{clip % 2}.wav"
            soundfile.write(folder / machine / "train" / name, 0.02 * noise + 0.05 * number * tone, RATE, "PCM_16")
    return folder


def fitted(folder: Path, recipe: str, **changes: object) -> Path:
    data = data_set(folder / "made")
    clips = normals([data])
    run = create(Run(folder / "run", load_recipe(recipe, **changes), (data,)), clips)
    with Progress(disable=True) as progress:
        fit(run, clips, (), progress)
    return run.folder


def exported(run: Path, out: Path, wish: Wish = WISH) -> str:
    with Progress(disable=True) as progress:
        return str(export(run, out, wish, progress))


def test_statistics_become_a_bundle_without_a_network(tmp_path: Path) -> None:
    said = exported(fitted(tmp_path, "statistics"), tmp_path / "a.asd")

    bundle = open_bundle(tmp_path / "a.asd")
    assert bundle.backbone is None
    assert set(bundle.heads) == {"made/hisser/00", "made/hummer/00"}
    assert "2 heads" in said
    assert {part.spec.name for part in bundle.heads["made/hisser/00"].parts} == {"indicators", "spectrum", "neighbour"}
    bundle.scorer("made/hummer/00")


def test_heads_are_fitted_for_machines_that_the_network_never_met(tmp_path: Path) -> None:
    tiny = {"branches": ["fft", "stft"], "width": 8, "stem": 2, "dimensions": 8, "subcentres": 2}
    training = {"epochs": 1, "crops": 1, "batch": 8, "targets": 0}
    run = fitted(tmp_path, "subcluster", training=training, settings=tiny, precision="fp32")
    strange = data_set(tmp_path / "strange")

    exported(run, tmp_path / "a.asd", replace(WISH, data=(strange,), heads=("strange/hummer/00",)))

    bundle = open_bundle(tmp_path / "a.asd")
    assert set(bundle.heads) == {"strange/hummer/00"}
    (known,) = read_normals(bundle.path).values()
    digests = {hashlib.sha256(file.read_bytes()).digest()[:8] for file in (strange / "hummer" / "train").iterdir()}
    assert {row.tobytes() for row in known.clip} == digests
    assert "trained on other machines, 16 clips" in zipfile.ZipFile(bundle.path).read("CARD.md").decode()


def test_a_bundle_tells_what_its_training_clips_scored_and_which_they_were(tmp_path: Path) -> None:
    exported(fitted(tmp_path, "statistics"), tmp_path / "a.asd")

    bundle = open_bundle(tmp_path / "a.asd")
    for key, known in read_normals(bundle.path).items():
        assert np.median(known.z.mean(axis=1)) == pytest.approx(bundle.heads[key].calibration.body[-1], abs=1e-6)
        assert known.z.mean(axis=0) == pytest.approx([0.0] * 3, abs=1e-6)
        files = (tmp_path / "made" / key.split("/")[1] / "train").iterdir()
        digests = {hashlib.sha256(file.read_bytes()).digest()[:8] for file in files}
        assert {row.tobytes() for row in known.clip} == digests
    assert 20 < bundle.manifest.metrics["memory_mb"] < 500


def test_no_golden_waveform_is_a_training_clip(tmp_path: Path) -> None:
    run = fitted(tmp_path, "statistics")
    exported(run, tmp_path / "a.asd")

    golden = open_bundle(tmp_path / "a.asd").golden["made/hisser/00"].waveform
    for file in (tmp_path / "made" / "hisser" / "train").iterdir():
        samples = soundfile.read(file, dtype="int16")[0]
        assert not np.array_equal(samples[: golden.size], golden)


def test_only_the_heads_wished_for_are_exported(tmp_path: Path) -> None:
    run = fitted(tmp_path, "statistics")

    exported(run, tmp_path / "a.asd", Wish("1", "for tests", ("made/hisser/00",)))

    assert set(open_bundle(tmp_path / "a.asd").heads) == {"made/hisser/00"}
    with pytest.raises(ConfigError, match="made/hisser/00, made/hummer/00"):
        exported(run, tmp_path / "b.asd", Wish("1", "for tests", ("made/nobody/00",)))


def test_further_back_ends_are_shown_and_change_no_fused_score(tmp_path: Path) -> None:
    run = fitted(tmp_path, "twfr_gmm")
    exported(run, tmp_path / "a.asd")
    exported(run, tmp_path / "b.asd", replace(WISH, backends=("knn", "ranked_090:mahalanobis")))
    clip = 0.05 * np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
    plain, more = (open_bundle(tmp_path / name).scorer("made/hisser/00").score(clip) for name in ("a.asd", "b.asd"))
    assert plain.score == pytest.approx(more.score, abs=1e-9)
    shown = {part.name: part.z for part in more.parts}
    assert [name for name in shown if name not in {p.name for p in plain.parts}] == [
        "mean.knn",
        "ranked_090.mahalanobis",
    ]
    assert {part.name: part.z for part in plain.parts}.items() <= shown.items()


def test_statistics_have_no_output_for_a_further_back_end(tmp_path: Path) -> None:
    run = fitted(tmp_path, "statistics")
    with pytest.raises(ConfigError, match=r"statistics has no network for knn; leave out --backend"):
        exported(run, tmp_path / "a.asd", replace(WISH, backends=("knn",)))


@pytest.mark.parametrize("name", ["imp_freq", "twfr_gmm-paper"])
def test_what_is_not_trained_has_a_graph_in_float_that_a_device_opens(tmp_path: Path, name: str) -> None:
    exported(fitted(tmp_path, name), tmp_path / "a.asd")
    bundle = open_bundle(tmp_path / "a.asd")
    assert bundle.precision == "fp32"
    assert {"parameters", "macs", "fp32_ms"} <= set(bundle.manifest.metrics)
    bundle.scorer("made/hummer/00")


def test_too_few_clips_are_refused_with_their_numbers(tmp_path: Path) -> None:
    data = data_set(tmp_path / "made", clips=3)
    create(Run(tmp_path / "run", load_recipe("statistics"), (data,)), normals([data]))

    with pytest.raises(AudioError, match="made/hisser/00 3"):
        exported(tmp_path / "run", tmp_path / "a.asd")


def test_a_network_becomes_a_segment_part_or_is_refused_with_its_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted(tmp_path, "grhd", training={"epochs": 1, "batch": 8})

    monkeypatch.setattr("train.pack.export.TOLERANCE", 10.0)
    exported(run, tmp_path / "a.asd")
    bundle = open_bundle(tmp_path / "a.asd")
    clip = bundle.scorer("made/hisser/00").score(np.zeros(160_000, np.float32) + 0.01)
    assert [part.name for part in clip.parts] == ["indicators", "spectrum", "neighbour", "network"]
    assert len(clip.segment_scores) == bundle.manifest.windows.segments
    assert open_bundle(tmp_path / "a.asd", "fp32").precision == "fp32"
    assert json.loads((run / "config.json").read_text())["recipe"]["method"] == bundle.manifest.method

    monkeypatch.setattr("train.pack.export.TOLERANCE", 0.0)
    with pytest.raises(BundleError, match=r"made/hisser/00 \d+\.\d+"):
        exported(run, tmp_path / "b.asd")
    assert not (tmp_path / "b.asd").exists()


@given(st.lists(st.floats(-3, 8), min_size=5, max_size=60))
@example([1.1] * 6)  # equal, but for the rounding of their mean
def test_one_training_clip_in_ten_lies_above_the_decision_threshold(scores: list[float]) -> None:
    """Whatever the scores, the threshold is finite and within or near them."""
    values = np.array(scores)

    threshold = decision_threshold(values)

    assert np.isfinite(threshold)
    assert values.min() - values.std() - 1e-9 <= threshold <= values.max() + 3 * values.std() + 1e-9


def test_the_decision_threshold_is_scipys_gamma_quantile() -> None:
    scores = stats.gamma.rvs(4.0, size=2000, random_state=0) - 2.0

    assert decision_threshold(scores) == pytest.approx(np.quantile(scores, 0.9), rel=0.05)


def test_a_bundle_that_another_process_cannot_open_is_refused_with_what_that_process_said(tmp_path: Path) -> None:
    (tmp_path / "a.asd").write_bytes(b"no archive")

    with pytest.raises(BundleError, match=r"(?s)a\.asd does not open in a process of its own: .*BundleCorrupt"):
        memory_mb(tmp_path / "a.asd")
