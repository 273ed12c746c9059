"""Back ends that are fitted with scikit-learn and imbalanced-learn, and their names."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from edge_asd.errors import ConfigError
from edge_asd.score.centre import ConditionCentres, Cosine
from edge_asd.score.detector import Backend, References, held_out, scored
from edge_asd.score.gaussian import BandGaussians, DomainMoments, Gaussian
from edge_asd.score.likelihood import AsItIs, OwnClasses
from edge_asd.score.neighbour import Knn, LocalDensity
from edge_asd.score.part import DETECTORS
from tests.score.reference import points, references
from train.method.backend import (
    RESAMPLERS,
    GaussianMixtures,
    KMeansCentres,
    Resampled,
    backend,
    backends,
    memmixup,
    smote,
)

pytestmark = pytest.mark.train


def two_domains(sources: int = 60, targets: int = 5, dimensions: int = 4) -> References:
    """The targets lie apart; recordings of two clips each."""
    target = np.arange(sources + targets) >= sources
    features = points(0, sources + targets, dimensions) + 10 * target[:, None].astype(np.float32)
    return References.of(features, np.arange(len(features)) // 2, target, np.arange(len(features)) % 3)


def folded(learner: Backend, known: References) -> np.ndarray:
    """Leave-one-out by hand: at most twenty folds of whole recordings."""
    scores = np.empty(len(known))
    number = np.unique(known.group, return_inverse=True)[1] % 20
    for fold in np.unique(number):
        held = number == fold
        scores[held] = scored(learner.detector, learner.fit(known[~held]), known.features[held])
    return scores


# Mixtures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [1, 2, 4])
def test_a_mixtures_likelihood_is_scikit_learns(components: int) -> None:
    features, queries = points(1, 200, 5), points(2, 20, 5)
    judge = GaussianMixture(components, reg_covar=1e-3, random_state=0, max_iter=500).fit(features.astype(float))

    fitted = GaussianMixtures(components).fit(References.of(features))

    np.testing.assert_allclose(fitted.score(queries), -judge.score_samples(queries.astype(float)), rtol=1e-4)


def test_the_component_that_fits_best_counts_alone() -> None:
    from scipy.stats import multivariate_normal  # noqa: PLC0415 - slow to import

    features, queries = points(1, 200, 3), points(2, 20, 3)
    judge = GaussianMixture(3, reg_covar=1e-3, random_state=0, max_iter=500).fit(features.astype(float))
    each = [
        np.log(w) + multivariate_normal.logpdf(queries, m, c)
        for w, m, c in zip(judge.weights_, judge.means_, judge.covariances_, strict=True)
    ]

    fitted = GaussianMixtures(3, largest=True).fit(References.of(features))

    np.testing.assert_allclose(fitted.score(queries), -np.max(each, axis=0), rtol=1e-4)


# k-means --------------------------------------------------------------------------------------------------------------


def test_sources_are_clustered_and_every_target_is_a_centre_and_none_is_made_longer() -> None:
    known = two_domains()
    unit = known.features / np.linalg.norm(known.features, axis=1, keepdims=True)
    known = References.of(unit, known.group, known.target)
    centres = KMeans(16, random_state=0).fit(unit[:60].astype(float)).cluster_centers_
    queries = -unit[:7]

    fitted = KMeansCentres().fit(known)

    assert fitted.centres.shape == (16 + 5, 4)
    assert np.linalg.norm(fitted.centres[:16], axis=1).min() < 0.9999
    expected = 1 - np.maximum((queries @ centres.T).max(axis=1), (queries @ unit[60:].T).max(axis=1))
    np.testing.assert_allclose(fitted.score(queries), expected, rtol=1e-5)


@pytest.mark.parametrize(("sources", "targets", "centres"), [(10, 2, 12), (40, 0, 16), (0, 5, 5)])
def test_there_are_as_many_centres_as_there_is_sound_for(sources: int, targets: int, centres: int) -> None:
    fitted = KMeansCentres().fit(two_domains(sources, targets))

    assert isinstance(fitted, Cosine)
    assert len(fitted.centres) == centres


# Virtual references ---------------------------------------------------------------------------------------------------


def test_smote_gives_imbalanced_learns_rows() -> None:
    known = two_domains(sources=60, targets=5)
    expected, _ = SMOTE(sampling_strategy=0.2, k_neighbors=2, random_state=0).fit_resample(
        known.features, known.target.astype(int)
    )

    more = smote(known)

    np.testing.assert_array_equal(more.features, expected)
    assert (int(more.target.sum()), len(more)) == (12, 72)


@settings(max_examples=40)
@given(st.integers(0, 80), st.integers(0, 20))
def test_only_targets_are_multiplied_and_only_if_there_are_two_and_too_few(sources: int, targets: int) -> None:
    assume(sources + targets > 0)
    known = two_domains(sources, targets)

    for resample, most in ((smote, max(targets, sources // 5)), (memmixup, targets + sources)):
        more = resample(known)
        np.testing.assert_array_equal(more.features[: len(known)], known.features)
        assert more.target[len(known) :].all()
        assert int(more.target.sum()) <= most
    expected = sources // 5 if 2 <= targets < sources // 5 else targets
    assert int(smote(known).target.sum()) == expected


def test_a_row_of_smote_is_of_the_recording_and_condition_of_the_target_beside_it() -> None:
    known = two_domains()
    more = smote(known)
    virtual = np.arange(len(known), len(more))
    beside = NearestNeighbors(n_neighbors=1).fit(known.features[known.target].astype(float))
    nearest = np.flatnonzero(known.target)[beside.kneighbors(more.features[virtual].astype(float))[1][:, 0]]

    assert virtual.size
    for label in ("group", "clip", "attribute"):
        np.testing.assert_array_equal(getattr(more, label)[virtual], getattr(known, label)[nearest])


def test_memmixup_moves_each_target_a_tenth_of_the_way_to_its_nearest_sources() -> None:
    known = two_domains(sources=60, targets=5)
    source, target = known.features[:60].astype(float), known.features[60:].astype(float)
    near = NearestNeighbors().fit(source).kneighbors(target, n_neighbors=12)[1]
    expected = [0.9 * t + 0.1 * source[s] for t, row in zip(target, near, strict=True) for s in row]

    more = memmixup(known)

    np.testing.assert_allclose(more.features[65:], expected, rtol=1e-5)
    for label in ("group", "clip", "attribute"):
        np.testing.assert_array_equal(getattr(more, label)[65:], np.repeat(getattr(known, label)[60:], 12))


@pytest.mark.parametrize("name", ["knn+smote", "knn+memmixup", "kmeans", "gmm+smote", "density+memmixup"])
def test_what_was_left_out_has_not_helped(name: str) -> None:
    """Its virtual neighbours are made without it: as if it had never been recorded."""
    known, learner = two_domains(sources=40), backend(name)

    np.testing.assert_allclose(learner.leave_one_out(known), folded(learner, known), rtol=1e-6)


@pytest.mark.parametrize("suffix", RESAMPLERS)
def test_a_target_is_as_far_from_its_virtual_neighbours_as_if_it_were_new(suffix: str) -> None:
    """Targets far from each other: with its own virtual neighbours one would be near home."""
    known = two_domains(sources=40, targets=4)
    known.features[40:] += 1_000 * np.eye(4, dtype=np.float32)

    assert backend(f"knn+{suffix}").leave_one_out(known)[40:].min() > 500


@pytest.mark.parametrize("suffix", RESAMPLERS)
def test_segments_of_several_rows_are_multiplied_row_by_row(suffix: str) -> None:
    rows = points(3, 60, 4).reshape(20, 3, 4)
    known = References.of(rows, target=np.arange(20) > 17)
    learner = backend(f"selective-rows+{suffix}")

    assert learner.leave_one_out(known).shape == (20,)
    assert np.isfinite(learner.leave_one_out(known)).all()


# By name --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("knn", Knn(1)),
        ("knn4", Knn(4)),
        ("knn17", Knn(17)),
        ("knn-domain", Knn(1, by_domain=True)),
        ("knn2-domain", Knn(2, by_domain=True)),
        ("density", LocalDensity(4)),
        ("density1", LocalDensity(1)),
        ("difference", LocalDensity(4, ratio=False)),
        ("kmeans", KMeansCentres(16)),
        ("mahalanobis", Gaussian()),
        ("selective", DomainMoments()),
        ("selective-rows", DomainMoments(by_row=True)),
        ("gmm", GaussianMixtures(2)),
        ("gmm4", GaussianMixtures(4)),
        ("gmm-max", GaussianMixtures(2, largest=True)),
        ("gmm1-max", GaussianMixtures(1, largest=True)),
        ("centres", ConditionCentres()),
        ("centres-cosine", ConditionCentres(cosine=True)),
        ("confidence", OwnClasses((3, 5))),
        ("logodds", OwnClasses((3, 5), odds=True)),
        ("value", AsItIs()),
        ("bands", BandGaussians(8)),
        ("bands-mean", BandGaussians(8, average=True)),
        ("knn4+smote", Resampled(Knn(4), smote)),
        ("density+memmixup", Resampled(LocalDensity(), memmixup)),
        ("gmm+smote+memmixup", Resampled(Resampled(GaussianMixtures(), smote), memmixup)),
    ],
)
def test_a_name_says_what_it_is(name: str, expected: Backend) -> None:
    assert backend(name, own=[3, 5]) == expected


@pytest.mark.parametrize(
    "name", ["", "svm", "knn0", "knn-1", "knn4-", "gmm-min", "knn+adasyn", "+smote", "value2", "kNN"]
)
def test_an_unknown_name_is_told_with_all_there_are(name: str) -> None:
    every = ", ".join(backends())
    assert every.startswith("knn, knn4, ")
    with pytest.raises(ConfigError, match=re.escape(f"no back end {name!r}; choose one of {every}")):
        backend(name)


@pytest.mark.parametrize("name", ["value+smote", "confidence+memmixup", "logodds+smote"])
def test_what_keeps_no_references_has_none_to_multiply(name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"so {name!r} has none to multiply; leave out +")):
        backend(name, own=[0])


def test_every_name_in_the_help_makes_a_back_end_whose_detector_a_bundle_can_hold() -> None:
    names = [name.replace("NAME", "knn") for name in backends()]

    assert {backend(name).detector for name in names} == set(DETECTORS)


LEARNERS = [KMeansCentres(), GaussianMixtures(), GaussianMixtures(largest=True), backend("knn2-domain+smote")]


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: type(learner).__name__)
@settings(max_examples=15)
@given(known=references())
def test_a_few_references_of_any_kind_are_enough(learner: Backend, known: References) -> None:
    """They tie and coincide, domains are missing, recordings are few."""
    assert np.isfinite(learner.leave_one_out(known)).all()
    np.testing.assert_allclose(learner.leave_one_out(known), folded(learner, known), rtol=1e-6, atol=1e-9)
    assert len(list(held_out(known.group, 20))) == np.unique(known.group).size


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: type(learner).__name__)
def test_what_is_learned_is_the_detector_that_was_named(learner: Backend) -> None:
    known = two_domains()
    fitted = learner.fit(known)

    assert type(fitted) is DETECTORS[learner.detector]
    assert all(getattr(fitted, name).dtype == np.float32 for name in fitted.AXES)
    np.testing.assert_array_equal(fitted.score(known.features), learner.fit(known).score(known.features))
