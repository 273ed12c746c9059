"""Distances under covariances: one Gaussian, bands of one, the reconstruction residuals of two domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from edge_asd.score.detector import FLOOR, held_out, refitted, scored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edge_asd.score.detector import References

BLOCK = 256
"""segments whose residuals are in memory twice"""
ROWS_PER_DIMENSION = 10
"""with fewer residuals a second moment is shrunk; the official one, of hundreds, is not"""


# What is stored -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mahalanobis:
    """Distance under a covariance shrunk towards its mean variance (Ledoit and Wolf 2004)."""

    AXES: ClassVar[Mapping[str, str]] = {"mean": "D", "whitening": "DD"}

    mean: NDArray[np.float32]
    """(D,)"""
    whitening: NDArray[np.float32]
    """(D, D) W with W Wᵀ = Σ⁻¹"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        white = (features.astype(np.float64) - self.mean) @ self.whitening
        return np.asarray(np.linalg.norm(white, axis=1), np.float64)

    def origin(self, features: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ARG002 - the same for all
        """The centre, (D,)."""
        return self.mean

    def by_feature(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """δ_j (Σ⁻¹ δ)_j / y, (D,) -> (D,)."""
        off = features.astype(np.float64) - self.mean
        white = off @ self.whitening
        return np.asarray(off * (self.whitening @ white) / max(float(np.linalg.norm(white)), FLOOR), np.float64)


@dataclass(frozen=True, slots=True)
class Selective:
    """y = min over domains of δᵀ Σ_d⁻¹ δ; δ is a residual, Σ_d its second moment in domain d (methods.md §5.2).

    The official form takes the mean residual of a segment, so that what fluctuates from frame to frame cancels.
    Its Σ is five times ours, each of its vectors being five rows: a constant factor.
    """

    AXES: ClassVar[Mapping[str, str]] = {"source": "DD", "target": "DD"}

    source: NDArray[np.float32]
    """(D, D) W with W Wᵀ = Σ⁻¹"""
    target: NDArray[np.float32]
    """(D, D) the same; that of the source without target sound"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        white = (features.astype(np.float64) @ whitening for whitening in (self.source, self.target))
        return np.asarray(np.min([np.square(one).sum(axis=1) for one in white], axis=0), np.float64)


@dataclass(frozen=True, slots=True)
class Bands:
    """The strangest of several bands of the features, each by its own Mahalanobis distance (methods.md §7.8)."""

    AXES: ClassVar[Mapping[str, str]] = {
        "mean": "D",
        "whitening": "DD",
        "member": "GD",
        "location": "G",
        "scale": "G",
    }

    mean: NDArray[np.float32]
    """(D,)"""
    whitening: NDArray[np.float32]
    """(D, D) as above, a block a band"""
    member: NDArray[np.float32]
    """(G, D) 1 where a feature is of the band"""
    location: NDArray[np.float32]
    """(G,) mean distance of the references, band by band"""
    scale: NDArray[np.float32]
    """(G,) standard deviation of the same"""

    def z(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """How unusual each band is, (B, D) -> (B, G)."""
        white = (features.astype(np.float64) - self.mean) @ self.whitening
        far: NDArray[np.float64] = np.sqrt(np.square(white) @ self.member.T)
        return (far - self.location) / self.scale

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        return np.asarray(self.z(features).max(axis=1), np.float64)


@dataclass(frozen=True, slots=True)
class MeanBands(Bands):
    """All bands, on average."""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        return np.asarray(self.z(features).mean(axis=1), np.float64)


# How it is learned ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gaussian:
    """One mean and one covariance."""

    detector: ClassVar[Literal["mahalanobis"]] = "mahalanobis"

    def fit(self, references: References) -> Mahalanobis:
        """From two references or more."""
        features = references.rows().features
        mean = features.mean(axis=0, dtype=np.float64)
        return Mahalanobis(mean.astype(np.float32), whitening(ledoit_wolf(features - mean)).astype(np.float32))

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Exactly what a fit without the group would say."""
        return refitted(self, references, folds=None)


@dataclass(frozen=True, slots=True)
class DomainMoments:
    """The second moment of either domain's residuals, about zero."""

    by_row: bool = False
    """score every row of a segment; else the mean of its rows, which is the official form"""

    @property
    def detector(self) -> Literal["selective", "selective_rows"]:
        """Name of what it learns."""
        return "selective_rows" if self.by_row else "selective"

    def fit(self, references: References) -> Selective:
        """From every row; one domain stands in for the other where that is missing."""
        return _selective(_moments(references))

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Exactly what a fit without the group would say: its share is taken out of the sums."""
        total, scores = _moments(references), np.empty(len(references))
        for held in held_out(references.group):
            own = _moments(references[held])
            rest = [all_of_them - some for all_of_them, some in zip(total, own, strict=True)]
            scores[held] = scored(self.detector, _selective(rest), references.features[held])
        return scores


@dataclass(frozen=True, slots=True)
class BandGaussians:
    """A mean and a covariance for each band."""

    bands: int = 8
    average: bool = False
    """over bands; else the strangest counts"""

    @property
    def detector(self) -> Literal["bands", "mean_bands"]:
        """Name of what it learns."""
        return "mean_bands" if self.average else "bands"

    def fit(self, references: References) -> Bands:
        """As many bands as there are features, if there are fewer."""
        features = references.rows().features
        mean, width = features.mean(axis=0, dtype=np.float64), features.shape[1]
        pieces = np.array_split(np.arange(width), min(self.bands, width))
        member, white = np.zeros((len(pieces), width), np.float32), np.zeros((width, width), np.float32)
        for band, piece in enumerate(pieces):
            member[band, piece] = 1.0
            white[np.ix_(piece, piece)] = whitening(ledoit_wolf((features - mean)[:, piece]))
        nothing, one = np.zeros(len(pieces), np.float32), np.ones(len(pieces), np.float32)
        z = Bands(mean.astype(np.float32), white, member, nothing, one).z(features)
        location, scale = z.mean(axis=0).astype(np.float32), np.maximum(z.std(axis=0), FLOOR).astype(np.float32)
        return (MeanBands if self.average else Bands)(mean.astype(np.float32), white, member, location, scale)

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Fitted anew without a fold of the groups."""
        return refitted(self, references)


@dataclass(frozen=True, slots=True)
class Moment:
    """Sums over rows; what was left out can be taken away again."""

    second: NDArray[np.float64]
    """(D, D) Σ x xᵀ"""
    fourth: float
    """Σ ‖x‖⁴"""
    rows: int

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Self:
        """Of (N, D) rows."""
        x = rows.astype(np.float64)
        return cls(x.T @ x, float(np.square(np.square(x).sum(axis=1)).sum()), len(x))

    def __add__(self, other: Moment) -> Moment:
        return Moment(self.second + other.second, self.fourth + other.fourth, self.rows + other.rows)

    def __sub__(self, other: Moment) -> Moment:
        return Moment(self.second - other.second, self.fourth - other.fourth, self.rows - other.rows)


def ledoit_wolf(centred: NDArray[np.floating]) -> NDArray[np.float64]:
    """Covariance of centred (N, D) features, shrunk to (1 − δ)S + δ·tr(S)/D·I with the optimal δ.

    Source: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004.
    """
    return _shrunk(Moment.of(centred))


def _shrunk(moment: Moment) -> NDArray[np.float64]:
    samples, covariance, dimensions = moment.rows, moment.second / moment.rows, len(moment.second)
    scale = np.trace(covariance) / dimensions
    deviation = float(np.square(covariance).sum() - dimensions * scale**2)  # ‖S − scale·I‖²
    noise = moment.fourth / samples**2 - float(np.square(covariance).sum()) / samples
    # never none at all: features of which one is constant and one has two values would leave it singular
    shrinkage = max(min(noise / deviation, 1.0), FLOOR) if deviation > 0 else 1.0
    shrunk = (1.0 - shrinkage) * covariance + shrinkage * max(scale, FLOOR) * np.eye(dimensions)
    return np.asarray(shrunk, np.float64)


def whitening(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """W with W Wᵀ = Σ⁻¹, (D, D)."""
    return np.asarray(np.linalg.cholesky(np.linalg.inv(covariance)), np.float64)


def _moments(references: References) -> list[Moment]:
    """Of the source domain and of the target domain; a block at a time, for rows are many."""
    features, found = references.features, []
    for target in (False, True):
        which = np.flatnonzero(references.target == target)
        moment = Moment.of(features[:0].reshape(0, features.shape[-1]))
        for first in range(0, which.size, BLOCK):
            moment += Moment.of(features[which[first : first + BLOCK]].reshape(-1, features.shape[-1]))
        found.append(moment)
    return found


def _selective(moments: Sequence[Moment]) -> Selective:
    white = [whitening(_second(moment)).astype(np.float32) for moment in moments if moment.rows]
    return Selective(white[0], white[-1])


def _second(moment: Moment) -> NDArray[np.float64]:
    """Second moment that can be inverted: of few rows shrunk, of many with the faintest of ridges."""
    width = len(moment.second)
    if moment.rows < ROWS_PER_DIMENSION * width:
        return _shrunk(moment)
    second = moment.second / moment.rows
    return second + FLOOR * max(float(np.trace(second)) / width, FLOOR) * np.eye(width)
