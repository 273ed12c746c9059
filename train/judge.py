"""How well scores tell anomalies from normals: the metrics of DCASE Task 2, 2022 onwards, and how sure they are.

Every metric is computed from weighted clips. All weights one gives the metric; a bootstrap resample is nothing but
other weights, so a thousand of them are one pass of array arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Mask: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]

MAX_FPR = 0.1
"""false-positive rate up to which pAUC looks"""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of the (N,) test clips of one section."""

    anomaly: Mask
    target: Mask
    """of the target domain"""
    recording: Sequence[str]
    """clips of one recording are not independent"""

    @property
    def scorable(self) -> bool:
        """Whether there are both normals and anomalies."""
        return bool(self.anomaly.any() and not self.anomaly.all())


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure lies with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric, in [0, 1], and how far other clips of the same kind could move it."""

    value: float
    by_clip: Interval
    """percentile bootstrap, clips drawn within their domain and label"""
    by_recording: Interval
    """the same, whole recordings drawn"""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The figures of one section; None where a domain has none of the clips needed."""

    auc_source: Figure | None
    """source normals against all anomalies"""
    auc_target: Figure | None
    """target normals against all anomalies"""
    pauc: Figure
    """all normals against all anomalies, false-positive rates up to 0.1"""
    omega: Figure
    """harmonic mean of the three above, or of those that exist"""
    pauc_source: Figure | None
    pauc_target: Figure | None
    same_source: Figure | None
    """not official: AUC of source normals against source anomalies"""
    same_target: Figure | None
    """not official: AUC of target normals against target anomalies"""

    @property
    def terms(self) -> list[float]:
        """What Ω averages."""
        return [figure.value for figure in (self.auc_source, self.auc_target, self.pauc) if figure]


@dataclass(frozen=True, slots=True)
class Decisions:
    """How the 0/1 decisions of one domain fared, as the official evaluator counts."""

    precision: float
    recall: float
    f1: float


def judge(scores: Floats, truth: Truth, *, resamples: int = 1000, seed: int = 0) -> Judgement:
    """The official metrics of one section with bootstrap 95 % intervals (DCASE 2022-2026 Task 2; methods.md §9.1).

    Args:
        scores: (N,) larger is stranger.
        truth: of the same N clips.
        resamples: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        ValueError: a score is not finite, or there are no normals or no anomalies.
    """
    if not (truth.scorable and np.isfinite(scores).all()):
        msg = f"need finite scores of normals and of anomalies, got {scores} with anomalies {truth.anomaly}"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    values = _figures(scores, truth, np.ones((1, scores.size)))
    clip = _figures(scores, truth, _resampled(rng, truth, np.arange(scores.size), resamples))
    recordings = np.unique(np.asarray(truth.recording), return_inverse=True)[1]
    recording = _figures(scores, truth, _resampled(rng, truth, recordings, resamples))
    figures = {
        name: Figure(float(values[name][0]), _interval(clip[name]), _interval(recording[name])) for name in values
    }
    return Judgement(**{name: figures.get(name) for name in Judgement.__dataclass_fields__})  # type: ignore[arg-type]


def decide(decisions: Mask, truth: Truth, *, target: bool) -> Decisions | None:
    """Precision, recall and F1 of one domain's decisions, its own anomalies only; None when it has no clips."""
    domain = truth.target == target
    if not domain.any():
        return None
    hits = float((decisions & truth.anomaly & domain).sum())
    precision = hits / max(float((decisions & domain).sum()), 1.0)
    recall = hits / max(float((truth.anomaly & domain).sum()), 1.0)
    return Decisions(precision, recall, 2 * precision * recall / max(precision + recall, np.finfo(float).eps))


def harmonic_mean(values: Iterable[float]) -> float:
    """Harmonic mean of values floored at machine epsilon, as the official evaluator takes it."""
    return float(_harmonic(list(values)))


