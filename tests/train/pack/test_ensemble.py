"""Bundles as one: every number that an ensemble says is computed again here, from its members."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from onnx import TensorProto, helper, load_from_string

from edge_asd.bundle import (
    Golden,
    Manifest,
    Normals,
    golden_scores,
    open_bundle,
    read_bundle,
    read_normals,
    write_bundle,
)
from edge_asd.errors import BundleError, ConfigError
from edge_asd.score.backbone import Backbone
from edge_asd.score.gaussian import BandGaussians
from edge_asd.score.head import Fusion, calibrated, fit_parts
from edge_asd.score.likelihood import AsItIs
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.neighbour import Knn
from edge_asd.score.part import STATISTICS_PARTS, Normal, PartSpec
from edge_asd.signal.segment import Block, Windows
from tests.example import COARSE, MACHINE, SECOND, noise
from tests.network import several
from train.corpus.clip import trials
from train.judge.evaluate import evaluate
from train.pack.ensemble import ensemble
from train.pack.plan import load_plan, recipes, weights_of
from train.pack.publish import Fitted, decision_threshold, head_card

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_asd.bundle import Bundle
    from edge_asd.score.detector import Backend
    from edge_asd.signal.view import LogMel

pytestmark = pytest.mark.train
ROOT = Path(__file__).parents[3]
NEAR = {PartSpec("near", "embedding", "neighbours"): Knn()}
BANDS = {
    PartSpec("far", "residual", "bands"): BandGaussians(),
    PartSpec("error", "error", "value"): AsItIs(),
    PartSpec("near", "embedding", "neighbours"): Knn(),
}
FINE = replace(COARSE, n_mels=20)
HEARD = [*range(300, 306)]
"""seeds of clips that no bundle learned of"""


def levels(view: str = "log_mel", bands: int = COARSE.n_mels) -> bytes:
    """``embedding``, the mean of each mel band over a segment."""
    given = helper.make_tensor_value_info(view, TensorProto.FLOAT, [1, bands, None])
    made = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, bands])
    nodes = [
        helper.make_node("ReduceMean", [view], ["begin"], axes=[2], keepdims=0),  # another graph has a "begin" too
        helper.make_node("Abs", ["begin"], ["embedding"]),
    ]
    body = helper.make_graph(nodes, "levels", [given], [made])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@dataclass(frozen=True)
class Wish:
    """A bundle that knows some noise."""

    method: str
    graphs: Mapping[str, bytes] | None = None
    parts: Mapping[PartSpec, Backend] | None = None
    fusion: Fusion = field(default=Fusion())
    statistics: bool = True
    clips: Sequence[int] = range(20)
    windows: Windows = SECOND
    front_end: LogMel = COARSE
    front_ends: Mapping[str, LogMel] | None = None
    keys: Sequence[str] = (MACHINE,)
    remembers: bool = True
    name: str = ""
    """of the bundle; its method's when empty"""


def bundle(folder: Path, wish: Wish) -> Path:
    """Written, as ``train export`` does."""
    parts = {**(STATISTICS_PARTS if wish.statistics else {}), **(wish.parts or {})}
    graphs, specs = wish.graphs or {}, {"": wish.front_end, **(wish.front_ends or {})}
    network = Backbone(graphs.get("int8") or graphs["fp32"], specs) if graphs else None
    clips = [noise(seed, wish.windows.clip) for seed in wish.clips]
    heard = [Normal(evidence(wish.windows, wish.front_end, network, clip)) for clip in clips]
    fitted, z = fit_parts(parts, heard, wish.fusion)
    head, scores = calibrated(fitted, z, wish.fusion)
    waveform = (noise(99, wish.windows.clip) * 32_768).astype(np.int16)
    golden = Golden(waveform, golden_scores(Listener(wish.windows, wish.front_end, head, 1.0, network), waveform))
    known = [list(hashlib.sha256(clip.tobytes()).digest()[:8]) for clip in clips]
    told = Manifest(
        name=wish.name or wish.method,
        version="1",
        created="2026-01-01",
        method=wish.method,
        precision="int8" if "int8" in graphs or not graphs else "fp32",
        licence="CC0-1.0",
        windows=wish.windows,
        front_end=wish.front_end,
        front_ends=dict(wish.front_ends or {}),
        backbone=bool(graphs),
        heads={key: head_card(Fitted(head, scores, z, (-28.0, -24.0)), wish.windows) for key in wish.keys},
        metrics={"parameters": 100.0, "macs": 2_000.0} if graphs else {},
    )
    normals = dict.fromkeys(wish.keys, Normals(z.T.astype(np.float32), np.array(known, np.uint8)))
    path = folder / f"{wish.name or wish.method}.asd"
    heads, vectors = dict.fromkeys(wish.keys, head), dict.fromkeys(wish.keys, golden)
    write_bundle(path, told, graphs, heads, vectors, "# noise\n", normals if wish.remembers else None)
    return path


