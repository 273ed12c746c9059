"""Is what the microphone delivers sound at all? An invalid stretch is not scored."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LSB = 2.0**-15
"""one step of 16-bit audio"""
ZERO_RUN = 4_000
"""exact zeros in a row that no analogue input delivers: 0.25 s at 16 kHz"""
CLIPPED_SHARE = 0.01
"""share of samples at full scale beyond which the waveform is no longer the machine's"""
OFFSET = 100.0
"""times the deviation: a mean so far from zero is a voltage, with the converter's noise on it"""
SHORTEST_REPEAT = 64
"""samples; a tone may have a shorter period to the last bit, a buffer that is delivered again and again has not"""
STANDARD_RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)
"""hertz at which sound is recorded; the rare 12 and 24 kHz are taken for their neighbours below"""
CLIFF_DB = 40.0
"""no room and no machine falls so far within a sixth of an octave; a resampler does"""
FLAT_DB = 3.0
"""between the loudest and the faintest octave of white noise"""
FLAT_FROM = 200.0
"""hertz; below it even a dead input hums"""
EDGE = 0.45
"""of a sample rate: what anti-aliasing filters let through"""


class Fault(StrEnum):
    """What makes audio unfit to be scored."""

    NOT_FINITE = "not_finite"
    SILENT = "silent"
    STUCK = "stuck"
    CLIPPING = "clipping"


def fault(samples: NDArray[np.float32]) -> Fault | None:
    """Judge (n,) samples; None when they can be scored (device.md §5)."""
    if not np.isfinite(samples).all():
        return Fault.NOT_FINITE
    if longest_zero_run(samples) >= min(ZERO_RUN, samples.size):
        return Fault.SILENT
    deviation = samples.std(dtype=np.float64)
    if deviation < LSB or abs(samples.mean(dtype=np.float64)) > OFFSET * deviation or repeats(samples):
        return Fault.STUCK
    if clipped(samples) > CLIPPED_SHARE * samples.size:
        return Fault.CLIPPING
    return None


def longest_zero_run(samples: NDArray[np.float32]) -> int:
    """Length of the longest run of exact zeros."""
    (sounding,) = np.nonzero(samples)
    edges = np.concatenate([[-1], sounding, [samples.size]])
    return int(np.diff(edges).max() - 1)


def clipped(samples: NDArray[np.float32]) -> int:
    """How many samples are at full scale or beyond."""
    return int(np.count_nonzero(np.abs(samples) >= 1.0 - LSB))


def repeats(samples: NDArray[np.float32]) -> bool:
    """The same buffer is delivered over and over: (n,) samples are periodic to the last bit, at least twice."""
    octets, pattern = samples.tobytes(), samples[-SHORTEST_REPEAT:].tobytes()
    found = octets.rfind(pattern, 0, len(octets) - samples.itemsize)
    period = samples.size - SHORTEST_REPEAT - found // samples.itemsize
    if found < 0 or found % samples.itemsize or not SHORTEST_REPEAT <= period <= samples.size // 2:
        return False
    return bool(np.array_equal(samples[period:], samples[:-period]))


def power(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power spectrum of (n,) samples under a Hann window, (n // 2 + 1,); only ratios of it mean anything."""
    return np.square(np.abs(np.fft.rfft(samples * np.hanning(samples.size))))


def band_limit(spectrum: NDArray[np.float64], rate: int) -> int | None:
    """The lower sample rate that sound at ``rate`` hertz has gone through, by its power (F,); None when it has not.

    Medians are compared, for a tone on either side of the edge says nothing of the sound around it.
    """
    for lower in STANDARD_RATES:
        if 0.52 * lower >= 0.95 * rate / 2:
            return None
        below = np.median(_between(spectrum, rate, 0.35 * lower, EDGE * lower))
        beside = np.median(_between(spectrum, rate, 0.52 * lower, min(0.65 * lower, 0.98 * rate / 2)))
        beyond = np.median(_between(spectrum, rate, 0.52 * lower, 0.98 * rate / 2))
        if below > max(beside, beyond) * 10 ** (CLIFF_DB / 10):
            return lower
    return None


def is_flat(spectrum: NDArray[np.float64], rate: int) -> bool:
    """Every octave up to the edge of the band has the same density: white noise, such as a converter's own."""
    edges = FLAT_FROM * 2.0 ** np.arange(np.floor(np.log2(EDGE * rate / FLAT_FROM)) + 1)
    density = np.array([_between(spectrum, rate, *octave).mean() for octave in pairwise(edges)])
    return bool(density.max() <= density.min() * 10 ** (FLAT_DB / 10))


def _between(spectrum: NDArray[np.float64], rate: int, low: float, high: float) -> NDArray[np.float64]:
    """The bins from ``low`` to ``high`` hertz, at least one."""
    bins = 2 * (spectrum.size - 1) / rate
    first = int(low * bins)
    return spectrum[first : max(int(high * bins), first + 1)]
