"""The views of a segment that a network is given. Absolute level is kept: it is evidence."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


REVISION = 1
"""of the computations in this file; counted up whenever one gives other numbers"""


@dataclass(frozen=True, slots=True)
class LogMel:
    """A log-mel front end; travels in every bundle. Defaults: STgram-MFN's (methods.md §0)."""

    sample_rate: int = 16_000
    """hertz"""
    n_fft: int = 1024
    """samples per frame, also the length of the periodic Hann window"""
    hop: int = 512
    """samples between frames"""
    n_mels: int = 128
    f_min: float = 0.0
    """hertz"""
    f_max: float = 8_000.0
    """hertz"""
    floor: float = 1e-10
    """power below which the logarithm is clipped"""

    def __post_init__(self) -> None:
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            msg = f"need 0 <= f_min < f_max <= {self.sample_rate / 2} Hz, got {self.f_min} and {self.f_max}"
            raise ValueError(msg)
        if not 0 < self.hop <= self.n_fft:
            msg = f"need 0 < hop <= n_fft, got {self.hop} and {self.n_fft}"
            raise ValueError(msg)


def fingerprint(spec: LogMel) -> str:
    """What a front end is known by, SHA-256 in hex: equal fingerprints compute equal features."""
    return hashlib.sha256(f"{REVISION} {asdict(spec)}".encode()).hexdigest()


def log_mel(spec: LogMel, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-mel power, dB, centred frames (reflected at both ends).

    Args:
        spec: the bundle's front end.
        waveforms: (B, S) in [-1, 1], S > n_fft / 2.

    Returns:
        (B, M, T), T = 1 + S // hop.
    """
    power = np.square(magnitude(spec, waveforms))  # (B, F, T)
    return decibels(spec, mel_bank(spec).T @ power)


def magnitude(spec: LogMel, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Magnitude spectrum of centred frames: (B, S) -> (B, F, T)."""
    half = spec.n_fft // 2
    padded = np.pad(waveforms, ((0, 0), (half, half)), mode="reflect")
    return np.abs(spectrum(spec, frames(spec, padded))).transpose(0, 2, 1)


def frames(spec: LogMel, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whole frames without padding: (..., L) -> (..., T, n_fft), T = 1 + (L - n_fft) // hop."""
    return np.lib.stride_tricks.sliding_window_view(waveforms, spec.n_fft, axis=-1)[..., :: spec.hop, :]


def spectrum(spec: LogMel, framed: NDArray[np.float32]) -> NDArray[np.complex64]:
    """One-sided spectrum of Hann-windowed frames: (..., n_fft) -> (..., F)."""
    return np.fft.rfft(framed * _hann(spec.n_fft), axis=-1).astype(np.complex64)


def decibels(spec: LogMel, power: NDArray[np.float32]) -> NDArray[np.float32]:
    """10·log10 of a power, clipped below at the front end's floor."""
    return (10.0 * np.log10(np.maximum(power, np.float32(spec.floor)))).astype(np.float32)


@cache
def mel_bank(spec: LogMel) -> NDArray[np.float32]:
    """Triangles (F, M) of unit height on the HTK mel scale, 2595·log10(1 + f/700)."""
    edges = _hertz(np.linspace(_mel(spec.f_min), _mel(spec.f_max), spec.n_mels + 2))
    bins = np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rise, fall = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    return np.maximum(np.minimum(rise, fall), 0.0).astype(np.float32)


@cache
def _hann(length: int) -> NDArray[np.float32]:
    """Periodic Hann window."""
    return np.hanning(length + 1)[:-1].astype(np.float32)


def _mel(hertz: float) -> float:
    return 2595.0 * float(np.log10(1.0 + hertz / 700.0))


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