def auc(scores: Floats, normal: Floats, anomaly: Floats) -> Floats:
    """Probability that an anomaly scores above a normal, ties counted half (Mann-Whitney).

    Args:
        scores: (N,).
        normal: (B, N) weights of the clips as normals.
        anomaly: (B, N) weights of the clips as anomalies.

    Returns:
        (B,)
    """
    below, hits = _by_score(scores, normal), _by_score(scores, anomaly)
    beaten = np.cumsum(below, axis=1) - below / 2
    area: Floats = (hits * beaten).sum(axis=1) / (hits.sum(axis=1) * below.sum(axis=1))
    return area


def pauc(scores: Floats, normal: Floats, anomaly: Floats, max_fpr: float = MAX_FPR) -> Floats:
    """Area under the ROC up to ``max_fpr``, scaled so that chance is 0.5 and perfect 1 (McClish 1989, eq. 8).

    Shapes as in :func:`auc`.
    """
    fpr, tpr = _rates(scores, normal), _rates(scores, anomaly)
    left, right = fpr[:, :-1], np.minimum(fpr[:, 1:], max_fpr)
    width = np.maximum(right - left, 0.0)
    rise = np.diff(tpr) / np.where(np.diff(fpr) > 0, np.diff(fpr), 1.0)  # slope of the ROC's straight pieces
    area = (width * (tpr[:, :-1] + rise * width / 2)).sum(axis=1)
    chance = max_fpr**2 / 2
    scaled: Floats = 0.5 * (1.0 + (area - chance) / (max_fpr - chance))
    return scaled


def _figures(scores: Floats, truth: Truth, weights: Floats) -> dict[str, Floats]:
    """Name -> (B,) for every metric that these clips allow."""
    normal, anomaly = weights * ~truth.anomaly, weights * truth.anomaly
    found: dict[str, Floats] = {"pauc": pauc(scores, normal, anomaly)}
    for name, domain in (("source", ~truth.target), ("target", truth.target)):
        if (domain & ~truth.anomaly).any():
            found[f"auc_{name}"] = auc(scores, normal * domain, anomaly)
            found[f"pauc_{name}"] = pauc(scores, normal * domain, anomaly)
            if (domain & truth.anomaly).any():
                found[f"same_{name}"] = auc(scores, normal * domain, anomaly * domain)
    terms = [found[name] for name in ("auc_source", "auc_target", "pauc") if name in found]
    return {**found, "omega": _harmonic(terms)}


def _harmonic(terms: Sequence[float] | Sequence[Floats]) -> Floats:
    floored = np.maximum(np.asarray(terms, np.float64), np.finfo(np.float64).eps)
    mean: Floats = len(terms) / (1.0 / floored).sum(axis=0)
    return mean


def _resampled(rng: np.random.Generator, truth: Truth, units: NDArray[np.intp], resamples: int) -> Floats:
    """(B, N) how often each clip is drawn when units are drawn with replacement within their domain and label."""
    weights = np.zeros((resamples, units.size))
    stratum = 2 * truth.target + truth.anomaly
    for one in np.unique(stratum):
        inside = stratum == one
        members = np.unique(units[inside], return_inverse=True)[1]
        count = int(members.max()) + 1
        weights[:, inside] = rng.multinomial(count, np.full(count, 1 / count), size=resamples)[:, members]
    return weights


def _interval(values: Floats) -> Interval:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _by_score(scores: Floats, weights: Floats) -> Floats:
    """(B, N) -> (B, U): the weight at each different score, ascending."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    gathered: Floats = np.add.reduceat(weights[:, order], starts, axis=1)
    return gathered


def _rates(scores: Floats, weights: Floats) -> Floats:
    """(B, 1 + U): share of the weight at or above a threshold that falls from above the largest score."""
    total = np.cumsum(_by_score(-scores, weights), axis=1)
    return np.pad(total / total[:, -1:], ((0, 0), (1, 0)))
