from __future__ import annotations

import itertools
from functools import partial
from math import gcd

import numpy as np
import pytest
import scipy.signal
import soxr
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.signal.health import LSB, Fault, band_limit, clipped, fault, is_flat, longest_zero_run, power, repeats

NOISE = (0.1 * np.random.default_rng(0).standard_normal(32_000)).astype(np.float32)


def spoilt(value: float, start: int, stop: int) -> np.ndarray:
    """Noise with a stretch of one value in it."""
    samples = NOISE.copy()
    samples[start:stop] = value
    return samples


def test_noise_can_be_scored() -> None:
    assert fault(NOISE) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_no_number_is_enough(value: float) -> None:
    assert fault(spoilt(value, 100, 101)) is Fault.NOT_FINITE


@pytest.mark.parametrize(("zeros", "found"), [(3_999, None), (4_000, Fault.SILENT), (20_000, Fault.SILENT)])
def test_a_quarter_of_a_second_of_exact_zeros_is_silence(zeros: int, found: Fault | None) -> None:
    assert fault(spoilt(0.0, 1_000, 1_000 + zeros)) is found


def test_a_short_stretch_of_nothing_but_zeros_is_silence() -> None:
    assert fault(np.zeros(10, np.float32)) is Fault.SILENT


@pytest.mark.parametrize("value", [0.3, -1.0, 2 * LSB])
def test_a_value_that_never_changes_is_stuck(value: float) -> None:
    assert fault(np.full(32_000, value, np.float32)) is Fault.STUCK


def test_the_last_bit_of_an_idle_converter_is_stuck_and_a_quiet_room_is_not() -> None:
    assert fault(np.tile([0.0, LSB], 16_000).astype(np.float32)) is Fault.STUCK
    assert fault((NOISE * 30 * LSB).astype(np.float32)) is None


@pytest.mark.parametrize(("share", "found"), [(0.009, None), (0.011, Fault.CLIPPING), (0.5, Fault.CLIPPING)])
def test_one_sample_in_a_hundred_at_full_scale_is_clipping(share: float, found: Fault | None) -> None:
    samples = NOISE.copy()
    samples[: int(share * samples.size)] = np.resize([1.0, -1.0], int(share * samples.size))
    assert fault(samples) is found


def test_full_scale_of_16_bits_counts_as_clipping() -> None:
    assert fault(spoilt(32_767 / 32_768, 0, 1_000)) is Fault.CLIPPING


@given(st.lists(st.sampled_from([0.0, 0.0, 1.0, -0.5]), min_size=1))
def test_the_longest_run_of_zeros_is_what_counting_says(values: list[float]) -> None:
    runs = [len(list(group)) for value, group in itertools.groupby(values) if value == 0]
    assert longest_zero_run(np.array(values, np.float32)) == max(runs, default=0)


def test_a_voltage_with_the_noise_of_a_converter_on_it_is_stuck_and_an_offset_under_sound_is_not() -> None:
    assert fault(np.float32(0.5) + NOISE * np.float32(0.01)) is Fault.STUCK
    assert fault(np.float32(0.5) + NOISE) is None


@pytest.mark.parametrize("period", [64, 441, 1_600, 16_000])
def test_a_buffer_that_comes_again_and_again_is_stuck_until_one_bit_differs(period: int) -> None:
    again = np.resize(NOISE[:period], 32_000)
    assert fault(again) is Fault.STUCK

    again[5] = np.nextafter(again[5], np.float32(1))
    assert fault(again) is None


def test_a_pure_tone_is_no_buffer_that_repeats() -> None:
    tone = np.resize(0.3 * np.sin(2 * np.pi * np.arange(16) / 16), 32_000).astype(np.float32)
    assert fault(tone) is None


@given(st.integers(1, 300), st.integers(1, 1_000), st.integers(0, 9))
def test_what_repeats_is_what_comparing_every_shift_says(period: int, size: int, seed: int) -> None:
    samples = np.resize(np.random.default_rng(seed).integers(0, 3, period), size).astype(np.float32)
    shifts = [p for p in range(1, size) if np.array_equal(samples[p:], samples[:-p])]
    shortest = next((p for p in shifts if 2 * p <= size and size >= 64 + p), None)
    assert repeats(samples) == (shortest is not None and shortest >= 64)


def test_samples_at_full_scale_are_counted_on_both_sides() -> None:
    assert clipped(np.array([1, -1, 1.5, 0.99, 32_767 / 32_768, -0.9], np.float32)) == 4


def test_only_ratios_of_the_power_mean_anything_and_they_are_those_of_scipy() -> None:
    _, reference = scipy.signal.periodogram(NOISE, window=np.hanning(NOISE.size), detrend=False)
    ours = power(NOISE)
    inner = slice(1, -1)  # scipy doubles all but the first and the last
    np.testing.assert_allclose(ours[inner] / ours[inner].sum(), reference[inner] / reference[inner].sum(), rtol=1e-4)


@pytest.mark.parametrize("rate", [16_000, 22_050, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("lower", [8_000, 11_025, 16_000, 22_050, 32_000])
@pytest.mark.parametrize("how", ["soxr", "scipy"])
def test_sound_that_went_through_a_lower_rate_is_found_out_and_its_rate_is_told(
    rate: int, lower: int, how: str
) -> None:
    noise = np.random.default_rng(1).standard_normal(lower)
    up = {
        "soxr": partial(soxr.resample, noise, lower, rate),
        "scipy": partial(scipy.signal.resample_poly, noise, rate // gcd(rate, lower), lower // gcd(rate, lower)),
    }
    sound = up[how]() if lower < rate else np.random.default_rng(2).standard_normal(rate)
    heard = np.round(0.05 * sound / LSB) * LSB

    assert band_limit(power(heard.astype(np.float32)), rate) == (lower if lower < 0.9 * rate else None)


def test_a_steep_machine_and_a_tone_are_not_taken_for_a_lower_rate() -> None:
    white = np.random.default_rng(3).standard_normal(16_000)
    falling = scipy.signal.lfilter([1], [1, -0.99], white)  # 6 dB an octave
    tone = 0.9 * np.sin(2 * np.pi * 3_300 * np.arange(16_000) / 16_000) + 1e-4 * white

    for sound in (white, falling, tone):
        assert band_limit(power(sound.astype(np.float32)), 16_000) is None


@given(st.integers(0, 10_000))
def test_white_noise_is_flat_and_coloured_noise_is_not(seed: int) -> None:
    white = np.random.default_rng(seed).standard_normal(16_000)
    coloured = scipy.signal.lfilter([1, 0.5], [1], white)

    assert is_flat(power(white.astype(np.float32)), 16_000)
    assert not is_flat(power(coloured.astype(np.float32)), 16_000)
