from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import signal

from edge_asd.errors import ConfigError
from edge_asd.render.bearing import LOCATIONS, Bearing, Geometry
from edge_asd.render.machine import Condition
from edge_asd.render.sound import FRAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
STRIKES = Bearing(slip=0.0, ticks=0.0, roughness=-90.0, drive=-90.0, cogging_levels=(-90.0,), shaft_levels=(-90.0,))
"""spalls alone, and no slip but its chance part"""


def play(bearing: Bearing, condition: Condition, seed: int = 0, seconds: float = 12.0) -> NDArray[np.float64]:
    voice = bearing.voice(RATE, np.random.default_rng(seed))
    return np.concatenate([voice.frame(condition) for _ in range(int(seconds * RATE / FRAME))])


def faulty(fault: str, severity: float) -> Condition:
    return Condition(fault=fault, severity=severity) if severity else Condition()


def envelope_spectrum(sound: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies and power of the squared envelope of the band in which the housing rings."""
    band = signal.butter(4, (2500, 4200), "bandpass", fs=RATE, output="sos")
    envelope = np.abs(signal.hilbert(signal.sosfilt(band, sound))) ** 2
    return signal.welch(envelope / envelope.mean() - 1, RATE, nperseg=32_768)


def line(sound: NDArray[np.float64], hertz: float, width: float = 0.01) -> float:
    """Decibels by which the envelope's line near ``hertz`` (within that share of it) stands above its surroundings."""
    frequencies, power = envelope_spectrum(sound)
    away = np.abs(frequencies - hertz)
    near = max(1.0, width * hertz)
    floor = np.median(power[(away > near) & (away < near + 8)])
    return float(10 * np.log10(np.max(power[away <= near]) / floor))


def strongest(sound: NDArray[np.float64], low: float, high: float) -> float:
    """Hertz of the envelope's strongest line in between."""
    frequencies, power = envelope_spectrum(sound)
    between = (frequencies > low) & (frequencies < high)
    return float(frequencies[between][np.argmax(power[between])])


def test_orders_are_those_published_for_the_bearing_6205() -> None:
    """Case Western Reserve University bearing data center: drive end, 6205-2RS JEM SKF, per turn of the shaft."""
    deep_groove = Geometry(balls=9, ball_diameter=7.94, pitch_diameter=39.04, contact_angle=0.0)
    found = [deep_groove.outer, deep_groove.inner, deep_groove.cage, 2 * deep_groove.spin]
    np.testing.assert_allclose(found, [3.5848, 5.4152, 0.39828, 4.7135], rtol=2e-3)


def test_a_contact_angle_is_what_the_textbook_makes_of_it() -> None:
    balls, ball, pitch, angle = 11, 7.0, 40.0, np.radians(25.0)
    found = Geometry(balls, ball, pitch, 25.0)
    assert found.outer == pytest.approx(balls / 2 * (1 - ball / pitch * np.cos(angle)))
    assert found.inner == pytest.approx(balls / 2 * (1 + ball / pitch * np.cos(angle)))
    assert found.cage == pytest.approx((1 - ball / pitch * np.cos(angle)) / 2)
    assert found.spin == pytest.approx(pitch / (2 * ball) * (1 - (ball / pitch * np.cos(angle)) ** 2))


@pytest.mark.parametrize("speed", [0.8, 1.2])
@pytest.mark.parametrize(
    ("fault", "order"), [("outer", 9 / 2 * (1 - 7.94 / 39.04)), ("inner", 9 / 2 * (1 + 7.94 / 39.04))]
)
def test_a_spalled_race_shows_in_the_envelope_at_its_ball_pass_frequency(
    fault: str, order: float, speed: float
) -> None:
    sound = play(STRIKES, Condition(speed=speed, fault=fault, severity=1.0))
    expected = order * STRIKES.shaft * speed
    assert strongest(sound, 0.8 * expected, 1.2 * expected) == pytest.approx(expected, rel=0.01)


def test_a_spalled_ball_strikes_twice_a_turn() -> None:
    sound = play(STRIKES, faulty("ball", 1.0))
    expected = 2 * 39.04 / (2 * 7.94) * (1 - (7.94 / 39.04) ** 2) * STRIKES.shaft
    assert strongest(sound, 0.85 * expected, 1.15 * expected) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("fault", "carrier", "rate"),
    [("inner", 9 / 2 * (1 + 7.94 / 39.04), 1.0), ("ball", 39.04 / 7.94 * (1 - (7.94 / 39.04) ** 2), 0.39831)],
)
def test_strikes_come_and_go_with_what_carries_the_spall_through_the_load(
    fault: str, carrier: float, rate: float
) -> None:
    """Sidebands at the shaft's rate for the inner race, at the cage's for a ball; an outer race has neither."""
    sound, still = play(STRIKES, faulty(fault, 1.0)), play(STRIKES, faulty("outer", 1.0))
    assert line(sound, rate * STRIKES.shaft) > 12
    for side in (-1, 1):
        assert line(sound, (carrier + side * rate) * STRIKES.shaft) > 12
    assert line(still, rate * STRIKES.shaft) < 8
    assert line(still, (9 / 2 * (1 - 7.94 / 39.04) + 1) * STRIKES.shaft) < 8


