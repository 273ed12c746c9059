from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import signal

from edge_asd.render.machine import Condition
from edge_asd.render.pump import Pump
from edge_asd.render.sound import FRAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
TONAL = Pump(rumble=-120.0, hiss=-120.0)  # without turbulence over its lines
HYDRAULIC = Pump(hum=-120.0, whine=-120.0)  # driven by a silent motor
MOTOR = replace(TONAL, vane_levels=(-120.0,), shaft_levels=(-120.0,) * 4)


def play(pump: Pump, condition: Condition, seed: int = 0, seconds: float = 12.0) -> NDArray[np.float64]:
    voice = pump.voice(RATE, np.random.default_rng(seed))
    return np.concatenate([voice.frame(condition) for _ in range(int(seconds * RATE / FRAME))])


def faulty(fault: str, severity: float) -> Condition:
    return Condition(fault=fault, severity=severity) if severity else Condition()


def level(sound: NDArray[np.float64], low: float, high: float) -> float:
    """Decibels of what lies between two frequencies."""
    frequencies, power = signal.welch(sound, RATE, nperseg=16_384)
    return float(10 * np.log10(power[(frequencies >= low) & (frequencies < high)].sum() * RATE / 16_384))


def strongest(sound: NDArray[np.float64], low: float, high: float) -> float:
    frequencies, power = signal.welch(sound, RATE, nperseg=16_384)
    within = (frequencies >= low) & (frequencies < high)
    return float(frequencies[within][np.argmax(power[within])])


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("number", [0, 3])
def test_the_vane_passing_line_is_at_vanes_times_speed(number: int, speed: float) -> None:
    pump = Pump.identity(number)
    passing = pump.vanes * pump.shaft * speed
    heard = strongest(play(pump, Condition(speed=speed)), 3.5 * pump.shaft * speed, 1.5 * passing)
    assert heard == pytest.approx(passing, rel=0.01)


def test_pressures_follow_the_affinity_law() -> None:
    slow, fast = (play(HYDRAULIC, Condition(speed=speed)) for speed in (0.7, 1.4))
    assert 10 * np.log10(np.mean(fast**2) / np.mean(slow**2)) == pytest.approx(20 * np.log10(2**2), abs=0.3)


@pytest.mark.parametrize("load", [0.0, 0.5, 1.0])
def test_the_hum_is_at_twice_the_supply_which_slips_ahead_of_the_rotor(load: float) -> None:
    """A rotor of one pole pair that slips by 3 % at half load turns at 0.97 of the supply, at full load at 0.94."""
    supply = 48.5 / (1 - 0.06 * load)
    assert strongest(play(MOTOR, Condition(load=load)), 60, 140) == pytest.approx(2 * supply, rel=0.005)


def test_the_bars_of_the_rotor_whine_beside_their_passing() -> None:
    expected = 28 * 48.5 + 2 * 50.0
    assert strongest(play(MOTOR, Condition()), 1000, 2000) == pytest.approx(expected, rel=0.005)


def test_the_vanes_are_quietest_where_the_pump_is_most_efficient() -> None:
    levels = [level(play(TONAL, Condition(load=load)), 270, 310) for load in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert np.argmin(levels) == 2
    assert np.all(np.diff(levels) * [-1, -1, 1, 1] > 0)


def test_cavitation_crackles_above_some_kilohertz_with_severity() -> None:
    sounds = [play(Pump(), faulty("cavitation", severity)) for severity in SEVERITIES]
    high = [level(sound, 4000, 8000) for sound in sounds]
    assert np.all(np.diff(high) > 0)
    assert high[-1] > high[0] + 1.5
    assert level(sounds[-1], 0, 1000) < level(sounds[0], 0, 1000)  # the vanes push against something soft


def test_cavitation_pulses_at_the_vane_passing_frequency() -> None:
    """Envelope analysis: the line at vanes times speed, relative to the mean of the envelope above 4 kHz."""
    band = signal.butter(4, 4000, "highpass", fs=RATE, output="sos")
    lines = []
    for severity in (0.0, 0.5, 1.0):
        envelope = np.abs(signal.hilbert(signal.sosfilt(band, play(HYDRAULIC, faulty("cavitation", severity)))))
        frequencies, power = signal.welch(envelope - envelope.mean(), RATE, nperseg=16_384)
        assert frequencies[np.argmax(power)] == pytest.approx(6 * 48.5, rel=0.01)
        lines.append(np.max(power) / envelope.mean() ** 2)
    assert lines[0] < lines[1] < lines[2]


def test_bubbles_are_as_many_as_they_should_be() -> None:
    """Campbell's theorem: 450 a second at half severity, of mean square size 2, each a decaying sine."""
    cavities = replace(MOTOR, hum=-120.0, whine=-120.0, bubble=0.0)
    power = np.mean(play(cavities, faulty("cavitation", 0.5)) ** 2)
    assert 10 * np.log10(power) == pytest.approx(10 * np.log10(450 * 2 * 0.00015 / 4), abs=1.0)


def test_misalignment_raises_twice_the_shaft_speed_most() -> None:
    shaft = replace(TONAL, vane_levels=(-120.0,), hum=-120.0, whine=-120.0)
    levels = np.array(
        [
            [level(play(shaft, faulty("misalignment", s)), 48.5 * k - 5, 48.5 * k + 5) for k in (1, 2, 3, 4)]
            for s in SEVERITIES
        ]
    )
    assert np.all(np.diff(levels, axis=0) > 0)
    assert np.argmax(levels[-1] - levels[0]) == 1
    assert levels[-1, 1] > levels[0, 1] + 10


def test_a_clogged_channel_puts_sidebands_at_the_shaft_rate_beside_vane_passing() -> None:
    lower = [level(play(TONAL, faulty("clogging", s)), 5 * 48.5 - 4, 5 * 48.5 + 4) for s in SEVERITIES]
    assert np.all(np.diff(lower) > 0)
    assert lower[1] > lower[0] + 10


def test_debris_in_the_impeller_weighs_on_the_first_order() -> None:
    first = [level(play(Pump(), faulty("clogging", s)), 44, 53) for s in SEVERITIES]
    assert np.all(np.diff(first) > 0)


@pytest.mark.parametrize("fault", Pump.faults)
def test_a_faulty_pump_is_the_healthy_one_plus_its_fault(fault: str) -> None:
    """Severity only adds: the difference to the healthy sound, same seed, grows with it."""
    healthy = play(Pump(), Condition(), seconds=3)
    difference = [np.std(play(Pump(), faulty(fault, s), seconds=3) - healthy) for s in SEVERITIES]
    assert difference[0] == 0
    assert np.all(np.diff(difference) > 0)


def test_identities_differ_in_what_can_be_measured() -> None:
    pumps = [Pump.identity(number) for number in range(6)]
    assert len({(pump.vanes, round(pump.bars * pump.shaft)) for pump in pumps}) == 6
    assert Pump.identity(2) == Pump.identity(2)
