"""A head: everything that is fitted to one machine. Parts in, one calibrated number out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from edge_asd.errors import AudioError, ConfigError
from edge_asd.score.calibration import Calibration
from edge_asd.score.clip import PartScore
from edge_asd.score.part import fit_part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edge_asd.score.detector import Backend
    from edge_asd.score.part import Evidence, Normal, Part, PartSpec

LEAST_CLIPS = 5
"""fewer give no leave-one-out statistics worth the name"""


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the z-scores of parts become one (methods.md §7.6)."""

    rule: Literal["mean", "min"] = "mean"
    weights: dict[str, float] = field(default_factory=dict)
    """by part, 1 where none is given; a part of weight 0 is shown and not fused, a minimum knows no other difference"""

    def __post_init__(self) -> None:
        if wrong := {name: weight for name, weight in self.weights.items() if not 0 <= weight < math.inf}:
            msg = f"weights of fusion must be 0 or more, got {wrong}"
            raise ValueError(msg)

    def over(self, names: Sequence[str]) -> NDArray[np.float64]:
        """(P,) weights of these parts.

        Raises:
            ValueError: a weight is of no part, or all are 0.
        """
        if unknown := sorted(set(self.weights) - set(names)):
            msg = f"fusion weighs {', '.join(unknown)}; the parts are {', '.join(names)}"
            raise ValueError(msg)
        weights = np.array([self.weights.get(name, 1.0) for name in names])
        if not weights.any():
            msg = f"fusion gives weight 0 to all of {', '.join(names)}; give one of them more"
            raise ValueError(msg)
        return weights

    def fuse(self, z: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P, N) z-scores of parts -> (N,)."""
        if self.rule == "min":
            return np.asarray(z[weights > 0].min(axis=0), np.float64)
        return np.asarray((weights[:, None] * z).sum(axis=0) / weights.sum(), np.float64)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fused score of one clip and what it is made of."""

    score: float
    surprise: float
    parts: tuple[PartScore, ...]
    segment_scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Fitted parts, the rule that fuses their z-scores, and the calibration of what comes out."""

    parts: tuple[Part, ...]
    calibration: Calibration
    fusion: Fusion = Fusion()

    def judge(self, evidence: Evidence) -> Verdict:
        """Score one clip."""
        z = [part.z(evidence) for part in self.parts]
        by_part = np.array([values.mean() for values in z])
        weights = self.fusion.over([part.spec.name for part in self.parts])
        score = float(self.fusion.fuse(by_part[:, None], weights)[0])
        return Verdict(
            score,
            self.calibration.surprise(score),
            tuple(PartScore(part.spec.name, float(value)) for part, value in zip(self.parts, by_part, strict=True)),
            self._segments(z, weights),
        )

    def _segments(self, z: Sequence[NDArray[np.float64]], weights: NDArray[np.float64]) -> tuple[float, ...]:
        """The segment parts that count, fused segment by segment; nothing without any."""
        counted = [
            number for number, part in enumerate(self.parts) if part.spec.scope == "segment" and weights[number] > 0
        ]
        if not counted:
            return ()
        return tuple(map(float, self.fusion.fuse(np.array([z[number] for number in counted]), weights[counted])))


def fit_head(
    parts: Mapping[PartSpec, Backend], normals: Sequence[Normal], fusion: Fusion | None = None
) -> tuple[Head, NDArray[np.float64]]:
    """Fit on the normal clips of one machine, source and target together.

    Returns:
        The head, and (N,) leave-one-out fused scores of the clips.

    Raises:
        AudioError: too few clips.
        ConfigError: parts share a name, or the fusion weighs none of them or one that is not there.
    """
    if len(normals) < LEAST_CLIPS:
        msg = f"need at least {LEAST_CLIPS} normal clips to fit a head, got {len(normals)}; record more"
        raise AudioError(msg)
    fusion, names = fusion or Fusion(), [spec.name for spec in parts]
    if len(set(names)) < len(names):
        msg = f"parts share a name: {', '.join(names)}; name each differently"
        raise ConfigError(msg)
    try:
        weights = fusion.over(names)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    fitted = [fit_part(spec, normals, backend) for spec, backend in parts.items()]
    fused = fusion.fuse(np.array([z for _, z in fitted]), weights)
    return Head(tuple(part for part, _ in fitted), Calibration.fit(fused), fusion), fused
