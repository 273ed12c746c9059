"""Learning curves of a machine that is noise: every figure is computed again here, with scikit-learn."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from edge_asd.bundle import open_bundle
from edge_asd.errors import ConfigError
from edge_asd.learn.fit import Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.score.listener import evidence
from tests.train.judge.test_evaluate import bundle, machine, network
from train.__main__ import app
from train.compare import plot
from train.compare.curve import ALL, SECOND, Device, Machine, Peer, Plan, Point, as_csv, curve, drawn, machines, show
from train.corpus.clip import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_asd.score.part import Evidence
    from train.compare.curve import Lesson
    from train.corpus.clip import Clip

pytestmark = pytest.mark.train

FAN, PUMP = "a/fan/00", "a/pump/00"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fan of 12 + 3 normal clips; a pump without a target domain; one without anomalies, which nobody can judge."""
    folder = tmp_path_factory.mktemp("data")
    machine(folder / "a/fan")
    machine(folder / "a/pump", seed=1, target=0)
    machine(folder / "a/mute", seed=2, anomalies=0)
    return folder


@pytest.fixture(scope="module")
def path(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("bundle") / "noise.asd", data, FAN, graph=network())


def asked(path: Path, data: Path, plan: Plan, *patterns: str) -> dict[tuple[str, str, str, int], Point]:
    found = curve(path, [data], patterns, plan, Progress(disable=True))
    return {(point.question, point.system, point.machine, point.count): point for point in found}


def scores(path: Path, one: Machine, points: Sequence[tuple[Clip, str]]) -> NDArray[np.float64]:
    """By a head that is learned here, clip by clip."""
    opened = open_bundle(path)
    listener, memory = opened.scorer(FAN), Memory()

    def heard(clip: Clip, length: int | None = None) -> Evidence:
        sound = load(clip, 16_000)
        return evidence(listener.windows, listener.spec, listener.embed, sound[:length])

    for clip, point in points:
        memory = memory.with_clip(heard(clip, 3_000), point)  # as long as the shortest
    head = learn(opened.heads[FAN], memory, Goal(0.5)).head
    return np.array([head.judge(heard(clip)).score for clip in one.tests])


def test_by_all_clips_it_is_the_omega_of_the_head_that_the_device_learns(path: Path, data: Path) -> None:
    (one,) = machines([data], [FAN])
    by_hand, truth = scores(path, one, [(clip, FIRST) for clip in one.normals]), one.truth
    domains = [truth.anomaly | (truth.target == target) for target in (False, True)]
    terms = [roc_auc_score(truth.anomaly[domain], by_hand[domain]) for domain in domains]
    terms.append(roc_auc_score(truth.anomaly, by_hand, max_fpr=0.1))
    point = asked(path, data, Plan(clips=(15,), added=()), FAN)["clips", "noise", FAN, 15]
    assert point.mean == pytest.approx(100 * hmean(terms))
    assert (point.draws, point.deviation) == (1, 0.0)  # there is one way to draw them all


def test_what_is_added_is_an_operating_point_beside_the_whole_source_domain(path: Path, data: Path) -> None:
    (one,) = machines([data], [FAN])
    points = [(clip, FIRST if clip.domain == "source" else SECOND) for clip in one.normals]
    by_hand, judged = scores(path, one, points), one.truth.anomaly | one.truth.target
    found = asked(path, data, Plan(clips=(), added=(0, 3, 10)), FAN)
    expected = 100 * roc_auc_score(one.truth.anomaly[judged], by_hand[judged])
    assert found["added", "noise", FAN, 3].mean == pytest.approx(expected)
    assert ("added", "noise", FAN, 10) not in found  # it has three
    assert found["added", "noise", ALL, 10].mean == pytest.approx(expected)  # and counts with these
    assert found["added", "noise", FAN, 0].draws == 1


def test_all_machines_together_are_the_harmonic_mean_and_one_that_has_no_target_is_not_asked_for_it(
    path: Path, data: Path
) -> None:
    found = asked(path, data, Plan(clips=(12,), added=(0,), draws=1), "a/[fp]*")
    fan, pump = (found["clips", "noise", key, 12].mean for key in (FAN, PUMP))
    together = found["clips", "noise", ALL, 12]
    assert together.machines == 2
    # Ω of the fan is of three terms, that of the pump of two
    assert together.mean == pytest.approx(5 / (3 / fan + 2 / pump))
    assert ("added", "noise", PUMP, 0) not in found
    assert found["added", "noise", ALL, 0].machines == 1


def test_the_parts_without_a_network_are_a_system_of_their_own(path: Path, data: Path, tmp_path: Path) -> None:
    """A bundle that has nothing else says the same of them."""
    plan = Plan(clips=(8,), added=(), draws=2)
    plain = bundle(tmp_path / "plain.asd", data, FAN)
    beside, alone = asked(path, data, plan, FAN), asked(plain, data, plan, FAN)
    assert beside["clips", "statistics", FAN, 8].mean == pytest.approx(alone["clips", "noise", FAN, 8].mean)
    assert ("clips", "statistics", FAN, 8) not in alone