WAVES = Wish("waves", {"int8": several(), "fp32": several(1.001)}, BANDS, Fusion(weights={"error": 0.0, "near": 2.0}))
MELS = Wish("mels", {"fp32": levels()}, NEAR, statistics=False)
FLOOR = Wish("statistics")
FINER = Wish(
    "finer", {"fp32": levels("log_mel.fine", FINE.n_mels)}, NEAR, front_ends={"fine": FINE}, clips=range(4, 24)
)


def fused(folder: Path, wishes: Sequence[Wish], rule: str = "mean", **weights: float) -> tuple[Bundle, list[Bundle]]:
    """An ensemble, and its members."""
    paths = [bundle(folder, wish) for wish in wishes]
    plan = load_plan(None, name="all", rule=rule, weights=weights)
    ensemble(plan, list(map(str, paths)), folder / "all.asd")
    return open_bundle(folder / "all.asd"), [open_bundle(path) for path in paths]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ensemble")


@pytest.fixture(scope="module")
def three(folder: Path) -> tuple[Bundle, list[Bundle]]:
    """Of three networks by two front ends, the third of which knows other clips."""
    return fused(folder, [WAVES, MELS, FINER])


def said(bundle: Bundle, seed: int) -> dict[str, float]:
    return {part.name: part.z for part in bundle.scorer().score(noise(seed, 16_000, 0.08)).parts}


def standard(bundle: Bundle, weights: Mapping[str, float], scores: Mapping[str, float]) -> float:
    """Weighted mean of parts, z-scored on the bundle's training clips."""
    names = [part.name for part in bundle.manifest.heads[MACHINE].parts]
    z = read_normals(bundle.path)[MACHINE].z.astype(float)
    total = sum(weights.values())
    left_out = sum(weight * z[:, names.index(name)] for name, weight in weights.items()) / total
    return (sum(weight * scores[name] for name, weight in weights.items()) / total - left_out.mean()) / left_out.std()


# Scores ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", [WAVES, MELS, FLOOR], ids=lambda wish: wish.method)
def test_the_ensemble_of_one_bundle_is_the_bundle(tmp_path: Path, wish: Wish) -> None:
    alone, (member,) = fused(tmp_path, [wish])

    spread = {one.spread for one in alone.manifest.heads[MACHINE].fusion.members.values()}
    ratios = []
    for seed in HEARD:
        clip = noise(seed, 16_000, 0.08)
        one, other = alone.scorer().score(clip), member.scorer().score(clip)
        ratios.append(other.score / one.score)
        assert one.surprise == pytest.approx(other.surprise, abs=1e-4)
        shown = {part.name.partition(".")[2]: part.z for part in one.parts}
        assert shown == {part.name: part.z for part in other.parts if part.name in shown}
    assert ratios == pytest.approx([ratios[0]] * len(HEARD), rel=1e-6)
    assert ratios[0] == pytest.approx(next(iter(spread)), rel=1e-5)


