from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import signal

from edge_asd.errors import ConfigError
from edge_asd.render.machine import Condition
from edge_asd.render.slider import STROKES, Slider
from edge_asd.render.sound import FRAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
NONE = (-120.0, -120.0, -120.0)
FRAMED = Slider(rolling=-120.0, tooth_levels=NONE, step_levels=NONE)
"""what strikes its frame alone"""
PASSED = replace(FRAMED, knock=-40.0)
"""a dent or a belt alone, with the ends of strokes as faint marks"""


def play(slider: Slider, condition: Condition, seed: int = 0, seconds: float = 12.0) -> NDArray[np.float64]:
    voice = slider.voice(RATE, np.random.default_rng(seed))
    return np.concatenate([voice.frame(condition) for _ in range(int(seconds * RATE / FRAME))])


def faulty(fault: str, severity: float) -> Condition:
    return Condition(fault=fault, severity=severity) if severity else Condition()


def knocks(sound: NDArray[np.float64], height: float = 0.01, apart: float = 0.1) -> NDArray[np.float64]:
    """Seconds at which something strikes, at least ``apart`` seconds from a louder strike."""
    peaks, _ = signal.find_peaks(np.abs(sound), height=height, distance=int(apart * RATE))
    return peaks / RATE


def moving(travel: float, acceleration: float, velocity: float) -> NDArray[np.float64]:
    """Metres (samples,) from where a stroke begins, by integrating its acceleration (semi-implicit Euler, 10 µs)."""
    way, speed, ways = 0.0, 0.0, []
    while way < travel:
        braking = speed**2 / (2 * acceleration) >= travel - way
        speed = max(1e-4, min(velocity, speed + (-1e-5 if braking else 1e-5) * acceleration))
        way += speed * 1e-5
        ways.append(way)
    return np.array(ways)


@pytest.mark.parametrize("speed", [0.7, 1.3])
@pytest.mark.parametrize("stroke", range(len(STROKES)))
def test_a_stroke_takes_as_long_as_mechanics_says_and_knocks_at_both_ends(stroke: int, speed: float) -> None:
    travel, acceleration, rest = STROKES[stroke]
    times = knocks(play(replace(FRAMED, stroke=stroke), Condition(speed=speed), seconds=16))
    moves = moving(travel, acceleration, 0.5 * speed).size * 1e-5
    gaps = np.diff(times)
    assert gaps.size > 10
    turns = [np.resize(order, gaps.size) for order in ((moves, rest), (rest, moves))]
    assert min(np.max(np.abs(gaps - turn)) for turn in turns) < 0.05 * rest + 0.006


@pytest.mark.parametrize("dent", [0.08, 0.4, 0.7])
def test_a_dent_knocks_once_a_pass_where_it_is(dent: float) -> None:
    """Out and back alternate: after a share of the way that is the dent's, then the rest of it."""
    slider = replace(PASSED, dent=dent)
    healthy, dented = (play(slider, faulty("rail_damage", s), seed=1, seconds=20) for s in (0.0, 1.0))
    ends, passes = knocks(healthy, height=0.003), knocks(dented - healthy, height=0.02)
    ways = moving(*STROKES[0][:2], 0.5)
    shares = []
    for start, stop in pairwise(ends):
        inside = passes[(passes > start - 0.01) & (passes < stop + 0.01)]
        if stop - start < 0.5:  # at rest
            assert inside.size == 0
            continue
        assert inside.size == 1
        shares.append(ways[round((inside[0] - start) * 1e5)] / STROKES[0][0])
    assert len(shares) > 10
    outward, homeward = sorted((shares[::2], shares[1::2]), key=lambda part: abs(part[0] - dent))
    np.testing.assert_allclose(outward, dent, atol=0.015)
    np.testing.assert_allclose(homeward, 1 - dent, atol=0.015)


def test_a_deeper_dent_knocks_harder() -> None:
    loudest = [np.max(np.abs(play(replace(PASSED, knock=-120.0), faulty("rail_damage", s)))) for s in SEVERITIES]
    np.testing.assert_allclose(np.array(loudest[1:]) / loudest[-1], SEVERITIES[1:], rtol=1e-3)


