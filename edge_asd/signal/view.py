"""The views of a segment that a network is given. Absolute level is kept: it is evidence."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

REVISION = 1
"""of the numbers this file computes: raise it with any change to them, and what was kept of them is forgotten"""
LINEAR_HERTZ, LINEAR_MELS = 1_000.0, 15.0
"""up to which Slaney's scale is linear"""
STEEPNESS = 27.0 / math.log(6.4)
"""mels by which it rises beyond while the frequency grows e-fold"""


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
    scale: Literal["htk", "slaney"] = "htk"
    """of the mel bands: HTK's with triangles of unit height, as torchaudio has them, or Slaney's with triangles of
    unit area, as librosa has them"""

    def __post_init__(self) -> None:
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            msg = f"need 0 <= f_min < f_max <= {self.sample_rate / 2} Hz, got {self.f_min} and {self.f_max}"
            raise ValueError(msg)
        if not 0 < self.hop <= self.n_fft:
            msg = f"need 0 < hop <= n_fft, got {self.hop} and {self.n_fft}"
            raise ValueError(msg)


def fingerprint(spec: LogMel) -> str:
    """What a front end's numbers may be kept under: SHA-256, hex, of all it is and of how it is computed."""
    numbers = {name: value if isinstance(value, str) else float(value) for name, value in asdict(spec).items()}
    return hashlib.sha256(repr((REVISION, sorted(numbers.items()))).encode()).hexdigest()


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


def mel(spec: LogMel, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear mel bands, sums of magnitudes: (B, S) -> (B, M, T)."""
    return mel_bank(spec).T @ magnitude(spec, waveforms)


def magnitude(spec: LogMel, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Magnitude spectrum of centred frames: (B, S) -> (B, F, T)."""
    return np.abs(_centred(spec, waveforms)).transpose(0, 2, 1)


def phase(spec: LogMel, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Angle of the same spectrum in (-π, π], 0 where there is nothing: (B, S) -> (B, F, T)."""
    return np.angle(_centred(spec, waveforms)).transpose(0, 2, 1)


def fft(waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Magnitude spectrum of whole segments, without a window and without the last bin: (B, S) -> (B, S // 2)."""
    whole = np.abs(np.fft.rfft(waveforms, axis=-1))[:, : waveforms.shape[1] // 2]
    return np.asarray(whole, np.float32)


def _centred(spec: LogMel, waveforms: NDArray[np.float32]) -> NDArray[np.complex64]:
    """(B, S) -> (B, T, F), reflected at both ends."""
    half = spec.n_fft // 2
    padded = np.pad(waveforms, ((0, 0), (half, half)), mode="reflect")
    return spectrum(spec, frames(spec, padded))


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
    """Triangles (F, M) on the mel scale; methods.md §0."""
    edges = _edges(spec)
    bins = np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rise, fall = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    height = 2.0 / (upper - lower) if spec.scale == "slaney" else 1.0
    return (height * np.maximum(np.minimum(rise, fall), 0.0)).astype(np.float32)


def mel_centres(spec: LogMel) -> NDArray[np.float64]:
    """Where the bands peak: (M,) hertz."""
    return _edges(spec)[1:-1]


def mel_span(spec: LogMel, first: int, last: int) -> tuple[float, float]:
    """From where to where these bands are together, at half their height: hertz."""
    edges = _edges(spec)
    return float(edges[first : first + 2].mean()), float(edges[last + 1 : last + 3].mean())


@cache
def _hann(length: int) -> NDArray[np.float32]:
    """Periodic Hann window."""
    return np.hanning(length + 1)[:-1].astype(np.float32)


def _edges(spec: LogMel) -> NDArray[np.float64]:
    """Where triangles begin, peak and end: (M + 2,) hertz, equally spaced in mels."""
    mel, hertz = (_slaney, _slaney_hertz) if spec.scale == "slaney" else (_htk, _htk_hertz)
    return hertz(np.linspace(mel(spec.f_min), mel(spec.f_max), spec.n_mels + 2))


def _htk(hertz: float) -> float:
    return 2595.0 * float(np.log10(1.0 + hertz / 700.0))


def _htk_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _slaney(hertz: float) -> float:
    if hertz < LINEAR_HERTZ:
        return hertz * LINEAR_MELS / LINEAR_HERTZ
    return LINEAR_MELS + STEEPNESS * math.log(hertz / LINEAR_HERTZ)


def _slaney_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    beyond = LINEAR_HERTZ * np.exp((mel - LINEAR_MELS) / STEEPNESS)
    return np.where(mel < LINEAR_MELS, mel * LINEAR_HERTZ / LINEAR_MELS, beyond)