def test_a_mean_is_the_weighted_mean_of_standardised_members(tmp_path: Path) -> None:
    whole, (waves, mels) = fused(tmp_path, [WAVES, MELS], mels=0.5, statistics=2.0)
    for seed in HEARD:
        own, other = said(waves, seed), said(mels, seed)
        network = standard(waves, {"far": 1.0, "near": 2.0}, own)
        z = read_normals(waves.path)[MACHINE].z.astype(float)
        statistics = np.mean([own[name] for name in ("indicators", "spectrum", "neighbour")])
        statistics /= ((z[:, 3] + 2 * z[:, 5]) / 3).std()  # in the scale of the network of its bundle
        expected = (network + 0.5 * standard(mels, {"near": 1.0}, other) + 2.0 * statistics) / 3.5
        assert whole.scorer().score(noise(seed, 16_000, 0.08)).score == pytest.approx(expected, abs=1e-5)


def test_a_minimum_is_the_least_of_standardised_members(tmp_path: Path) -> None:
    whole, (waves, mels) = fused(tmp_path, [WAVES, MELS], "min")
    silent, _ = fused(tmp_path, [WAVES, MELS], "min", statistics=0.0)
    for seed in HEARD:
        own, other = said(waves, seed), said(mels, seed)
        networks = standard(waves, {"far": 1.0, "near": 2.0}, own), standard(mels, {"near": 1.0}, other)
        statistics = standard(waves, dict.fromkeys(("indicators", "spectrum", "neighbour"), 1.0), own)
        clip = noise(seed, 16_000, 0.08)
        assert silent.scorer().score(clip).score == pytest.approx(min(networks), abs=1e-5)
        assert whole.scorer().score(clip).score == pytest.approx(min(*networks, statistics), abs=1e-5)


def test_statistics_weigh_beside_all_networks_what_they_weigh_beside_one(three: tuple[Bundle, list[Bundle]]) -> None:
    """Of WAVES: three parts beside a network whose parts weigh three."""
    weights = three[0].manifest.heads[MACHINE].fusion.weights
    assert weights == {"statistics": 3.0, "waves": 1.0, "mels": 1.0, "finer": 1.0}


def test_statistics_are_of_the_bundle_that_has_nothing_else(tmp_path: Path) -> None:
    whole, (_, floor) = fused(tmp_path, [FINER, replace(FLOOR, clips=range(2, 22))])
    shown = said(whole, 300)
    assert {name: shown[f"statistics.{name}"] for name in ("indicators", "spectrum")} == {
        name: z for name, z in said(floor, 300).items() if name != "neighbour"
    }
    assert whole.manifest.heads[MACHINE].fusion.weights == {"statistics": 3.0, "finer": 1.0}


def test_what_is_calibrated_are_the_scores_of_clips_that_all_members_know(three: tuple[Bundle, list[Bundle]]) -> None:
    whole, members = three
    card, scores = whole.manifest.heads[MACHINE], []
    for row in range(4, 20):  # of 0 to 19 and of 4 to 23
        z = [read_normals(one.path)[MACHINE].z.astype(float) for one in members]
        own = dict(zip((part.name for part in members[0].manifest.heads[MACHINE].parts), z[0][row], strict=True))
        network, scale = standard(members[0], {"far": 1.0, "near": 2.0}, own), ((z[0][:, 3] + 2 * z[0][:, 5]) / 3).std()
        networks = network + z[1][row, 0] + z[2][row - 4, 3]
        scores.append((networks + 3.0 * z[0][row, :3].mean() / scale) / 6.0)

    assert card.clips == 16
    assert whole.heads[MACHINE].calibration.body[-1] == pytest.approx(np.median(scores), abs=1e-5)
    assert card.thresholds.decision == pytest.approx(decision_threshold(np.array(scores)), abs=1e-3)


# The graph ------------------------------------------------------------------------------------------------------------


def test_the_merged_graph_gives_what_the_graphs_of_its_members_give(three: tuple[Bundle, list[Bundle]]) -> None:
    whole, members = three
    segment = noise(5, SECOND.segment)
    given = whole.backbone(segment) if whole.backbone else {}
    for member in members:
        for name, output in member.backbone(segment).items() if member.backbone else ():
            if name != "error":  # of no part that is fused
                np.testing.assert_array_equal(given[f"{member.manifest.method}.{name}"], output)
    assert set(given) == {"waves.embedding", "waves.residual", "mels.embedding", "finer.embedding"}


