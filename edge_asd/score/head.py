"""A head: everything that is fitted to one machine. Parts in, one calibrated number out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.errors import AudioError
from edge_asd.score.calibration import Calibration
from edge_asd.score.clip import PartScore
from edge_asd.score.part import fit_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge_asd.score.part import Evidence, Part, PartSpec

LEAST_CLIPS = 5
"""fewer give no leave-one-out statistics worth the name"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fused score of one clip and what it is made of."""

    score: float
    surprise: float
    parts: tuple[PartScore, ...]
    segment_scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Fitted parts, fused by the mean of their z-scores, and the calibration of that mean."""

    parts: tuple[Part, ...]
    calibration: Calibration

    def judge(self, evidence: Evidence) -> Verdict:
        """Score one clip."""
        z = [part.z(evidence) for part in self.parts]
        score = float(np.mean([values.mean() for values in z]))
        segments = [values for part, values in zip(self.parts, z, strict=True) if part.spec.scope == "segment"]
        return Verdict(
            score,
            self.calibration.surprise(score),
            tuple(PartScore(part.spec.name, float(v.mean())) for part, v in zip(self.parts, z, strict=True)),
            tuple(float(v) for v in np.mean(segments, axis=0)) if segments else (),
        )


def fit_head(specs: Sequence[PartSpec], normals: Sequence[Evidence]) -> tuple[Head, NDArray[np.float64]]:
    """Fit on the normal clips of one machine, source and target together.

    Returns:
        The head, and (N,) leave-one-out fused scores of the clips.

    Raises:
        AudioError: too few clips.
    """
    if len(normals) < LEAST_CLIPS:
        msg = f"need at least {LEAST_CLIPS} normal clips to fit a head, got {len(normals)}; record more"
        raise AudioError(msg)
    fitted = [fit_part(spec, normals) for spec in specs]
    fused = np.mean([z for _, z in fitted], axis=0)
    return Head(tuple(part for part, _ in fitted), Calibration.fit(fused)), fused
