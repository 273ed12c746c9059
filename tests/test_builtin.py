"""The bundle in the package."""

from __future__ import annotations

import numpy as np
import pytest

from edge_asd.bundle import BUILTIN, golden_scores, open_bundle
from edge_asd.render.machine import Condition
from edge_asd.render.performance import machine, render_clip
from edge_asd.render.room import Room


def test_it_is_smaller_than_three_megabytes_and_all_rendered() -> None:
    bundle = open_bundle(BUILTIN)

    assert BUILTIN.stat().st_size < 3_000_000
    assert bundle.precision == "int8"
    assert bundle.manifest.licence.startswith("Apache-2.0")
    assert all(key.startswith("rendered/") for key in bundle.heads)


def test_what_it_was_known_by_and_what_it_said_when_it_was_made_still_holds() -> None:
    """Made before there were several outputs, several graphs, or ways to fuse: those defaults change nothing."""
    bundle = open_bundle(BUILTIN)
    said = {key: golden_scores(bundle.listener(key), bundle.golden[key].waveform) for key in bundle.heads}

    assert bundle.digest == "5aa3866dce9852f95c573b8f3bbe0473ea8506dec4e57e37028165f5a5374530"
    assert said["rendered/fan/00"] == pytest.approx([0.48586, -0.91245, 1.87515, 0.72319, 0.25754], abs=0.1)
    assert said["rendered/valve/00"] == pytest.approx([1.53590, 1.37764, 1.59686, 1.58298, 1.58611], abs=0.1)


@pytest.mark.parametrize(("kind", "fault"), [("valve", "leak"), ("fan", "bearing")])
def test_it_knows_a_machine_from_a_broken_one(kind: str, fault: str) -> None:
    """Clips it never saw: of eight healthy ones seven stay below the threshold; broken ones lie above the median."""
    bundle = open_bundle(BUILTIN)
    key = f"rendered/{kind}/00"
    listener = bundle.scorer(key)
    threshold = bundle.manifest.heads[key].thresholds.alarm

    def surprise(condition: Condition, seed: int) -> float:
        return listener.score(render_clip(machine(kind), Room(), condition, 160_000, 1000 + seed)).surprise

    healthy = [surprise(Condition(), seed) for seed in range(8)]
    broken = [surprise(Condition(fault=fault, severity=0.8), seed) for seed in range(4)]

    assert sum(value < threshold for value in healthy) >= 7
    assert min(broken) > np.median(healthy)
    assert np.median(broken) > threshold
