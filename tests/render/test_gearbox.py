from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import signal, stats

from edge_asd.render.gearbox import Gearbox, Mode
from edge_asd.render.machine import Condition
from edge_asd.render.sound import FRAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16_000
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
PINION, WHEEL, MESH = 24.0, 24.0 * 23 / 61, 24.0 * 23
"""hertz at nominal speed: turns of the two shafts, teeth that meet"""
STIFF = (Mode(1500.0, 0.004, 0.0),)  # a housing that passes forces on as they are
SILENT = Gearbox(
    mesh_levels=(-120.0,), shaft_levels=(-120.0,), friction=-120.0, churning=-120.0, blow=-120.0, scuff=-120.0
)
PURE = replace(SILENT, mesh_levels=(-30.0,), modes=STIFF)  # one harmonic of the mesh and nothing else


def play(gearbox: Gearbox, condition: Condition, seed: int = 0, seconds: float = 12.0) -> NDArray[np.float64]:
    voice = gearbox.voice(RATE, np.random.default_rng(seed))
    return np.concatenate([voice.frame(condition) for _ in range(int(seconds * RATE / FRAME))])


def faulty(fault: str, severity: float) -> Condition:
    return Condition(fault=fault, severity=severity) if severity else Condition()


def level(sound: NDArray[np.float64], low: float, high: float) -> float:
    """Decibels of what lies between two frequencies."""
    frequencies, power = signal.welch(sound, RATE, nperseg=16_384)
    return float(10 * np.log10(power[(frequencies >= low) & (frequencies < high)].sum() * RATE / 16_384))


def repeated(curve: NDArray[np.float64], hertz: float) -> float:
    """Amplitude of the sine of this frequency in a curve, give or take the drift of the speed."""
    frequencies, power = signal.welch(curve, RATE, "flattop", nperseg=32_768, scaling="spectrum")
    return float(np.sqrt(2 * np.max(power[np.abs(frequencies - hertz) < 0.02 * hertz + 0.5])))


