from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.errors import ConfigError
from edge_asd.render.machine import Condition
from edge_asd.render.performance import MACHINES, Performance, machine, render_clip
from edge_asd.render.room import Room
from edge_asd.render.sound import FRAME

SECONDS = 16_000
FAULTS = [(kind, fault) for kind in MACHINES for fault in machine(kind).faults]


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(MACHINES)),
    cuts=st.lists(st.integers(0, 12_000), max_size=8),
    change=st.integers(0, 12_000),
    seed=st.integers(0, 2**32),
)
def test_what_is_heard_does_not_depend_on_the_blocks_asked_for(
    kind: str, cuts: list[int], change: int, seed: int
) -> None:
    """Not even when a fault begins in between."""
    faulty = Condition(fault=machine(kind).faults[0], severity=0.8)
    whole, cut = (Performance(machine(kind), Room(), seed) for _ in range(2))
    expected = np.concatenate([whole.render(change, Condition()), whole.render(12_000 - change, faulty)])
    edges = sorted({0, 12_000, change, *cuts})
    blocks = [cut.render(end - start, Condition() if end <= change else faulty) for start, end in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


@pytest.mark.parametrize(("kind", "fault"), FAULTS)
def test_a_fault_that_begins_half_way_changes_nothing_before_it(kind: str, fault: str) -> None:
    healthy, failing = (Performance(machine(kind), Room(), 4) for _ in range(2))
    np.testing.assert_array_equal(healthy.render(5000, Condition()), failing.render(5000, Condition()))
    after = failing.render(40_000, Condition(fault=fault, severity=1.0)) - healthy.render(40_000, Condition())
    first = int(np.flatnonzero(after)[0])
    assert first >= -5000 % FRAME  # from the next frame on


@pytest.mark.parametrize("kind", MACHINES)
def test_equal_seeds_sound_equal_and_others_do_not(kind: str) -> None:
    first, again, other = (render_clip(machine(kind), Room(), Condition(), 8000, seed) for seed in ([7, 1], [7, 1], 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", MACHINES)
@pytest.mark.parametrize("number", range(4))
def test_levels_are_those_of_a_recording_and_nothing_clips(kind: str, number: int) -> None:
    conditions = [Condition(speed, load) for speed in (0.85, 1.15) for load in (0.3, 0.7)]
    conditions += [Condition(fault=fault, severity=1.0) for fault in machine(kind).faults]
    for condition in conditions:
        clip = render_clip(machine(kind, number), Room(), condition, 5 * SECONDS, number)
        assert clip.dtype == np.float32
        assert -45 < 10 * np.log10(np.mean(clip**2)) < -18
        assert np.max(np.abs(clip)) < 0.9


@pytest.mark.parametrize("kind", MACHINES)
def test_normal_clips_vary_a_little_in_level(kind: str) -> None:
    clips = [render_clip(machine(kind), Room(), Condition(), 8 * SECONDS, seed) for seed in range(12)]
    levels = [10 * np.log10(np.mean(np.square(clip))) for clip in clips]
    assert 0.2 < np.std(levels) < 1.2


@pytest.mark.parametrize("kind", MACHINES)
def test_sound_goes_on_without_a_seam(kind: str) -> None:
    """A frame boundary is no louder a step than any other place."""
    clip = render_clip(machine(kind), Room(), Condition(), 60 * FRAME, 1)
    steps = np.abs(np.diff(clip, 2))
    at_seams = steps[FRAME - 2 :: FRAME]
    assert np.median(at_seams) < 1.5 * np.median(steps)


@pytest.mark.parametrize("kind", MACHINES)
def test_it_renders_at_least_thirty_times_faster_than_real_time(kind: str) -> None:
    render_clip(machine(kind), Room(), Condition(), SECONDS, 0)  # first call: FFT tables
    start = time.process_time()
    render_clip(machine(kind), Room(), Condition(), 10 * SECONDS, 0)
    assert time.process_time() - start < 10 / 30


@pytest.mark.parametrize("rate", [8000, 48_000])
@pytest.mark.parametrize("kind", MACHINES)
def test_other_rates_hear_the_same_machine(kind: str, rate: int) -> None:
    clip = render_clip(machine(kind), Room(), Condition(), 5 * rate, 0, rate)
    assert -46 < 10 * np.log10(np.mean(np.square(clip))) < -18


def test_an_unknown_machine_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(ConfigError, match="called 'toaster', choose one of fan, valve"):
        machine("toaster")


def test_a_fault_of_another_machine_is_refused_and_its_own_named() -> None:
    with pytest.raises(ConfigError, match="called 'leak', choose one of imbalance, bearing, blade"):
        render_clip(machine("fan"), Room(), Condition(fault="leak", severity=0.5), 100, 0)


def test_nothing_asked_is_nothing_heard() -> None:
    performance = Performance(machine("fan"), Room(), 0)
    assert performance.render(0, Condition()).shape == (0,)
    np.testing.assert_array_equal(
        performance.render(100, Condition()), render_clip(machine("fan"), Room(), Condition(), 100, 0)
    )
