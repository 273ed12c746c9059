"""Back ends by name, and those that scikit-learn and imbalanced-learn fit: mixtures, k-means, virtual references.

A name is a back end and, after a plus, a way to multiply the references of the target domain: ``knn4+smote``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from imblearn.over_sampling import SMOTE
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from edge_asd.errors import ConfigError
from edge_asd.score.centre import ConditionCentres, Cosine, unit
from edge_asd.score.detector import References, refitted
from edge_asd.score.gaussian import BandGaussians, DomainMoments, Gaussian
from edge_asd.score.likelihood import AsItIs, LargestOfMixture, Mixture, OwnClasses, OwnLogit
from edge_asd.score.neighbour import Knn, LocalDensity, distances

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from edge_asd.score.detector import Backend, Detector, Detects

CENTRES = 16
"""of k-means (methods.md §3.7)"""
SAME = 5
"""decimals by which unit vectors differ, if they do"""
COMPONENTS = 2
"""of a mixture of which nothing else is said (methods.md §6)"""
REGULARISATION = 1e-3
"""added to variances (methods.md §7.5)"""
SMOTE_RATIO, SMOTE_NEIGHBOURS = 0.2, 2
"""targets to sources, and among how many others a target is moved (methods.md §7.10)"""
MEMMIXUP_SHARE = 0.9
"""of the target in a virtual reference (methods.md §7.9)"""


# By name --------------------------------------------------------------------------------------------------------------


def backend(name: str, own: Collection[int] = ()) -> Backend:
    """What a name means.

    Args:
        name: one of :func:`backends`; a number in it may be another.
        own: numbers of the machine's own classes; for ``confidence``, ``logodds`` and ``sigmoid``.

    Raises:
        ConfigError: there is none of that name, or it has no references to multiply.
    """
    plain, *suffixes = name.split("+")
    matches = ((re.fullmatch(pattern, plain), make) for pattern, (make, _) in NAMES.items())
    found = [make(match.groupdict(), tuple(own)) for match, make in matches if match]
    if not found or not set(suffixes) <= set(RESAMPLERS):
        msg = f"no back end {name!r}; choose one of {', '.join(backends())}"
        raise ConfigError(msg)
    chosen = found[0]
    if suffixes and isinstance(chosen, OwnClasses | OwnLogit | AsItIs):
        msg = f"back end {plain} keeps no references, so {name!r} has none to multiply; leave out +{'+'.join(suffixes)}"
        raise ConfigError(msg)
    for suffix in suffixes:
        chosen = Resampled(chosen, RESAMPLERS[suffix])
    return chosen


def backends() -> list[str]:
    """Every name, for help; a number in it may be another, a suffix follows any that keeps references."""
    return [*(name for _, names in NAMES.values() for name in names), *(f"NAME+{suffix}" for suffix in RESAMPLERS)]


def _number(said: dict[str, str], otherwise: int) -> int:
    return int(said["number"] or otherwise)


NUMBER = r"(?P<number>[1-9]\d{0,2}|)"
NAMES: dict[str, tuple[Callable[[dict[str, str], tuple[int, ...]], Backend], tuple[str, ...]]] = {
    rf"knn{NUMBER}": (lambda said, _: Knn(_number(said, 1)), ("knn", "knn4")),
    rf"knn{NUMBER}-domain": (lambda said, _: Knn(_number(said, 1), by_domain=True), ("knn-domain", "knn4-domain")),
    rf"density{NUMBER}": (lambda said, _: LocalDensity(_number(said, 4)), ("density", "density1")),
    rf"difference{NUMBER}": (
        lambda said, _: LocalDensity(_number(said, 4), ratio=False),
        ("difference", "difference1"),
    ),
    rf"kmeans{NUMBER}": (lambda said, _: KMeansCentres(_number(said, CENTRES)), ("kmeans",)),
    "mahalanobis": (lambda *_: Gaussian(), ("mahalanobis",)),
    "selective": (lambda *_: DomainMoments(), ("selective",)),
    "selective-rows": (lambda *_: DomainMoments(by_row=True), ("selective-rows",)),
    rf"gmm{NUMBER}": (lambda said, _: GaussianMixtures(_number(said, COMPONENTS)), ("gmm", "gmm4")),
    rf"gmm{NUMBER}-max": (
        lambda said, _: GaussianMixtures(_number(said, COMPONENTS), largest=True),
        ("gmm-max", "gmm4-max"),
    ),
    "centres": (lambda *_: ConditionCentres(), ("centres",)),
    "centres-cosine": (lambda *_: ConditionCentres(cosine=True), ("centres-cosine",)),
    "confidence": (lambda _, own: OwnClasses(own), ("confidence",)),
    "logodds": (lambda _, own: OwnClasses(own, odds=True), ("logodds",)),
    "sigmoid": (lambda _, own: OwnLogit(own), ("sigmoid",)),
    "value": (lambda *_: AsItIs(), ("value",)),
    rf"bands{NUMBER}": (lambda said, _: BandGaussians(_number(said, 8)), ("bands", "bands4")),
    rf"bands{NUMBER}-mean": (lambda said, _: BandGaussians(_number(said, 8), average=True), ("bands-mean",)),
}
"""A pattern -> what it makes of its number and the machine's own classes, and examples of it."""


