"""Distances to the nearest normal sounds, plain, by domain, or measured by the local density (methods.md §7.1–7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from edge_asd.score.detector import FLOOR, held_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from edge_asd.score.detector import References

BLOCK = 1024
"""rows whose distances to all references are in memory at once"""
SPARE = 32
"""neighbours remembered beyond those that make a density, to take the place of what is left out"""


# What is stored -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Mean distance to the nearest few references."""

    AXES: ClassVar[Mapping[str, str]] = {"references": "ND", "weights": "K"}

    references: NDArray[np.float32]
    """(N, D)"""
    weights: NDArray[np.float32]
    """(K,) of the nearest, the second nearest, …"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        return _weighted(distances(features, self.references), self.weights)


@dataclass(frozen=True, slots=True)
class DomainNeighbours:
    """The same within each domain; the nearer domain counts."""

    AXES: ClassVar[Mapping[str, str]] = {"references": "ND", "target": "N", "weights": "K"}

    references: NDArray[np.float32]
    """(N, D)"""
    target: NDArray[np.float32]
    """(N,) 1 in the target domain, 0 in the source domain"""
    weights: NDArray[np.float32]
    """(K,) as above; of a domain with fewer references the first"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        far, target = distances(features, self.references), self.target > 0
        domains = [far[:, domain] for domain in (~target, target) if domain.any()]
        return np.asarray(np.min([_weighted(domain, self.weights) for domain in domains], axis=0), np.float64)


