"""Distances to a few centres: means of operating conditions, or of clusters (methods.md §1.4, §3.7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from edge_asd.score.detector import FLOOR, refitted
from edge_asd.score.gaussian import ledoit_wolf, whitening

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge_asd.score.detector import References

LEAST_CLIPS = 3
"""clips of an operating condition that are worth a mean"""


@dataclass(frozen=True, slots=True)
class Centres:
    """y = min over centres of (e − c)ᵀ Σ⁻¹ (e − c), with one Σ for all."""

    AXES: ClassVar[Mapping[str, str]] = {"centres": "GD", "whitening": "DD"}

    centres: NDArray[np.float32]
    """(G, D)"""
    whitening: NDArray[np.float32]
    """(D, D) W with W Wᵀ = Σ⁻¹"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        e, c = (points.astype(np.float64) @ self.whitening for points in (features, self.centres))
        square = np.square(e).sum(axis=1)[:, None] + np.square(c).sum(axis=1) - 2.0 * (e @ c.T)
        return np.asarray(np.maximum(square.min(axis=1), 0.0), np.float64)


@dataclass(frozen=True, slots=True)
class Cosine:
    """y = min over centres of 1 − e·c, e of unit length; a centre that is shorter is that much further away."""

    AXES: ClassVar[Mapping[str, str]] = {"centres": "GD"}

    centres: NDArray[np.float32]
    """(G, D)"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        return np.asarray(1.0 - (unit(features) @ self.centres.T).max(axis=1), np.float64)


@dataclass(frozen=True, slots=True)
class ConditionCentres:
    """Means of the operating conditions that have clips enough; of the others, and of the target domain, each row."""

    cosine: bool = False
    """by the angle to a centre; else by one covariance within conditions, shrunk"""

    @property
    def detector(self) -> Literal["centres", "cosine"]:
        """Name of what it learns."""
        return "cosine" if self.cosine else "centres"

    def fit(self, references: References) -> Centres | Cosine:
        """From references of one condition or more."""
        rows = references.rows()
        if self.cosine:
            directions = replace(rows, features=unit(rows.features).astype(np.float32))
            return Cosine(unit(_centres(directions)).astype(np.float32))
        white = whitening(ledoit_wolf(_within(rows)))
        return Centres(_centres(rows).astype(np.float32), white.astype(np.float32))

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Fitted anew without a fold of the groups."""
        return refitted(self, references)


def unit(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """The same directions at unit length, (N, D)."""
    length = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, FLOOR), np.float64)


def _centres(rows: References) -> NDArray[np.float64]:
    """(G, D)."""
    means, alone = [], rows.target.copy()
    for condition in np.unique(rows.attribute):
        own = rows.attribute == condition
        if np.unique(rows.clip[own]).size >= LEAST_CLIPS:
            means.append(rows.features[own].mean(axis=0, dtype=np.float64))
        else:
            alone |= own
    return np.concatenate([np.reshape(means, (-1, rows.features.shape[1])), rows.features[alone]]).astype(np.float64)


def _within(rows: References) -> NDArray[np.float64]:
    """Features about the mean of their condition, (N, D)."""
    _, condition, counts = np.unique(rows.attribute, return_inverse=True, return_counts=True)
    sums = np.zeros((counts.size, rows.features.shape[1]))
    np.add.at(sums, condition, rows.features)
    return np.asarray(rows.features - (sums / counts[:, None])[condition], np.float64)