def test_views_are_shared_by_members_of_one_front_end(three: tuple[Bundle, list[Bundle]], tmp_path: Path) -> None:
    assert three[0].manifest.front_ends == {"finer.fine": FINE}
    assert set(three[0].backbone.views if three[0].backbone else ()) == {"waveform", "log_mel", "log_mel.finer.fine"}
    twice, _ = fused(tmp_path, [FINER, replace(FINER, method="again")])
    assert twice.backbone is not None
    assert twice.backbone.views == ("log_mel.finer.fine",)
    another, _ = fused(tmp_path, [WAVES, replace(MELS, front_end=replace(COARSE, scale="slaney"))])
    assert another.manifest.front_ends == {"mels": replace(COARSE, scale="slaney")}


def test_nothing_is_kept_that_no_part_needs(three: tuple[Bundle, list[Bundle]]) -> None:
    graph = load_from_string(read_bundle(three[0].path)[1]["backbone.int8.onnx"]).graph
    assert not [node for node in graph.node if "ReduceMean" in node.op_type and "waves" in node.output[0]]
    assert len({name for node in graph.node for name in node.output}) == sum(len(node.output) for node in graph.node)


def test_members_keep_their_precision_and_the_full_graphs_are_merged_too(three: tuple[Bundle, list[Bundle]]) -> None:
    segment = noise(5, SECOND.segment)
    full = open_bundle(three[0].path, "fp32")
    assert three[0].precision == "int8"
    assert three[0].backbone is not None
    assert full.backbone is not None
    ratio = full.backbone(segment)["waves.embedding"] / three[0].backbone(segment)["waves.embedding"]
    assert ratio == pytest.approx(1.001)
    np.testing.assert_array_equal(
        full.backbone(segment)["mels.embedding"], three[0].backbone(segment)["mels.embedding"]
    )


def test_costs_are_stated(three: tuple[Bundle, list[Bundle]], folder: Path) -> None:
    metrics = three[0].manifest.metrics
    assert (metrics["parameters"], metrics["macs"]) == (300.0, 6_000.0)
    assert metrics["int8_ms"] > 0
    assert 20 < metrics["memory_mb"] < 500
    told = str(ensemble(load_plan(None, name="a"), [str(folder / "mels.asd")], folder / "a.asd"))
    for figure in ("mean of mels", "toy/noise/00 on 20 clips", "100 parameters", "2,000 MACs", "ms in fp32", "MB in"):
        assert figure in told


# On a device ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1_111, 16_000, 40_000])
def test_an_ensemble_says_of_a_stream_what_it_says_of_a_file(three: tuple[Bundle, list[Bundle]], block: int) -> None:
    sound, listener = noise(400, 3 * SECOND.clip, 0.08), three[0].scorer()
    streamed = [
        one
        for start in range(0, sound.size, block)
        for one in listener.push(Block(start, sound[start : start + block]))
    ]
    files = [three[0].scorer().score(clip) for clip in sound.reshape(3, -1)]
    assert [one.score for one in streamed] == pytest.approx([one.score for one in files], abs=1e-6)
    assert [len(one.segment_scores) for one in streamed] == [SECOND.segments] * 3


def test_segment_scores_are_those_of_the_networks_and_average_to_them(three: tuple[Bundle, list[Bundle]]) -> None:
    verdict = three[0].scorer().score(noise(300, 16_000, 0.08))
    shown = {part.name: part.z for part in verdict.parts}
    members = three[0].manifest.heads[MACHINE].fusion.members
    waves = ((shown["waves.far"] + 2 * shown["waves.near"]) / 3 - members["waves"].centre) / members["waves"].spread
    others = [shown[f"{name}.near"] / members[name].spread for name in ("mels", "finer")]
    assert np.mean(verdict.segment_scores) == pytest.approx(np.mean([waves, *others]), abs=1e-5)


