from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import signal

from edge_asd.errors import ConfigError
from edge_asd.render.machine import Condition
from edge_asd.render.motor import CARRIERS, Motor
from edge_asd.render.sound import FRAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
OFF = -140.0
SILENT = Motor(
    hum_levels=(OFF,),
    slot_levels=(OFF,),
    switching_levels=(OFF, OFF),
    shaft_levels=(OFF,),
    air=OFF,
    roughness=OFF,
)
"""faults alone"""


def play(motor: Motor, condition: Condition, seed: int = 0, seconds: float = 12.0) -> NDArray[np.float64]:
    voice = motor.voice(RATE, np.random.default_rng(seed))
    return np.concatenate([voice.frame(condition) for _ in range(int(seconds * RATE / FRAME))])


def faulty(fault: str, severity: float, load: float = 0.5) -> Condition:
    return Condition(load=load, fault=fault, severity=severity) if severity else Condition(load=load)


def spectrum(sound: NDArray[np.float64], nperseg: int = 65_536) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies and decibels, in bins of a quarter of a hertz."""
    frequencies, power = signal.welch(sound, RATE, "blackman", nperseg=nperseg)
    return frequencies, 10 * np.log10(power + 1e-30)


def level(sound: NDArray[np.float64], hertz: float, near: float = 0.6) -> float:
    """Decibels of the strongest bin near ``hertz``."""
    frequencies, decibels = spectrum(sound)
    return float(np.max(decibels[np.abs(frequencies - hertz) <= near]))


def peak(sound: NDArray[np.float64], low: float, high: float, nperseg: int = 65_536) -> float:
    """Hertz of the strongest bin in between."""
    frequencies, decibels = spectrum(sound, nperseg)
    between = (frequencies > low) & (frequencies < high)
    return float(frequencies[between][np.argmax(decibels[between])])


@pytest.mark.parametrize("speed", [0.8, 1.2])
def test_hum_is_at_twice_the_supply_and_does_not_slip(speed: float) -> None:
    humming = replace(SILENT, hum_levels=(-40.0,))
    for load in (0.0, 1.0):
        assert peak(play(humming, Condition(speed, load)), 20, 400) == pytest.approx(2 * 50 * speed, abs=0.25)


@pytest.mark.parametrize("load", [0.0, 1.0])
@pytest.mark.parametrize("pole_pairs", [1, 2, 3])
def test_the_shaft_lags_the_field_by_a_slip_that_grows_with_the_load(pole_pairs: int, load: float) -> None:
    turning = replace(SILENT, shaft_levels=(-40.0,), pole_pairs=pole_pairs)
    found = peak(play(turning, Condition(load=load), seconds=20), 10, 60, 262_144)
    slip = 1 - found * pole_pairs / 50
    assert slip == pytest.approx(0.04 * (0.1 + 0.9 * load), abs=0.004)


def test_slot_harmonics_are_at_bars_times_the_shaft_with_sidebands_at_twice_the_supply() -> None:
    slotted = replace(SILENT, slot_levels=(-40.0,), shaft_levels=(-60.0,))
    sound = play(slotted, Condition())
    shaft = peak(sound, 15, 40)
    middle = peak(sound, 28 * shaft - 10, 28 * shaft + 10)
    assert middle == pytest.approx(28 * shaft, rel=0.005)
    for side, beside in ((100, -5), (-100, -7)):
        assert peak(sound, middle + side - 10, middle + side + 10) == pytest.approx(middle + side, abs=1)
        assert level(sound, middle + side) - level(sound, middle) == pytest.approx(beside, abs=2)


@pytest.mark.parametrize("carrier", range(len(CARRIERS)))
def test_switching_is_heard_one_and_three_supply_frequencies_from_the_carrier(carrier: int) -> None:
    switched = replace(SILENT, switching_levels=(-46.0, -52.0), carrier=carrier)
    frequencies, decibels = spectrum(play(switched, Condition(speed=1.1)))
    peaks, _ = signal.find_peaks(decibels, height=np.max(decibels) - 20, distance=40)
    expected = CARRIERS[carrier] + 55.0 * np.array([-3, -1, 1, 3])
    np.testing.assert_allclose(frequencies[peaks], expected, atol=0.25)


@pytest.mark.parametrize("load", [0.6, 1.0])
@pytest.mark.parametrize("part", ["hum_levels", "shaft_levels"])
def test_a_broken_bar_puts_sidebands_at_twice_the_slip_frequency_beside_hum_and_shaft(part: str, load: float) -> None:
    """The pole-pass frequency: poles times the slip speed, (synchronous - shaft) * 2 * pole pairs."""
    motor = replace(SILENT, **{part: (-40.0,)})
    steady, beating = (play(motor, faulty("rotor_bar", s, load), seconds=20) for s in (0.0, 1.0))
    shaft = peak(play(replace(SILENT, shaft_levels=(-40.0,)), Condition(load=load), seconds=20), 10, 40, 262_144)
    middle = shaft if part == "shaft_levels" else 100.0
    pole_pass = (50 / 2 - shaft) * 4
    assert pole_pass == pytest.approx(2 * 50 * 0.04 * (0.1 + 0.9 * load), rel=0.12)
    for side in (-pole_pass, pole_pass):
        assert level(beating, middle + side) - level(beating, middle) == pytest.approx(20 * np.log10(0.4), abs=3)
        assert level(beating, middle + side) > level(steady, middle + side) + 10


def test_sidebands_of_a_broken_bar_grow_with_severity() -> None:
    humming = replace(SILENT, hum_levels=(-40.0,))
    shaft = peak(play(replace(SILENT, shaft_levels=(-40.0,)), Condition(load=1.0), seconds=20), 10, 40, 262_144)
    levels = [level(play(humming, faulty("rotor_bar", s, 1.0), seconds=20), 200 - 4 * shaft) for s in (0.0, 0.25, 1.0)]
    assert np.all(np.diff(levels) > 0)
    assert levels[-1] - levels[1] == pytest.approx(12, abs=1)  # 0.25 to 1: amplitude is proportional


def test_a_bearing_fault_shows_in_the_envelope_at_the_ball_pass_frequency() -> None:
    sound = play(SILENT, faulty("bearing", 1.0))
    band = signal.butter(4, (2300, 3500), "bandpass", fs=RATE, output="sos")
    envelope = np.abs(signal.hilbert(signal.sosfilt(band, sound))) ** 2
    shaft = 50 / 2 * (1 - 0.04 * 0.55)
    expected = shaft * 8 / 2 * (1 - 8.7 / 38.5)  # without slip of the balls; they lag 1.5 %
    assert peak(envelope - envelope.mean(), 0.8 * expected, 1.2 * expected) == pytest.approx(0.985 * expected, rel=0.01)


@pytest.mark.parametrize(("fault", "order"), [("misalignment", 2), ("stator", 4)])
def test_misalignment_raises_twice_the_shaft_and_a_shorted_stator_twice_the_supply(fault: str, order: int) -> None:
    shaft = peak(play(replace(SILENT, shaft_levels=(-40.0,)), Condition()), 10, 40)
    hertz = 2 * shaft if fault == "misalignment" else 100.0
    levels = [level(play(Motor(), faulty(fault, s)), hertz) for s in (0.0, 0.5, 1.0)]
    other = [
        level(play(Motor(), faulty(fault, s)), 100.0 if fault == "misalignment" else 2 * shaft) for s in (0.0, 1.0)
    ]
    assert np.all(np.diff(levels) > 0)
    assert levels[-1] > levels[0] + order
    assert other[1] == pytest.approx(other[0], abs=1.0)


@pytest.mark.parametrize(("fault", "level_of"), [("misalignment", "rub"), ("stator", "buzz")])
def test_rub_and_buzz_come_twice_a_turn_and_twice_a_period(fault: str, level_of: str) -> None:
    noisy = replace(SILENT, **{level_of: -40.0})
    sound = play(noisy, faulty(fault, 1.0)) ** 2
    expected = 2 * 25 * (1 - 0.04 * 0.55) if fault == "misalignment" else 100.0
    assert peak(sound - sound.mean(), 20, 130) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("fault", Motor.faults)
def test_a_faulty_motor_is_the_healthy_one_plus_its_fault(fault: str) -> None:
    healthy = play(Motor(), Condition(), seconds=3)
    difference = [np.std(play(Motor(), faulty(fault, s), seconds=3) - healthy) for s in SEVERITIES]
    assert difference[0] == 0
    assert np.all(np.diff(difference) > 0)


def test_the_cooling_fan_follows_the_fifth_power_of_speed_in_sound_power() -> None:
    quiet, loud = (np.mean(play(replace(SILENT, air=-37.0), Condition(speed=s), seconds=20) ** 2) for s in (0.7, 1.4))
    assert 10 * np.log10(loud / quiet) == pytest.approx(15, abs=0.5)


def test_identities_differ_and_are_reproducible() -> None:
    motors = [Motor.identity(number) for number in range(6)]
    assert len({motor.slip for motor in motors}) == 6
    assert Motor.identity(2, 1) == Motor.identity(2, 1)


@pytest.mark.parametrize("carrier", [-1, len(CARRIERS)])
def test_an_unknown_carrier_is_refused(carrier: int) -> None:
    with pytest.raises(ConfigError, match=f"from 0 to {len(CARRIERS) - 1}, got {carrier}"):
        Motor(carrier=carrier)
