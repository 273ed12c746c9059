"""Is what the microphone delivers sound at all? An invalid stretch is not scored."""

from __future__ import annotations

from enum import StrEnum
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
    if samples.std(dtype=np.float64) < LSB:
        return Fault.STUCK
    if np.mean(np.abs(samples) >= 1.0 - LSB) > CLIPPED_SHARE:
        return Fault.CLIPPING
    return None


def longest_zero_run(samples: NDArray[np.float32]) -> int:
    """Length of the longest run of exact zeros."""
    (sounding,) = np.nonzero(samples)
    edges = np.concatenate([[-1], sounding, [samples.size]])
    return int(np.diff(edges).max() - 1)
