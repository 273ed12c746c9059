"""A part: one named piece of evidence about a clip, scored in standard deviations of normal.

*Clip parts* look at statistics of the whole clip; *segment parts* look at outputs of the network, one score a
segment, averaged over the clip (OEVAE report; architecture, decision 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from edge_asd.score.centre import Centres, Cosine
from edge_asd.score.detector import FLOOR, Detects, Divisible, References, scored
from edge_asd.score.gaussian import Bands, Gaussian, Mahalanobis, MeanBands, Selective
from edge_asd.score.likelihood import Confidence, LargestOfMixture, LogOdds, Mixture, Sigmoid, Value
from edge_asd.score.neighbour import Difference, DomainNeighbours, LocalDensity, Nearest, Neighbours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edge_asd.score.detector import Backend, Detector
    from edge_asd.signal.statistic import Statistics

DETECTORS: Mapping[Detects, type[Detector]] = MappingProxyType(
    {
        "nearest": Nearest,
        "difference": Difference,
        "neighbours": Neighbours,
        "domain_neighbours": DomainNeighbours,
        "mahalanobis": Mahalanobis,
        "selective": Selective,
        "selective_rows": Selective,
        "bands": Bands,
        "mean_bands": MeanBands,
        "centres": Centres,
        "cosine": Cosine,
        "mixture": Mixture,
        "mixture_maximum": LargestOfMixture,
        "confidence": Confidence,
        "log_odds": LogOdds,
        "sigmoid": Sigmoid,
        "value": Value,
    }
)
EMBEDDING = "embedding"
INDICATORS = ("level", "crest", "kurtosis")
"""what the feature ``indicators`` holds, in this order"""
STATISTICS = frozenset({"indicators", "spectrum"})
"""features that need no network; every other is named after an output of it"""
LEAST_RECORDINGS = 3
"""with fewer, leaving one out leaves none to be its neighbours' neighbours: then clips stand for recordings"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one clip."""

    statistics: Statistics
    outputs: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """of the network by name, each (B, D) or (B, R, D), a row a segment; none without a network"""


@dataclass(frozen=True, slots=True)
class Normal:
    """A clip to learn from. What is not known of it may be left out."""

    evidence: Evidence
    recording: str = ""
    """id of the recording it was cut from"""
    target: bool = False
    """whether it is of the target domain"""
    attribute: str = ""
    """operating condition"""


@dataclass(frozen=True, slots=True)
class PartSpec:
    """What a part looks at and how it measures."""

    name: str
    feature: str
    """``indicators``, ``spectrum`` or the name of an output of the network, in an ensemble ``MEMBER.OUTPUT``"""
    detector: Detects

    @property
    def scope(self) -> Literal["clip", "segment"]:
        """Whether the part is scored once per clip or once per segment."""
        return "clip" if self.feature in STATISTICS else "segment"


STATISTICS_PARTS: Mapping[PartSpec, Backend] = MappingProxyType(
    {
        PartSpec("indicators", "indicators", "mahalanobis"): Gaussian(),
        PartSpec("spectrum", "spectrum", "mahalanobis"): Gaussian(),
        PartSpec("neighbour", "spectrum", "nearest"): LocalDensity(),
    }
)
"""Training-free parts that are good nearly everywhere (peers-measured.md), and what learns them."""


def is_embedding(output: str) -> bool:
    """Whether an output, an ensemble's ``MEMBER.OUTPUT`` too, is one of which the direction alone counts."""
    return output.rpartition(".")[2] == EMBEDDING


def features(spec: PartSpec, evidence: Evidence) -> NDArray[np.float32]:
    """Feature vectors of one clip: (1, D) for a clip part, (B, D) or (B, R, D) for a segment part."""
    s = evidence.statistics
    if spec.feature == "indicators":
        return np.array([[s.level, s.crest, np.log(s.kurtosis)]], np.float32)
    if spec.feature == "spectrum":
        return np.concatenate([s.mean, s.maximum])[None]
    output = evidence.outputs[spec.feature]
    if not is_embedding(spec.feature):
        return output
    length = np.sqrt(np.square(output).sum(axis=-1, keepdims=True))
    return np.asarray(output / np.maximum(length, FLOOR), np.float32)  # rank-equal to the cosine


