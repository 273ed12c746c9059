"""What is kept of clips that were heard, and which of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist

from edge_asd.learn.memory import FIRST, LINK, SAME_DB, Memory, thinned
from edge_asd.score.listener import evidence
from edge_asd.score.part import STATISTICS_PARTS, Evidence, features
from edge_asd.signal.statistic import Statistics
from tests.example import NETWORK_PART, SECOND, embed, front_end, noise

SPEC = front_end(SECOND)


def clip(mean: np.ndarray) -> Evidence:
    """Nothing but a spectrum."""
    spectrum = mean.astype(np.float32)
    return Evidence(Statistics(-20.0, -10.0, 10.0, 3.0, spectrum, spectrum + 5, np.zeros(0)))


def memory(spectra: np.ndarray, points: tuple[str, ...] = ()) -> Memory:
    told = Memory()
    for number, spectrum in enumerate(spectra):
        told = told.with_clip(clip(spectrum), points[number] if points else FIRST)
    return told


def test_a_clip_that_is_remembered_has_the_features_that_it_had() -> None:
    heard = [evidence(SECOND, SPEC, embed, noise(seed, SECOND.clip)) for seed in range(3)]
    told = Memory()
    for each in heard:
        told = told.with_clip(each, FIRST)
    for normal, each in zip(Memory.of(told.tensors()).normals(), heard, strict=True):
        for spec in (*STATISTICS_PARTS, NETWORK_PART):
            np.testing.assert_allclose(features(spec, normal.evidence), features(spec, each), rtol=1e-6)


def test_the_same_sound_is_known_again_and_other_sound_of_the_same_machine_is_not() -> None:
    first, again, other = (evidence(SECOND, SPEC, None, noise(seed, SECOND.clip)) for seed in (1, 1, 2))
    told = Memory().with_clip(first, FIRST)
    assert told.knows(again)
    assert not told.knows(other)
    assert not Memory().knows(first)


def test_a_band_that_is_louder_by_more_than_that_makes_it_another_clip() -> None:
    told = memory(np.zeros((1, 4)))
    assert told.knows(clip(np.array([0, 0, 0, 0.9 * SAME_DB])))
    assert not told.knows(clip(np.array([0, 0, 0, 1.1 * SAME_DB])))


def test_days_are_counted_where_they_are_known_and_one_where_nobody_knows() -> None:
    told = Memory()
    for day in (738_000, 0, 738_001, 738_000):
        told = told.with_clip(clip(np.arange(4.0) + len(told)), FIRST, day)
    assert Memory.of(told.tensors()).days == 2
    assert told.some([1]).days == 1
    of_before = {name: value for name, value in told.tensors().items() if name != "day"}
    assert Memory.of(of_before).days == 1
    assert Memory.of(of_before).plus(told).days == 2


def test_memories_follow_each_other() -> None:
    first, more = memory(np.arange(8.0).reshape(2, 4)), memory(np.ones((1, 4)), ("hot",))
    both = first.plus(more)
    assert (both.points, both.some([2]).points) == ((FIRST, FIRST, "hot"), ("hot",))
    np.testing.assert_array_equal(both.features["mean"], np.concatenate([first.features["mean"], np.ones((1, 4))]))
    assert Memory().plus(more) is more
    assert more.plus(Memory()) is more


def test_what_was_added_is_the_target_domain() -> None:
    told = memory(np.arange(8.0).reshape(2, 4), (FIRST, "hot"))
    assert [normal.target for normal in told.normals()] == [False, True]
    assert told.counts() == {FIRST: 1, "hot": 1}


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(3, 12))
def test_operating_points_are_what_single_linkage_finds(seed: int, points: int, each: int) -> None:
    rng = np.random.default_rng(seed)
    spectra = (rng.normal(0, 1, (points * each, 6)) + 40 * np.repeat(np.arange(points), each)[:, None]).astype("f4")
    far = cdist(spectra, spectra) / np.sqrt(6)
    np.fill_diagonal(far, np.inf)
    reach = LINK * np.quantile(far.min(axis=1), 0.9) * np.sqrt(6)
    sizes = np.bincount(fcluster(linkage(spectra, "single"), reach, "distance"))
    assert memory(spectra).found_points() == (sizes >= 3).sum()


def test_a_machine_at_two_speeds_shows_two_operating_points_and_a_straggler_none() -> None:
    rng = np.random.default_rng(0)
    spectra = np.concatenate([rng.normal(0, 1, (20, 8)), rng.normal(30, 1, (20, 8)), rng.normal(90, 1, (1, 8))])
    assert memory(spectra).found_points() == 2
    assert memory(spectra[:2]).found_points() == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30), st.integers(2, 40))
def test_a_thinned_bank_has_the_size_that_was_asked_and_keeps_every_point(
    seed: int, first: int, hot: int, most: int
) -> None:
    spectra = np.random.default_rng(seed).normal(0, 1, (first + hot, 5))
    told = memory(spectra, (FIRST,) * first + ("hot",) * hot)
    kept = thinned(told, most)
    counts = told.some(kept).counts()
    assert kept == sorted(set(kept))
    assert len(kept) == min(most, first + hot)
    assert counts["hot"] >= min(hot, most // 2)
    assert counts[FIRST] >= min(first, most // 2)


@given(st.integers(0, 2**32 - 1), st.integers(2, 10))
def test_what_is_thinned_covers_as_k_centre_promises(seed: int, most: int) -> None:
    # no clip is further from those kept than these are from each other: hence within twice of the best (Gonzalez 1985)
    spectra = np.random.default_rng(seed).normal(0, 1, (20, 3)).astype("f4")
    kept = thinned(memory(spectra), most)
    radius = cdist(spectra, spectra[kept]).min(axis=1).max()
    between = cdist(spectra[kept], spectra[kept]) + np.diag(np.full(most, np.inf))
    assert radius <= between.min() + 1e-5