def test_what_a_device_refuses_has_no_figure(path: Path, data: Path) -> None:
    found = asked(path, data, Plan(clips=(4, 5), added=(), draws=1), FAN)
    assert {count for *_, count in found} == {5}


def test_draws_differ_and_a_larger_one_holds_the_smaller(path: Path, data: Path) -> None:
    """Else a curve would fall and rise by which clips were drawn."""
    heard: list[set[Clip]] = []
    device = Device.of(path, None)

    class Overheard(Device):
        def __call__(self, one: Machine, lesson: Lesson) -> dict[str, NDArray[np.float64]]:
            heard.append({clip for clip, _ in lesson})
            return {"": np.arange(float(len(one.tests)))}

    (one,) = machines([data], [FAN])
    contender = Overheard(device.bundle, device.key, device.heads)
    for count in (6, 9):
        assert len(list(drawn("clips", contender, one, count, Plan(draws=3)))) == 3
    assert [len(clips) for clips in heard] == [6] * 3 + [9] * 3
    assert len(set(map(frozenset, heard))) == 6
    assert all(small < large for small, large in zip(heard[:3], heard[3:], strict=True))


def test_a_peer_is_trained_on_the_clips_drawn_as_long_as_on_thirty(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ASD_CACHE", str(tmp_path))
    recipe = tmp_path / "small.toml"
    text = 'method = "ae"\n[training]\nepochs = 1\nbatch = 8\ntargets = 0\n[settings]\nwidth = 8\n'
    recipe.write_text(text + '[[parts]]\nname = "error"\nfeature = "error"\nbackend = "value"\n')
    (one,) = machines([data], [FAN])
    peer = Peer.of(str(recipe))
    lengthened = [peer._lengthened(count).training for count in (10, 15, 30, 40)]  # noqa: SLF001 - epochs are nowhere told
    assert [training and training.epochs for training in lengthened] == [3, 2, 1, 1]
    found = peer(one, [(clip, FIRST) for clip in one.normals])
    other = peer(one, [(clip, FIRST) for clip in one.normals[:8]])
    (name,) = found
    assert name == "ae: error"
    assert np.abs(found[name] - other[name]).max() > 0.01


def test_what_trains_no_network_is_no_peer() -> None:
    with pytest.raises(ConfigError, match="statistics trains no network; choose a recipe that does"):
        Peer.of("statistics")


def test_machines_that_cannot_be_judged_are_left_out_and_none_is_refused(data: Path) -> None:
    assert [one.key for one in machines([data], [])] == [FAN, PUMP]
    with pytest.raises(ConfigError, match="none of a/mute/00 has 5 normal training clips and test clips of both kinds"):
        machines([data], ["a/mute/*"])


POINT = Point("clips", "ours", ALL, 5, 2, 3, 91.25, 1.5)


def test_it_is_told_as_a_table_and_with_every_digit() -> None:
    text = io.StringIO()
    points = [POINT, replace(POINT, count=10, draws=1, mean=93.0, deviation=0.0), replace(POINT, machine=FAN)]
    show(points, Console(file=text))
    rows = [line.split() for line in text.getvalue().splitlines() if line.startswith((ALL, FAN))]
    assert rows == [[*ALL.split(), "ours", "91.2", "±", "1.5", "93.0"], [FAN, "ours", "91.2", "±", "1.5", "–"]]
    table = list(csv.DictReader(io.StringIO(as_csv(points).decode())))
    assert [(row["count"], float(row["mean"])) for row in table] == [("5", 91.25), ("10", 93.0), ("5", 91.25)]


def test_the_picture_has_every_point_where_it_belongs() -> None:
    lines = {"ours": ([5, 10], [90.0, 95.0], [2.0, 1.0]), "theirs": ([5], [60.0], [0.0])}
    figure = plot.growth([plot.Line("Ω", "normal clips", "Ω (%)", lines)])
    (axes,) = figure.axes
    drawn = {container[0].get_gid(): container[0].get_xydata().tolist() for container in axes.containers}
    assert drawn == {"ours": [[5.0, 90.0], [10.0, 95.0]], "theirs": [[5.0, 60.0]]}
    assert plot.png(figure) == plot.png(plot.growth([plot.Line("Ω", "normal clips", "Ω (%)", lines)]))


def test_the_command_prints_and_keeps_what_it_found(path: Path, data: Path, tmp_path: Path) -> None:
    wanted = ["--clips", "6", "--added", "0", "--draws", "2", "--machine", FAN, "--out", str(tmp_path), "--json"]
    answer = CliRunner().invoke(app, ["curve", str(path), "--data", str(data), *wanted])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    kept = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    assert [point["mean"] for point in told] == [float(row["mean"]) for row in kept]
    assert {(point["question"], point["system"]) for point in told} == {
        (question, system) for question in ("clips", "added") for system in ("noise", "statistics")
    }
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
