"""How loud it is, and where in the spectrum: what a sound level meter would show of a stretch of audio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.signal.statistic import SILENCE_DBFS, third_octaves
from edge_asd.signal.view import LogMel, frames, spectrum

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREFERRED = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
"""what the mid-band frequencies of a decade are called (IEC 61260-1, annex E)"""

LOUDEST = np.float32(1000.0)
"""60 dB beyond full scale: no sound, but a number that can be squared"""


@dataclass(frozen=True, slots=True)
class Level:
    """One stretch of audio, in decibels relative to full scale; digital silence is -120."""

    level_dbfs: float
    """root mean square; a sine of full scale has -3.01"""
    peak_dbfs: float
    """largest magnitude"""
    bands: dict[str, float]
    """mean power of each third octave by its nominal mid-band frequency in hertz: ``31.5``, ``1000``, ``1250``"""


def measure(samples: NDArray[np.float32], sample_rate: int) -> Level:
    """Level, peak and third octaves of (n,) samples at so many hertz.

    Spectra of frames of about a second, half overlapping, are averaged (Welch). Third octaves are those from 20 Hz
    to 20 kHz that lie whole below half the rate and are at least two bins wide, so a short stretch has fewer low ones.
    What is no number counts as silence, what is beyond all sense as LOUDEST: broken audio has a level, too.
    """
    sound = np.clip(np.nan_to_num(samples, posinf=0.0, neginf=0.0), -LOUDEST, LOUDEST)
    largest = float(np.abs(sound).max(initial=0.0))
    rms = math.sqrt(float(np.square(sound, dtype=np.float64).sum()) / max(sound.size, 1))
    return Level(_dbfs(rms), _dbfs(largest), _bands(sound, sample_rate))


def nominal(hertz: float) -> str:
    """What the third octave around an exact mid-band frequency is called: 1258.9 Hz is ``1250``."""
    decade, step = divmod(round(10 * math.log10(hertz)), 10)
    return f"{PREFERRED[step] * 10.0**decade:g}"


def _bands(sound: NDArray[np.float32], sample_rate: int) -> dict[str, float]:
    length = 2 ** min(math.ceil(math.log2(sample_rate)), int(math.log2(max(sound.size, 1))))
    spec = LogMel(sample_rate=sample_rate, n_fft=length, hop=max(length // 2, 1), f_max=sample_rate / 2)
    if sound.size < length or length < 2:
        return {}
    power = np.square(np.abs(spectrum(spec, frames(spec, sound)))).mean(axis=0, dtype=np.float64)  # (F,)
    centres, levels = third_octaves(spec, power)
    return {nominal(centre): float(level) for centre, level in zip(centres, levels, strict=True)}


def _dbfs(amplitude: float) -> float:
    return max(SILENCE_DBFS, 20.0 * math.log10(max(amplitude, 1e-30)))