def command(*arguments: str | Path) -> str:
    line = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_commands_of_both_packages_take_an_ensemble(tmp_path: Path) -> None:
    paths = [bundle(tmp_path, wish) for wish in (WAVES, FINER)]
    out, recipe, data = tmp_path / "both.asd", tmp_path / "both.toml", tmp_path / "toy" / "noise"
    recipe.write_text('name = "both"\nmembers = ["waves", "other"]\n[weights]\nwaves = 3\nstatistics = 0')
    told = command("train", "ensemble", recipe, paths[0], f"other={paths[1]}", "--out", out, "--weight", "waves=2.0")
    (data / "test").mkdir(parents=True)
    for label, level in (("normal", 0.05), ("anomaly", 0.2)):
        for seed in range(3):
            name = f"section_00_source_test_{label}_{seed:04d}.wav"
            soundfile.write(data / "test" / name, noise(500 + seed, 16_000, level), 16_000)
    config = tmp_path / "edge-asd.toml"
    file = data / "test" / "section_00_source_test_anomaly_0000.wav"
    config.write_text(
        f'node = "t"\nmetrics.listen = ""\nsources.a = {{ input = "file:{file}", speed = 0 }}\n'
        f'machines.m = {{ source = "a", bundle = "{out}" }}\n'
    )

    fusion = open_bundle(out).manifest.heads[MACHINE].fusion
    assert (fusion.weights, "mean of statistics, waves, other" in told) == (
        {"waves": 2.0, "other": 1.0, "statistics": 0.0},
        True,
    )
    scored = json.loads(command("edge_asd", "score", "--json", file, "--bundle", out))
    assert list(scored["parts"])[3:] == ["waves.far", "waves.near", "other.near"]
    assert scored["surprise"] > 1
    assert "golden test passed" in command("edge_asd", "check", "--config", config)
    assert '"clips": 1' in command("edge_asd", "run", "--config", config)
    evaluate(out, trials([tmp_path]), tmp_path / "evaluation")
    result = json.loads((tmp_path / "evaluation" / "result.json").read_text())["bundle"]
    assert (result["method"], result["members"]) == ("both", fusion.weights)
    with np.load(tmp_path / "evaluation" / "embeddings.npz") as arrays:
        assert arrays["embedding"].shape == (6, 4 + FINE.n_mels)


# What does not go together --------------------------------------------------------------------------------------------

OTHER = replace(MELS, windows=Windows(sample_rate=16_000, segment=8_000, clip=16_000, segments=3))
SLOW = replace(
    FLOOR, windows=replace(SECOND, sample_rate=8_000), front_end=replace(COARSE, sample_rate=8_000, f_max=4_000.0)
)


@pytest.mark.parametrize(
    ("wishes", "plan", "complaint"),
    [
        ([MELS], {"members": ("mels", "waves")}, "is made of mels, waves: no bundle for waves; name one bundle for"),
        ([MELS, WAVES], {"members": ("mels",)}, "is made of mels: no member for bundle waves; name one"),
        ([MELS, MELS], {}, r"mels.asd and .*mels.asd are both called mels; call one otherwise: NAME="),
        ([WAVES, OTHER], {}, r"waves.asd hears in .*segment=4000.*mels.asd in .*segment=8000.*need the same windows"),
        (
            [WAVES, SLOW],
            {},
            r"waves.asd hears in .*sample_rate=16000.*statistics.asd in .*sample_rate=8000",
        ),
        ([WAVES, replace(MELS, keys=["toy/noise/01"])], {}, r"no machine is known to all members .*: toy/noise/01"),
        (
            [WAVES, replace(MELS, clips=range(16, 40))],
            {},
            r"toy/noise/00: members share 4 training clips \(waves 20,",
        ),
        ([WAVES, MELS], {"weights": {"wave": 1.0}}, "all: fusion weighs wave; the members are statistics, waves, mels"),
        ([MELS], {"weights": {"mels": 0.0}}, "all: fusion gives weight 0 to all of mels; give one of them more"),
        ([MELS], {"weights": {"mels": -1.0}}, "all: weights of fusion must be 0 or more, got"),
        (
            [FLOOR, replace(FLOOR, method="more")],
            {},
            r"more.asd has nothing but statistics, which are taken from ",
        ),
        ([replace(MELS, method="statistics")], {}, r"statistics.asd has a network, and statistics is what statistics"),
    ],
)
def test_bundles_that_do_not_go_together_are_refused_in_one_line(
    tmp_path: Path, wishes: Sequence[Wish], plan: dict[str, object], complaint: str
) -> None:
    paths = [str(bundle(tmp_path, wish)) for wish in wishes]
    with pytest.raises(ConfigError, match=complaint) as caught:
        ensemble(load_plan(None, name="all", **plan), paths, tmp_path / "all.asd")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "all.asd").exists()


