from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from edge_asd.render.sound import FRAME, Convolution, Drift, Noise, harmonics, resonance, spectrum_shape, weights


@pytest.mark.parametrize("taps", [1, 7, FRAME, 3 * FRAME + 5])
def test_convolution_frame_by_frame_is_the_whole_convolution(taps: int) -> None:
    rng = np.random.default_rng(taps)
    kernel, dry = rng.standard_normal(taps), rng.standard_normal(6 * FRAME)
    stream = Convolution(kernel)
    wet = np.concatenate([stream.frame(frame) for frame in dry.reshape(-1, FRAME)])
    np.testing.assert_allclose(wet, signal.convolve(dry, kernel)[: dry.size], atol=1e-9)


def test_harmonics_are_the_sum_of_cosines() -> None:
    turns = np.linspace(0, 3, 500)
    weights = np.array([0.5, 0.2j, -0.1 + 0.3j])
    expected = sum(abs(w) * np.cos(2 * np.pi * k * turns + np.angle(w)) for k, w in enumerate(weights, 1))
    np.testing.assert_allclose(harmonics(np.exp(2j * np.pi * turns), weights), expected, atol=1e-12)


def test_weights_are_tones_of_their_levels_with_phases_all_round() -> None:
    drawn = weights(np.random.default_rng(0), [-20.0] * 4000)
    decibels = 20 * np.log10(np.abs(drawn) / np.sqrt(2))  # of the root mean square of a sine
    assert (np.mean(decibels), np.std(decibels)) == pytest.approx((-20, 0.5), abs=0.05)
    assert abs(np.mean(drawn / np.abs(drawn))) < 0.05


def test_noise_has_unit_power_and_the_asked_spectrum() -> None:
    noise = Noise(np.random.default_rng(1), spectrum_shape(16_000, ((200, 0), (1000, -6), (4000, -20))))
    sound = np.concatenate([noise.frame() for _ in range(200)])
    frequencies, power = signal.welch(sound, 16_000, nperseg=1024)
    level = 10 * np.log10(np.interp([250, 1000, 4000], frequencies, power))
    assert np.mean(sound**2) == pytest.approx(1.0, rel=0.05)
    np.testing.assert_allclose(level - level[1], [5.2, 0, -14], atol=1.0)


def test_a_resonance_rings_at_its_frequency_and_falls_by_1_over_e_in_its_decay() -> None:
    ring = resonance(16_000, 2000.0, 0.003)
    envelope = np.abs(signal.hilbert(ring))
    frequencies = np.fft.rfftfreq(16_000, 1 / 16_000)
    assert frequencies[np.argmax(np.abs(np.fft.rfft(ring, 16_000)))] == pytest.approx(2000, abs=10)
    assert envelope[80] / envelope[32] == pytest.approx(np.exp(-1), rel=0.05)


def test_drift_keeps_its_spread_and_never_jumps() -> None:
    drift = Drift(np.random.default_rng(3), 0.5, 1.0, 16_000)
    walk = np.concatenate([drift.frame() for _ in range(4000)])
    assert np.std(walk) == pytest.approx(0.5, rel=0.1)
    assert np.max(np.abs(np.diff(walk))) < 0.01
