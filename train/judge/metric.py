"""How well scores tell anomalies from normals: the metrics of DCASE Task 2, and how sure they are.

Every metric is computed from weighted clips. All weights one gives the metric; a bootstrap resample, or leaving
clips out, is nothing but other weights, so a thousand of them are one pass of array arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Mask: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]
    Metrics: TypeAlias = dict[str, Floats]

Protocol: TypeAlias = Literal["2020", "2021", "2022"]
"""The year whose definitions hold; those of 2022 hold to this day."""
PROTOCOLS: tuple[Protocol, ...] = ("2020", "2021", "2022")
TERMS: dict[Protocol, tuple[str, ...]] = {
    "2020": ("auc", "pauc"),
    "2021": ("same_source", "same_pauc_source", "same_target", "same_pauc_target"),
    "2022": ("auc_source", "auc_target", "pauc"),
}
"""metrics that Ω is a mean of: arithmetic in 2020, over the identities of a machine and then over machines;
harmonic since, over all there are (methods.md §9.1)"""
MAX_FPR = 0.1
"""false-positive rate up to which pAUC looks"""
CONFIDENCE = 0.95
BLOCK = 1000
"""sets of weights at a time: bounds the memory that leaving out needs"""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of the (N,) test clips of one section."""

    anomaly: Mask
    target: Mask
    """of the target domain"""
    recording: Sequence[str]
    """clips of one recording are not independent"""

    def scorable(self, protocol: Protocol) -> bool:
        """Whether there are both normals and anomalies, and in 2021 in one domain."""
        sides = (self.target, ~self.target) if protocol == "2021" else (np.ones(self.target.size, bool),)
        return any((self.anomaly & side).any() and (~self.anomaly & side).any() for side in sides)


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
    jackknife_by_clip: Interval | None
    """from leaving out one clip at a time; None when one cannot be spared"""
    jackknife_by_recording: Interval | None
    """the same, whole recordings left out"""


@dataclass(frozen=True, slots=True)
class Replicates:
    """The metrics of one section by name: as they are, and as other clips would have had them."""

    given: Metrics
    """(1,)"""
    by_clip: Metrics
    """(B,) bootstrap resamples"""
    by_recording: Metrics
    without_clip: Metrics
    """(N,) one clip left out; NaN where it cannot be spared"""
    without_recording: Metrics
    """(R,)"""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The figures of one section; None where a domain has none of the clips needed."""

    protocol: Protocol
    auc: Figure
    """all normals against all anomalies: official in 2020"""
    auc_source: Figure | None
    """source normals against all anomalies: official since 2022"""
    auc_target: Figure | None
    """target normals against all anomalies: official since 2022"""
    pauc: Figure
    """all normals against all anomalies, false-positive rates up to 0.1"""
    pauc_source: Figure | None
    pauc_target: Figure | None
    same_source: Figure | None
    """AUC of source normals against source anomalies: official in 2021 only"""
    same_target: Figure | None
    """AUC of target normals against target anomalies: official in 2021 only"""
    same_pauc_source: Figure | None
    """the same pairs, false-positive rates up to 0.1"""
    same_pauc_target: Figure | None
    omega: Figure
    """mean of the protocol's terms, or of those that exist"""
    replicates: Replicates = field(repr=False, compare=False)

    @property
    def terms(self) -> list[float]:
        """What Ω averages."""
        figures: Iterable[Figure | None] = (getattr(self, name) for name in TERMS[self.protocol])
        return [figure.value for figure in figures if figure]

    @property
    def figures(self) -> dict[str, Figure | None]:
        """All of them by name, Ω last."""
        return {name: getattr(self, name) for name in (*METRICS, "omega")}


METRICS = tuple(name for name in Judgement.__dataclass_fields__ if name not in {"protocol", "omega", "replicates"})


@dataclass(frozen=True, slots=True)
class Decisions:
    """How the 0/1 decisions of one domain fared, as the official evaluator counts."""

    precision: float
    recall: float
    f1: float


def judge(
    scores: Floats, truth: Truth, *, protocol: Protocol = "2022", resamples: int = 1000, seed: int = 0
) -> Judgement:
    """The official metrics of one section with 95 % intervals (DCASE 2020-2026 Task 2; methods.md §9.1).

    Args:
        scores: (N,) larger is stranger.
        truth: of the same N clips.
        protocol: what Ω is.
        resamples: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        ValueError: a score is not finite, or there are no normals or no anomalies.
    """
    if not (truth.scorable(protocol) and np.isfinite(scores).all()):
        msg = f"need finite scores of normals and of anomalies, got {scores} with anomalies {truth.anomaly}"
        raise ValueError(msg)
    drawn = _replicates(scores, truth, np.random.default_rng(seed), resamples)
    figures = {name: _figure(*(getattr(drawn, kind)[name] for kind in KINDS)) for name in drawn.given}
    return Judgement(
        protocol=protocol,
        omega=_overall(protocol, {"": drawn}),
        replicates=drawn,
        **{name: figures.get(name) for name in METRICS},  # type: ignore[arg-type] # auc and pauc there always are
    )


def overall(judgements: Mapping[str, Judgement]) -> Figure:
    """Ω over sections.

    Args:
        judgements: of at least one section by its key, ``set/machine/section``; of one protocol.
    """
    (protocol,) = {judgement.protocol for judgement in judgements.values()}
    return _overall(protocol, {key: judgement.replicates for key, judgement in judgements.items()})


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
    return float(_harmonic([np.array([value]) for value in values])[0])


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


