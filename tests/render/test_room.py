from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from edge_asd.errors import ConfigError
from edge_asd.render.room import Acoustics, Background, Microphone, Room
from edge_asd.render.sound import FRAME

RATE = 16_000
SILENT = Background(level=-120.0, hum=-120.0)


def hear(room: Room, frames: int, source: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    acoustics = Acoustics(room, RATE, rng)
    return np.concatenate([acoustics.frame(source * rng.standard_normal(FRAME)) for _ in range(frames)])


def test_direct_sound_falls_with_distance_and_reflected_sound_does_not() -> None:
    near, far = (Room(Microphone(distance=d)).impulse_response(RATE) for d in (0.5, 2.0))
    assert near[0] / far[0] == pytest.approx(4.0)
    np.testing.assert_array_equal(near[1:], far[1:])


def test_at_the_critical_distance_direct_and_reflected_sound_are_equally_strong() -> None:
    response = Room(Microphone(distance=1.6), critical_distance=1.6).impulse_response(RATE)
    assert response[0] ** 2 == pytest.approx(np.sum(response[1:] ** 2), rel=1e-9)


def test_the_reverberation_falls_by_sixty_decibels_in_its_time() -> None:
    """Schroeder's backward integration; slope between -5 and -25 dB."""
    responses = [Room(Microphone(distance=100.0), reverberation=0.4, number=n).impulse_response(RATE) for n in range(8)]
    tail = np.mean(np.square(responses), axis=0)[round(0.025 * RATE) :]
    energy = np.cumsum(tail[::-1])[::-1]
    decay = 10 * np.log10(energy / energy[0])
    within = (decay < -5) & (decay > -25)
    slope = np.polyfit(np.flatnonzero(within) / RATE, decay[within], 1)[0]
    assert -60 / slope == pytest.approx(0.4, rel=0.1)


def test_the_microphone_cuts_three_decibels_at_its_corners() -> None:
    microphone = Microphone(gain=6.0, low_cut=100.0, high_cut=6000.0)
    gain = 20 * np.log10(np.abs(microphone.response(np.array([100.0, 800.0, 6000.0]))))
    np.testing.assert_allclose(gain, [3, 6, 3], atol=0.15)


def test_background_has_its_level_and_slope() -> None:
    open_microphone = Microphone(low_cut=1.0, high_cut=1e6)
    heard = hear(Room(open_microphone, Background(level=-40, slope=-4, hum=-120, unrest=0)), 200)
    frequencies, power = signal.welch(heard, RATE, nperseg=2048)
    octave = np.interp([400, 1600], frequencies, 10 * np.log10(power))
    assert 10 * np.log10(np.mean(heard**2)) == pytest.approx(-40, abs=0.3)
    assert octave[1] - octave[0] == pytest.approx(-8, abs=1)


def test_hum_is_at_twice_and_four_times_the_mains() -> None:
    heard = hear(Room(background=Background(level=-120, hum=-30, mains=60)), 100)
    frequencies, power = signal.welch(heard, RATE, nperseg=16_000)
    lines, _ = signal.find_peaks(power, height=1e-6)
    assert list(frequencies[lines]) == [120, 240]


def test_the_loudest_source_saturates_and_never_clips() -> None:
    loud = hear(Room(background=SILENT), 20, source=10.0)
    assert 0.95 < np.max(np.abs(loud)) < 0.99


def test_a_quiet_source_passes_linearly() -> None:
    quiet, louder = (hear(Room(background=SILENT), 20, source=s) for s in (0.02, 0.04))
    difference = 20 * np.log10(np.std(louder) / np.std(quiet))
    assert difference == pytest.approx(6.02, abs=0.05)


@pytest.mark.parametrize("wrong", [{"distance": 0.0}, {"low_cut": 9000.0}])
def test_an_impossible_microphone_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"at least 0\.1 m"):
        Microphone(**wrong)


@pytest.mark.parametrize("wrong", [{"reverberation": 9.0}, {"critical_distance": 0.0}])
def test_an_impossible_room_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="s of reverberation"):
        replace(Room(), **wrong)