@dataclass(frozen=True, slots=True)
class Part:
    """A fitted part."""

    spec: PartSpec
    mean: NDArray[np.float32]
    """(D,) of the features, subtracted first"""
    deviation: NDArray[np.float32]
    """(D,) of the features, divided by; ones for all but the spectrum: they have a common scale or no need of one"""
    detector: Detector
    centre: float
    """mean leave-one-out distance of training clips"""
    spread: float
    """standard deviation of the same"""

    def z(self, evidence: Evidence) -> NDArray[np.float64]:
        """Standardised distances of one clip: (1,) or (B,)."""
        return (scored(self.spec.detector, self.detector, self._standard(evidence)) - self.centre) / self.spread

    def by_feature(self, evidence: Evidence) -> NDArray[np.float64]:
        """Of a clip part, what each feature adds to z above that of no distance, (D,); zeros where nobody can say."""
        standard = self._standard(evidence)[0]
        if not isinstance(self.detector, Divisible):
            return np.zeros(standard.shape)
        return self.detector.by_feature(standard) / self.spread

    def usual(self, evidence: Evidence) -> NDArray[np.float32] | None:
        """Of a clip part, the features that it compares these with, (D,); None where nobody can say."""
        if not isinstance(self.detector, Divisible):
            return None
        return np.asarray(self.mean + self.deviation * self.detector.origin(self._standard(evidence)[0]), np.float32)

    def nearest(self, evidence: Evidence, clips: int) -> int | None:
        """Of a clip part that compares with each of so many training clips, the one that counted; None of others."""
        detector = self.detector
        if not isinstance(detector, Nearest | Difference) or len(detector.references) != clips:
            return None
        return detector.nearest(self._standard(evidence)[0])

    def _standard(self, evidence: Evidence) -> NDArray[np.float32]:
        return np.asarray((features(self.spec, evidence) - self.mean) / self.deviation, np.float32)


def fit_part(spec: PartSpec, normals: Sequence[Normal], backend: Backend) -> tuple[Part, NDArray[np.float64]]:
    """Fit on normal clips.

    Returns:
        The part, and (N,) leave-one-out z-scores of the N clips.

    Raises:
        ValueError: the back end learns another detector than the part's.
    """
    if backend.detector != spec.detector:
        msg = f"part {spec.name!r} has detector {spec.detector!r}, its back end learns {backend.detector!r}"
        raise ValueError(msg)
    per_clip = [features(spec, normal.evidence) for normal in normals]
    raw = np.concatenate(per_clip)
    mean, deviation = _standard(spec, raw)
    standard = (raw - mean) / deviation if spec.feature in STATISTICS else raw  # an output's rows may fill the memory
    references = _references(standard, normals, [len(rows) for rows in per_clip])
    distances = backend.leave_one_out(references)
    by_clip = np.bincount(references.clip, distances) / np.bincount(references.clip)
    centre, spread = float(by_clip.mean()), max(float(by_clip.std()), FLOOR)
    part = Part(spec, mean, deviation, backend.fit(references), centre, spread)
    return part, (by_clip - centre) / spread


def _references(standard: NDArray[np.float32], normals: Sequence[Normal], counts: Sequence[int]) -> References:
    """With what is known of each clip, as often as it has rows."""
    clip = np.repeat(np.arange(len(normals)), counts)
    recording = _numbered([normal.recording for normal in normals])
    recording = recording if np.unique(recording).size >= LEAST_RECORDINGS else np.arange(len(normals))
    target = np.array([normal.target for normal in normals])
    condition = _numbered([normal.attribute or f"target {normal.target}" for normal in normals])  # methods.md §1.2
    return References(standard, recording[clip], clip, target[clip], condition[clip])


def _numbered(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _standard(spec: PartSpec, raw: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation to standardise with."""
    if spec.feature != "spectrum":
        return np.zeros(raw.shape[-1], np.float32), np.ones(raw.shape[-1], np.float32)
    return raw.mean(axis=0), np.maximum(raw.std(axis=0), np.float32(FLOOR))