@pytest.mark.parametrize("slip", [0.01, 0.02])
def test_balls_that_slip_pass_the_outer_race_later_and_the_inner_one_sooner(slip: float) -> None:
    outer, inner = (play(replace(STRIKES, slip=slip), faulty(fault, 1.0), seconds=24) for fault in ("outer", "inner"))
    cage = (1 - 7.94 / 39.04) / 2
    expected = 22.0 * 9 * cage * (1 - slip), 22.0 * 9 * (1 - cage * (1 - slip))
    assert strongest(outer, 70, 90) == pytest.approx(expected[0], rel=0.004)
    assert strongest(inner, 108, 130) == pytest.approx(expected[1], rel=0.004)


@pytest.mark.parametrize(
    ("fault", "order"),
    [("outer", 3.5848), ("inner", 5.4152), ("ball", 4.7135)],
)
def test_the_line_in_the_envelope_grows_with_the_spall_even_under_the_rig_s_own_noise(fault: str, order: float) -> None:
    lines = [line(play(Bearing(), faulty(fault, s), seconds=24), 22.0 * order, 0.025) for s in (0.0, 0.6, 1.0)]
    assert np.all(np.diff(lines) > 0)
    assert lines[-1] > 8


def test_a_strike_rings_at_the_modes_of_the_housing() -> None:
    frequencies, power = signal.welch(play(STRIKES, faulty("outer", 1.0)), RATE, nperseg=1024)
    peaks, _ = signal.find_peaks(10 * np.log10(power), prominence=2)
    for frequency, _, _ in Bearing().housing:
        assert np.min(np.abs(frequencies[peaks] - frequency)) < 60


def test_a_healthy_bearing_rolls_over_particles_now_and_then() -> None:
    gritty = replace(STRIKES, ticks=5.0, tick=-20.0)
    peaks, _ = signal.find_peaks(np.abs(play(gritty, Condition(), seconds=60)), height=0.02, distance=400)
    assert peaks.size / 60 == pytest.approx(5, rel=0.25)


def test_cogging_is_at_slots_times_the_shaft_frequency() -> None:
    bearing = replace(STRIKES, cogging_levels=(-40.0,), slots=15)
    frequencies, power = signal.welch(play(bearing, Condition(speed=0.9)), RATE, nperseg=8192)
    assert frequencies[np.argmax(power)] == pytest.approx(15 * 22 * 0.9, rel=0.01)


def test_another_place_hears_more_of_the_drive_and_less_of_the_bearing() -> None:
    rms = [
        [
            np.std(play(replace(part, location=place), faulty("outer", 1.0), seconds=4))
            for place in range(len(LOCATIONS))
        ]
        for part in (STRIKES, replace(STRIKES, strike=-120.0, drive=-38.0))
    ]
    heard = 20 * np.log10(np.array(rms) / np.array(rms)[:, :1])
    np.testing.assert_allclose(heard.T, LOCATIONS, atol=0.2)


@pytest.mark.parametrize("fault", Bearing.faults)
def test_a_faulty_bearing_is_the_healthy_one_plus_its_fault(fault: str) -> None:
    healthy = play(Bearing(), Condition(), seconds=3)
    difference = [np.std(play(Bearing(), faulty(fault, s), seconds=3) - healthy) for s in SEVERITIES]
    assert difference[0] == 0
    np.testing.assert_allclose(difference, np.array(SEVERITIES) * difference[-1], rtol=1e-9)


def test_identities_differ_and_are_reproducible() -> None:
    rigs = [Bearing.identity(number) for number in range(6)]
    assert len({round(rig.shaft * rig.geometry.outer, 1) for rig in rigs}) == 6
    assert Bearing.identity(2, 1) == Bearing.identity(2, 1)
    assert all(0.01 <= rig.slip <= 0.02 for rig in rigs)


@pytest.mark.parametrize("location", [-1, len(LOCATIONS)])
def test_an_unknown_location_is_refused(location: int) -> None:
    with pytest.raises(ConfigError, match=f"from 0 to {len(LOCATIONS) - 1}, got {location}"):
        Bearing(location=location)


@pytest.mark.parametrize("geometry", [(2, 8.0, 40.0, 0.0), (9, 40.0, 40.0, 0.0), (9, 8.0, 40.0, 90.0)])
def test_balls_that_do_not_fit_are_refused(geometry: tuple[int, float, float, float]) -> None:
    with pytest.raises(ConfigError, match="smaller than their pitch circle"):
        Geometry(*geometry)