# Learned with scikit-learn --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KMeansCentres:
    """Centres of the source domain, as long as they come, and every row of the target domain beside them."""

    centres: int = CENTRES
    detector: ClassVar[Literal["cosine"]] = "cosine"

    def fit(self, references: References) -> Cosine:
        """As many centres as there are different rows, if there are fewer."""
        rows = references.rows()
        source, target = unit(rows.features[~rows.target]), unit(rows.features[rows.target])
        if not len(source):
            return Cosine(target.astype(np.float32))
        centres = min(self.centres, len(np.unique(source.round(SAME), axis=0)))
        found = KMeans(centres, random_state=0).fit(source).cluster_centers_
        return Cosine(np.concatenate([found, target]).astype(np.float32))

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Fitted anew without a fold of the groups."""
        return refitted(self, references)


@dataclass(frozen=True, slots=True)
class GaussianMixtures:
    """Gaussians of full covariance, by expectation maximisation."""

    components: int = COMPONENTS
    largest: bool = False
    """the component that fits best counts alone"""

    @property
    def detector(self) -> Literal["mixture", "mixture_maximum"]:
        """Name of what it learns."""
        return "mixture_maximum" if self.largest else "mixture"

    def fit(self, references: References) -> Mixture:
        """As many components as there are different rows, if there are fewer; from two rows or more."""
        features = references.rows().features.astype(np.float64)
        components = min(self.components, len(np.unique(features, axis=0)))
        found = GaussianMixture(components, reg_covar=REGULARISATION, random_state=0, max_iter=ITERATIONS).fit(features)
        arrays = np.log(found.weights_), found.means_, found.precisions_cholesky_
        return (LargestOfMixture if self.largest else Mixture)(*(array.astype(np.float32) for array in arrays))

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Fitted anew without a fold of the groups."""
        return refitted(self, references)


ITERATIONS = 500
"""of expectation maximisation; scikit-learn's own limit of 100 is reached now and then"""


# Virtual references ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resampled:
    """A back end that learns from virtual target references too."""

    backend: Backend
    resample: Callable[[References], References]

    @property
    def detector(self) -> Detects:
        """Name of what it learns."""
        return self.backend.detector

    def fit(self, references: References) -> Detector:
        """From the references' rows and what is made of them."""
        return self.backend.fit(self.resample(references.rows()))

    def leave_one_out(self, references: References) -> NDArray[np.float64]:
        """Fitted anew without a fold of the groups: nobody helps to make his own neighbours."""
        return refitted(self, references)


def smote(references: References) -> References:
    """Targets up to a fifth of the sources, each on the way from one target to a near one.

    A virtual row is taken to be of the recording of the target that is nearest: it makes nothing dense around that.
    """
    target, sources = np.flatnonzero(references.target), int((~references.target).sum())
    neighbours, wanted = min(SMOTE_NEIGHBOURS, target.size - 1), int(SMOTE_RATIO * sources)
    if neighbours < 1 or wanted <= target.size:
        return references
    sampler = SMOTE(sampling_strategy={1: wanted}, k_neighbors=neighbours, random_state=0)
    features = sampler.fit_resample(references.features, references.target.astype(int))[0]
    virtual = features[len(references) :].astype(np.float32)
    return _with(references, virtual, target[distances(virtual, references.features[target]).argmin(axis=1)])


def memmixup(references: References) -> References:
    """Targets moved a tenth of the way to each of their nearest sources, as many as there are sources at most."""
    target, source = np.flatnonzero(references.target), np.flatnonzero(~references.target)
    if not (target.size and source.size):
        return references
    each = max(source.size // target.size, 1)
    near = np.argsort(distances(references.features[target], references.features[source]), axis=1, kind="stable")
    partner, base = source[near[:, :each]].ravel(), np.repeat(target, each)
    mixed = MEMMIXUP_SHARE * references.features[base] + (1.0 - MEMMIXUP_SHARE) * references.features[partner]
    return _with(references, mixed[: source.size].astype(np.float32), base[: source.size])


def _with(references: References, virtual: NDArray[np.float32], of: NDArray[np.int64]) -> References:
    """Virtual rows behind the real ones, each with the labels of a real one."""
    everything = references[np.concatenate([np.arange(len(references)), of])]
    features = np.concatenate([references.features, virtual])
    return References(features, everything.group, everything.clip, everything.target, everything.attribute)


RESAMPLERS: dict[str, Callable[[References], References]] = {"smote": smote, "memmixup": memmixup}