def test_rolling_noise_is_proportional_to_speed_and_ceases_at_rest() -> None:
    rolling = Slider(tooth_levels=NONE, step_levels=NONE, knock=-120.0, ball=1.0)
    levels = []
    for speed in (0.6, 1.2):
        sound = play(rolling, Condition(speed=speed), seconds=30)
        short = np.sqrt(np.mean(sound[: sound.size // 800 * 800].reshape(-1, 800) ** 2, axis=1))
        assert short.min() < 1e-12
        levels.append(np.quantile(short, 0.8))
    assert levels[1] / levels[0] == pytest.approx(2, rel=0.08)


@pytest.mark.parametrize("speed", [0.8, 1.2])
@pytest.mark.parametrize(("tones", "pitch"), [("tooth_levels", 0.005), ("step_levels", 0.0008)])
def test_the_drive_sings_at_velocity_over_pitch(tones: str, pitch: float, speed: float) -> None:
    singing = replace(FRAMED, knock=-120.0, **{tones: (-40.0,)})
    frequencies, power = signal.welch(play(singing, Condition(speed=speed)), RATE, nperseg=4096)
    assert frequencies[np.argmax(power)] == pytest.approx(0.5 * speed / pitch, abs=4)


def test_the_tone_of_the_drive_rises_and_falls_with_the_carriage() -> None:
    """Its instantaneous frequency is never above that of full speed, and takes every value on the way there."""
    singing = replace(FRAMED, knock=-120.0, step_levels=(-40.0,))
    sound = play(singing, Condition(), seconds=20)
    turning = np.diff(np.unwrap(np.angle(signal.hilbert(sound)))) * RATE / (2 * np.pi)
    clear = np.abs(signal.hilbert(sound))[1:] > 0.9 * np.max(np.abs(sound))
    found = signal.medfilt(turning[clear], 31)
    assert np.quantile(found, 0.999) == pytest.approx(625, rel=0.01)
    counts, _ = np.histogram(found, bins=10, range=(150, 600))
    # as much time at every frequency: acceleration is constant
    np.testing.assert_allclose(counts, counts.mean(), rtol=0.2)


def test_a_loose_belt_rattles_at_its_own_frequency_when_braking_begins() -> None:
    healthy, loose = (play(PASSED, faulty("loose_belt", s), seed=1, seconds=20) for s in (0.0, 1.0))
    ends = knocks(healthy, height=0.003)
    ramp = 0.5 / STROKES[0][1]
    strokes = [(start, stop) for start, stop in pairwise(ends) if stop - start > 0.5]
    for start, stop in strokes:
        slaps = knocks(loose - healthy, height=0.01, apart=0.02)
        cruising = (slaps > start + 0.05) & (slaps < stop - ramp - 0.005)
        braking = slaps[(slaps >= stop - ramp - 0.005) & (slaps < stop + 0.05)]
        assert not np.any(cruising)
        assert braking.size >= 3
        np.testing.assert_allclose(np.diff(braking[:3]), 1 / PASSED.belt, rtol=0.1)


def test_a_looser_belt_and_harder_braking_rattle_more() -> None:
    by_severity = [np.std(play(PASSED, faulty("loose_belt", s))) for s in SEVERITIES]
    assert np.all(np.diff(by_severity) > 0)
    gentle, hard = (np.max(np.abs(play(replace(PASSED, stroke=s), faulty("loose_belt", 1.0)))) for s in (3, 4))
    assert hard / gentle == pytest.approx(5.5 / 1.5, rel=0.3)  # m/s²


def test_a_dry_rail_squeals_while_it_creeps_and_more_with_severity() -> None:
    silent = replace(FRAMED, knock=-120.0, roughness=-120.0)
    assert np.max(np.abs(play(silent, Condition()))) < 1e-4
    frequencies, power = signal.welch(play(silent, faulty("dry", 1.0)), RATE, nperseg=2048)
    assert frequencies[np.argmax(power)] == pytest.approx(silent.squeal, rel=0.05)
    loud = [np.std(play(silent, faulty("dry", s))) for s in SEVERITIES]
    np.testing.assert_allclose(np.array(loud) / loud[-1], SEVERITIES, atol=1e-3)


def test_a_dry_rail_is_rougher_at_high_frequencies() -> None:
    shares = []
    for severity in SEVERITIES:
        frequencies, power = signal.welch(play(Slider(), faulty("dry", severity)), RATE, nperseg=2048)
        shares.append(power[frequencies > 3500].sum() / power.sum())
    assert np.all(np.diff(shares) > 0)


@pytest.mark.parametrize("fault", Slider.faults)
def test_a_faulty_slider_is_the_healthy_one_plus_its_fault(fault: str) -> None:
    healthy = play(Slider(), Condition(), seconds=6)
    difference = [np.std(play(Slider(), faulty(fault, s), seconds=6) - healthy) for s in SEVERITIES]
    assert difference[0] == 0
    np.testing.assert_allclose(difference, np.array(SEVERITIES) * difference[-1], rtol=1e-9)


@pytest.mark.parametrize("stroke", range(len(STROKES)))
def test_a_rest_may_be_longer_than_anything_rings(stroke: int) -> None:
    brisk = Slider(stroke=stroke, belt=100.0)
    sound = play(brisk, Condition(speed=1.5), seconds=20)
    assert np.all(np.isfinite(sound))
    assert np.std(sound) > 0.001


def test_identities_differ_and_are_reproducible() -> None:
    sliders = [Slider.identity(number) for number in range(6)]
    assert len({slider.velocity for slider in sliders}) == 6
    assert Slider.identity(2, 1) == Slider.identity(2, 1)
    assert all(0 < slider.dent < 1 for slider in sliders)


@pytest.mark.parametrize("stroke", [-1, len(STROKES)])
def test_an_unknown_stroke_is_refused(stroke: int) -> None:
    with pytest.raises(ConfigError, match=f"from 0 to {len(STROKES) - 1}, got {stroke}"):
        Slider(stroke=stroke)


@pytest.mark.parametrize("dent", [0.0, 1.0, -0.2])
def test_a_dent_off_the_rail_is_refused(dent: float) -> None:
    with pytest.raises(ConfigError, match=f"between 0 and 1 of the travel, got {dent}"):
        Slider(dent=dent)
