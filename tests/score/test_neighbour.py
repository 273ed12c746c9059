from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_asd.score.detector import FLOOR, References
from edge_asd.score.neighbour import BLOCK, SPARE, Knn, LocalDensity
from tests.score.reference import points, references


def sklearn_distances(features: np.ndarray, queries: np.ndarray | None, neighbours: int) -> tuple[np.ndarray, ...]:
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415 - not in the test group

    fitted = NearestNeighbors().fit(features.astype(float))
    return tuple(fitted.kneighbors(None if queries is None else queries.astype(float), n_neighbors=neighbours))


@pytest.mark.train
@pytest.mark.parametrize("neighbours", [1, 2, 5])
def test_a_neighbours_distance_is_scikit_learns(neighbours: int) -> None:
    features, queries = points(2, 80, 6), points(3, 15, 6)
    expected = sklearn_distances(features, queries, neighbours)[0].mean(axis=1)

    np.testing.assert_allclose(Knn(neighbours).fit(References.of(features)).score(queries), expected, rtol=1e-5)


@pytest.mark.train
@pytest.mark.parametrize("neighbours", [1, 3])
def test_the_nearer_domain_counts(neighbours: int) -> None:
    features, queries, target = points(2, 80, 6), points(3, 15, 6), np.arange(80) > 69
    domains = [sklearn_distances(features[d], queries, neighbours)[0].mean(axis=1) for d in (target, ~target)]
    fitted = Knn(neighbours, by_domain=True).fit(References.of(features, target=target))

    np.testing.assert_allclose(fitted.score(queries), np.minimum(*domains), rtol=1e-5)


@given(references())
def test_the_nearest_of_all_is_the_nearest_of_either_domain(known: References) -> None:
    queries = points(0, 5, known.features.shape[1])
    together, apart = Knn(1), Knn(1, by_domain=True)

    np.testing.assert_array_equal(together.fit(known).score(queries), apart.fit(known).score(queries))
    np.testing.assert_array_equal(together.leave_one_out(known), apart.leave_one_out(known))


def test_of_two_references_at_most_two_are_neighbours() -> None:
    known = References.of(np.array([[0], [1]], np.float32))

    assert Knn(4).fit(known).score(np.array([[3]], np.float32)) == pytest.approx([2.5])


@pytest.mark.train
@pytest.mark.parametrize("neighbours", [1, 4])
def test_local_density_is_scikit_learns_distance_over_that_of_the_references_to_each_other(neighbours: int) -> None:
    features, queries = points(2, 80, 6), points(3, 15, 6)
    density = sklearn_distances(features, None, neighbours)[0].mean(axis=1)
    far, which = sklearn_distances(features, queries, 80)

    by_ratio, by_difference = (LocalDensity(neighbours, ratio).fit(References.of(features)) for ratio in (True, False))

    np.testing.assert_allclose(by_ratio.score(queries), (far / density[which]).min(axis=1), rtol=1e-5)
    np.testing.assert_allclose(by_difference.score(queries), (far - density[which]).min(axis=1), rtol=1e-5, atol=1e-5)


@given(references(), st.sampled_from([1, 2, 4]), st.integers(-6, 6))
def test_a_ratio_does_not_depend_on_the_unit(known: References, neighbours: int, exponent: int) -> None:
    unit = np.float32(2.0**exponent)
    apart = np.unique(known.features, axis=0, return_index=True)[1]  # coinciding ones meet the floor, which has a unit
    known = References.of(known.features[apart])
    assume(len(known) > 2)
    larger = References.of(unit * known.features)
    backend, queries = LocalDensity(neighbours), points(1, 4, known.features.shape[1])

    np.testing.assert_allclose(
        backend.fit(larger).score(unit * queries), backend.fit(known).score(queries), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(backend.leave_one_out(larger), backend.leave_one_out(known), rtol=1e-5)


def test_a_neighbour_from_the_same_recording_makes_nothing_dense() -> None:
    """Two points of one recording lie together, the others one apart on a line."""
    features = np.array([[0], [0.01], [1], [2], [3], [4], [5]], np.float32)
    grouped = LocalDensity().fit(References.of(features, np.array([0, 0, 1, 2, 3, 4, 5])))
    alone = LocalDensity().fit(References.of(features))

    assert grouped.density[0] == pytest.approx(np.mean([1, 2, 3, 4]))
    assert alone.density[0] == pytest.approx(np.mean([0.01, 1, 2, 3]))


@pytest.mark.parametrize("ratio", [True, False])
def test_more_references_than_fit_into_memory_at_once_are_taken_in_blocks(ratio: bool) -> None:  # noqa: FBT001 - a parameter of the test
    features, group = points(1, BLOCK + 200, 2), np.arange(BLOCK + 200) // 2
    known = References.of(features, group)
    fitted = LocalDensity(2, ratio).fit(known)
    far = np.sqrt(np.square(features[:, None].astype(float) - features).sum(axis=2))
    far[group[:, None] == group] = np.inf

    np.testing.assert_allclose(fitted.density, np.sort(far, axis=1)[:, :2].mean(axis=1), rtol=1e-4, atol=1e-6)
    left_out = LocalDensity(2, ratio).leave_one_out(known)
    for number in (0, 600):
        out = group == number
        density = np.sort(far[~out][:, ~out], axis=1)[:, :2].mean(axis=1)
        expected = far[out][:, ~out] / density if ratio else far[out][:, ~out] - density
        np.testing.assert_allclose(left_out[out], expected.min(axis=1), rtol=1e-4)


@pytest.mark.parametrize("per_group", [1, SPARE, 2 * SPARE])
def test_a_recording_may_hold_more_neighbours_than_are_remembered(per_group: int) -> None:
    """Three clusters; the neighbours of each are all in one other, then all in the third."""
    group = np.repeat(np.arange(3), per_group)
    known = References.of(points(0, 3 * per_group, 2) + np.array([0, 100, 300], np.float32)[group, None], group)
    left_out = LocalDensity().leave_one_out(known)

    for number in range(3):
        held = group == number
        expected = LocalDensity().fit(known[~held]).score(known.features[held])
        np.testing.assert_allclose(left_out[held], expected, rtol=1e-5)


def test_a_sparse_region_is_as_normal_as_a_dense_one() -> None:
    """Half a spacing away from a dense row, and from one ten times as sparse."""
    dense, sparse = np.arange(20.0), 1_000 + 10 * np.arange(20.0)
    fitted = LocalDensity().fit(References.of(np.concatenate([dense, sparse])[:, None].astype("f4")))
    between = fitted.score(np.array([[10.5], [1_105]], np.float32))

    assert between[0] == pytest.approx(between[1], rel=1e-4)


def test_references_that_coincide_are_not_infinitely_dense() -> None:
    assert (LocalDensity().fit(References.of(np.ones((10, 3), np.float32))).density == np.float32(FLOOR)).all()