def official_ci95(scores: Floats, anomaly: Mask) -> float:
    """What the official evaluators since 2023 write as ``official score ci95``, to compare with published figures.

    The mean of two half widths, of AUC and pAUC, by leaving out one of the (N,) clips of all sections together.
    Their standard error squares the deviations of the left-out values where the jackknife squares those of its
    pseudo-values (A. Mesaros et al., TASLP 27(6), 2019, section IV): it is N - 1 times too small, and no interval.
    """
    normal, size = ~anomaly, anomaly.size
    halves = []
    for metric in (auc, pauc):
        blocks = (metric(scores, w * normal, w * anomaly) for w in _all_but_one(np.arange(size)))
        halves.append(_half_width(np.concatenate(list(blocks))) / (size - 1))
    return float(np.mean(halves))


# Replicates -----------------------------------------------------------------------------------------------------------

KINDS = tuple(Replicates.__dataclass_fields__)


def _replicates(scores: Floats, truth: Truth, rng: np.random.Generator, resamples: int) -> Replicates:
    clips = np.arange(scores.size)
    recordings = np.unique(np.asarray(truth.recording), return_inverse=True)[1]
    return Replicates(
        _metrics(scores, truth, np.ones((1, scores.size))),
        _metrics(scores, truth, _resampled(rng, truth, clips, resamples)),
        _metrics(scores, truth, _resampled(rng, truth, recordings, resamples)),
        _left_out(scores, truth, clips),
        _left_out(scores, truth, recordings),
    )


def _metrics(scores: Floats, truth: Truth, weights: Floats) -> Metrics:
    """Name -> (B,) for every metric that these clips allow."""
    normal, anomaly = weights * ~truth.anomaly, weights * truth.anomaly
    found = {"auc": auc(scores, normal, anomaly), "pauc": pauc(scores, normal, anomaly)}
    for name, domain in (("source", ~truth.target), ("target", truth.target)):
        if (domain & ~truth.anomaly).any():
            found[f"auc_{name}"] = auc(scores, normal * domain, anomaly)
            found[f"pauc_{name}"] = pauc(scores, normal * domain, anomaly)
            if (domain & truth.anomaly).any():
                found[f"same_{name}"] = auc(scores, normal * domain, anomaly * domain)
                found[f"same_pauc_{name}"] = pauc(scores, normal * domain, anomaly * domain)
    return found


def _left_out(scores: Floats, truth: Truth, units: NDArray[np.intp]) -> Metrics:
    """Name -> (U,) with one unit left out at a time; NaN where that leaves nothing to compare."""
    with np.errstate(invalid="ignore"):
        blocks = [_metrics(scores, truth, weights) for weights in _all_but_one(units)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _all_but_one(units: NDArray[np.intp]) -> Iterable[Floats]:
    """(B, N) weights, as many in all as there are units."""
    count = int(units.max()) + 1
    for start in range(0, count, BLOCK):
        yield (units != np.arange(start, min(start + BLOCK, count))[:, None]).astype(np.float64)


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


# Means and intervals --------------------------------------------------------------------------------------------------


def _overall(protocol: Protocol, sections: Mapping[str, Replicates]) -> Figure:
    def omega(kind: str, only: str | None = None) -> Floats:
        """(B,) with the sections drawn again, or one of them and the others as they are."""
        kinds = {key: kind if only in {None, key} else "given" for key in sections}
        return _omega(protocol, {key: getattr(drawn, kinds[key]) for key, drawn in sections.items()})

    left_out = (
        np.concatenate([omega(kind, key) for key in sections]) for kind in ("without_clip", "without_recording")
    )
    return _figure(omega("given"), omega("by_clip"), omega("by_recording"), *left_out)


def _omega(protocol: Protocol, sections: Mapping[str, Metrics]) -> Floats:
    """(B,) mean of the terms of all sections; lengths of one are lengths of B."""
    terms = {key: [found[name] for name in TERMS[protocol] if name in found] for key, found in sections.items()}
    if protocol != "2020":
        return _harmonic([term for own in terms.values() for term in own])
    machines: dict[str, list[Floats]] = {}
    for key, own in terms.items():
        machines.setdefault(key.rpartition("/")[0], []).append(_arithmetic(own))
    return _arithmetic([_arithmetic(identities) for identities in machines.values()])


def _arithmetic(terms: Sequence[Floats]) -> Floats:
    mean: Floats = sum(terms, np.zeros(1)) / len(terms)
    return mean


def _harmonic(terms: Sequence[Floats]) -> Floats:
    mean: Floats = len(terms) / sum((1.0 / np.maximum(term, np.finfo(np.float64).eps) for term in terms), np.zeros(1))
    return mean


def _figure(
    given: Floats, by_clip: Floats, by_recording: Floats, without_clip: Floats, without_recording: Floats
) -> Figure:
    value = float(given[0])
    jackknives = _jackknife(value, without_clip), _jackknife(value, without_recording)
    return Figure(value, _percentiles(by_clip), _percentiles(by_recording), *jackknives)


def _percentiles(values: Floats) -> Interval:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _jackknife(value: float, without: Floats) -> Interval | None:
    """Around the value, no further than a metric can go."""
    if not np.isfinite(without).all():
        return None
    half = _half_width(without)
    return Interval(max(value - half, 0.0), min(value + half, 1.0))


def _half_width(without: Floats) -> float:
    """Of the jackknife's interval: Student's t times the standard error (B. Efron, 1982)."""
    error = np.sqrt((without.size - 1) * without.var())
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, without.size - 1) * error)


# Ranks ----------------------------------------------------------------------------------------------------------------


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