def test_a_bundle_that_has_forgotten_its_training_clips_runs_and_joins_nothing(tmp_path: Path) -> None:
    path = bundle(tmp_path, replace(MELS, remembers=False))
    open_bundle(path).scorer()
    with pytest.raises(BundleError, match=r"mels.asd: does not say what its training clips scored.*export it again"):
        ensemble(load_plan(None, name="all"), [str(path)], tmp_path / "all.asd")


def test_an_ensemble_joins_no_other(three: tuple[Bundle, list[Bundle]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"all.asd is an ensemble itself; name the bundles that it was made of"):
        ensemble(load_plan(None, name="more"), [str(three[0].path)], tmp_path / "more.asd")


def test_graphs_of_different_versions_of_onnx_are_refused(tmp_path: Path) -> None:
    model = load_from_string(levels())
    model.opset_import[0].version = 16
    paths = [bundle(tmp_path, WAVES), bundle(tmp_path, replace(MELS, graphs={"fp32": model.SerializeToString()}))]
    with pytest.raises(BundleError, match="the graph of mels is of ONNX opset 16, of others 17; export all of them"):
        ensemble(load_plan(None, name="all"), list(map(str, paths)), tmp_path / "all.asd")


def test_bundles_of_one_method_are_told_apart_by_their_names(tmp_path: Path) -> None:
    paths = [str(bundle(tmp_path, wish)) for wish in (MELS, replace(MELS, name="mels-2"), WAVES)]
    plan = load_plan(None, name="all", members=("mels", "mels-2", "more"))
    ensemble(plan, [*paths[:2], f"more={paths[2]}"], tmp_path / "all.asd")
    parts = open_bundle(tmp_path / "all.asd").manifest.heads[MACHINE].parts
    assert [part.name for part in parts][3:] == ["mels.near", "mels-2.near", "more.far", "more.near"]


# Recipes --------------------------------------------------------------------------------------------------------------


def test_the_ensembles_of_both_reports_are_recipes() -> None:
    assert {name: load_plan(name).members for name in recipes()} == {
        "oevae-ensemble": ("oevae", "subcluster", "ae"),
        "dku-ensemble": ("multitask", "multitask-combined", "adversarial"),
    }
    assert {load_plan(name).rule for name in recipes()} == {"mean"}


def test_what_is_said_beside_a_recipe_wins() -> None:
    plan = load_plan("oevae-ensemble", rule="min", name=None, weights={"ae": 0.5})
    assert (plan.name, plan.rule, plan.weights) == ("oevae-ensemble", "min", {"ae": 0.5})


@pytest.mark.parametrize(
    ("recipe", "changes", "complaint"),
    [
        ("oevae", {}, "no recipe 'oevae' of an ensemble; choose one of dku-ensemble, oevae-ensemble, give the path"),
        ("oevae-ensemble", {"rule": "max"}, "oevae-ensemble: rule: input should be 'mean' or 'min', got 'max'"),
        (None, {"name": "a b"}, "name: string should match pattern"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(recipe: str | None, changes: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_plan(recipe, **changes)


def test_weights_are_names_and_numbers() -> None:
    assert weights_of(["ae=0.5", "oevae=2"]) == {"ae": 0.5, "oevae": 2.0}
    with pytest.raises(ConfigError, match=r"cannot understand a weight .*; write NAME=NUMBER, as in ae=0.5"):
        weights_of(["ae=much"])
