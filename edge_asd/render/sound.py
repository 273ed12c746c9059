"""What rendered sound is made of: slow drift, shaped noise, resonances, and filters that stream.

Everything here advances by whole frames of :data:`FRAME` samples. That is what makes a performance independent of the
block sizes it is asked in: whoever asks, the same frames are made in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FRAME = 2048
"""samples that are rendered at once (128 ms at 16 kHz); a condition holds for at least one frame"""


def amplitude(decibels: float) -> float:
    """The factor that a level difference in decibels stands for."""
    return float(10.0 ** (decibels / 20.0))


def spectrum_shape(rate: int, points: Sequence[tuple[float, float]], taps: int = 512) -> NDArray[np.float64]:
    """FIR kernel (taps,) that gives white noise a long-time spectrum and leaves its power alone.

    Args:
        rate: hertz.
        points: (hertz, decibels) corners, joined by straight lines over log frequency, levels relative to each other.
        taps: length; the kernel resolves about ``2 * rate / taps`` hertz.
    """
    corners, levels = np.transpose(points)
    bins = np.maximum(np.fft.rfftfreq(taps, 1 / rate), 1.0)
    decibels = np.interp(np.log(bins), np.log(corners), levels)
    kernel = np.roll(np.fft.irfft(10.0 ** (decibels / 20.0), taps), taps // 2) * np.hanning(taps)
    return np.asarray(kernel / np.sqrt(np.sum(kernel**2)))


def resonance(rate: int, frequency: float, decay: float) -> NDArray[np.float64]:
    """Impulse response (K,) of one mode, peak about 1: a sine of ``frequency`` hertz, down to 1/e after ``decay`` s."""
    time = np.arange(round(7 * decay * rate)) / rate
    return np.asarray(np.exp(-time / decay) * np.sin(2 * np.pi * frequency * time))


def ringing(rate: int, modes: Sequence[tuple[float, float, float]]) -> NDArray[np.float64]:
    """Impulse response (K,) of a body with several modes: (hertz, seconds to 1/e, decibels) each."""
    parts = [amplitude(level) * resonance(rate, frequency, decay) for frequency, decay, level in modes]
    return np.asarray(sum(np.pad(part, (0, max(map(len, parts)) - part.size)) for part in parts))


def harmonics(phasor: NDArray[np.complex128], weights: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Sum of ``weights[k - 1] * phasor ** k`` over the orders k = 1, 2, …, real part (Horner: one product an order)."""
    total = np.zeros_like(phasor)
    for weight in weights[::-1]:
        total = (total + weight) * phasor
    return np.asarray(total.real)


def weights(rng: np.random.Generator, levels: Sequence[float]) -> NDArray[np.complex128]:
    """Complex amplitudes (orders,) at these levels in dB, give or take half a decibel, phases at random."""
    sizes = np.sqrt(2) * 10.0 ** ((np.asarray(levels) + rng.normal(0, 0.5, len(levels))) / 20.0)
    return np.asarray(sizes * np.exp(2j * np.pi * rng.uniform(size=len(levels))))


class Convolution:
    """A causal FIR filter that streams, frame by frame (overlap-add)."""

    def __init__(self, kernel: NDArray[np.float64]) -> None:
        self._size = 1 << (FRAME + kernel.size - 2).bit_length()
        self._response = np.fft.rfft(kernel, self._size)
        self._tail = np.zeros(self._size - FRAME)

    def frame(self, dry: NDArray[np.float64]) -> NDArray[np.float64]:
        """The next (FRAME,) of the filtered sound."""
        wet = np.fft.irfft(np.fft.rfft(dry, self._size) * self._response, self._size)
        wet[: self._tail.size] += self._tail
        self._tail = wet[FRAME:]
        return np.asarray(wet[:FRAME])


class Noise:
    """Gaussian noise of unit power with a given long-time spectrum."""

    def __init__(self, rng: np.random.Generator, kernel: NDArray[np.float64]) -> None:
        self._rng = rng
        self._colour = Convolution(kernel)

    def frame(self) -> NDArray[np.float64]:
        """The next (FRAME,)."""
        return self._colour.frame(self._rng.standard_normal(FRAME))


class Drift:
    """A value that wanders about zero and comes back (Ornstein–Uhlenbeck), in its stationary state from the start."""

    def __init__(self, rng: np.random.Generator, spread: float, seconds: float, rate: int) -> None:
        self._rng = rng
        self._keep = float(np.exp(-FRAME / (rate * seconds)))
        self._kick = spread * float(np.sqrt(1.0 - self._keep**2))
        self._value = spread * float(rng.standard_normal())

    def frame(self) -> NDArray[np.float64]:
        """The next (FRAME,): a straight line to where the value is a frame later."""
        before, self._value = self._value, self._keep * self._value + self._kick * float(self._rng.standard_normal())
        return before + (self._value - before) * np.arange(1, FRAME + 1) / FRAME
