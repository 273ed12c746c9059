"""Reports of constructed runs: every number in a table is computed again here, from the same clips."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score, roc_curve

from edge_asd.errors import ConfigError
from train.compare import comparison, plot
from train.compare.outcome import load_outcome
from train.compare.page import markdown
from train.compare.probe import place, probe
from train.compare.report import page, report
from train.compare.system import ORACLE, systems_of
from train.judge.published import COLUMNS, PEERS, ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from train.compare.comparison import Table
    from train.compare.system import System

pytestmark = pytest.mark.train

ROOT = Path(__file__).parents[3]
KEYS = ("rendered/fan/00", "rendered/valve_2/00")
PER_KIND = 12
KINDS = [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")]
TERMS = ("auc_source", "auc_target", "pauc")
PARTS = [
    {"name": "indicators", "feature": "indicators", "backend": "mahalanobis"},
    {"name": "network", "feature": "embedding", "backend": "density"},
]


# Runs, written --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """What a run folder is to hold."""

    seed: int = 0
    method: str = "grhd"
    variant: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    keys: Sequence[str] = KEYS
    oracle: bool = False
    protocol: str = "2022"
    network: bool = True


def figures(score: NDArray[np.float64], target: NDArray[np.bool_], anomaly: NDArray[np.bool_]) -> dict[str, float]:
    """The official metrics, as scikit-learn has them."""
    found = {"pauc": roc_auc_score(anomaly, score, max_fpr=0.1)}
    for name, domain in (("source", ~target), ("target", target)):
        used = domain | anomaly
        found[f"auc_{name}"] = roc_auc_score(anomaly[used], score[used])
    return {**found, "omega": hmean([found[term] for term in TERMS])}


def around(value: float) -> dict[str, Any]:
    """A figure with intervals."""
    return {
        "value": value,
        "by_clip": {"low": value - 0.05, "high": value + 0.03},
        "by_recording": {"low": value - 0.11, "high": value + 0.07},
        "jackknife_by_clip": None,
    }


def write_run(folder: Path, wish: Wish) -> dict[str, dict[str, dict[str, float]]]:
    """A run folder, fitted and evaluated; its metrics by machine and score."""
    rng = np.random.default_rng(wish.seed)
    domain, label = (np.repeat([kind[i] for kind in KINDS], PER_KIND) for i in (0, 1))
    target, anomaly = domain == "target", label == "anomaly"
    truth, rows = {}, []
    for key in wish.keys:
        scores = {name: rng.normal(0, 1, target.size) + 1.2 * anomaly for name in ("fused", "indicators", "network")}
        truth[key] = {name: figures(score, target, anomaly) for name, score in scores.items()}
        rows += [
            {
                "key": key,
                "file": f"{i:04d}.wav",
                "domain": domain[i],
                "label": label[i],
                "recording": f"r{i}",
                "attribute": "",
                "score": scores["fused"][i],
                "decision": int(scores["fused"][i] > 0.8),
            }
            for i in range(target.size)
        ]
    write_evaluation(folder / "evaluation", wish, truth, rows)
    if wish.network:
        write_embeddings(folder / "evaluation/embeddings.npz", rows, rng)
    recipe = {"method": wish.method, "variant": wish.variant, "preset": "edge", "seed": wish.seed, "parts": PARTS}
    recipe |= {"training": {"epochs": 3}}
    config = {"recipe": {**recipe, "settings": wish.settings, "fusion": {"rule": "mean", "weights": {}}}, "data": []}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "provenance.json").write_text(json.dumps({"commit": 40 * "c", "data_digest": 64 * "d", "clips": 44}))
    epochs = [
        {"epoch": n, "loss": 3 - n / 2, "held_loss": 3.5 - n / 2, "l_rev": 2.0, "seconds": 20.0} for n in range(3)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    return truth


def write_evaluation(folder: Path, wish: Wish, truth: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    names = ("fused", "indicators", "network")
    omega = {name: hmean([truth[key][name][term] for key in wish.keys for term in TERMS]) for name in names}
    metrics = {"parameters": 1_379_386, "macs": 168.1e6, "layers": 20, "float_layers": 5, "int8_ms": 3.64}
    result = {
        "bundle": {"name": "b", "method": wish.method, "digest": 64 * "b", "metrics": metrics if wish.network else {}},
        "precision": "int8",
        "protocol": wish.protocol,
        "oracle": wish.oracle,
        "omega": omega,
        "overall": {name: around(value) for name, value in omega.items()},
        "thresholds": {key: {"decision": 0.8, "alarm": 4.0} for key in wish.keys},
        "sections": [
            {
                "key": key,
                "head": key,
                "clips": len(rows),
                "scorable": True,
                "judgements": {name: {m: around(v) for m, v in truth[key][name].items()} for name in names},
            }
            for key in wish.keys
        ],
    }
    (folder / "result.json").write_text(json.dumps(result))
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_embeddings(path: Path, rows: list[dict[str, Any]], rng: np.random.Generator) -> None:
    """Section and domain are plain in it."""
    words = {name: np.array([row[name] for row in rows]) for name in ("key", "file", "domain", "label")}
    embedding = rng.normal(0, 0.1, (len(rows), 8)).astype(np.float32)
    embedding[:, 0] += words["key"] == KEYS[0]
    embedding[:, 1] += words["domain"] == "target"
    arrays = {"embedding": embedding, "split": np.full(len(rows), "test"), **words}
    with zipfile.ZipFile(path, "w") as archive:  # np.savez knows no array called file
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(f"{name}.npy", member.getvalue())


def opened(*folders: Path) -> tuple[System, ...]:
    return systems_of(map(load_outcome, folders))


def cells(table: Table, *leading: str) -> dict[str, str]:
    """Column -> cell of the row that begins so."""
    (row,) = (row for row in table.rows if row.cells[: len(leading)] == leading)
    return dict(zip(table.columns, row.cells, strict=True))


def percent(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of one recipe, one without reversal that was chosen on test clips, and one without a network."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", Wish(seed=0))
    write_run(folder / "b", Wish(seed=1))
    write_run(folder / "without", Wish(seed=2, settings={"reversal": False}, oracle=True))
    write_run(folder / "plain", Wish(seed=3, method="statistics", network=False))
    return folder


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    report([folder / name for name in ("a", "b", "without")], out, out / "results.md", Progress(disable=True))
    return out


# Tables ---------------------------------------------------------------------------------------------------------------


def test_seeds_of_a_recipe_are_one_row_of_mean_and_spread(tmp_path: Path) -> None:
    truth = [write_run(tmp_path / str(seed), Wish(seed=seed)) for seed in range(3)]
    systems = opened(*(tmp_path / str(seed) for seed in range(3)))

    for table, key in zip(comparison.by_machine(systems), KEYS, strict=True):
        for name, evidence in (("fused", "fused"), ("network", "network, alone")):
            row = cells(table, "grhd", evidence)
            for metric, column in (("auc_source", "AUC source"), ("auc_target", "AUC target"), ("pauc", "pAUC")):
                assert row[column] == percent([run[key][name][metric] for run in truth])
            assert row["Ω"] == percent([run[key][name]["omega"] for run in truth])
    assert len(systems) == 1


def test_omega_over_all_machines_has_both_intervals(tmp_path: Path) -> None:
    truth = [write_run(tmp_path / str(seed), Wish(seed=seed)) for seed in range(2)]
    omegas = [hmean([run[key]["network"][term] for key in KEYS for term in TERMS]) for run in truth]

    row = cells(comparison.overall(opened(tmp_path / "0", tmp_path / "1")), "grhd", "network, alone")

    assert row["back end"] == "embedding, density"
    assert (row["runs"], row["machines"]) == ("2", "2")
    assert row["Ω"] == percent(omegas)
    assert row["by clip"] == f"[{100 * np.mean(omegas) - 5:.0f}, {100 * np.mean(omegas) + 3:.0f}]"
    assert row["by recording"] == f"[{100 * np.mean(omegas) - 11:.0f}, {100 * np.mean(omegas) + 7:.0f}]"


def test_at_a_glance_ours_are_harmonic_means_over_machines(tmp_path: Path) -> None:
    truth = write_run(tmp_path / "run", Wish())

    row = cells(comparison.glance(opened(tmp_path / "run")), "ours", "grhd")

    assert row["AUC target"] == f"{100 * hmean([truth[key]['fused']['auc_target'] for key in KEYS]):.1f}"
    assert row["Ω"] == f"{100 * hmean([truth[key]['fused'][term] for key in KEYS for term in TERMS]):.1f}"


def test_published_rows_say_that_they_are_of_other_data() -> None:
    for table in comparison.published():
        assert "Other data than ours" in table.note
    glance = comparison.glance(())
    assert {row.cells[0] for row in glance.rows} == {"published"}
    jless = next(row for row in ROWS if row.system == "JLESS")
    assert cells(glance, "published", "JLESS")["AUC source"] == f"{jless.total.source:.2f}"
    assert cells(glance, "published", "JLESS")["data"] == "DCASE 2022 development"


def test_a_published_system_that_was_chosen_on_its_test_clips_is_marked_too() -> None:
    glance, first, _ = comparison.glance(()), *comparison.published()
    for named in ([row.cells[1] for row in glance.rows], first.columns):
        assert f"GRHD {ORACLE}" in named
        assert "GRHD" not in named


def test_published_tables_hold_every_cell_that_was_printed() -> None:
    first, second = comparison.published()
    for row in ROWS:
        column = first.columns.index(row.system if row.system != "GRHD" else f"GRHD {ORACLE}")
        said = {line.cells[0]: line.cells[column] for line in first.rows}
        assert {m: said[m] for m in row.machines} == {m: f"{v.auc:.2f} / {v.pauc:.2f}" for m, v in row.machines.items()}
        assert said["Ω"] == f"{row.omega:.2f}"
        assert said["all: AUC target"] == (f"{row.total.target:.2f}" if row.total else "–")
    for number, one in enumerate(COLUMNS, 1):
        said = {line.cells[0]: line.cells[number] for line in second.rows}
        machines = {m: f"{v.source:.2f} / {v.target:.2f} / {v.pauc:.2f}" for m, v in one.machines.items()}
        assert said == {**machines, "Ω": f"{one.omega:.2f}"}


def test_others_stand_beside_ours_on_the_same_recordings_only(tmp_path: Path) -> None:
    keys = ("valve/valve/00", "bldc/bldc_motor/00", "bldc/bldc_motor/01")
    truth = write_run(tmp_path / "run", Wish(keys=keys))

    table = comparison.beside_peers(opened(tmp_path / "run"))

    assert table is not None
    assert table.columns == ("whose", "system", "valve", "bldc")
    ours = cells(table, "ours", "grhd: fused")
    omega = 100 * truth[keys[0]]["fused"]["omega"]
    assert ours["valve"] == f"{omega:.1f} [{omega - 5:.0f}, {omega + 3:.0f}]"
    assert ours["bldc"] == f"{100 * hmean([truth[key]['fused'][term] for key in keys[1:] for term in TERMS]):.1f}"
    assert {row.cells[1] for row in table.rows if row.cells[0] == "others'"} == set(PEERS)
    assert cells(table, "others'", "crest factor, nearest")["valve"] == "96 [93, 99]"


def test_there_is_no_table_of_others_where_they_were_not_measured(folder: Path) -> None:
    assert comparison.beside_peers(opened(folder / "a")) is None


def test_costs_are_those_of_the_bundle_and_the_log(folder: Path) -> None:
    row = cells(comparison.cost(opened(folder / "a", folder / "b", folder / "plain")), "grhd")
    assert row["parameters"] == "1.38 M"
    assert row["MACs"] == "168 M"
    assert row["training"] == "1.0 ± 0.0 min"
    assert row["int8 latency"] == "3.6 ms"
    assert row["layers in int8"] == "75 %"


def test_every_table_marks_what_was_chosen_on_test_clips(folder: Path) -> None:
    systems = opened(folder / "a", folder / "without")
    tables = comparison.glance(systems), comparison.overall(systems), comparison.cost(systems), comparison.runs(systems)
    for table in (*tables, *comparison.by_machine(systems)):
        ours = [cell for row in table.rows for cell in row.cells if cell.startswith("grhd, settings")]
        assert ours
        assert all(cell.endswith(ORACLE) for cell in ours)


def test_another_protocol_is_never_mixed_with_the_official_one(tmp_path: Path) -> None:
    write_run(tmp_path / "a", Wish())
    write_run(tmp_path / "b", Wish(protocol="2020"))
    systems = opened(tmp_path / "a", tmp_path / "b")

    tables = comparison.by_machine(systems)

    assert [table.title for table in tables[2:]] == [f"{key}, protocol of DCASE 2020" for key in KEYS]
    assert all(len({row.cells[0] for row in table.rows}) == 1 for table in tables)
    assert cells(comparison.glance(systems), "ours", systems[1].label)["AUC source"] == "–"


# Systems --------------------------------------------------------------------------------------------------------------


def test_a_setting_that_differs_is_in_the_name(folder: Path) -> None:
    labels = [system.label for system in opened(folder / "a", folder / "b", folder / "without", folder / "plain")]
    assert labels == ["grhd", f"grhd, settings.reversal=false {ORACLE}", "statistics"]


def test_variants_of_a_method_are_systems_with_names_of_their_own(tmp_path: Path) -> None:
    for seed, variant in enumerate(("", "two", "two")):
        write_run(tmp_path / str(seed), Wish(seed=seed, variant=variant, settings={"branches": [variant]}))
    systems = opened(*(tmp_path / str(seed) for seed in range(3)))
    assert {system.label: len(system.outcomes) for system in systems} == {"grhd": 1, "grhd-two": 2}


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["0.1", "0.3"]), st.booleans()), min_size=1, max_size=8))
def test_every_run_is_in_one_system_and_every_system_has_a_name_of_its_own(
    folder: Path, wishes: list[tuple[int, str, bool]]
) -> None:
    one = load_outcome(folder / "a")
    assert one.making is not None
    outcomes = [
        replace(
            one,
            name=f"run {number}",
            making=replace(one.making, seed=seed, traits={"settings.alpha": alpha}) if known else None,
        )
        for number, (seed, alpha, known) in enumerate(wishes)
    ]

    systems = systems_of(outcomes)

    assert sorted(o.name for system in systems for o in system.outcomes) == sorted(o.name for o in outcomes)
    assert len({system.label for system in systems}) == len(systems)


def ensembles(folder: Path, *weights: float) -> tuple[System, ...]:
    """Evaluations that lie beside no run, of ensembles that weigh their network so."""
    for number, weight in enumerate(weights):
        write_run(folder / f"{number}", Wish(seed=number, method="both"))
        place = folder / f"{number}" / "evaluation"
        result = json.loads((place / "result.json").read_text())
        members = {"indicators": 3.0, "network": weight}
        parts = {"indicators": "indicators, mahalanobis", "network": "oevae.embedding, nearest"}
        result["bundle"] |= {"members": members, "parts": parts, "rule": "mean"}
        result["bundle"]["metrics"]["memory_mb"] = 94.2
        (place / "result.json").write_text(json.dumps(result))
        place.rename(folder / f"evaluation-{number}")
    return opened(*(folder / f"evaluation-{number}" for number in range(len(weights))))


def test_an_ensemble_is_a_row_of_its_own_with_its_members_and_costs(tmp_path: Path) -> None:
    systems = ensembles(tmp_path, 1.0, 1.0)

    row = cells(comparison.overall(systems), "both", "fused")
    assert (row["back end"], row["runs"]) == ("mean of indicators, network", "2")
    assert cells(comparison.overall(systems), "both", "network, alone")["back end"] == "oevae.embedding, nearest"
    cost = cells(comparison.cost(systems), "both")
    assert (cost["parameters"], cost["int8 latency"], cost["memory"]) == ("1.38 M", "3.6 ms", "94 MB")
    assert systems[0].first.missing == ()


def test_ensembles_that_weigh_otherwise_are_others(tmp_path: Path) -> None:
    systems = ensembles(tmp_path, 1.0, 0.0)

    assert [system.label for system in systems] == ["both, weights.network=1", "both, weights.network=0"]
    assert cells(comparison.overall(systems), systems[1].label, "fused")["back end"] == "mean of indicators"
    assert cells(comparison.overall(systems), systems[1].label, "network, alone (not fused)")["Ω"]


def test_a_run_named_twice_counts_once(folder: Path, tmp_path: Path) -> None:
    report([folder / "a", folder / "b/../a"], None, tmp_path / "results.md", Progress(disable=True))
    ours = (tmp_path / "results.md").read_text().split("## Ours, by machine")[1].split("## Published")[0]
    assert "| **grhd** | **fused** " in re.sub(" +", " ", ours)
    assert "±" not in ours


# Figures --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clips() -> plot.Clips:
    rng = np.random.default_rng(5)
    anomaly, target = np.arange(60) % 3 == 0, np.arange(60) % 2 == 0
    score = np.round(rng.normal(0, 1, 60) + anomaly, 1)  # with ties
    return plot.Clips("one", score, anomaly, target, 0.7)


@pytest.mark.parametrize("domain", ["source", "target"])
def test_the_roc_is_scikit_learns_of_a_domains_normals_and_all_anomalies(clips: plot.Clips, domain: str) -> None:
    used = clips.anomaly | (clips.target == (domain == "target"))
    fpr, tpr, _ = roc_curve(clips.anomaly[used], clips.score[used], drop_intermediate=False)

    (axes,) = plot.rocs([clips]).axes
    (line,) = (line for line in axes.lines if line.get_gid() == domain)

    np.testing.assert_array_equal(line.get_xydata(), np.column_stack([fpr, tpr]))
    assert f"AUC {100 * roc_auc_score(clips.anomaly[used], clips.score[used]):.1f}" in line.get_label()


def test_the_corner_of_the_pauc_is_shaded(clips: plot.Clips) -> None:
    (corner,) = plot.rocs([clips]).axes[0].patches
    assert (corner.get_x(), corner.get_width()) == (0, 0.1)


@pytest.mark.parametrize("scale", [1.0, 500.0])
def test_a_histogram_counts_every_clip_once(clips: plot.Clips, scale: float) -> None:
    clips = replace(clips, score=clips.score * scale)

    for axes, target in zip(plot.histograms([clips]).axes, (False, True), strict=True):
        counts = {"normal": 0.0, "anomaly": 0.0}
        for patch in axes.patches:
            corners = patch.get_xy() if patch.get_gid() == "anomaly" else None
            if corners is None:
                counts["normal"] += patch.get_height()
            else:  # an outline: two corners a bin
                counts["anomaly"] += corners[1 : 2 * plot.BINS + 1 : 2, 1].sum()
        for name, kind in (("normal", ~clips.anomaly), ("anomaly", clips.anomaly)):
            assert counts[name] == (kind & (clips.target == target)).sum()
        assert list(axes.lines[0].get_xdata()) == [0.7, 0.7]


def test_learning_curves_show_both_sides_and_the_loss_of_knowing_nothing(folder: Path) -> None:
    loss, reversed_loss = plot.learning([load_outcome(folder / "a").log], 1.25).axes
    assert {line.get_gid(): list(line.get_ydata()) for line in loss.lines} == {
        "loss": [3.0, 2.5, 2.0],
        "held_loss": [3.5, 3.0, 2.5],
    }
    assert [list(line.get_ydata()) for line in reversed_loss.lines if line.get_gid() == "ignorance"] == [[1.25, 1.25]]


def test_the_loss_of_knowing_nothing_comes_from_the_checkpoint(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Wish(settings={"focal_gamma": 3.0}))
    torch.save({"task": {"sizes": (7, 7, 7, 7)}}, tmp_path / "run/checkpoint.pt")
    assert load_outcome(tmp_path / "run").ignorance == pytest.approx(math.log(4) * 0.75**3)


def test_maps_stand_side_by_side_in_two_and_three_dimensions() -> None:
    section = np.array(["a", "b"] * 20)
    one = plot.Map("one", np.zeros((40, 2)), np.zeros((40, 3)), section, np.arange(40) % 4 > 1, np.arange(40) % 8 > 3)

    axes = plot.maps([one, replace(one, system="two")]).axes

    assert sorted(a.name for a in axes) == ["3d", "3d", "rectilinear", "rectilinear"]
    assert all(len(a.collections) == 8 for a in axes)  # section, domain, label: never by colour alone
    assert {a.get_title() for a in axes} == {"one", "two", ""}


# Embeddings -----------------------------------------------------------------------------------------------------------


def test_a_probe_reads_what_is_there_and_guesses_what_is_not() -> None:
    rng = np.random.default_rng(0)
    classes, recording = np.repeat(["source", "target"], 100), np.arange(200).astype(str)
    noise = rng.normal(0, 1, (200, 4)).astype(np.float32)
    plain = noise + 6 * (classes == "target")[:, None]

    assert probe(plain, classes, recording).accuracy > 0.98
    assert probe(noise, classes, recording).accuracy == pytest.approx(0.5, abs=0.12)
    assert probe(noise, classes, recording).chance == 0.5


def test_a_probe_is_not_asked_about_recordings_that_it_has_heard() -> None:
    """Clips of a recording are one point; nothing else tells the classes apart."""
    rng = np.random.default_rng(1)
    number = np.repeat(np.arange(20), 10)
    embedding = np.eye(20, dtype=np.float32)[number]
    classes = np.array(["source", "target"])[rng.permutation(20) % 2][number]

    assert probe(embedding, classes, np.arange(200).astype(str)).accuracy > 0.98
    assert probe(embedding, classes, number.astype(str)).accuracy < 0.7


def test_there_is_no_probe_without_two_recordings_of_two_classes() -> None:
    embedding = np.zeros((6, 2), np.float32)
    assert probe(embedding, np.full(6, "source"), np.arange(6).astype(str)) is None
    assert probe(embedding, np.array(["source"] * 5 + ["target"]), np.arange(6).astype(str)) is None
    assert probe(embedding, np.array(["source"] * 3 + ["target"] * 3), np.array(["a"] * 3 + ["b"] * 3)) is None


@pytest.mark.parametrize("axes", [2, 3])
def test_a_map_is_the_same_every_time_and_keeps_neighbours(axes: int) -> None:
    embedding = np.random.default_rng(2).normal(0, 0.1, (40, 8)).astype(np.float32)
    embedding[20:] += 5

    placed = place(embedding, axes)

    np.testing.assert_array_equal(placed, place(embedding, axes))
    assert placed.shape == (40, axes)
    distance = np.linalg.norm(placed[:, None] - placed[None], axis=2) + np.diag(np.full(40, np.inf))
    assert (distance.argmin(axis=1) // 20 == np.arange(40) // 20).all()


def test_a_map_of_too_few_points_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 5 points, got 4"):
        place(np.zeros((4, 8), np.float32), 2)


def test_what_the_embeddings_know_is_in_the_table(written: Path) -> None:
    chapter = (written / "results.md").read_text().split("## What the embeddings know")[1].split("##")[0]
    assert re.findall(r"\| grhd\b.*", re.sub(" +", " ", chapter)) == [
        "| grhd | 100.0 | 50.0 | 100.0 | 50.0 |",
        f"| grhd, settings.reversal=false {ORACLE} | 100.0 | 50.0 | 100.0 | 50.0 |",
    ]


# Pages ----------------------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Checks that every element is closed where it should be, and keeps words and attributes."""

    VOID = frozenset({"meta", "img", "br", "hr", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opened."""
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Closed."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Words."""
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def read(written: Path) -> Reader:
    reader = Reader()
    reader.feed((written / "report.html").read_text())
    reader.close()
    return reader


def test_the_page_is_whole_and_needs_nothing_else(read: Reader) -> None:
    assert not read.open
    assert not read.all("script")
    assert not read.all("link")
    assert all(image["src"].startswith("data:image/png;base64,") for image in read.all("img"))
    assert not re.search(r"https?://|url\(", (read.words))
    targets = {attributes["id"] for _, attributes in read.elements if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in read.all("a")} == targets


def test_every_machine_is_named_and_every_picture_is_described(read: Reader) -> None:
    alts = [image["alt"] for image in read.all("img")]
    for key in KEYS:
        assert key in read.words
        assert any(alt.startswith(f"Histograms of the scores of {key}.") for alt in alts)
        assert any(alt.startswith(f"ROC of {key} by domain.") for alt in alts)
    assert sum(alt.startswith("Learning curves of grhd") for alt in alts) == 2
    assert sum(alt.startswith("Embeddings of the test clips") for alt in alts) == 1
    assert len(set(alts)) == len(alts)
    assert len(read.all("figcaption")) == len(alts)
    assert {scope for attributes in read.all("th") if (scope := attributes.get("scope"))} == {"col", "row"}


def test_names_are_no_markup(folder: Path, tmp_path: Path) -> None:
    one = load_outcome(folder / "plain")
    systems = systems_of([replace(one, name="<script>*x*</script>", making=None)])
    assert "\\<script>\\*x\\*\\</script>" in markdown(page(systems, ()), pictures=False)

    copy = tmp_path / "<b>"
    write_run(copy, Wish(network=False))
    report([copy], tmp_path / "out", None, Progress(disable=True))
    text = (tmp_path / "out/report.html").read_text()
    assert "&lt;b&gt;" in text
    assert "<b>" not in text


def tables(text: str) -> list[list[str]]:
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


@pytest.mark.parametrize("name", ["results.md", "report.md"])
def test_columns_of_markdown_tables_line_up(written: Path, name: str) -> None:
    found = tables((written / name).read_text())
    assert len(found) >= 8
    for table in found:
        assert len({tuple(m.start() for m in re.finditer(r"(?<!\\)\|", line)) for line in table}) == 1
        assert re.fullmatch(r"\|( :-+ \|| -+: \|)+", table[1])


def test_markdown_has_its_pictures_beside_it_and_the_tables_alone_have_none(written: Path) -> None:
    named = re.findall(r"!\[[^\n]+\]\((\S+)\)", (written / "report.md").read_text())
    assert sorted(named) == sorted(path.name for path in written.glob("*.png"))
    assert all((written / name).read_bytes().startswith(b"\x89PNG") for name in named)
    assert "![" not in (written / "results.md").read_text()
    assert not [path.name for path in written.iterdir() if path.name.startswith(".")]


def test_the_same_runs_give_the_same_page(folder: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "a", tmp_path / "b"):
        report([folder / "plain"], out, None, Progress(disable=True))
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()


# What is not there ----------------------------------------------------------------------------------------------------


EVALUATE = "python -m train evaluate b.asd --data DIR --out"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("evaluation/scores.csv", EVALUATE),
        ("evaluation/embeddings.npz", EVALUATE),
        ("log.jsonl", "only train fit writes it"),
        ("provenance.json", "commit and training data are unknown"),
        ("config.json", "recipe, back ends and seed are unknown"),
    ],
)
def test_what_a_folder_lacks_is_told_in_one_line(tmp_path: Path, name: str, said: str) -> None:
    write_run(tmp_path / "run", Wish())
    assert load_outcome(tmp_path / "run").missing == ()
    (tmp_path / "run" / name).unlink()

    (line,) = load_outcome(tmp_path / "run").missing

    assert line.startswith(f"run: no {Path(name).name}, so ")
    assert said in line


