"""Condition indicators and pooled spectra of one clip, gathered while it streams in.

Impulsiveness is a property of the clip: averaged over short segments it is worthless (peers-measured.md),
so these are computed once per clip from running sums. Samples and frames are taken in groups of fixed
size, which makes the result the same to the last bit whatever block sizes the audio arrived in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.signal.view import LogMel, decibels, frames, mel_bank, spectrum

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUP = 16
"""frames that are transformed together"""
SILENCE_DBFS = -120.0
"""level of digital silence"""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one clip was like."""

    level: float
    """RMS, dB relative to full scale"""
    peak: float
    """largest magnitude, dB relative to full scale"""
    crest: float
    """peak over RMS, dB"""
    kurtosis: float
    """fourth standardised moment; 3 for Gaussian noise"""
    mean: NDArray[np.float32]
    """(M,) log-mel averaged over the clip's frames, dB"""
    maximum: NDArray[np.float32]
    """(M,) largest log-mel of the clip's frames, dB"""
    power: NDArray[np.float64]
    """(F,) mean power spectrum of the clip's frames"""


@dataclass(slots=True)
class Statistic:
    """Running sums of one clip."""

    spec: LogMel
    _samples: int = 0
    _peak: float = 0.0
    _moments: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    _frames: int = 0
    _mean: NDArray[np.float64] = field(init=False)
    _maximum: NDArray[np.float32] = field(init=False)
    _power: NDArray[np.float64] = field(init=False)
    _rest: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        self._mean = np.zeros(self.spec.n_mels)
        self._maximum = np.full(self.spec.n_mels, -np.inf, np.float32)
        self._power = np.zeros(self.spec.n_fft // 2 + 1)

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take (n,) further samples of the clip."""
        self._rest = np.concatenate([self._rest, samples])
        advance = GROUP * self.spec.hop
        while self._rest.size >= advance - self.spec.hop + self.spec.n_fft:
            self._gather(self._rest[: advance - self.spec.hop + self.spec.n_fft], advance)
            self._rest = self._rest[advance:]

    def finish(self) -> Statistics:
        """The clip has ended. Call once.

        Raises:
            ValueError: the clip was shorter than one frame.
        """
        if self._samples + self._rest.size < self.spec.n_fft:
            msg = f"need at least {self.spec.n_fft} samples, got {self._samples + self._rest.size}"
            raise ValueError(msg)
        self._gather(self._rest, self._rest.size)
        moments = self._moments / self._samples
        rms = float(np.sqrt(moments[1]))
        return Statistics(
            level=_dbfs(rms),
            peak=_dbfs(self._peak),
            crest=_dbfs(self._peak) - _dbfs(rms),
            kurtosis=_kurtosis(moments),
            mean=(self._mean / self._frames).astype(np.float32),
            maximum=self._maximum,
            power=self._power / self._frames,
        )

    def _gather(self, stretch: NDArray[np.float32], advance: int) -> None:
        """Count the first ``advance`` samples, and every whole frame of the stretch."""
        fresh = stretch[:advance].astype(np.float64)
        self._samples += fresh.size
        self._peak = max(self._peak, float(np.abs(fresh).max(initial=0.0)))
        square = fresh * fresh
        self._moments += [fresh.sum(), square.sum(), (square * fresh).sum(), (square * square).sum()]
        if stretch.size < self.spec.n_fft:
            return
        power = np.square(np.abs(spectrum(self.spec, frames(self.spec, stretch))))  # (T, F)
        mel = decibels(self.spec, power @ mel_bank(self.spec))  # (T, M)
        self._frames += len(mel)
        self._mean += mel.sum(axis=0, dtype=np.float64)
        self._maximum = np.maximum(self._maximum, mel.max(axis=0))
        self._power += power.sum(axis=0, dtype=np.float64)


def statistics(spec: LogMel, clip: NDArray[np.float32]) -> Statistics:
    """The statistics of a whole clip (L,)."""
    running = Statistic(spec)
    running.push(clip)
    return running.finish()


def third_octaves(spec: LogMel, power: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Band levels of a mean power spectrum (F,), IEC 61260 base-ten third octaves.

    Returns:
        (bands,) exact mid-band frequencies in hertz, and (bands,) levels in dB relative to full scale.
        Only bands from 20 Hz to 20 kHz that are at least two bins wide are given.
    """
    centres = 1000.0 * 10.0 ** (np.arange(-17, 14) / 10.0)
    lower, upper = centres * 10**-0.05, centres * 10**0.05
    width = spec.sample_rate / spec.n_fft
    given = (upper - lower >= 2 * width) & (upper <= spec.sample_rate / 2)
    bins = np.arange(power.size) * width
    inside = (bins >= lower[given, None]) & (bins < upper[given, None])  # (bands, F)
    # Parseval for a one-sided spectrum; the periodic Hann window's energy is 3/8 of its length
    energy = 2.0 * (inside @ power) / (0.375 * spec.n_fft**2)
    return centres[given], 10.0 * np.log10(np.maximum(energy, 10 ** (SILENCE_DBFS / 10)))


def _dbfs(amplitude: float) -> float:
    return max(SILENCE_DBFS, 20.0 * float(np.log10(max(amplitude, 1e-30))))


def _kurtosis(moments: NDArray[np.float64]) -> float:
    """Fourth central moment over the squared variance; 3 when the variance vanishes."""
    m1, m2, m3, m4 = moments
    variance = m2 - m1 * m1
    fourth = m4 - 4 * m1 * m3 + 6 * m1 * m1 * m2 - 3 * m1**4
    return float(fourth / variance**2) if variance > 1e-20 else 3.0