def swell(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """The envelope relative to its mean."""
    envelope = np.abs(signal.hilbert(sound))[RATE // 4 : -RATE // 4]
    return envelope / envelope.mean() - 1


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("number", [0, 3])
def test_the_mesh_line_is_at_teeth_times_speed(number: int, speed: float) -> None:
    gearbox = Gearbox.identity(number)
    expected = gearbox.pinion * gearbox.shaft * speed
    frequencies, power = signal.welch(play(gearbox, Condition(speed=speed)), RATE, nperseg=16_384)
    near = np.abs(frequencies / expected - 1) < 0.4
    assert frequencies[near][np.argmax(power[near])] == pytest.approx(expected, rel=0.01)
    assert gearbox.mesh * speed == pytest.approx(expected)


def test_a_healthy_mesh_swells_once_per_turn_of_either_shaft() -> None:
    heard = swell(play(PURE, Condition()))
    assert repeated(heard, PINION) == pytest.approx(0.05, rel=0.1)
    assert repeated(heard, WHEEL) == pytest.approx(0.07, rel=0.1)


def test_a_healthy_mesh_is_early_and_late_once_per_turn_of_either_shaft() -> None:
    phase = np.unwrap(np.angle(signal.hilbert(play(PURE, Condition()))))[RATE // 4 : -RATE // 4]
    steady = signal.sosfiltfilt(signal.butter(2, 4, "highpass", fs=RATE, output="sos"), phase / (2 * np.pi))
    assert repeated(steady, PINION) == pytest.approx(0.008, rel=0.1)
    assert repeated(steady, WHEEL) == pytest.approx(0.012, rel=0.1)


def test_torque_raises_the_mesh() -> None:
    idle, full = (np.std(play(PURE, Condition(load=load))) for load in (0.0, 1.0))
    assert 20 * np.log10(full / idle) == pytest.approx(10, abs=0.1)


def test_the_housing_amplifies_by_its_gain_at_its_resonance() -> None:
    rubbing = replace(SILENT, friction=-30.0)
    plain, ringing = (play(replace(rubbing, modes=(Mode(1500.0, 0.004, gain),)), Condition()) for gain in (0.0, 9.0))
    assert level(ringing, 1480, 1520) - level(plain, 1480, 1520) == pytest.approx(9, abs=0.7)
    assert level(ringing, 4000, 6000) - level(plain, 4000, 6000) == pytest.approx(0, abs=0.7)


def test_a_harmonic_beyond_half_the_rate_is_not_heard_elsewhere() -> None:
    """The fifth, at 4140 Hz, would fold down to 3860 Hz."""
    fifth = replace(SILENT, mesh_levels=(-120.0, -120.0, -120.0, -120.0, -20.0))
    voice = fifth.voice(8000, np.random.default_rng(0))
    sound = np.concatenate([voice.frame(Condition(speed=1.5)) for _ in range(20)])
    assert np.max(np.abs(sound)) < 1e-4


def test_eccentricity_raises_the_sidebands_of_the_pinion_and_not_of_the_wheel() -> None:
    heard = [swell(play(PURE, faulty("eccentricity", severity))) for severity in SEVERITIES]
    assert np.all(np.diff([repeated(curve, PINION) for curve in heard]) > 0.05)
    np.testing.assert_allclose([repeated(curve, WHEEL) for curve in heard], 0.07, rtol=0.15)


def test_sidebands_lie_at_the_shaft_rate_beside_the_mesh() -> None:
    beside = [
        level(play(replace(PURE, pitches=(0, 0)), faulty("eccentricity", s)), MESH - PINION - 4, MESH - PINION + 4)
        for s in SEVERITIES
    ]
    assert np.all(np.diff(beside) > 1)


def test_a_chipped_tooth_strikes_once_per_turn_of_the_pinion() -> None:
    sound = play(replace(SILENT, blow=-10.0), faulty("chipped_tooth", 1.0))
    peaks, _ = signal.find_peaks(np.abs(sound), height=0.02, distance=round(0.6 * RATE / PINION))
    assert peaks.size == pytest.approx(PINION * sound.size / RATE, abs=4)
    assert np.median(np.diff(peaks)) / RATE == pytest.approx(1 / PINION, rel=0.02)


def test_a_chipped_tooth_shows_in_the_envelope_at_the_shaft_rate_with_severity() -> None:
    band = signal.butter(4, (1600, 4400), "bandpass", fs=RATE, output="sos")
    sounds = [signal.sosfilt(band, play(Gearbox(), faulty("chipped_tooth", s))) for s in SEVERITIES]
    once = [repeated(swell(sound), PINION) for sound in sounds]
    assert np.all(np.diff(once) > 0)
    assert once[-1] > 5 * once[0]
    assert np.all(np.diff([stats.kurtosis(sound) for sound in sounds]) > 0)


def test_a_blow_rings_at_the_modes_of_the_housing() -> None:
    gearbox = replace(SILENT, blow=-10.0)
    frequencies, power = signal.welch(play(gearbox, faulty("chipped_tooth", 1.0)), RATE, nperseg=1024)
    peaks, _ = signal.find_peaks(10 * np.log10(power), prominence=3)
    for mode in gearbox.modes:
        assert np.min(np.abs(frequencies[peaks] - mode.frequency)) < 60


def test_a_chipped_tooth_leaves_a_gap_in_the_mesh_once_per_turn() -> None:
    heard = swell(play(PURE, faulty("chipped_tooth", 1.0)))
    gaps, _ = signal.find_peaks(-heard, height=0.6, distance=round(0.6 * RATE / PINION))
    assert gaps.size == pytest.approx(PINION * heard.size / RATE, abs=4)


def test_wear_raises_the_high_harmonics_of_the_mesh_most() -> None:
    gearbox = replace(Gearbox(), friction=-120.0, churning=-120.0, modes=STIFF)
    levels = np.array(
        [
            [level(play(gearbox, faulty("wear", s)), (k - 0.2) * MESH, (k + 0.2) * MESH) for k in range(1, 6)]
            for s in SEVERITIES
        ]
    )
    assert np.all(np.diff(levels, axis=0) > 0)
    assert np.all(np.diff(levels[-1] - levels[0]) > 0)


def test_wear_raises_the_sidebands_of_both_shafts() -> None:
    heard = [swell(play(PURE, faulty("wear", severity))) for severity in SEVERITIES]
    for shaft in (PINION, WHEEL):
        assert np.all(np.diff([repeated(curve, shaft) for curve in heard]) > 0)


def test_without_oil_the_flanks_rub_with_severity() -> None:
    rub = [level(play(Gearbox(), faulty("lubrication", s)), 1500, 5000) for s in SEVERITIES]
    assert np.all(np.diff(rub) > 0)


def test_flanks_without_oil_scuff_in_time_with_the_mesh() -> None:
    """A Poisson process of 60 a second whose chance swells by 0.7 with the mesh: mean of exp(i phase) is 0.7 / 2."""
    scuffing = replace(SILENT, scuff=0.0, modes=(Mode(5000.0, 0.0002, 0.0),))
    sound = play(scuffing, faulty("lubrication", 1.0), seconds=30)
    scuffs, _ = signal.find_peaks(np.abs(sound), height=0.05, distance=16)
    assert scuffs.size == pytest.approx(60 * sound.size / RATE, rel=0.1)
    mesh = signal.hilbert(play(PURE, Condition(), seconds=30))  # the same seed turns the same teeth
    assert abs(np.mean(mesh[scuffs] / np.abs(mesh[scuffs]))) == pytest.approx(0.35, abs=0.06)


def test_rubbing_breathes_at_the_mesh_frequency() -> None:
    heard = swell(play(replace(SILENT, friction=-30.0, modes=STIFF), Condition()))
    frequencies, power = signal.welch(heard, RATE, nperseg=16_384)
    assert frequencies[np.argmax(power)] == pytest.approx(MESH, rel=0.01)


@pytest.mark.parametrize("fault", Gearbox.faults)
def test_a_faulty_gearbox_is_the_healthy_one_plus_its_fault(fault: str) -> None:
    """Severity only adds: the difference to the healthy sound, same seed, grows with it."""
    healthy = play(Gearbox(), Condition(), seconds=3)
    difference = [np.std(play(Gearbox(), faulty(fault, s), seconds=3) - healthy) for s in SEVERITIES]
    assert difference[0] == 0
    assert np.all(np.diff(difference) > 0)


def test_identities_differ_in_what_can_be_measured() -> None:
    boxes = [Gearbox.identity(number) for number in range(6)]
    assert len({round(box.mesh) for box in boxes}) == 6
    assert len({round(box.modes[0].frequency) for box in boxes}) == 6
    assert Gearbox.identity(2) == Gearbox.identity(2)
