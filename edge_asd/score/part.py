"""A part: one named piece of evidence about a clip, scored in standard deviations of normal.

*Clip parts* look at statistics of the whole clip; *segment parts* look at network embeddings, one score a
segment, averaged over the clip (OEVAE report; architecture, decision 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edge_asd.score.detector import FLOOR, Mahalanobis, Nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge_asd.score.detector import Detector
    from edge_asd.signal.statistic import Statistics

DETECTORS: dict[str, type[Nearest | Mahalanobis]] = {"nearest": Nearest, "mahalanobis": Mahalanobis}
EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one clip."""

    statistics: Statistics
    embeddings: NDArray[np.float32]
    """(B, D), one row a segment; (0, 0) without a network"""


@dataclass(frozen=True, slots=True)
class PartSpec:
    """What a part looks at and how it measures."""

    name: str
    feature: Literal["indicators", "spectrum", "embedding"]
    detector: Literal["nearest", "mahalanobis"]

    @property
    def scope(self) -> Literal["clip", "segment"]:
        """Whether the part is scored once per clip or once per segment."""
        return "segment" if self.feature == EMBEDDING else "clip"


STATISTICS_PARTS = (
    PartSpec("indicators", "indicators", "mahalanobis"),
    PartSpec("spectrum", "spectrum", "mahalanobis"),
    PartSpec("neighbour", "spectrum", "nearest"),
)
"""Training-free parts that are good nearly everywhere (peers-measured.md)."""
NETWORK_PART = PartSpec("network", "embedding", "nearest")


def features(spec: PartSpec, evidence: Evidence) -> NDArray[np.float32]:
    """Feature vectors of one clip: (1, D) for a clip part, (B, D) for a segment part."""
    s = evidence.statistics
    if spec.feature == "indicators":
        return np.array([[s.level, s.crest, np.log(s.kurtosis)]], np.float32)
    if spec.feature == "spectrum":
        return np.concatenate([s.mean, s.maximum])[None]
    length = np.sqrt(np.square(evidence.embeddings).sum(axis=1, keepdims=True))
    return np.asarray(evidence.embeddings / np.maximum(length, FLOOR), np.float32)  # rank-equal to the cosine


@dataclass(frozen=True, slots=True)
class Part:
    """A fitted part."""

    spec: PartSpec
    mean: NDArray[np.float32]
    """(D,) of the features, subtracted first"""
    deviation: NDArray[np.float32]
    """(D,) of the features, divided by; ones where they have a common scale: indicators, unit embeddings"""
    detector: Detector
    centre: float
    """mean leave-one-out distance of training clips"""
    spread: float
    """standard deviation of the same"""

    def z(self, evidence: Evidence) -> NDArray[np.float64]:
        """Standardised distances of one clip: (1,) or (B,)."""
        standard = (features(self.spec, evidence) - self.mean) / self.deviation
        return (self.detector.score(standard) - self.centre) / self.spread


def fit_part(spec: PartSpec, normals: Sequence[Evidence]) -> tuple[Part, NDArray[np.float64]]:
    """Fit on normal clips.

    Returns:
        The part, and (N,) leave-one-out z-scores of the N clips.
    """
    per_clip = [features(spec, clip) for clip in normals]
    groups = np.repeat(np.arange(len(per_clip)), [len(rows) for rows in per_clip])
    raw = np.concatenate(per_clip)
    mean, deviation = _standard(spec, raw)
    standard = (raw - mean) / deviation
    detector = DETECTORS[spec.detector]
    distances = detector.leave_one_out(standard, groups)
    by_clip = np.bincount(groups, distances) / np.bincount(groups)
    centre, spread = float(by_clip.mean()), max(float(by_clip.std()), FLOOR)
    part = Part(spec, mean, deviation, detector.fit(standard, groups), centre, spread)
    return part, (by_clip - centre) / spread


def _standard(spec: PartSpec, raw: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation to standardise with."""
    if spec.feature != "spectrum":
        return np.zeros(raw.shape[1], np.float32), np.ones(raw.shape[1], np.float32)
    return raw.mean(axis=0), np.maximum(raw.std(axis=0), np.float32(FLOOR))
