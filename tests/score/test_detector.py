from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.score.detector import FLOOR, NEIGHBOURS, Mahalanobis, Nearest, ledoit_wolf

DETECTORS = [Nearest, Mahalanobis]


def points(seed: int, samples: int, dimensions: int) -> np.ndarray:
    """(N, D) correlated and far from the origin."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((samples, dimensions)) @ rng.standard_normal((dimensions, dimensions)) + 3).astype("f4")


@st.composite
def references(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Small whole numbers, so that distances tie and points coincide, in three groups or more."""
    samples, dimensions = draw(st.integers(4, 14)), draw(st.integers(1, 4))
    values = draw(st.lists(st.integers(-3, 3), min_size=samples * dimensions, max_size=samples * dimensions))
    rest = draw(st.lists(st.integers(0, 5), min_size=samples - 3, max_size=samples - 3))
    return np.array(values, np.float32).reshape(samples, dimensions), np.array([0, 1, 2, *rest])


@pytest.mark.parametrize("detector", DETECTORS)
@given(data=references())
def test_leaving_a_group_out_is_fitting_without_it(
    detector: type[Nearest | Mahalanobis], data: tuple[np.ndarray, np.ndarray]
) -> None:
    features, groups = data
    scores = detector.leave_one_out(features, groups)

    for group in np.unique(groups):
        held = groups == group
        naive = detector.fit(features[~held], groups[~held]).score(features[held])
        np.testing.assert_allclose(scores[held], naive, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("per_group", [1, 3, 8])
def test_leaving_a_group_out_is_fitting_without_it_in_many_dimensions(
    detector: type[Nearest | Mahalanobis], per_group: int
) -> None:
    features, groups = points(per_group, 48, 20), np.repeat(np.arange(48 // per_group), per_group)
    scores = detector.leave_one_out(features, groups)

    for group in np.unique(groups):
        held = groups == group
        naive = detector.fit(features[~held], groups[~held]).score(features[held])
        np.testing.assert_allclose(scores[held], naive, rtol=1e-5)


@pytest.mark.parametrize("detector", DETECTORS)
def test_further_away_is_stranger(detector: type[Nearest | Mahalanobis]) -> None:
    features = points(1, 60, 5)
    fitted = detector.fit(features, np.arange(60))
    away = features.mean(axis=0) + np.outer([0, 10, 100, 1_000], np.ones(5)).astype(np.float32)

    assert (np.diff(fitted.score(away)) > 0).all()


@pytest.mark.train
def test_nearest_is_scikit_learns_distance_over_its_local_density() -> None:
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415 - not in the test group

    features, queries = points(2, 80, 6), points(3, 15, 6)
    neighbours = NearestNeighbors().fit(features.astype(float))
    density = neighbours.kneighbors(n_neighbors=NEIGHBOURS)[0].mean(axis=1)
    far, which = neighbours.kneighbors(queries.astype(float), n_neighbors=80)
    expected = (far / density[which]).min(axis=1)

    np.testing.assert_allclose(Nearest.fit(features, np.arange(80)).score(queries), expected, rtol=1e-5)


def test_a_neighbour_from_the_same_clip_makes_nothing_dense() -> None:
    """Two points of one clip lie together, the others one apart on a line."""
    features = np.array([[0], [0.01], [1], [2], [3], [4], [5]], np.float32)
    grouped = Nearest.fit(features, np.array([0, 0, 1, 2, 3, 4, 5]))
    alone = Nearest.fit(features, np.arange(7))

    assert grouped.density[0] == pytest.approx(np.mean([1, 2, 3, 4]))
    assert alone.density[0] == pytest.approx(np.mean([0.01, 1, 2, 3]))


def test_a_sparse_region_is_as_normal_as_a_dense_one() -> None:
    """Half a spacing away from a dense row, and from one ten times as sparse."""
    dense, sparse = np.arange(20.0), 1_000 + 10 * np.arange(20.0)
    fitted = Nearest.fit(np.concatenate([dense, sparse])[:, None].astype("f4"), np.arange(40))
    between = fitted.score(np.array([[10.5], [1_105]], np.float32))

    assert between[0] == pytest.approx(between[1], rel=1e-4)


def test_references_that_coincide_give_finite_scores() -> None:
    fitted = Nearest.fit(np.ones((10, 3), np.float32), np.arange(10))

    assert (fitted.density == np.float32(FLOOR)).all()
    assert np.isfinite(fitted.score(np.full((1, 3), 2, np.float32))).all()


@pytest.mark.train
@pytest.mark.parametrize(("samples", "dimensions"), [(200, 5), (30, 30), (12, 60)])
def test_the_shrunk_covariance_is_scikit_learns(samples: int, dimensions: int) -> None:
    from sklearn import covariance  # noqa: PLC0415 - not in the test group

    centred = points(samples, samples, dimensions).astype(float)
    centred -= centred.mean(axis=0)
    expected, _ = covariance.ledoit_wolf(centred, assume_centered=True)
    np.testing.assert_allclose(ledoit_wolf(centred), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.train
def test_mahalanobis_is_scipys_distance() -> None:
    from scipy.spatial.distance import cdist  # noqa: PLC0415 - not in the test group

    features, queries = points(5, 50, 8), points(6, 9, 8)
    mean = features.mean(axis=0, dtype=float)
    inverse = np.linalg.inv(ledoit_wolf(features - mean))
    expected = cdist(queries, mean[None], "mahalanobis", VI=inverse)[:, 0]

    np.testing.assert_allclose(Mahalanobis.fit(features, np.arange(50)).score(queries), expected, rtol=1e-4)


def test_features_that_never_vary_have_a_covariance_that_can_be_inverted() -> None:
    fitted = Mahalanobis.fit(np.ones((6, 3), np.float32), np.arange(6))

    assert fitted.score(np.ones((1, 3), np.float32)) == [0]
    assert np.isfinite(fitted.score(np.zeros((1, 3), np.float32))).all()
