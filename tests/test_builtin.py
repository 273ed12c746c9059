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
    """Statistics are those of the bundle before it: the same clips, and nothing in them was learned."""
    bundle = open_bundle(BUILTIN)
    said = {key: golden_scores(bundle.listener(key), bundle.golden[key].waveform) for key in bundle.heads}

    assert bundle.digest == "f86cb5313a79666f47f47de9cdef0ca14cd83a5271d75125fd3cf1abb2fc0fed"
    assert said["rendered/fan/00"] == pytest.approx([0.49020, -0.91245, 1.87515, 0.72319, -0.37096], abs=0.1)
    assert said["rendered/valve/00"] == pytest.approx([1.36203, 1.37764, 1.59686, 1.58298, -0.52350], abs=0.1)


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
