"""What a detector and a back end are: a back end learns from references, and what it has learned is a detector.

References carry a *group*: the recording they were cut from. A reference never counts as the neighbour of one of its
own group, neither in a local density nor in leave-one-out: clips of one recording are not independent.

Axes beyond those of the project: R rows of a segment (frames, windows, blocks of a residual), K ranks of neighbours,
G centres or components, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

Detects: TypeAlias = Literal[
    "nearest",
    "difference",
    "neighbours",
    "domain_neighbours",
    "mahalanobis",
    "selective",
    "selective_rows",
    "bands",
    "mean_bands",
    "centres",
    "cosine",
    "mixture",
    "mixture_maximum",
    "confidence",
    "log_odds",
    "sigmoid",
    "value",
]
"""names of detectors, as bundles write them"""
FLOOR = 1e-6
"""least local density and deviation: duplicates would divide by zero"""
MOST_FOLDS = 20
"""of back ends that are fitted anew to leave something out"""
AVERAGING = frozenset({"selective"})
"""detectors to which a segment is the mean of its rows; to all others it is as strange as its rows are on average"""


class Detector(Protocol):
    """A fitted one-class model: a frozen dataclass of arrays, which are what a bundle stores."""

    AXES: ClassVar[Mapping[str, str]]
    """a letter for every axis of every array; what shares a letter is as long"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distance from normal, (B, D) -> (B,); larger is stranger."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A detector whose distance is the sum of what each feature adds to it."""

    def origin(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the distance of features is measured from, (D,) -> (D,)."""
        ...

    def by_feature(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """What each feature adds, (D,) -> (D,): how far it is off, times the slope of the distance along it.

        A distance grows in proportion to the deviation from where it is measured, so these add up to it (Euler); one
        that makes a clip less strange, as correlated features may, is below 0. Zeros, where there is no deviation.
        """
        ...


@dataclass(frozen=True, slots=True)
class References:
    """Feature vectors of normal sound, and where each comes from."""

    features: NDArray[np.float32]
    """(N, D), or (N, R, D) where a segment has several rows"""
    group: NDArray[np.int64]
    """(N,) number of the recording"""
    clip: NDArray[np.int64]
    """(N,) number of the clip"""
    target: NDArray[np.bool_]
    """(N,) whether it is of the target domain"""
    attribute: NDArray[np.int64]
    """(N,) number of the operating condition"""

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        group: NDArray[np.int64] | None = None,
        target: NDArray[np.bool_] | None = None,
        attribute: NDArray[np.int64] | None = None,
    ) -> Self:
        """Each its own clip; each its own recording, of the source domain, of one condition unless told otherwise."""
        clip = np.arange(len(features))
        return cls(
            features,
            clip if group is None else group,
            clip,
            np.zeros(len(features), np.bool_) if target is None else target,
            np.zeros(len(features), np.int64) if attribute is None else attribute,
        )

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> References:
        """Some of them."""
        return References(*(getattr(self, field.name)[which] for field in fields(self)))

    def rows(self) -> References:
        """Every row a reference of its own, (N·R, D)."""
        if self.features.ndim == 2:
            return self
        of = np.repeat(np.arange(len(self)), self.features.shape[1])
        flat = self.features.reshape(-1, self.features.shape[-1])
        return References(flat, self.group[of], self.clip[of], self.target[of], self.attribute[of])

    def averaged(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean score of each reference's rows, (N·R,) -> (N,)."""
        return np.asarray(scores.reshape(len(self), -1).mean(axis=1), np.float64)


class Backend(Protocol):
    """A way to learn a detector."""

    @property
    def detector(self) -> Detects:
        """Name of what it learns, as in a bundle."""
        ...

    def fit(self, references: References) -> Detector:
        """From references of at least two groups."""
        ...

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Score of each reference by a detector that was fitted without its group, (N,)."""
        ...


def scored(name: Detects, detector: Detector, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score of each segment by the detector of this name, (B, D) or (B, R, D) -> (B,)."""
    if features.ndim == 2:
        return detector.score(features)
    if name in AVERAGING:
        return detector.score(features.mean(axis=1))
    rows = detector.score(features.reshape(-1, features.shape[-1]))
    return np.asarray(rows.reshape(features.shape[:2]).mean(axis=1), np.float64)


def held_out(group: NDArray[np.int64], folds: int | None = None) -> Iterator[NDArray[np.bool_]]:
    """(N,) masks that hold out each group once: one after the other, or spread over so many folds at most."""
    number = np.unique(group, return_inverse=True)[1]
    fold = number if folds is None else number % folds
    for each in range(int(fold.max()) + 1):
        yield fold == each


def refitted(backend: Backend, references: References, folds: int | None = MOST_FOLDS) -> NDArray[np.float64]:
    """Leave-one-out scores, (N,), of a back end that must be fitted anew for it."""
    scores = np.empty(len(references))
    for held in held_out(references.group, folds):
        scores[held] = scored(backend.detector, backend.fit(references[~held]), references.features[held])
    return scores
