from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from rich.console import Console
from sklearn.metrics import roc_auc_score

from edge_asd.bundle import Golden, HeadCard, Manifest, Thresholds, golden_scores, open_bundle, write_bundle
from edge_asd.errors import AudioError, ConfigError, HeadUnknown
from edge_asd.score.backbone import Backbone
from edge_asd.score.head import fit_head
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.part import STATISTICS_PARTS, Normal
from edge_asd.signal.segment import Windows
from edge_asd.signal.view import LogMel, log_mel
from tests.example import NETWORK_PARTS
from train.corpus.clip import load, scan, trials
from train.judge.evaluate import evaluate as judged
from train.judge.evaluation import FUSED
from train.judge.metric import PROTOCOLS, harmonic_mean, official_ci95
from train.judge.table import show

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from train.judge.evaluation import Evaluation
    from train.judge.metric import Protocol


def evaluate(path: Path, folders: Sequence[Path], out: Path | None = None, **options: Any) -> Evaluation:  # noqa: ANN401 - as many as it has
    """As the command does."""
    return judged(path, trials(folders), out, **options)


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


def network() -> bytes:
    """The mean of each mel band over a segment: (1, M, T) -> (1, M)."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - not in the test group

    view = helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, [1, LogMel().n_mels, None])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, LogMel().n_mels])
    node = helper.make_node("ReduceMean", ["log_mel"], ["embedding"], axes=[2], keepdims=0)
    body = helper.make_graph([node], "mean", [view], [embedding])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def bundle(path: Path, data: Path, *keys: str, graph: bytes | None = None) -> Path:
    """Fitted on the training clips."""
    heads, cards, golden = {}, {}, {}
    embed = Backbone(graph, {"": LogMel()}) if graph else None
    parts = {**STATISTICS_PARTS, **(NETWORK_PARTS if graph else {})}
    for key in keys:
        clips = [load(clip, 16_000) for clip in scan([data]) if (clip.key, clip.split) == (key, "train")]
        head, _ = fit_head(parts, [Normal(evidence(WINDOWS, LogMel(), embed, clip)) for clip in clips])
        card = HeadCard(
            parts=tuple(parts),
            thresholds=Thresholds(decision=1.0, alarm=2.0),
            clips=len(clips),
            level_dbfs=(-40.0, -30.0),
        )
        waveform = (clips[0] * 32_767).astype(np.int16)
        listener = Listener(WINDOWS, LogMel(), head, 2.0, embed)
        heads[key], cards[key], golden[key] = head, card, Golden(waveform, golden_scores(listener, waveform))
    manifest = Manifest(
        name="noise",
        version="1",
        created="2025-01-01",
        method="statistics",
        licence="test",
        windows=WINDOWS,
        front_end=LogMel(),
        backbone=graph is not None,
        heads=cards,
        metrics={"int8_moved_z": 0.01},
    )
    write_bundle(path, manifest, {"int8": graph} if graph else {}, heads, golden, "# noise\n")
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


def test_an_attribute_that_training_never_saw_changes_no_score(data: Path, path: Path, tmp_path: Path) -> None:
    for old in (data / "a/fan/test").iterdir():
        new = tmp_path / "a/fan/test" / f"{old.stem}_spd_99V{old.suffix}"
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(old.read_bytes())
    evaluate(path, [data], tmp_path / "known")
    evaluate(path, [tmp_path / "a/fan"], tmp_path / "strange")

    known, strange = (
        rows(tmp_path / kind / "a/anomaly_score_fan_section_00_test.csv") for kind in ("known", "strange")
    )
    assert {name.replace("_spd_99V", ""): score for name, score in strange} == dict(known)


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


def test_a_set_ends_with_its_official_score(data: Path, path: Path, tmp_path: Path) -> None:
    evaluation = evaluate(path, [data / "a"], tmp_path)
    result = table(tmp_path / "a/result.csv")
    figure = evaluation.overall[FUSED]
    assert float(result["official score"]["omega (fused)"]) == pytest.approx(figure.value, abs=1e-8)
    for kind, interval in (
        ("bootstrap by clip", figure.by_clip),
        ("bootstrap by recording", figure.by_recording),
        ("jackknife by clip", figure.jackknife_by_clip),
        ("jackknife by recording", figure.jackknife_by_recording),
    ):
        written = [float(result["official score"][f"omega {end} % {kind}"]) for end in ("2.5", "97.5")]
        assert written == pytest.approx([interval.low, interval.high], abs=1e-8)
    scored = [one for section in evaluation.sections for one in section.scored]
    ci95 = official_ci95(
        np.array([one.verdict.score for one in scored]), np.array([one.clip.label == "anomaly" for one in scored])
    )
    assert float(result["official score ci95"]["omega (fused)"]) == pytest.approx(ci95)


def test_no_mean_is_taken_of_intervals_or_thresholds(data: Path, path: Path, tmp_path: Path) -> None:
    evaluate(path, [data / "a"], tmp_path)
    result = table(tmp_path / "a/result.csv")
    assert result["fan"]["decision threshold"] == "1"
    for mean in ("arithmetic mean", "harmonic mean"):
        empty = {name for name, cell in result[mean].items() if not cell} - {"machine"}
        assert empty == {name for name in result[mean] if " % " in name or name == "decision threshold"}


def test_sections_are_drawn_again_independently(data: Path, path: Path) -> None:
    twice = evaluate(path, [data / "a"]), evaluate(path, [data / "a"])
    assert twice[0].overall == twice[1].overall
    first, second = (section.judgements[FUSED].replicates.by_clip["pauc"] for section in twice[0].sections)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15


# The years ------------------------------------------------------------------------------------------------------------


def test_in_2020_files_are_named_by_identity_and_machines_are_averaged(data: Path, tmp_path: Path) -> None:
    machine(tmp_path / "data/a/fan", seed=4)
    machine(tmp_path / "data/a/fan", seed=5, section="02")
    machine(tmp_path / "data/a/pump", seed=6)
    one = bundle(tmp_path / "one.asd", data, "a/fan/00")
    evaluation = evaluate(one, [tmp_path / "data"], tmp_path / "out", head="a/fan/00", protocol="2020")

    kinds, machines = ("anomaly_score", "decision_result"), ("fan_id_00", "fan_id_02", "pump_id_00")
    expected = {f"{kind}_{name}.csv" for kind in kinds for name in machines} | {"result.csv"}
    assert {file.name for file in (tmp_path / "out/a").iterdir()} == expected
    means = []
    for section in evaluation.sections:
        truth = [one.clip.label == "anomaly" for one in section.scored]
        scores = [one.verdict.score for one in section.scored]
        means.append((roc_auc_score(truth, scores) + roc_auc_score(truth, scores, max_fpr=0.1)) / 2)
    by_machine = np.mean([means[0], means[1]]), means[2]
    assert evaluation.omega[FUSED] == pytest.approx(np.mean(by_machine))
    result = [row for row in rows(tmp_path / "out/a/result.csv") if row[1] == "average"]
    column = rows(tmp_path / "out/a/result.csv")[0].index("omega (fused)")
    assert [(row[0], float(row[column])) for row in result] == [
        ("fan", pytest.approx(by_machine[0], abs=1e-8)),
        ("pump", pytest.approx(by_machine[1], abs=1e-8)),
    ]
    assert float(table(tmp_path / "out/a/result.csv")["arithmetic mean"]["omega (fused)"]) == pytest.approx(
        np.mean(by_machine), abs=1e-8
    )


def test_in_2021_a_domain_is_judged_by_its_own_anomalies(data: Path, path: Path, tmp_path: Path) -> None:
    evaluation = evaluate(path, [data / "a"], tmp_path, protocol="2021")
    for section in evaluation.sections:
        expected = []
        for domain in ("source", "target"):
            inside = [one for one in section.scored if one.clip.domain == domain]
            truth, scores = [one.clip.label == "anomaly" for one in inside], [one.verdict.score for one in inside]
            expected += [roc_auc_score(truth, scores, max_fpr=limit) for limit in (None, 0.1)] if inside else []
        assert section.judgements[FUSED].terms == pytest.approx(expected)
    assert "official score ci95" not in table(tmp_path / "a/result.csv")


# What a report is made from -------------------------------------------------------------------------------------------


def test_a_line_a_clip_holds_all_that_was_said_of_it(data: Path, path: Path, tmp_path: Path) -> None:
    evaluation = evaluate(path, [data], tmp_path)
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    scored = [(section.key, one) for section in evaluation.sections for one in section.scored]
    assert len(written) == len(scored)
    for row, (key, one) in zip(written, scored, strict=True):
        assert (row["key"], row["file"], row["domain"]) == (key, one.clip.path.name, one.clip.domain)
        assert (row["label"], row["recording"]) == (one.clip.label, one.clip.recording)
        assert (row["attribute"], row["decision"]) == (one.clip.attribute, str(int(one.anomalous)))
        assert float(row["score"]) == one.verdict.score
        assert {name[2:]: float(z) for name, z in row.items() if name.startswith("z_")} == {
            part.name: part.z for part in one.verdict.parts
        }


def test_the_summary_says_how_everything_was_judged(data: Path, path: Path, tmp_path: Path) -> None:
    evaluation = evaluate(path, [data], tmp_path)
    summary = json.loads((tmp_path / "result.json").read_text())
    assert (summary["protocol"], summary["oracle"], summary["precision"]) == ("2022", False, "int8")
    assert (summary["bundle"]["precision"], summary["bundle"]["metrics"]) == ("int8", {"int8_moved_z": 0.01})
    assert summary["overall"] == {name: asdict(figure) for name, figure in evaluation.overall.items()}
    assert {head: limits["decision"] for head, limits in summary["thresholds"].items()} == dict.fromkeys(KEYS, 1.0)
    assert {limits["alarm"] for limits in summary["thresholds"].values()} == {2.0}
    fan = summary["sections"][0]["judgements"][FUSED]
    assert set(fan["omega"]) == {
        *("value", "by_clip", "by_recording", "jackknife_by_clip", "jackknife_by_recording"),
    }
    assert summary["sections"][1]["judgements"][FUSED]["auc_target"] is None


def test_what_was_chosen_on_test_labels_is_marked_wherever_it_is_shown(data: Path, path: Path, tmp_path: Path) -> None:
    honest, oracle = evaluate(path, [data / "a"]), evaluate(path, [data / "a"], tmp_path, oracle=True)
    assert json.loads((tmp_path / "result.json").read_text())["oracle"] is True
    assert "official score, oracle" in table(tmp_path / "a/result.csv")
    assert "oracle" not in shown(honest)
    tables = [line for line in shown(oracle).splitlines() if line.startswith(("a/", "over all machines"))]
    assert len(tables) == 3
    assert all("oracle" in line for line in tables)


@pytest.mark.train
def test_embeddings_are_means_over_segments_of_unit_vectors(data: Path, tmp_path: Path) -> None:
    one = bundle(tmp_path / "one.asd", data, "a/fan/00", graph=network())
    evaluate(one, [data / "a/fan"], tmp_path / "out")
    with np.load(tmp_path / "out/embeddings.npz", allow_pickle=False) as written:
        arrays = dict(written)
    clips = [clip for clip in scan([data / "a/fan"]) if clip.split == "test"]
    assert arrays["embedding"].dtype == np.float32
    assert arrays["embedding"].shape == (len(clips), LogMel().n_mels)
    for name, expected in (
        ("key", ["a/fan/00"] * len(clips)),
        ("file", [clip.path.name for clip in clips]),
        ("domain", [clip.domain for clip in clips]),
        ("label", [clip.label for clip in clips]),
        ("split", ["test"] * len(clips)),
    ):
        assert arrays[name].tolist() == expected
    for clip, embedding in zip(clips[:4], arrays["embedding"], strict=False):
        samples = load(clip, 16_000)
        samples = np.resize(samples, max(samples.size, WINDOWS.segment))
        segments = [samples[start : start + WINDOWS.segment] for start in WINDOWS.starts(samples.size)]
        means = [log_mel(LogMel(), segment[None])[0].mean(axis=-1) for segment in segments]
        unit = np.mean([row / np.linalg.norm(row) for row in means], axis=0)
        np.testing.assert_allclose(embedding, unit, atol=1e-5)


@pytest.mark.train
def test_a_bundle_without_a_network_leaves_no_embeddings_of_an_earlier_one(
    data: Path, path: Path, tmp_path: Path
) -> None:
    one = bundle(tmp_path / "one.asd", data, "a/fan/00", graph=network())
    evaluate(one, [data / "a/fan"], tmp_path / "out")
    assert (tmp_path / "out/embeddings.npz").exists()
    evaluate(path, [data / "a/fan"], tmp_path / "out")
    assert not (tmp_path / "out/embeddings.npz").exists()


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
    expected = ["a/result.csv", "b/result.csv", "result.json", "scores.csv"]
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
    assert "decisions: above 1, 90 % of a gamma (official)" in text
    counted = next(line for line in text.splitlines() if line.startswith("source")).split()
    said = evaluation.sections[0].source
    assert counted[1:4] == [f"{100 * share:.1f}" for share in (said.precision, said.recall, said.f1)]
    total = text[text.index("over all machines (2)") :].splitlines()
    assert next(line for line in total if line.startswith(FUSED)).split()[1] == f"{100 * evaluation.omega[FUSED]:.2f}"
    assert "DCASE 2022 and later" in total[-1]
    assert not set(text) & set("\x1b─│┃…")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_tables_fit_a_terminal_of_a_hundred_columns(data: Path, path: Path, protocol: Protocol) -> None:
    out = io.StringIO()
    evaluation = evaluate(path, [data], protocol=protocol, oracle=True)
    show(evaluation, Console(file=out, force_terminal=True, color_system=None, width=100))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in out.getvalue()
    heads = [line for line in lines if "by clip" in line]
    assert len(heads) == 3  # two machines and all of them: no row was broken in two
    assert all(line.count("by clip") == line.count("by rec.") == 2 for line in heads)


def test_progress_is_shown_only_where_it_is_wanted(data: Path, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evaluate(path, [data])
    assert capfd.readouterr() == ("", "")
    out = io.StringIO()
    evaluate(path, [data], console=Console(file=out, force_terminal=True))
    assert "scoring" in out.getvalue()


def test_nothing_depends_on_the_order_of_the_folders(data: Path, path: Path) -> None:
    forth, back = (evaluate(path, folders) for folders in ([data / "a", data / "b"], [data / "b", data / "a"]))
    assert replace(forth, bundle=back.bundle) == back
