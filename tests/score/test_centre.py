from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from edge_asd.score.centre import ConditionCentres
from edge_asd.score.detector import References
from edge_asd.score.gaussian import ledoit_wolf
from tests.score.reference import points, references

CONDITION = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
"""two with clips enough, one without"""
TARGET = np.array([0, 0, 0, 0, 0, 0, 1, 0, 0], bool)


def known() -> References:
    return References.of(points(0, 9, 4), target=TARGET, attribute=CONDITION)


def expected_centres(features: np.ndarray) -> np.ndarray:
    return np.array([features[:4].mean(axis=0), features[4:7].mean(axis=0), *features[[6, 7, 8]]])


def test_a_condition_with_clips_enough_has_one_centre_and_every_other_row_and_every_target_is_one() -> None:
    fitted = ConditionCentres().fit(known())

    np.testing.assert_allclose(fitted.centres, expected_centres(known().features.astype(float)), rtol=1e-6)


def test_clips_are_counted_not_their_segments() -> None:
    """Two clips of three segments each are six rows and still two clips."""
    rows = points(1, 6, 3)
    two = References(rows, np.arange(6) // 3, np.arange(6) // 3, np.zeros(6, bool), np.zeros(6, np.int64))

    assert len(ConditionCentres().fit(two).centres) == 6
    assert len(ConditionCentres().fit(References.of(rows)).centres) == 1


@pytest.mark.train
def test_the_distance_is_scipys_under_the_covariance_within_conditions() -> None:
    from scipy.spatial.distance import cdist  # noqa: PLC0415 - not in the test group

    features, queries = known().features.astype(float), points(5, 6, 4)
    each = [features[:4], features[4:7], features[7:]]
    within = np.concatenate([rows - rows.mean(axis=0) for rows in each])
    inverse = np.linalg.inv(ledoit_wolf(within))
    far = cdist(queries, expected_centres(features), "mahalanobis", VI=inverse)

    np.testing.assert_allclose(ConditionCentres().fit(known()).score(queries), np.square(far).min(axis=1), rtol=1e-4)


@pytest.mark.train
def test_the_angle_to_a_centre_is_scipys() -> None:
    from scipy.spatial.distance import cdist  # noqa: PLC0415 - not in the test group

    features, queries = known().features.astype(float), points(5, 6, 4)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = cdist(queries, expected_centres(unit), "cosine").min(axis=1)

    np.testing.assert_allclose(ConditionCentres(cosine=True).fit(known()).score(queries), expected, atol=1e-6)


def test_to_an_angle_the_length_says_nothing_and_turning_away_is_stranger() -> None:
    fitted = ConditionCentres(cosine=True).fit(References.of(np.array([[2, 0], [3, 0.1], [9, -0.1]], np.float32)))
    turned = np.array([[np.cos(a), np.sin(a)] for a in (0.0, 0.5, 1.5, 3.0)], np.float32)

    assert (np.diff(fitted.score(turned)) > 0.1).all()
    np.testing.assert_allclose(fitted.score(50 * turned), fitted.score(turned), atol=1e-6)


@given(references())
def test_a_target_is_at_home_where_it_was_heard(some: References) -> None:
    fitted = ConditionCentres().fit(some)

    assert fitted.score(some.features[some.target]) == pytest.approx(0, abs=1e-2)
