"""Detectors: feature vectors of normal sound in, a distance from them out. Fitted here, so a device can learn too.

References carry a *group*: the clip they were cut from. A reference never counts as the neighbour of
one of its own group, neither in its local density nor in leave-one-out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS = 4
"""how many neighbours make a local density"""
FLOOR = 1e-6
"""least local density and deviation: duplicates would divide by zero"""


class Detector(Protocol):
    """A fitted one-class model; its fields, all arrays, are what a bundle stores."""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distance from normal, (B, D) -> (B,); larger is stranger."""
        ...


@dataclass(frozen=True, slots=True)
class Nearest:
    """Nearest neighbour with local-density normalisation: y = min_i d(x, r_i) / c_i.

    c_i is the mean distance of reference i to its nearest neighbours in other groups. It evens out dense
    (source) and sparse (target) regions (Wilkinghoff 2025; methods.md §7.3, ratio).
    """

    references: NDArray[np.float32]
    """(N, D)"""
    density: NDArray[np.float32]
    """(N,) c_i"""

    @classmethod
    def fit(cls, features: NDArray[np.float32], groups: NDArray[np.int64]) -> Self:
        """From (N, D) references of at least two groups."""
        return cls(features.astype(np.float32), _density(_between(features, groups)).astype(np.float32))

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        ratios: NDArray[np.float64] = _distances(features, self.references) / self.density
        return np.asarray(ratios.min(axis=1), np.float64)

    @classmethod
    def leave_one_out(cls, features: NDArray[np.float32], groups: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score of each reference by a detector fitted without its group: (N, D) -> (N,)."""
        distances = _between(features, groups)
        neighbours = np.argsort(distances, axis=1)[:, :NEIGHBOURS]
        density = _density(distances)
        scores = np.empty(len(features))
        for group in np.unique(groups):
            held = groups == group
            without = density.copy()
            orphans = np.flatnonzero(~held & held[neighbours].any(axis=1))  # only their densities change
            without[orphans] = _density(np.where(held, np.inf, distances[orphans]))
            scores[held] = (distances[np.ix_(held, ~held)] / without[~held]).min(axis=1)
        return scores


@dataclass(frozen=True, slots=True)
class Mahalanobis:
    """Distance under a covariance shrunk towards its mean variance (Ledoit and Wolf 2004)."""

    mean: NDArray[np.float32]
    """(D,)"""
    whitening: NDArray[np.float32]
    """(D, D) W with W Wᵀ = Σ⁻¹"""

    @classmethod
    def fit(cls, features: NDArray[np.float32], groups: NDArray[np.int64]) -> Self:  # noqa: ARG003 - one signature for all
        """From (N, D) references."""
        mean = features.mean(axis=0, dtype=np.float64)
        precision = np.linalg.inv(ledoit_wolf(features - mean))
        return cls(mean.astype(np.float32), np.linalg.cholesky(precision).astype(np.float32))

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        white = (features.astype(np.float64) - self.mean) @ self.whitening
        return np.asarray(np.linalg.norm(white, axis=1), np.float64)

    @classmethod
    def leave_one_out(cls, features: NDArray[np.float32], groups: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score of each reference by a detector fitted without its group: (N, D) -> (N,)."""
        scores = np.empty(len(features))
        for group in np.unique(groups):
            held = groups == group
            scores[held] = cls.fit(features[~held], groups[~held]).score(features[held])
        return scores


def ledoit_wolf(centred: NDArray[np.floating]) -> NDArray[np.float64]:
    """Covariance of centred (N, D) features, shrunk to (1 − δ)S + δ·tr(S)/D·I with the optimal δ.

    Source: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004.
    """
    samples, dimensions = centred.shape
    x = centred.astype(np.float64)
    covariance = x.T @ x / samples
    scale = np.trace(covariance) / dimensions
    deviation = float(np.square(covariance).sum() - dimensions * scale**2)  # ‖S − scale·I‖²
    fourth = float(np.square(np.square(x).sum(axis=1)).sum())  # Σ‖x‖⁴
    noise = fourth / samples**2 - float(np.square(covariance).sum()) / samples
    # never none at all: features of which one is constant and one has two values would leave it singular
    shrinkage = max(min(noise / deviation, 1.0), FLOOR) if deviation > 0 else 1.0
    shrunk = (1.0 - shrinkage) * covariance + shrinkage * max(scale, FLOOR) * np.eye(dimensions)
    return np.asarray(shrunk, np.float64)


def _between(features: NDArray[np.float32], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, N) distances, infinite within a group."""
    distances = _distances(features, features)
    distances[groups[:, None] == groups] = np.inf
    return distances


def _density(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the smallest finite distances, (A, N) -> (A,); 1 where there are none."""
    nearest = np.sort(distances, axis=1)[:, :NEIGHBOURS]
    known = np.isfinite(nearest)
    total = np.where(known, nearest, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), np.maximum(total / np.maximum(known.sum(axis=1), 1), FLOOR), 1.0)


def _distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distances, (A, D) and (B, D) -> (A, B)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    square = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2.0 * (x @ y.T)
    return np.asarray(np.sqrt(np.maximum(square, 0.0)), np.float64)
