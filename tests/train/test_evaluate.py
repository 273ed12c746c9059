from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from rich.console import Console
from sklearn.metrics import roc_auc_score

from edge_asd.bundle import Golden, HeadCard, Manifest, Thresholds, golden_scores, open_bundle, write_bundle
from edge_asd.errors import AudioError, ConfigError, HeadUnknown
from edge_asd.score.head import fit_head
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.part import STATISTICS_PARTS
from edge_asd.signal.segment import Windows
from edge_asd.signal.view import LogMel
from train.data import load, scan
from train.evaluate import evaluate
from train.evaluation import FUSED
from train.judge import harmonic_mean
from train.table import show

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from train.evaluation import Evaluation

WINDOWS = Windows(segment=4_000, clip=8_000)


def sound(rng: np.random.Generator, label: str, samples: int) -> NDArray[np.float64]:
    """Noise; with a click in it where the machine is broken."""
    noise = rng.normal(0, 0.02, samples)
    if label == "anomaly":
        noise[rng.integers(samples)] += rng.uniform(0.05, 0.4)
    return noise


def machine(folder: Path, seed: int = 0, section: str = "00", target: int = 6, anomalies: int = 6) -> None:
    """A data set as DCASE lays it out: clips of different lengths, the shortest less than a segment."""
    rng = np.random.default_rng(seed)
    kinds = [("source", "train", "normal", 12), ("target", "train", "normal", 3)]
    kinds += [("source", "test", "normal", 6), ("target", "test", "normal", target)]
    kinds += [("source", "test", "anomaly", anomalies), ("target", "test", "anomaly", min(target, anomalies))]
    for domain, split, label, count in kinds:
        (folder / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            path = folder / split / f"section_{section}_{domain}_{split}_{label}_{i:04d}.wav"
            soundfile.write(path, sound(rng, label, (3_000, 8_000, 20_001)[i % 3]), 16_000)


def bundle(path: Path, data: Path, *keys: str) -> Path:
    """A bundle without a network, fitted on the training clips."""
    heads, cards, golden = {}, {}, {}
    for key in keys:
        clips = [load(clip, 16_000) for clip in scan([data]) if (clip.key, clip.split) == (key, "train")]
        head, _ = fit_head(STATISTICS_PARTS, [evidence(WINDOWS, LogMel(), None, clip) for clip in clips])
        card = HeadCard(
            parts=STATISTICS_PARTS,
            thresholds=Thresholds(decision=1.0, alarm=2.0),
            clips=len(clips),
            level_dbfs=(-40.0, -30.0),
        )
        waveform = (clips[0] * 32_767).astype(np.int16)
        listener = Listener(WINDOWS, LogMel(), head, 2.0, None)
        heads[key], cards[key], golden[key] = head, card, Golden(waveform, golden_scores(listener, waveform))
    manifest = Manifest(
        name="noise",
        version="1",
        created="2025-01-01",
        method="statistics",
        licence="test",
        windows=WINDOWS,
        front_end=LogMel(),
        backbone=False,
        heads=cards,
    )
    write_bundle(path, manifest, {}, heads, golden, "# noise\n")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Machines of one name in two sets; one has no target domain, one has no anomalies."""
    folder = tmp_path_factory.mktemp("data")
    machine(folder / "a/fan")
    machine(folder / "a/pump", seed=1, target=0)
    machine(folder / "b/fan", seed=2, anomalies=0)
    return folder


KEYS = "a/fan/00", "a/pump/00", "b/fan/00"


@pytest.fixture(scope="module")
def path(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("bundle") / "noise.asd", data, *KEYS)


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def table(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a result.csv by machine, or by the mean they are."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["machine"] or row["section"]: row for row in csv.DictReader(file)}


# Scores ---------------------------------------------------------------------------------------------------------------


def test_the_scores_written_are_those_of_the_daemon(data: Path, path: Path, tmp_path: Path) -> None:
    evaluate(path, [data], tmp_path)
    scorer = open_bundle(path).scorer("a/fan/00")
    clips = {clip.path.name: clip for clip in scan([data / "a/fan"]) if clip.split == "test"}
    written = rows(tmp_path / "a/anomaly_score_fan_section_00_test.csv")
    assert [name for name, _ in written] == sorted(clips)
    for name, score in written:
        assert float(score) == scorer.score(load(clips[name], 16_000)).score  # to the last bit


def test_a_decision_is_a_score_above_the_threshold(data: Path, path: Path, tmp_path: Path) -> None:
    evaluate(path, [data], tmp_path)
    scores = rows(tmp_path / "b/anomaly_score_fan_section_00_test.csv")
    decisions = rows(tmp_path / "b/decision_result_fan_section_00_test.csv")
    assert decisions == [[name, str(int(float(score) > 1.0))] for name, score in scores]


def test_the_results_can_be_computed_again_from_the_scores(data: Path, path: Path, tmp_path: Path) -> None:
    evaluate(path, [data], tmp_path)
    scores = {name: float(score) for name, score in rows(tmp_path / "a/anomaly_score_fan_section_00_test.csv")}
    decided = {name: int(d) for name, d in rows(tmp_path / "a/decision_result_fan_section_00_test.csv")}

    def against(kept: str, max_fpr: float | None = None) -> float:
        names = [name for name in scores if kept in name or "_anomaly_" in name]
        truth = ["_anomaly_" in name for name in names]
        return float(roc_auc_score(truth, [scores[name] for name in names], max_fpr=max_fpr))

    row = table(tmp_path / "a/result.csv")["fan"]
    terms = [against("_source_"), against("_target_"), against("", 0.1)]
    assert [float(row[name]) for name in ("AUC (source)", "AUC (target)", "pAUC")] == pytest.approx(terms, abs=1e-8)
    assert float(row["omega (fused)"]) == pytest.approx(harmonic_mean(terms), abs=1e-8)
    hits = sum(decided[name] for name in scores if "_source_test_anomaly_" in name)
    assert float(row["recall (source)"]) == pytest.approx(hits / 6)
    assert float(row["precision (source)"]) == pytest.approx(
        hits / max(1, sum(decided[name] for name in scores if "_source_" in name))
    )


def test_every_part_is_judged_beside_the_fused_score(data: Path, path: Path) -> None:
    section = evaluate(path, [data]).sections[0]
    assert list(section.judgements) == [FUSED, *(part.name for part in STATISTICS_PARTS)]
    truth = [one.clip.label == "anomaly" for one in section.scored]
    for i, part in enumerate(STATISTICS_PARTS):
        expected = roc_auc_score(truth, [one.verdict.parts[i].z for one in section.scored], max_fpr=0.1)
        assert section.judgements[part.name].pauc.value == pytest.approx(expected)


def test_a_machine_without_a_target_domain_has_two_terms(data: Path, path: Path, tmp_path: Path) -> None:
    evaluation = evaluate(path, [data], tmp_path)
    fused = evaluation.sections[1].judgements[FUSED]
    assert fused.auc_target is None
    assert fused.omega.value == pytest.approx(harmonic_mean([fused.auc_source.value, fused.pauc.value]))
    row = table(tmp_path / "a/result.csv")["pump"]
    assert (row["AUC (target)"], row["F1 score (target)"]) == ("", "")


def test_the_means_are_over_the_machines_of_a_set(data: Path, path: Path, tmp_path: Path) -> None:
    evaluate(path, [data], tmp_path)
    result = table(tmp_path / "a/result.csv")
    values = [float(result[name]["pAUC"]) for name in ("fan", "pump")]
    assert float(result["arithmetic mean"]["pAUC"]) == pytest.approx(np.mean(values))
    assert float(result["harmonic mean"]["pAUC"]) == pytest.approx(harmonic_mean(values))


def test_the_official_score_is_over_all_terms_of_all_machines(data: Path, path: Path, tmp_path: Path) -> None:
    evaluation = evaluate(path, [data], tmp_path)
    terms = [term for section in evaluation.sections if section.judgements for term in section.judgements[FUSED].terms]
    assert len(terms) == 5
    assert evaluation.omega[FUSED] == pytest.approx(harmonic_mean(terms))
    assert json.loads((tmp_path / "result.json").read_text())["omega"] == evaluation.omega


def test_a_machine_without_anomalies_is_scored_and_listed_as_not_scorable(
    data: Path, path: Path, tmp_path: Path
) -> None:
    evaluation = evaluate(path, [data / "b"], tmp_path)
    assert (evaluation.sections[0].judgements, evaluation.omega) == ({}, {})
    assert len(rows(tmp_path / "b/anomaly_score_fan_section_00_test.csv")) == 12
    assert json.loads((tmp_path / "result.json").read_text())["sections"][0]["scorable"] is False
    assert "b/fan/00: 6 + 6 normal, 0 anomalous: not scorable" in shown(evaluation)


def test_clips_without_labels_are_scored_but_not_judged(path: Path, tmp_path: Path) -> None:
    machine(tmp_path / "data/a/fan", seed=3)
    for i, clip in enumerate(sorted((tmp_path / "data/a/fan/test").glob("*"))[:4]):
        clip.rename(clip.with_name(f"section_00_{i:04d}.wav"))
    evaluation = evaluate(path, [tmp_path / "data"], tmp_path / "out")
    assert len(rows(tmp_path / "out/a/anomaly_score_fan_section_00_test.csv")) == 24
    assert "6 + 6 normal, 8 anomalous" in shown(evaluation)


def test_only_finished_files_are_left_behind(data: Path, path: Path, tmp_path: Path) -> None:
    evaluate(path, [data], tmp_path)
    evaluate(path, [data], tmp_path)
    names = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    machines = ("a", "fan"), ("a", "pump"), ("b", "fan")
    expected = ["a/result.csv", "b/result.csv", "result.json"]
    expected += [
        f"{s}/{kind}_{m}_section_00_test.csv" for s, m in machines for kind in ("anomaly_score", "decision_result")
    ]
    assert names == sorted(expected)


# Heads ----------------------------------------------------------------------------------------------------------------


def test_a_machine_without_a_head_is_an_error_that_lists_what_there_is(data: Path, tmp_path: Path) -> None:
    one = bundle(tmp_path / "one.asd", data, "a/fan/00")
    with pytest.raises(HeadUnknown, match=r"no head for a/pump/00, b/fan/00; it has a/fan/00; .*--head"):
        evaluate(one, [data])


def test_a_named_head_scores_every_machine(data: Path, tmp_path: Path) -> None:
    one = bundle(tmp_path / "one.asd", data, "a/fan/00")
    sections = evaluate(one, [data], head="a/fan/00").sections
    assert [(section.key, section.head) for section in sections] == [(key, "a/fan/00") for key in KEYS]


def test_a_named_head_that_does_not_exist_is_an_error(data: Path, path: Path) -> None:
    with pytest.raises(HeadUnknown, match="no head 'c/fan/00'"):
        evaluate(path, [data], head="c/fan/00")


def test_the_graph_to_use_is_handed_on(data: Path, path: Path) -> None:
    assert evaluate(path, [data / "b"], precision="fp32").bundle.precision == "fp32"


def test_data_without_test_clips_is_an_error(path: Path, tmp_path: Path) -> None:
    machine(tmp_path / "fan", target=0, anomalies=0)
    for clip in (tmp_path / "fan/test").glob("*"):
        clip.unlink()
    with pytest.raises(ConfigError, match="no test clips in"):
        evaluate(path, [tmp_path])


def test_a_broken_recording_is_named_and_nothing_is_written(path: Path, tmp_path: Path) -> None:
    machine(tmp_path / "a/fan")
    broken = tmp_path / "a/fan/test/section_00_source_test_normal_0000.wav"
    broken.write_text("no sound")
    with pytest.raises(AudioError, match=broken.name):
        evaluate(path, [tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# What a person sees ---------------------------------------------------------------------------------------------------


def shown(evaluation: Evaluation) -> str:
    out = io.StringIO()
    show(evaluation, Console(file=out))
    return out.getvalue()


def test_the_table_is_plain_text_when_it_is_piped(data: Path, path: Path) -> None:
    evaluation = evaluate(path, [data])
    text = shown(evaluation)
    fused = evaluation.sections[0].judgements[FUSED]
    assert "a/fan/00  (6 + 6 normal, 12 anomalous)" in text
    line = next(line for line in text.splitlines() if line.startswith(FUSED)).split()
    assert line[1:5] == [f"{100 * f.value:.1f}" for f in (fused.auc_source, fused.auc_target, fused.pauc, fused.omega)]
    assert f"Ω over all machines, fused: {100 * evaluation.omega[FUSED]:.2f}" in text
    assert not set(text) & set("\x1b─│┃…")


def test_progress_is_shown_only_where_it_is_wanted(data: Path, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evaluate(path, [data])
    assert capfd.readouterr() == ("", "")
    out = io.StringIO()
    evaluate(path, [data], console=Console(file=out, force_terminal=True))
    assert "scoring" in out.getvalue()


def test_nothing_depends_on_the_order_of_the_folders(data: Path, path: Path) -> None:
    forth, back = (evaluate(path, folders) for folders in ([data / "a", data / "b"], [data / "b", data / "a"]))
    assert replace(forth, bundle=back.bundle) == back
