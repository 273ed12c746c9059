from __future__ import annotations

import numpy as np
import pytest

from edge_asd.score.detector import References, scored
from edge_asd.score.gaussian import BandGaussians, DomainMoments, Gaussian, Selective, ledoit_wolf
from tests.score.reference import points


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

    np.testing.assert_allclose(Gaussian().fit(References.of(features)).score(queries), expected, rtol=1e-4)


def test_features_that_never_vary_have_a_covariance_that_can_be_inverted() -> None:
    fitted = Gaussian().fit(References.of(np.ones((6, 3), np.float32)))

    assert fitted.score(np.ones((1, 3), np.float32)) == [0]
    assert np.isfinite(fitted.score(np.zeros((1, 3), np.float32))).all()


# Selective Mahalanobis ------------------------------------------------------------------------------------------------

BLOCKS, WIDTH = 5, 8
"""rows of a vector of the official auto-encoder, and dimensions of each; 128 there"""


def residuals(seed: int, segments: int, vectors: int = 30) -> np.ndarray:
    """(B, R, D), not centred, every segment a little different."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((segments, vectors * BLOCKS, WIDTH)) @ rng.standard_normal((WIDTH, WIDTH))
    return (rows + 0.3 * rng.standard_normal((segments, 1, WIDTH)) + 0.2).astype(np.float32)


def official(delta: np.ndarray, covariance: np.ndarray) -> float:
    """As methods.md §5.2 has read the code: the mean of all n² entries of δ Σ⁻¹ δᵀ."""
    return float((delta @ np.linalg.inv(covariance) @ delta.T).mean())


def test_the_official_distance_is_five_times_smaller_for_its_covariance_is_five_times_larger() -> None:
    """Outer products of all rows over the number of vectors, min over domains."""
    known, target, heard = residuals(0, 12), np.arange(12) > 8, residuals(1, 4)
    covariances = []
    for domain in (~target, target):
        rows = known[domain].reshape(-1, WIDTH).astype(float)
        covariances.append(rows.T @ rows / (len(rows) / BLOCKS))
    expected = [min(official(delta, covariance) for covariance in covariances) for delta in heard.astype(float)]

    backend = DomainMoments()
    fitted = backend.fit(References.of(known, target=target))

    np.testing.assert_allclose(scored(backend.detector, fitted, heard) / BLOCKS, expected, rtol=1e-4)


def test_a_mean_residual_that_the_graph_has_taken_itself_scores_the_same() -> None:
    fitted = DomainMoments().fit(References.of(residuals(0, 12)))
    heard = residuals(1, 4)

    np.testing.assert_allclose(scored("selective", fitted, heard), fitted.score(heard.mean(axis=1)), rtol=1e-6)


def test_the_mean_of_all_entries_is_the_distance_of_the_mean() -> None:
    delta, covariance = residuals(3, 1)[0].astype(float), np.cov(residuals(4, 1)[0].T)
    mean = delta.mean(axis=0)

    assert official(delta, covariance) == pytest.approx(mean @ np.linalg.inv(covariance) @ mean)


@pytest.mark.train
def test_by_row_it_is_the_mean_of_scipys_squared_distances_from_zero() -> None:
    from scipy.spatial.distance import cdist  # noqa: PLC0415 - not in the test group

    known, heard = residuals(0, 12), residuals(1, 4)
    rows = known.reshape(-1, WIDTH).astype(float)
    inverse = np.linalg.inv(rows.T @ rows / len(rows))
    expected = [np.square(cdist(r, np.zeros((1, WIDTH)), "mahalanobis", VI=inverse)).mean() for r in heard]

    backend = DomainMoments(by_row=True)
    fitted = backend.fit(References.of(known))

    np.testing.assert_allclose(scored(backend.detector, fitted, heard), expected, rtol=1e-4)


@pytest.mark.train
def test_of_few_residuals_the_second_moment_is_shrunk_as_scikit_learn_shrinks_it() -> None:
    """Else a direction that none of them took would make everything infinitely strange."""
    from sklearn import covariance  # noqa: PLC0415 - not in the test group

    known, heard = residuals(0, 1)[0, :20], residuals(1, 1)[0, :9]
    inverse = np.linalg.inv(covariance.ledoit_wolf(known.astype(float), assume_centered=True)[0])
    expected = np.einsum("bi,ij,bj->b", heard, inverse, heard)

    np.testing.assert_allclose(DomainMoments().fit(References.of(known)).score(heard), expected, rtol=1e-4)


@pytest.mark.parametrize("missing", [False, True])
def test_one_domain_stands_in_for_the_other(missing: bool) -> None:  # noqa: FBT001 - a parameter of the test
    fitted = DomainMoments().fit(References.of(residuals(0, 12), target=np.full(12, not missing)))

    assert isinstance(fitted, Selective)
    np.testing.assert_array_equal(fitted.source, fitted.target)


# Bands ----------------------------------------------------------------------------------------------------------------


def test_a_band_is_as_strange_as_its_own_gaussian_says_in_standard_deviations() -> None:
    features, queries = points(1, 90, 10), points(2, 7, 10)
    z = []
    for band in (slice(0, 4), slice(4, 7), slice(7, 10)):
        alone = Gaussian().fit(References.of(features[:, band]))
        usual = alone.score(features[:, band])
        z.append((alone.score(queries[:, band]) - usual.mean()) / usual.std())

    largest, mean = (BandGaussians(3, average).fit(References.of(features)).score(queries) for average in (False, True))

    np.testing.assert_allclose(largest, np.max(z, axis=0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(mean, np.mean(z, axis=0), rtol=1e-3, atol=1e-3)


def test_what_is_strange_in_one_band_stands_out_of_the_strangest_not_of_the_mean() -> None:
    features = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    broken = features[:1].copy()
    broken[0, 3] += 6

    strangest, mean = (
        BandGaussians(8, average).fit(References.of(features)).score(broken) for average in (False, True)
    )

    assert strangest[0] > 2 * mean[0]
    assert strangest[0] > 4
