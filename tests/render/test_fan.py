from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import signal, stats

from edge_asd.render.fan import Fan
from edge_asd.render.machine import Condition
from edge_asd.render.sound import FRAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
TONAL = Fan(rumble=-90.0, hiss=-90.0)  # without turbulence over its lines
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


def play(fan: Fan, condition: Condition, seed: int = 0, seconds: float = 12.0) -> NDArray[np.float64]:
    voice = fan.voice(RATE, np.random.default_rng(seed))
    return np.concatenate([voice.frame(condition) for _ in range(int(seconds * RATE / FRAME))])


def faulty(fault: str, severity: float) -> Condition:
    return Condition(fault=fault, severity=severity) if severity else Condition()


def line(sound: NDArray[np.float64], hertz: float, nperseg: int = 16_384) -> float:
    """Decibels by which a spectral line near ``hertz`` stands above its neighbourhood."""
    frequencies, power = signal.welch(sound, RATE, nperseg=nperseg)
    near = np.abs(frequencies - hertz)
    width = max(2.0, 0.02 * hertz)  # the speed drifts by a percent or so
    floor = np.median(power[(near > width) & (near < width + 15)])
    return float(10 * np.log10(np.max(power[near <= width]) / floor))


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("number", [0, 3])
def test_the_blade_passing_line_is_at_blades_times_speed(number: int, speed: float) -> None:
    fan = Fan.identity(number)
    frequencies, power = signal.welch(play(fan, Condition(speed=speed)), RATE, nperseg=8192)
    tonal = (frequencies > 2.5 * fan.shaft * speed) & (frequencies < 1.5 * fan.blades * fan.shaft * speed)
    peak = frequencies[tonal][np.argmax(power[tonal])]
    assert peak == pytest.approx(fan.blades * fan.shaft * speed, rel=0.02)


def test_sound_power_grows_with_about_the_fifth_power_of_speed() -> None:
    quiet, loud = (np.mean(play(Fan(), Condition(speed=speed)) ** 2) for speed in (0.7, 1.4))
    assert 10 * np.log10(loud / quiet) == pytest.approx(15, abs=1)


def test_load_raises_the_high_harmonics_of_the_blades_most() -> None:
    frequencies, idle = signal.welch(play(TONAL, Condition(load=0.0)), RATE, nperseg=4096)
    _, full = signal.welch(play(TONAL, Condition(load=1.0)), RATE, nperseg=4096)
    gain = [
        10 * np.log10(full[band].sum() / idle[band].sum())
        for band in (np.abs(frequencies - order * 175) < 12 for order in (1, 5))
    ]
    np.testing.assert_allclose(gain, [5, 9], atol=0.5)


def test_imbalance_raises_the_shaft_line_with_severity() -> None:
    levels = [line(play(Fan(), faulty("imbalance", s)), 25.0) for s in SEVERITIES]
    assert np.all(np.diff(levels) > 0)
    assert levels[-1] > levels[0] + 10


def test_a_damaged_blade_puts_sidebands_at_the_shaft_rate_beside_blade_passing() -> None:
    sideband = [line(play(TONAL, faulty("blade", s)), 175.0 - 25.0) for s in SEVERITIES]
    assert np.all(np.diff(sideband) > 0)
    assert sideband[-1] > 20 + abs(sideband[0])


def test_a_bearing_fault_raises_the_kurtosis_of_the_ringing_band() -> None:
    fan = Fan()
    band = signal.butter(4, (2600, 4200), "bandpass", fs=RATE, output="sos")
    heard = [stats.kurtosis(signal.sosfilt(band, play(fan, faulty("bearing", s)))) for s in SEVERITIES]
    assert np.all(np.diff(heard) > 0)
    assert heard[-1] > heard[0] + 0.5


def test_a_bearing_fault_shows_in_the_envelope_at_the_ball_pass_frequency() -> None:
    fan = Fan()
    band = signal.butter(4, (2600, 4200), "bandpass", fs=RATE, output="sos")
    lines = []
    for severity in (0.0, 0.5, 1.0):
        envelope = np.abs(signal.hilbert(signal.sosfilt(band, play(fan, faulty("bearing", severity)))))
        lines.append(line(envelope - envelope.mean(), fan.shaft * fan.defect_order))
    assert fan.defect_order == pytest.approx(8 / 2 * (1 - 0.22))  # Randall & Antoni 2011, table 1
    assert lines[2] > lines[1] > lines[0]
    assert lines[2] > 8


@pytest.mark.parametrize("fault", Fan.faults)
def test_a_faulty_fan_is_the_healthy_one_plus_its_fault(fault: str) -> None:
    """Severity only adds: the difference to the healthy sound, same seed, grows with it."""
    healthy = play(Fan(), Condition(), seconds=3)
    difference = [np.std(play(Fan(), faulty(fault, s), seconds=3) - healthy) for s in SEVERITIES]
    assert difference[0] == 0
    assert np.all(np.diff(difference) > 0)


def test_identities_differ_in_what_can_be_measured() -> None:
    fans = [Fan.identity(number) for number in range(6)]
    assert len({round(fan.blades * fan.shaft) for fan in fans}) == 6
    assert Fan.identity(2) == Fan.identity(2)
