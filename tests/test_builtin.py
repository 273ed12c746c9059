"""The bundle in the package."""

from __future__ import annotations

import numpy as np
import pytest

from edge_asd.bundle import BUILTIN, open_bundle
from edge_asd.render.machine import Condition
from edge_asd.render.performance import machine, render_clip
from edge_asd.render.room import Room


def test_it_is_smaller_than_three_megabytes_and_all_rendered() -> None:
    bundle = open_bundle(BUILTIN)

    assert BUILTIN.stat().st_size < 3_000_000
    assert bundle.precision == "int8"
    assert bundle.manifest.licence.startswith("Apache-2.0")
    assert all(key.startswith("rendered/") for key in bundle.heads)


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
