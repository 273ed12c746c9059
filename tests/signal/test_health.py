from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.signal.health import LSB, Fault, fault, longest_zero_run

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