@dataclass(frozen=True, slots=True)
class Nearest:
    """Nearest neighbour with local-density normalisation: y = min_i d(x, r_i) / c_i.

    c_i is the mean distance of reference i to its nearest neighbours in other groups. It evens out dense
    (source) and sparse (target) regions (Wilkinghoff 2025; methods.md §7.3, ratio).
    """

    AXES: ClassVar[Mapping[str, str]] = {"references": "ND", "density": "N"}

    references: NDArray[np.float32]
    """(N, D)"""
    density: NDArray[np.float32]
    """(N,) c_i"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        return np.asarray(self._ratios(features).min(axis=1), np.float64)

    def nearest(self, features: NDArray[np.float32]) -> int:
        """The reference that counted for (D,) features."""
        return int(self._ratios(features[None])[0].argmin())

    def origin(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The reference that counted, (D,) -> (D,)."""
        return np.asarray(self.references[self.nearest(features)], np.float32)

    def by_feature(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """δ_j² / (‖δ‖ c), (D,) -> (D,); δ is the difference from the reference that counted."""
        which = self.nearest(features)
        return _by_feature(features, self.references[which]) / float(self.density[which])

    def _ratios(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(distances(features, self.references) / self.density, np.float64)


@dataclass(frozen=True, slots=True)
class Difference:
    """The same with y = min_i d(x, r_i) − c_i (methods.md §7.3, difference)."""

    AXES: ClassVar[Mapping[str, str]] = {"references": "ND", "density": "N"}

    references: NDArray[np.float32]
    """(N, D)"""
    density: NDArray[np.float32]
    """(N,) c_i"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        return np.asarray(self._differences(features).min(axis=1), np.float64)

    def nearest(self, features: NDArray[np.float32]) -> int:
        """The reference that counted for (D,) features."""
        return int(self._differences(features[None])[0].argmin())

    def origin(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The reference that counted, (D,) -> (D,)."""
        return np.asarray(self.references[self.nearest(features)], np.float32)

    def by_feature(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """δ_j² / ‖δ‖, (D,) -> (D,): they add up to the distance, of which the density is then taken away."""
        return _by_feature(features, self.references[self.nearest(features)])

    def _differences(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(distances(features, self.references) - self.density, np.float64)


# How it is learned ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Knn:
    """Keeps every reference."""

    neighbours: int = 1
    by_domain: bool = False

    @property
    def detector(self) -> Literal["neighbours", "domain_neighbours"]:
        """Name of what it learns."""
        return "domain_neighbours" if self.by_domain else "neighbours"

    def fit(self, references: References) -> Neighbours | DomainNeighbours:
        """One neighbour fewer for each reference that is missing."""
        rows = references.rows()
        features = rows.features.astype(np.float32)
        weights = np.ones(min(self.neighbours, len(rows)), np.float32)
        if self.by_domain:
            return DomainNeighbours(features, rows.target.astype(np.float32), weights)
        return Neighbours(features, weights)

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Exactly what a fit without the group would say."""
        rows, weights = references.rows(), np.ones(self.neighbours)
        scores = np.empty(len(rows))
        domains = [d for d in (~rows.target, rows.target) if d.any()] if self.by_domain else [np.full(len(rows), True)]
        for block in _blocks(np.arange(len(rows))):
            far = _between(rows, block)
            scores[block] = np.min([_weighted(far[:, domain], weights) for domain in domains], axis=0)
        return references.averaged(scores)


@dataclass(frozen=True, slots=True)
class LocalDensity:
    """Keeps every reference and measures how dense it is there."""

    neighbours: int = 4
    """how many make a local density"""
    ratio: bool = True
    """of distance and density; else their difference"""

    @property
    def detector(self) -> Literal["nearest", "difference"]:
        """Name of what it learns."""
        return "nearest" if self.ratio else "difference"

    def fit(self, references: References) -> Nearest | Difference:
        """From references of at least two groups."""
        rows = references.rows()
        density = self._density(rows, np.arange(len(rows))).astype(np.float32)
        return (Nearest if self.ratio else Difference)(rows.features.astype(np.float32), density)

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Exactly what a fit without the group would say."""
        rows = references.rows()
        near, far_near = _nearest(rows, self.neighbours + SPARE)
        density, scores = _mean_nearest(far_near, self.neighbours), np.empty(len(rows))
        for held in held_out(rows.group):
            without = density.copy()
            orphans = np.flatnonzero(~held & held[near[:, : self.neighbours]].any(axis=1))  # only theirs change
            left = np.where(held[near[orphans]], np.inf, far_near[orphans])
            without[orphans] = _mean_nearest(left, self.neighbours)
            short = orphans[np.isfinite(left).sum(axis=1) < self.neighbours]
            without[short] = self._density(rows, short, held)
            for block in _blocks(np.flatnonzero(held)):
                far = distances(rows.features[block], rows.features[~held])
                scores[block] = (far / without[~held] if self.ratio else far - without[~held]).min(axis=1)
        return references.averaged(scores)

    def _density(
        self, rows: References, which: NDArray[np.int64], held: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """c_i of some references, those held out being no neighbours."""
        found = [np.zeros(0)]
        for block in _blocks(which):
            far = _between(rows, block)
            far[:, np.zeros(len(rows), np.bool_) if held is None else held] = np.inf
            found.append(_mean_nearest(far, self.neighbours))
        return np.concatenate(found)


def distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distances, (A, D) and (B, D) -> (A, B)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    square = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2.0 * (x @ y.T)
    return np.asarray(np.sqrt(np.maximum(square, 0.0)), np.float64)


def _by_feature(features: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of the Euclidean distance between two (D,), what each feature adds, (D,)."""
    off = features.astype(np.float64) - reference
    return np.asarray(np.square(off) / max(float(np.linalg.norm(off)), FLOOR), np.float64)


def _between(rows: References, which: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distances of some references to all, (A, N); infinite within a group."""
    far = distances(rows.features[which], rows.features)
    far[rows.group[which][:, None] == rows.group] = np.inf
    return far


def _nearest(rows: References, most: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each reference's nearest in other groups and how far they are, (N, most), nearest first."""
    found = []
    for block in _blocks(np.arange(len(rows))):
        far = _between(rows, block)
        near = np.argpartition(far, min(most, far.shape[1]) - 1, axis=1)[:, :most]
        near = np.take_along_axis(near, np.argsort(np.take_along_axis(far, near, axis=1), axis=1), axis=1)
        found.append((near, np.take_along_axis(far, near, axis=1)))
    which, distance = zip(*found, strict=True)
    return np.concatenate(which), np.concatenate(distance)


def _weighted(far: NDArray[np.float64], weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Weighted mean of the smallest finite distances, (A, N) -> (A,); infinite where there are none."""
    count = min(weights.size, far.shape[1])
    nearest = np.sort(np.partition(far, count - 1, axis=1)[:, :count], axis=1)
    known = np.where(np.isfinite(nearest), weights[:count], 0.0)
    total = np.where(np.isfinite(nearest), nearest, 0.0) * known
    share = known.sum(axis=1)
    return np.where(share > 0, total.sum(axis=1) / np.where(share > 0, share, 1.0), np.inf)


def _mean_nearest(far: NDArray[np.float64], neighbours: int) -> NDArray[np.float64]:
    """Mean of the smallest finite distances, (A, N) -> (A,); 1 where there are none, and never nothing."""
    mean = _weighted(far, np.ones(neighbours))
    return np.where(np.isfinite(mean), np.maximum(mean, FLOOR), 1.0)


def _blocks(which: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (which[first : first + BLOCK] for first in range(0, len(which), BLOCK))
