from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from train.teach.augmentation import (
    IMAGE,
    TEMPI,
    WAVEFORM,
    altered,
    fade,
    hidden,
    noise,
    noisy,
    pitch,
    stretch,
)
from train.teach.recipe import Augmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.train

RATE, SEGMENT = 16_000, 32_000
KINDS = ("identity", *WAVEFORM, *IMAGE)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> object:
    """Threads that wait for each other on a busy computer are 25 times as slow as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tones(hertz: float, rows: int = 16) -> NDArray[np.float32]:
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(SEGMENT) / RATE)
    return np.tile(wave.astype(np.float32), (rows, 1))


def clicks(times: tuple[int, ...], rows: int = 16) -> NDArray[np.float32]:
    """Short bursts of noise."""
    waves = np.zeros((rows, SEGMENT), np.float32)
    burst = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    for time in times:
        waves[:, time : time + burst.size] = burst
    return waves


def loudest(wave: NDArray[np.float32]) -> float:
    """Hertz of the highest peak, between bins by a parabola through the logarithms."""
    power = np.log(np.abs(np.fft.rfft(wave * np.hanning(wave.size))) + 1e-12)
    peak = int(power.argmax())
    left, middle, right = power[peak - 1 : peak + 2]
    return float((peak + 0.5 * (left - right) / (left - 2 * middle + right)) * RATE / wave.size)


def first_burst(wave: NDArray[np.float32]) -> float:
    """Sample about which the energy of the first second or so lies."""
    energy = np.square(wave[: 3 * SEGMENT // 4].astype(np.float64))
    return float((energy * np.arange(energy.size)).sum() / energy.sum())


def test_every_kind_that_a_recipe_may_name_is_known() -> None:
    assert set(get_args(Augmentation)) == set(KINDS)


@given(st.sampled_from(sorted(WAVEFORM)), st.integers(2_000, 9_000), st.integers(1, 4), st.integers(0, 99))
def test_a_segment_keeps_its_length_and_type_and_a_seed_gives_it_again(
    kind: str, samples: int, rows: int, seed: int
) -> None:
    waves = 0.1 * np.random.default_rng(seed).standard_normal((rows, samples)).astype(np.float32)
    before = waves.copy()
    first, again = (WAVEFORM[kind](waves, np.random.default_rng(seed)) for _ in range(2))
    assert (first.shape, first.dtype) == (waves.shape, np.float32)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(waves, before)
    assert (first != waves).any(axis=1).all()


@pytest.mark.parametrize("hertz", [220.0, 1000.0, 3000.0])
def test_pitch_moves_a_tone_by_two_semitones_either_way(hertz: float) -> None:
    moved = {round(12 * np.log2(loudest(wave) / hertz), 1) for wave in pitch(tones(hertz), np.random.default_rng(0))}
    assert moved == {-2.0, 2.0}


def test_pitch_leaves_the_tempo() -> None:
    for wave in pitch(clicks((9_000,)), np.random.default_rng(0)):
        assert first_burst(wave) == pytest.approx(9_000, abs=400)


@pytest.mark.parametrize("hertz", [220.0, 3000.0])
def test_a_stretched_tone_keeps_its_pitch(hertz: float) -> None:
    for wave in stretch(tones(hertz), np.random.default_rng(0)):
        assert loudest(wave) == pytest.approx(hertz, abs=0.5)


def test_a_stretch_moves_what_happens_to_a_tenth_earlier_or_later() -> None:
    found = sorted({round(first_burst(wave), -3) for wave in stretch(clicks((9_900,)), np.random.default_rng(0))})
    assert found == [round(9_900 / tempo, -3) for tempo in sorted(TEMPI, reverse=True)]


def test_what_a_faster_segment_lacks_at_its_end_is_no_silence() -> None:
    waves = 0.1 * np.random.default_rng(0).standard_normal((16, SEGMENT)).astype(np.float32)
    for wave in stretch(waves, np.random.default_rng(0)):
        assert 0.7 < wave[-1_000:].std() / wave.std() < 1.3


def test_noise_is_pink_and_15_db_below() -> None:
    waves = 0.1 * np.random.default_rng(0).standard_normal((64, SEGMENT)).astype(np.float32)
    added = noise(waves, np.random.default_rng(1)).astype(np.float64) - waves
    np.testing.assert_allclose(10 * np.log10(np.square(waves).mean(1) / np.square(added).mean(1)), 15, atol=0.01)
    hertz, power = signal.welch(added, RATE, nperseg=2048)
    inside = (hertz > 50) & (hertz < 7000)
    slope = np.polyfit(np.log10(hertz[inside]), 10 * np.log10(power.mean(0)[inside]), 1)[0]
    assert slope == pytest.approx(-10, abs=0.5)  # dB a decade


def test_a_fade_rises_from_nothing_and_falls_to_nothing() -> None:
    level = fade(np.ones((32, SEGMENT), np.float32), np.random.default_rng(0))
    assert np.abs(level[:, [0, -1]]).max() == 0
    rise = (np.diff(level, axis=1) > 0).sum(axis=1) / SEGMENT
    fall = (np.diff(level, axis=1) < 0).sum(axis=1) / SEGMENT
    for lengths in (rise, fall):
        assert 0.1 <= lengths.min() < 0.2
        assert 0.4 < lengths.max() <= 0.5
    assert level.max(axis=1).min() == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(np.diff(level, 2, axis=1), 0, atol=1e-3)  # straight lines


def test_each_segment_gets_its_own_kind_and_no_other() -> None:
    waves = 0.1 * np.random.default_rng(0).standard_normal((3 * len(KINDS), 8_000)).astype(np.float32)
    drawn = np.arange(len(waves)) % len(KINDS)
    changed = altered(waves, KINDS, drawn, np.random.default_rng(0))
    same = (changed == waves).all(axis=1)
    assert same.tolist() == [KINDS[number] not in WAVEFORM for number in drawn]


@pytest.mark.parametrize(("kind", "axis"), [("frequency_mask", 1), ("time_mask", 2)])
def test_a_named_mask_hides_an_eighth_to_a_quarter_of_an_image(kind: str, axis: int) -> None:
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 128, 80)).astype(np.float32))
    drawn = np.arange(64) % 2
    changed = hidden(images, ("identity", kind), drawn, np.random.default_rng(0))
    assert torch.equal(changed[::2], images[::2])
    shares = set()
    for image, bare in zip(changed[1::2], images[1::2], strict=True):
        away = (image != bare).all(dim=2 - axis)
        (places,) = np.nonzero(away.numpy())
        assert places[-1] - places[0] + 1 == places.size
        assert not (image != bare).any(dim=2 - axis)[~away].any()
        np.testing.assert_allclose(image[image != bare], bare.mean(), atol=1e-5)
        shares.add(places.size / away.numel())
    assert min(shares) >= 0.125
    assert max(shares) <= 0.25
    assert len(shares) > 3


@given(st.floats(3, 30), st.integers(0, 99))
def test_random_noise_is_never_louder_than_asked_for(distance_db: float, seed: int) -> None:
    waves = 0.1 * np.random.default_rng(seed).standard_normal((3, 4_000)).astype(np.float32)
    added = noisy(waves, distance_db, np.random.default_rng(seed)).astype(np.float64) - waves
    below = 10 * np.log10(np.square(waves).mean(1) / np.square(added).mean(1))
    assert (below > distance_db - 0.01).all()
    assert (below < distance_db + 20.01).all()