def test_without_its_files_a_chapter_is_left_out_and_the_rest_stays(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Wish())
    for name in ("evaluation/scores.csv", "evaluation/embeddings.npz", "log.jsonl"):
        (tmp_path / "run" / name).unlink()

    report([tmp_path / "run"], tmp_path / "out", None, Progress(disable=True))

    text = (tmp_path / "out/report.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## At a glance",
        "## Ours",
        "## Ours, by machine",
        "## Published, on other data",
        "## Where it came from",
    ]
    assert text.count("run: no ") == 3
    assert all(key in text for key in KEYS)


def test_a_run_without_a_network_lacks_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Wish(method="statistics", network=False))
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["recipe"] |= {"training": None, "parts": PARTS[:1]}
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    (tmp_path / "run/log.jsonl").unlink()
    assert load_outcome(tmp_path / "run").missing == ()


def test_an_evaluation_of_an_older_version_has_a_row_without_intervals(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Wish())
    path = tmp_path / "run/evaluation/result.json"
    result = json.loads(path.read_text())
    for name in ("overall", "thresholds", "protocol", "oracle"):
        del result[name]
    path.write_text(json.dumps(result))

    report([tmp_path / "run"], tmp_path / "out", None, Progress(disable=True))

    row = cells(comparison.overall(opened(tmp_path / "run")), "grhd", "fused")
    assert row["Ω"] == f"{100 * result['omega']['fused']:.1f}"
    assert (row["by clip"], row["by recording"]) == ("–", "–")
    assert "decision threshold 0" not in (tmp_path / "out/report.md").read_text()


