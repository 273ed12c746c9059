"""From a fused score to a probability people can use: surprise, alarm threshold, health index.

The body of the distribution is the training clips' own quantiles. Above their median the score is taken
as exponential; its mean is known only from k excesses, and averaging over what it may be (Jeffreys prior)
gives a tail with P(excess > t) = (1 + t / (k·β))^-k. Thirty clips thus give a finite answer beyond the
largest of them, and a humbler one than three hundred would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILES = np.linspace(0.0, 0.5, 11)
WEEK_S = 604_800.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Distribution of the fused score over normal clips."""

    body: NDArray[np.float64]
    """(11,) scores at the quantiles 0, 0.05 … 0.5"""
    excess: float
    """β, mean distance above the median of the clips above it"""
    excesses: int
    """k, how many those are"""

    @classmethod
    def fit(cls, scores: NDArray[np.float64]) -> Self:
        """From (N,) leave-one-out scores of normal clips, N >= 4."""
        body = np.quantile(scores, QUANTILES)
        above = scores[scores > body[-1]] - body[-1]
        return cls(body, max(float(above.mean()) if above.size else 0.0, 1e-6), max(int(above.size), 1))

    def surprise(self, score: float) -> float:
        """-log10 of the probability that a normal clip scores at least this: from 0, finite, never falling."""
        if score <= self.body[-1]:
            return float(-np.log10(1.0 - np.interp(score, self.body, QUANTILES)))
        excess = (score - self.body[-1]) / self.excess
        return float(np.log10(2.0) + self.excesses * np.log1p(excess / self.excesses) / np.log(10.0))


def alarm_threshold(clip_s: float, on_delay: int, false_alarms_per_week: float = 1.0) -> float:
    """Surprise that ``on_delay`` clips in a row reach by chance as often as stated.

    Surprises of independent clips add up, so each need only bring its share.
    """
    return float(np.log10(WEEK_S / clip_s / false_alarms_per_week) / on_delay)


def health_index(surprise: float, alarm: float) -> int:
    """10 for what nine in ten training clips reach, 4 at the alarm threshold, 1 at worst."""
    start = min(1.0, alarm / 2.0)
    return int(np.clip(round(10.0 - 6.0 * (surprise - start) / (alarm - start)), 1, 10))
