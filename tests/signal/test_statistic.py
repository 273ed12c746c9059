from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.signal.statistic import SILENCE_DBFS, Statistic, Statistics, statistics, third_octaves
from edge_asd.signal.view import LogMel, decibels, frames, mel_bank, spectrum

SPEC = LogMel(n_fft=256, hop=128, n_mels=12)


def clip(seed: int = 0, samples: int = 40_000) -> np.ndarray:
    """Impulsive noise with a little offset."""
    rng = np.random.default_rng(seed)
    return (0.02 * rng.standard_t(4, samples) + 0.01).astype(np.float32)


def pushed(samples: np.ndarray, cuts: list[int]) -> Statistics:
    """The statistics of a clip that came in blocks."""
    running = Statistic(SPEC)
    for block in np.split(samples, sorted(cuts)):
        running.push(block)
    return running.finish()


@given(st.lists(st.integers(0, 40_000), max_size=30), st.integers(300, 40_000))
def test_block_sizes_do_not_change_a_bit(cuts: list[int], length: int) -> None:
    samples = clip()[:length]
    for piecewise, whole in zip(astuple(pushed(samples, cuts)), astuple(statistics(SPEC, samples)), strict=True):
        np.testing.assert_array_equal(piecewise, whole)


def test_single_samples_do_not_change_a_bit() -> None:
    samples = clip()[:5_000]
    for piecewise, whole in zip(
        astuple(pushed(samples, list(range(5_000)))), astuple(statistics(SPEC, samples)), strict=True
    ):
        np.testing.assert_array_equal(piecewise, whole)


@pytest.mark.train
@pytest.mark.parametrize("length", [256, 1_000, 2_176, 2_177, 40_000])
def test_kurtosis_is_scipys(length: int) -> None:
    from scipy import stats  # noqa: PLC0415 - not in the test group

    samples = clip()[:length]
    expected = stats.kurtosis(samples.astype(float), fisher=False)
    assert statistics(SPEC, samples).kurtosis == pytest.approx(expected, rel=1e-6)


@given(st.integers(256, 30_000))
def test_level_peak_and_crest_are_those_of_all_samples(length: int) -> None:
    samples = clip(3)[:length].astype(float)
    heard = statistics(SPEC, clip(3)[:length])

    assert heard.level == pytest.approx(10 * np.log10(np.mean(samples**2)))
    assert heard.peak == pytest.approx(20 * np.log10(np.abs(samples).max()))
    assert heard.crest == pytest.approx(heard.peak - heard.level)


@given(st.integers(256, 30_000))
def test_spectra_are_those_of_all_whole_frames(length: int) -> None:
    power = np.square(np.abs(spectrum(SPEC, frames(SPEC, clip(4)[:length]))))
    mel = decibels(SPEC, power @ mel_bank(SPEC))
    heard = statistics(SPEC, clip(4)[:length])

    np.testing.assert_allclose(heard.mean, mel.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(heard.maximum, mel.max(axis=0), atol=1e-3)
    np.testing.assert_allclose(heard.power, power.mean(axis=0), rtol=1e-4)


def test_a_sine_of_full_scale_has_its_textbook_indicators() -> None:
    sine = np.sin(2 * np.pi * 1000 / 16_000 * np.arange(16_000)).astype(np.float32)
    heard = statistics(SPEC, sine)

    assert heard.level == pytest.approx(-3.01, abs=0.01)
    assert heard.peak == pytest.approx(0, abs=0.01)
    assert heard.crest == pytest.approx(3.01, abs=0.01)
    assert heard.kurtosis == pytest.approx(1.5, abs=1e-3)


def test_gaussian_noise_has_kurtosis_3_and_a_click_raises_it() -> None:
    samples = (0.01 * np.random.default_rng(5).standard_normal(160_000)).astype(np.float32)
    assert statistics(SPEC, samples).kurtosis == pytest.approx(3, abs=0.1)
    samples[80_000] = 0.5
    assert statistics(SPEC, samples).kurtosis > 30


def test_silence_is_minus_120_decibels_and_has_no_impulses() -> None:
    heard = statistics(SPEC, np.zeros(1_000, np.float32))
    assert (heard.level, heard.peak, heard.crest, heard.kurtosis) == (SILENCE_DBFS, SILENCE_DBFS, 0.0, 3.0)


def test_less_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="need at least 256 samples, got 255"):
        statistics(SPEC, clip()[:255])


def band_noise(lower: float, upper: float) -> np.ndarray:
    """Noise with sharp edges, 20 seconds."""
    samples = 320_000
    frequencies = np.fft.rfftfreq(samples, 1 / 16_000)
    white = np.fft.rfft(np.random.default_rng(6).standard_normal(samples))
    return (0.1 * np.fft.irfft(white * ((frequencies > lower) & (frequencies < upper)))).astype(np.float32)


def test_third_octaves_add_up_to_the_power_of_the_samples() -> None:
    sound = band_noise(250, 6_000)
    _, levels = third_octaves(LogMel(), statistics(LogMel(), sound).power)

    assert 10 * np.log10((10 ** (levels / 10)).sum()) == pytest.approx(10 * np.log10(np.mean(sound**2)), abs=0.1)


@pytest.mark.parametrize("band", range(0, 17, 4))
def test_a_sine_lands_in_its_third_octave_at_its_level(band: int) -> None:
    spec = LogMel()
    centres, _ = third_octaves(spec, np.zeros(513))
    sine = 0.2 * np.sin(2 * np.pi * centres[band] / 16_000 * np.arange(64_000))
    _, levels = third_octaves(spec, statistics(spec, sine.astype(np.float32)).power)

    assert np.argmax(levels) == band
    # the lowest bands are about as wide as the main lobe of the window
    assert levels[band] == pytest.approx(10 * np.log10(0.2**2 / 2), abs=1.0 if centres[band] < 300 else 0.1)


def test_third_octaves_are_those_of_iec_61260() -> None:
    centres, levels = third_octaves(LogMel(), np.zeros(513))

    assert np.round(centres).tolist() == [
        *(158, 200, 251, 316, 398, 501, 631, 794, 1000, 1259, 1585, 1995, 2512, 3162, 3981, 5012, 6310),
    ]
    assert (levels == SILENCE_DBFS).all()
