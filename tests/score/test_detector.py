"""What holds for every back end that a device can fit by itself."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given

from edge_asd.score.centre import ConditionCentres
from edge_asd.score.detector import MOST_FOLDS, Backend, References, held_out, refitted, scored
from edge_asd.score.gaussian import BandGaussians, DomainMoments, Gaussian
from edge_asd.score.likelihood import AsItIs, OwnClasses
from edge_asd.score.neighbour import Knn, LocalDensity
from edge_asd.score.part import DETECTORS
from tests.score.reference import points, references

BACKENDS: list[Backend] = [
    Knn(),
    Knn(3),
    Knn(2, by_domain=True),
    LocalDensity(),
    LocalDensity(1),
    LocalDensity(2, ratio=False),
    Gaussian(),
    DomainMoments(),
    DomainMoments(by_row=True),
    BandGaussians(2),
    BandGaussians(2, average=True),
    ConditionCentres(),
    ConditionCentres(cosine=True),
]


def named(backend: Backend) -> str:
    return repr(backend).replace(" ", "")


def many(seed: int, per_group: int, groups: int = 12, dimensions: int = 6) -> References:
    samples = per_group * groups
    group = np.repeat(np.arange(groups), per_group)
    return References.of(points(seed, samples, dimensions), group, group % 4 == 3, group % 5)


def naive(backend: Backend, references: References) -> np.ndarray:
    scores = np.empty(len(references))
    for group in np.unique(references.group):
        held = references.group == group
        scores[held] = scored(backend.detector, backend.fit(references[~held]), references.features[held])
    return scores


# Leave-one-out --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS, ids=named)
@given(known=references())
def test_leaving_a_group_out_is_fitting_without_it(backend: Backend, known: References) -> None:
    np.testing.assert_allclose(backend.leave_one_out(known), naive(backend, known), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("backend", BACKENDS, ids=named)
@pytest.mark.parametrize("per_group", [1, 3, 8])
def test_leaving_a_group_out_is_fitting_without_it_in_many_dimensions(backend: Backend, per_group: int) -> None:
    known = many(per_group, per_group)

    np.testing.assert_allclose(backend.leave_one_out(known), naive(backend, known), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS, ids=named)
def test_a_segment_of_several_rows_is_left_out_whole(backend: Backend) -> None:
    rows = points(4, 36, 5).reshape(12, 3, 5)
    known = References.of(rows, np.arange(12) // 2, np.arange(12) > 7, np.arange(12) % 2)

    np.testing.assert_allclose(backend.leave_one_out(known), naive(backend, known), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS, ids=named)
def test_references_come_in_no_order(backend: Backend) -> None:
    known, order = many(7, 2), np.random.default_rng(0).permutation(24)
    fitted, shuffled = backend.fit(known), backend.fit(known[order])

    queries = points(8, 9, 6)
    np.testing.assert_allclose(shuffled.score(queries), fitted.score(queries), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(backend.leave_one_out(known[order]), backend.leave_one_out(known)[order], rtol=1e-6)


@pytest.mark.parametrize("backend", [one for one in BACKENDS if one.detector != "cosine"], ids=named)
def test_further_away_is_stranger(backend: Backend) -> None:
    known = References.of(points(1, 60, 5), target=np.arange(60) > 50)
    direction = -known.features.mean(axis=0)

    far = backend.fit(known).score(np.outer([1, 10, 100, 1_000], direction).astype(np.float32))

    assert (np.diff(far) > 0).all()


@pytest.mark.parametrize("backend", BACKENDS, ids=named)
def test_references_that_coincide_give_finite_scores(backend: Backend) -> None:
    known = References.of(np.ones((10, 3), np.float32), target=np.arange(10) > 7)

    assert np.isfinite(backend.leave_one_out(known)).all()
    assert np.isfinite(backend.fit(known).score(np.full((1, 3), 2, np.float32))).all()


@pytest.mark.parametrize("backend", BACKENDS, ids=named)
@pytest.mark.parametrize("target", [False, True])
def test_one_domain_is_enough(backend: Backend, target: bool) -> None:  # noqa: FBT001 - a parameter of the test
    known = References.of(points(9, 20, 4), target=np.full(20, target))

    assert np.isfinite(backend.leave_one_out(known)).all()
    assert np.isfinite(backend.fit(known).score(points(10, 5, 4))).all()


def test_a_group_is_held_out_once_alone_or_in_one_of_a_few_folds() -> None:
    group = np.repeat(np.arange(50), 3)
    alone, spread = list(held_out(group)), list(held_out(group, MOST_FOLDS))

    assert len(alone) == 50
    assert len(spread) == MOST_FOLDS
    for masks in (alone, spread):
        assert np.sum(masks, axis=0).tolist() == [1] * 150
        assert all(set(group[held]).isdisjoint(group[~held]) for held in masks)


def test_what_is_fitted_anew_for_a_fold_has_seen_nothing_of_it() -> None:
    """Fifty groups, each alone in its place: seen, it would be at no distance."""
    known = References.of(100 * np.eye(50, dtype=np.float32), np.arange(50))

    assert refitted(Knn(), known) == pytest.approx(np.full(50, 100 * 2**0.5))


# Rows -----------------------------------------------------------------------------------------------------------------


def test_a_segment_is_as_strange_as_its_rows_are_on_average() -> None:
    rows = points(3, 12, 4).reshape(3, 4, 4)
    fitted = Knn().fit(References.of(points(2, 30, 4)))

    expected = [fitted.score(segment).mean() for segment in rows]
    np.testing.assert_allclose(scored("neighbours", fitted, rows), expected, rtol=1e-12)


def test_every_row_of_a_segment_is_a_reference_with_its_labels() -> None:
    known = References.of(points(5, 12, 2).reshape(4, 3, 2), np.array([7, 7, 8, 9]), np.array([0, 1, 0, 1], bool))
    rows = known.rows()

    assert (len(known), len(rows)) == (4, 12)
    assert rows.group.tolist() == [7] * 6 + [8] * 3 + [9] * 3
    assert rows.clip.tolist() == sorted([0, 1, 2, 3] * 3)
    assert rows.target.tolist() == ([False] * 3 + [True] * 3) * 2
    np.testing.assert_array_equal(rows.features[4], known.features[1, 1])


# What a bundle keeps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DETECTORS.values(), ids=list(DETECTORS))
def test_a_detector_says_how_long_each_of_its_arrays_is(kind: type) -> None:
    assert [field.name for field in fields(kind)] == list(kind.AXES)
    assert not {"feature_mean", "feature_deviation", "centre"} & set(kind.AXES)  # the part's own, stored beside them


@pytest.mark.parametrize("backend", [*BACKENDS, OwnClasses((1,)), OwnClasses((1,), odds=True), AsItIs()], ids=named)
def test_a_back_end_learns_the_detector_it_names(backend: Backend) -> None:
    width = 1 if backend == AsItIs() else 5
    known = References.of(points(6, 20, width), target=np.arange(20) > 15, attribute=np.arange(20) // 8)
    fitted = backend.fit(known)
    sizes: dict[str, int] = {"D": width}

    assert type(fitted) is DETECTORS[backend.detector]
    for name, axes in fitted.AXES.items():
        array = getattr(fitted, name)
        assert array.dtype == np.float32
        assert list(array.shape) == [sizes.setdefault(axis, size) for axis, size in zip(axes, array.shape, strict=True)]
    assert replace(fitted) is not fitted
    assert fitted.score(known.features).shape == (20,)
