"""What is done to segments before a network sees them. A part of them is named, for networks that learn to tell.

Hojjati and Armanfard, Self-Supervised Acoustic Anomaly Detection via Contrastive Learning, ICASSP 2022, is what [S3]
names for its list and gives none that could be found; this one is methods.md §4.1's. Those of a waveform keep its
length, masks act on the log-mel image. Randomness comes in as a generator alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchaudio import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

NOISE_SPAN_DB = 20.0
"""how much fainter than its loudest added noise may be"""
NOISE_DB = 15.0
"""how far below a segment the noise lies that a network learns to tell"""
TONE = 55, 49
"""two semitones as a ratio of small numbers, 0.02 cents off"""
TEMPI = 0.9, 1.1
HIDDEN = 0.25
"""largest share of an image that a mask hides, at least half as much"""
N_FFT, HOP = 1024, 256
"""of the phase vocoder"""


# Any segment ----------------------------------------------------------------------------------------------------------


def noisy(waves: NDArray[np.float32], distance_db: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Segments (B, S) under pink noise that lies ``distance_db`` to 20 dB more below each of them."""
    pink = _pink(waves.shape, rng)
    return _under(waves, pink, rng.uniform(distance_db, distance_db + NOISE_SPAN_DB, (len(waves), 1)))


def _pink(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    white = np.fft.rfft(rng.standard_normal(shape, np.float32))
    return np.fft.irfft(white / np.sqrt(np.maximum(np.arange(white.shape[1]), 1.0)), shape[1])


def _under(
    waves: NDArray[np.float32], added: NDArray[np.float64], below: NDArray[np.float64] | float
) -> NDArray[np.float32]:
    """Segments with what is added so many dB below each."""
    level = np.sqrt(np.square(waves).mean(axis=1, keepdims=True) / np.square(added).mean(axis=1, keepdims=True))
    return np.asarray(waves + level * 10.0 ** (-below / 20.0) * added, np.float32)


def masked(images: Tensor, axis: int, least: int, most: int, rng: np.random.Generator) -> Tensor:
    """Images (B, M, T) with so many neighbouring bands (axis 1) or frames (2) at their mean (Park et al., 2019)."""
    hidden = torch.from_numpy(_stretches(len(images), images.shape[axis], least, most, rng)).unsqueeze(3 - axis)
    return torch.where(hidden, images.mean((1, 2), keepdim=True), images)


def _stretches(rows: int, length: int, least: int, most: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(rows, length), in each a stretch of ``least`` to ``most`` that are True."""
    sizes = rng.integers(min(least, length), min(most, length) + 1, (rows, 1))
    starts = rng.integers(0, length - sizes + 1)
    places = np.arange(length)
    return (places >= starts) & (places < starts + sizes)


# Those that are told apart --------------------------------------------------------------------------------------------


def altered(
    waves: NDArray[np.float32], kinds: Sequence[str], drawn: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Segments (B, S), each changed by the one of the kinds that its number (B,) means, if that is of waveforms."""
    changed = waves.copy()
    for number, kind in enumerate(kinds):
        rows = np.flatnonzero(drawn == number)
        if rows.size and kind in WAVEFORM:
            changed[rows] = WAVEFORM[kind](waves[rows], rng)
    return changed


def hidden(images: Tensor, kinds: Sequence[str], drawn: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    """Images (B, M, T), those behind a mask whose number (B,) means one."""
    changed = images.clone()
    for number, kind in enumerate(kinds):
        rows = torch.from_numpy(np.flatnonzero(drawn == number))
        if rows.numel() and kind in IMAGE:
            axis = IMAGE[kind]
            most = math.ceil(HIDDEN * images.shape[axis])
            changed[rows] = masked(images[rows], axis, math.ceil(most / 2), most, rng)
    return changed


def pitch(waves: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Two semitones up or down, at the same tempo."""

    def shifted(rows: Tensor, high: int, low: int) -> Tensor:
        moved: Tensor = functional.resample(_stretched(rows, low / high), high, low)
        return moved

    return _either(waves, rng, lambda rows: shifted(rows, *TONE), lambda rows: shifted(rows, *reversed(TONE)))


def stretch(waves: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Slower or faster by a tenth, at the same pitch."""
    slow, fast = TEMPI
    return _either(waves, rng, lambda rows: _stretched(rows, slow), lambda rows: _stretched(rows, fast))


def noise(waves: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Pink, 15 dB below the segment."""
    return _under(waves, _pink(waves.shape, rng), NOISE_DB)


def fade(waves: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """In and out, each over a tenth to a half of the segment."""
    lengths = rng.uniform(0.1, 0.5, (2, len(waves), 1)) * waves.shape[1]
    places = np.arange(waves.shape[1])
    rise, fall = places / lengths[0], (waves.shape[1] - 1 - places) / lengths[1]
    return np.asarray(waves * np.minimum(1.0, np.minimum(rise, fall)), np.float32)


def _either(
    waves: NDArray[np.float32],
    rng: np.random.Generator,
    one: Callable[[Tensor], Tensor],
    other: Callable[[Tensor], Tensor],
) -> NDArray[np.float32]:
    """Each row by one of two ways; what is too long is cut."""
    first, changed = rng.random(len(waves)) < 0.5, np.empty_like(waves)
    for rows, way in ((first, one), (~first, other)):
        if rows.any():
            changed[rows] = way(torch.from_numpy(waves[rows])).numpy()[:, : waves.shape[1]]
    return changed


def _stretched(waves: Tensor, tempo: float) -> Tensor:
    """(B, S) at another tempo, at least S / min(tempo, 1) long; what faster ones lack at the end is their mirror."""
    samples = waves.shape[1]
    wanted = math.ceil(samples / min(tempo, 1.0))
    missing = max(0, math.ceil(wanted * tempo) + HOP - samples)
    longer = torch.cat([waves, waves[:, samples - 1 - missing : samples - 1].flip(1)], dim=1)
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(longer, N_FFT, HOP, window=window, return_complex=True)
    advance = torch.linspace(0.0, math.pi * HOP, N_FFT // 2 + 1)[:, None]
    vocoded = functional.phase_vocoder(spectrum, tempo, advance)
    return torch.istft(vocoded, N_FFT, HOP, window=window, length=wanted)


WAVEFORM: dict[str, Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]] = {
    "pitch": pitch,
    "stretch": stretch,
    "noise": noise,
    "fade": fade,
}
"""by name; ``identity`` is none of them"""
IMAGE = {"frequency_mask": 1, "time_mask": 2}
"""the axis that a mask hides a part of"""
