"""What a model itself says of a sound: a mixture's likelihood, a classifier's confidence, a number of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from edge_asd.errors import ConfigError
from edge_asd.score.detector import scored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge_asd.score.detector import Detector, References

LEAST_CONFIDENCE = 1e-8
"""methods.md §1.4b"""


# What is stored -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mixture:
    """y = −log Σ_k π_k N_k(x), Gaussians of full covariance (methods.md §7.5)."""

    AXES: ClassVar[Mapping[str, str]] = {"log_weights": "G", "means": "GD", "whitenings": "GDD"}

    log_weights: NDArray[np.float32]
    """(G,) log π_k"""
    means: NDArray[np.float32]
    """(G, D)"""
    whitenings: NDArray[np.float32]
    """(G, D, D) W with W Wᵀ = Σ_k⁻¹, triangular"""

    def joint(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logarithms of π_k N_k, (B, D) -> (B, G)."""
        centred = features.astype(np.float64)[:, None] - self.means  # (B, G, D)
        white = np.einsum("bgi,gij->bgj", centred, self.whitenings, optimize=True)
        volume = np.log(np.abs(np.diagonal(self.whitenings, axis1=1, axis2=2)).astype(np.float64)).sum(axis=1)
        density = volume - 0.5 * (np.square(white).sum(axis=2) + white.shape[2] * np.log(2.0 * np.pi))
        return np.asarray(self.log_weights + density, np.float64)

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        return np.negative(_log_sum_exp(self.joint(features)))


@dataclass(frozen=True, slots=True)
class LargestOfMixture(Mixture):
    """y = −max_k (log π_k + log N_k), as TWFR-GMM takes it (methods.md §6)."""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, D) -> (B,)."""
        return np.asarray(-self.joint(features).max(axis=1), np.float64)


@dataclass(frozen=True, slots=True)
class Confidence:
    """y = −log₁₀ of the mean softmax probability of the machine's own classes (HEU 2022; methods.md §1.4b)."""

    AXES: ClassVar[Mapping[str, str]] = {"own": "D"}

    own: NDArray[np.float32]
    """(C,) 1 for the machine's classes, 0 for those of others"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of logits, (B, C) -> (B,)."""
        logits = features.astype(np.float64)
        probability = np.exp(logits - _log_sum_exp(logits)[:, None])
        return np.asarray(-np.log10(probability[:, self.own > 0].mean(axis=1) + LEAST_CONFIDENCE), np.float64)


@dataclass(frozen=True, slots=True)
class LogOdds:
    """y = ln(1 − p) − ln p, p the softmax probability of the machine's own classes (methods.md §5.4)."""

    AXES: ClassVar[Mapping[str, str]] = {"own": "D"}

    own: NDArray[np.float32]
    """(C,) as above"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of logits, (B, C) -> (B,)."""
        logits, own = features.astype(np.float64), self.own > 0
        return _log_sum_exp(logits[:, ~own]) - _log_sum_exp(logits[:, own])  # finite where 1 − p would be 0


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """y = −ln σ(x), x the logit of a yes or no to the machine itself (DKU report; methods.md §4.1)."""

    AXES: ClassVar[Mapping[str, str]] = {"own": "D"}

    own: NDArray[np.float32]
    """(C,) as above"""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of logits, (B, C) -> (B,)."""
        return np.asarray(np.logaddexp(0.0, -features[:, self.own > 0].astype(np.float64)).mean(axis=1), np.float64)


@dataclass(frozen=True, slots=True)
class Value:
    """The feature is the score: an error of reconstruction."""

    AXES: ClassVar[Mapping[str, str]] = {}

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, 1) -> (B,)."""
        return features[:, 0].astype(np.float64)


# How it is learned: not at all ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwnClasses:
    """A classifier over several machines knows which of its classes this one may be in."""

    own: tuple[int, ...]
    """their numbers"""
    odds: bool = False
    """how improbable they are in all; else how probable on average"""

    @property
    def detector(self) -> Literal["confidence", "log_odds"]:
        """Name of what it gives."""
        return "log_odds" if self.odds else "confidence"

    def fit(self, references: References) -> Confidence | LogOdds:
        """Nothing is learned.

        Raises:
            ConfigError: there is no such class, or no other.
        """
        classes = references.features.shape[-1]
        if not set(self.own) < set(range(classes)) or not self.own:
            msg = f"the machine's own classes are {sorted(self.own)}; need some, not all, of 0 to {classes - 1}: "
            msg += "train on several machines together, or choose another back end"
            raise ConfigError(msg)
        own = np.isin(np.arange(classes), self.own).astype(np.float32)
        return (LogOdds if self.odds else Confidence)(own)

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """As always."""
        return scored(self.detector, self.fit(references), references.features)


@dataclass(frozen=True, slots=True)
class OwnLogit:
    """A classifier that is asked of each machine whether this is it; there may be one alone."""

    own: tuple[int, ...]
    """number of its logit"""
    detector: ClassVar[Literal["sigmoid"]] = "sigmoid"

    def fit(self, references: References) -> Detector:
        """Nothing is learned.

        Raises:
            ConfigError: there is no such logit.
        """
        classes = references.features.shape[-1]
        if len(self.own) != 1 or self.own[0] >= classes:
            msg = f"back end sigmoid needs the machine's own logit, one of {classes}, got {sorted(self.own)}: "
            msg += "name an output that says yes or no to each machine, as target_logit does"
            raise ConfigError(msg)
        return Sigmoid(np.isin(np.arange(classes), self.own).astype(np.float32))

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """As always."""
        return scored(self.detector, self.fit(references), references.features)


@dataclass(frozen=True, slots=True)
class AsItIs:
    """Takes the feature's word for it."""

    detector: ClassVar[Literal["value"]] = "value"

    def fit(self, references: References) -> Detector:
        """Nothing is learned.

        Raises:
            ConfigError: the feature is more than one number.
        """
        if (width := references.features.shape[-1]) != 1:
            msg = f"back end value takes a feature of one number, got {width}; choose another back end"
            raise ConfigError(msg)
        return Value()

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """As always."""
        return scored(self.detector, self.fit(references), references.features)


def _log_sum_exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of a sum of exponentials, stable, (B, G) -> (B,)."""
    largest = x.max(axis=1)
    return np.asarray(largest + np.log(np.exp(x - largest[:, None]).sum(axis=1)), np.float64)
