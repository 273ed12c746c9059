from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import signal

from edge_asd.signal.level import measure, nominal

RATE = 16_000
NOMINAL = (
    *(20, 25, 31.5, 40, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000),
    *(2500, 3150, 4000, 5000, 6300, 8000, 10_000, 12_500, 16_000, 20_000),
)
"""the standard's table, in hertz"""


def exact(nominal_hertz: float) -> float:
    """The mid-band frequency behind a name."""
    return 1000.0 * 10.0 ** (round(10 * math.log10(nominal_hertz / 1000)) / 10)


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    """Pink-ish noise: every third octave matters."""
    rng = np.random.default_rng(7)
    white = rng.standard_normal(round(seconds * rate))
    return (0.02 * signal.lfilter([1], [1, -0.97], white)).astype(np.float32)


def test_bands_bear_the_names_of_the_standard() -> None:
    assert [nominal(exact(hertz)) for hertz in NOMINAL] == [f"{hertz:g}" for hertz in NOMINAL]


@pytest.mark.parametrize(("rate", "last"), [(16_000, 6300), (44_100, 16_000), (48_000, 20_000)])
def test_bands_reach_from_20_hertz_to_the_last_whole_one_below_half_the_rate(rate: int, last: float) -> None:
    bands = measure(noise(2, rate), rate).bands

    assert [float(name) for name in bands] == [hertz for hertz in NOMINAL if hertz <= last]


@pytest.mark.parametrize("hertz", NOMINAL[:26:5])
def test_a_sine_lands_in_its_band_at_its_level(hertz: float) -> None:
    sine = (0.25 * np.sin(2 * np.pi * exact(hertz) / RATE * np.arange(10 * RATE))).astype(np.float32)
    level = measure(sine, RATE)

    expected = 10 * math.log10(0.25**2 / 2)
    assert level.level_dbfs == pytest.approx(expected, abs=0.01)
    assert level.peak_dbfs == pytest.approx(20 * math.log10(0.25), abs=0.01)
    assert level.bands[f"{hertz:g}"] == pytest.approx(expected, abs=0.1)
    assert max(level.bands, key=level.bands.__getitem__) == f"{hertz:g}"


def test_bands_are_the_integral_of_scipys_welch_spectrum() -> None:
    sound = noise(10)
    hertz, density = signal.welch(sound, RATE, "hann", nperseg=16_384, noverlap=8_192, detrend=False)

    for name, level in measure(sound, RATE).bands.items():
        centre = exact(float(name))
        inside = (hertz >= centre * 10**-0.05) & (hertz < centre * 10**0.05)
        assert level == pytest.approx(10 * math.log10(density[inside].sum() * hertz[1]), abs=1e-3)


def test_bands_agree_with_a_bank_of_filters() -> None:
    sound = noise(20)
    bands = measure(sound, RATE).bands

    for name in ("100", "500", "1000", "4000"):  # sixth-order filters, as in a sound level meter
        centre = exact(float(name))
        sos = signal.butter(3, [centre * 10**-0.05, centre * 10**0.05], "bandpass", output="sos", fs=RATE)
        filtered = signal.sosfilt(sos, sound.astype(np.float64))
        assert bands[name] == pytest.approx(10 * math.log10(np.mean(filtered**2)), abs=0.5)


def test_silence_has_the_floor_and_not_full_scale() -> None:
    level = measure(np.zeros(RATE * 2, np.float32), RATE)

    assert (level.level_dbfs, level.peak_dbfs) == (-120.0, -120.0)
    assert set(level.bands.values()) == {-120.0}


@given(arrays.arrays(np.float32, st.integers(0, 3000), elements=st.floats(width=32)))
def test_any_audio_has_a_finite_level(samples: np.ndarray) -> None:
    level = measure(samples, RATE)

    assert all(math.isfinite(value) for value in (level.level_dbfs, level.peak_dbfs, *level.bands.values()))
    assert -120.0 <= level.level_dbfs <= max(level.peak_dbfs, -120.0) + 1e-6


def test_a_sample_that_is_no_number_counts_as_silence() -> None:
    broken = noise(1)
    broken[5_000] = np.nan
    mended = broken.copy()
    mended[5_000] = 0

    assert measure(broken, RATE) == measure(mended, RATE)