def test_an_evaluation_is_a_run_too(folder: Path) -> None:
    run, evaluation = load_outcome(folder / "a"), load_outcome(folder / "a/evaluation")
    assert (evaluation.name, evaluation.result, evaluation.making) == (run.name, run.result, run.making)


def test_a_folder_that_is_not_there_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"no run folder {tmp_path}/x; .*train fit RECIPE --data DIR --out"):
        report([tmp_path / "x"], tmp_path / "out", None, Progress(disable=True))


def test_a_run_that_was_not_evaluated_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nothing is evaluated in .*train export .*train evaluate .*\.asd --data DIR"
    ):
        report([tmp_path], tmp_path / "out", None, Progress(disable=True))


def test_a_report_must_go_somewhere(folder: Path) -> None:
    with pytest.raises(ConfigError, match="name --out DIR for a page with figures, --markdown FILE"):
        report([folder / "a"], None, None, Progress(disable=True))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("evaluation/result.json", "{}", "result.json: bundle: field required"),
        ("evaluation/result.json", "no", "result.json: the file: invalid json"),
        ("evaluation/scores.csv", "key,file\na,b\n", "scores.csv: no scores of clips"),
        ("evaluation/embeddings.npz", "no", "embeddings.npz: no embeddings of clips"),
        ("log.jsonl", "{", "log.jsonl: line is no JSON"),
        ("config.json", '{"recipe": {}}', "config.json: recipe.method: field required"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    write_run(tmp_path / "run", Wish())
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_outcome(tmp_path / "run")


def test_the_command_writes_the_tables_without_torch(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "train", "report", str(folder / "plain")]
    command += ["--markdown", str(tmp_path / "results.md")]

    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == [str(tmp_path / "results.md")]
    assert not re.search(r"\| +torch$", answer.stderr, re.MULTILINE)
    assert (tmp_path / "results.md").read_text().startswith("# Results\n")
