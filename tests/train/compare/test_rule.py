from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from edge_asd.errors import ConfigError
from train.compare.rule import candidates, choose, show, together
from train.judge.metric import harmonic_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.train

PARTS = ("indicators", "spectrum", "neighbour", "network")
CLIPS = 40


def evaluation(folder: Path, seen: Mapping[str, float], *, parts: tuple[str, ...] = PARTS, shared: str = "") -> Path:
    """Half of each set's clips are anomalies; the network is as much stranger there as is said, statistics by one.

    Args:
        folder: new.
        seen: set -> deviations by which anomalies differ to the network.
        parts: to write.
        shared: sets that begin so are of the same recordings.
    """
    folder.mkdir()
    section = {"key": "a/b/00", "head": "a/b/00"}
    (folder / "result.json").write_text(json.dumps({"bundle": {"name": "x", "method": "y"}, "sections": [section]}))
    known = ("key", "file", "domain", "label", "recording", "score")
    with (folder / "scores.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow([*known, *(f"z_{part}" for part in parts)])
        for number, (name, gap) in enumerate(seen.items()):
            rng = np.random.default_rng(number)
            for clip in range(CLIPS):
                anomaly = clip % 2
                z = rng.normal(size=len(parts)) + anomaly * np.array([1.0 if p != "network" else gap for p in parts])
                recording = f"{shared if shared and name.startswith(shared) else name} {clip}"
                label = "anomaly" if anomaly else "normal"
                domain = "target" if clip % 4 > 1 else "source"
                out.writerow([f"{name}/m/00", f"{clip}.wav", domain, label, recording, z.mean(), *z])
    return folder


def test_a_set_is_judged_by_the_rule_that_the_others_choose(tmp_path: Path) -> None:
    """Three sets on which the network is all there is to hear; one on which it is wrong, and cannot say so."""
    choice = choose([evaluation(tmp_path / "e", {"a": 6.0, "b": 6.0, "c": 6.0, "d": -6.0})])

    assert choice.left_out["d"] != "statistics"
    assert choice.omegas[choice.left_out["d"]]["d"] < 0.25  # by the statistics it would be about 0.8
    assert choice.by_others[0].value < choice.by_statistics[0].value


def test_omega_is_the_harmonic_mean_of_what_scikit_learn_says(tmp_path: Path) -> None:
    place = evaluation(tmp_path / "e", {"a": 1.0, "b": 2.0})
    lines = (place / "scores.csv").read_text().splitlines()
    rows = [row for row in csv.DictReader(lines) if row["key"] == "a/m/00"]
    mean = np.array([sum(float(row[f"z_{p}"]) for p in PARTS) for row in rows])
    anomaly = np.array([row["label"] == "anomaly" for row in rows])
    target = np.array([row["domain"] == "target" for row in rows])
    terms = [roc_auc_score(anomaly[own], mean[own]) for own in (anomaly | ~target, anomaly | target)]
    terms.append(roc_auc_score(anomaly, mean, max_fpr=0.1))

    assert choose([place]).omegas["statistics + 1 network"]["a"] == pytest.approx(harmonic_mean(terms))


def test_sets_of_the_same_recordings_are_left_out_together(tmp_path: Path) -> None:
    """Else b2 would tell how to judge b1: there alone the network helps."""
    seen = {"a": -3.0, "b1": 6.0, "b2": 6.0}
    apart = choose([evaluation(tmp_path / "apart", seen)])
    joined = choose([evaluation(tmp_path / "joined", seen, shared="b")])

    assert apart.left_out["b1"] != "statistics"
    assert joined.left_out["b1"] == joined.left_out["b2"] == "statistics"


def test_evaluations_count_alike(tmp_path: Path) -> None:
    first, second = ({"a": gap, "b": gap} for gap in (0.0, 3.0))
    one, two = evaluation(tmp_path / "1", first), evaluation(tmp_path / "2", second)
    alone, both = [choose([place]).omegas["network"]["a"] for place in (one, two)], choose([one, two])

    assert both.omegas["network"]["a"] == pytest.approx(np.mean(alone))
    assert len(both.by_others) == len(both.by_statistics) == 2


def test_what_is_told_names_every_rule_and_every_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(choose([evaluation(tmp_path / "e", {"valve": 1.0, "fan": 2.0})]))
    said = capsys.readouterr().out

    assert all(rule.name in said for rule in candidates("network"))
    assert "valve: by the others" in said
    assert "fan: by the others" in said
    assert "best on all sets: " in said


@pytest.mark.parametrize("part", ["", "network"])
def test_what_cannot_be_compared_is_refused(tmp_path: Path, part: str) -> None:
    whole, less = (evaluation(tmp_path / name, {"a": 1.0, "b": 1.0}) for name in ("whole", "less"))
    if part:
        less = evaluation(tmp_path / "lacking", {"a": 1.0, "b": 1.0}, parts=PARTS[:3])
        message = "not every clip has z-scores of network; all clips have those of indicators, neighbour, spectrum"
    else:
        less = evaluation(tmp_path / "fewer", {"a": 1.0, "c": 1.0})
        message = "judges a, c, .* a, b; evaluate both on one"

    with pytest.raises(ConfigError, match=message):
        choose([whole, less])


def test_one_machine_alone_has_no_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a1, a2 are one machine, so that none can be left out"):
        choose([evaluation(tmp_path / "e", {"a1": 1.0, "a2": 1.0}, shared="a")])


@given(st.lists(st.frozensets(st.sampled_from("abcdefgh"), min_size=1), min_size=1, max_size=6))
def test_no_two_groups_share_a_recording(recordings: list[frozenset[str]]) -> None:
    sets = {str(number): own for number, own in enumerate(recordings)}
    groups = together(sets)
    held = [frozenset().union(*(sets[name] for name in group)) for group in groups]

    assert sorted(name for group in groups for name in group) == sorted(sets)
    assert sum(map(len, held)) == len(frozenset().union(*held))
