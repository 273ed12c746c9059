from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_asd.score.listener import evidence
from edge_asd.score.part import NETWORK_PART, STATISTICS_PARTS, Evidence, PartSpec, features, fit_part
from tests.example import COARSE, SECOND, embed, noise

PARTS = (*STATISTICS_PARTS, NETWORK_PART, replace(NETWORK_PART, name="shape", detector="mahalanobis"))


def heard(seed: int, level: float = 0.05) -> Evidence:
    return evidence(SECOND, COARSE, embed, noise(seed, 16_000, level))


NORMALS = [heard(seed) for seed in range(20)]


@pytest.mark.parametrize(
    ("spec", "shape"), [(PARTS[0], (1, 3)), (PARTS[1], (1, 24)), (PARTS[2], (1, 24)), (NETWORK_PART, (3, 3))]
)
def test_clip_parts_look_once_and_segment_parts_at_each_segment(spec: PartSpec, shape: tuple[int, int]) -> None:
    assert features(spec, heard(0)).shape == shape
    assert spec.scope == ("clip" if shape[0] == 1 else "segment")


@pytest.mark.parametrize("spec", PARTS, ids=lambda spec: spec.name)
def test_leave_one_out_scores_of_the_training_clips_have_mean_0_and_deviation_1(spec: PartSpec) -> None:
    _, z = fit_part(spec, NORMALS)

    assert z.shape == (20,)
    assert z.mean() == pytest.approx(0, abs=1e-9)
    assert z.std() == pytest.approx(1)


@pytest.mark.parametrize("spec", STATISTICS_PARTS, ids=lambda spec: spec.name)
def test_a_louder_machine_is_strange_to_every_statistic(spec: PartSpec) -> None:
    part, _ = fit_part(spec, NORMALS)

    assert part.z(heard(50))[0] < 4
    assert part.z(heard(50, level=0.5))[0] > 10


@pytest.mark.parametrize("spec", PARTS, ids=lambda spec: spec.name)
def test_what_a_part_was_fitted_on_is_no_stranger_than_when_it_was_left_out(spec: PartSpec) -> None:
    part, z = fit_part(spec, NORMALS)
    known = np.array([part.z(clip).mean() for clip in NORMALS])

    assert (known <= z + 1e-3).mean() > 0.8


def test_indicators_are_level_crest_and_the_logarithm_of_kurtosis() -> None:
    clip = heard(1)
    expected = [clip.statistics.level, clip.statistics.crest, np.log(clip.statistics.kurtosis)]

    np.testing.assert_allclose(features(STATISTICS_PARTS[0], clip)[0], expected, rtol=1e-6)


def test_the_length_of_an_embedding_says_nothing() -> None:
    clip = heard(2)
    longer = replace(clip, embeddings=7 * clip.embeddings)

    np.testing.assert_allclose(features(NETWORK_PART, longer), features(NETWORK_PART, clip), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(features(NETWORK_PART, clip), axis=1), 1, rtol=1e-6)


def test_an_embedding_of_zeros_gives_finite_scores() -> None:
    part, _ = fit_part(NETWORK_PART, NORMALS)
    dead = replace(heard(3), embeddings=np.zeros((3, 3), np.float32))

    assert np.isfinite(part.z(dead)).all()


def test_clips_that_are_all_the_same_give_finite_scores() -> None:
    for spec in PARTS:
        part, z = fit_part(spec, [NORMALS[0]] * 8)
        assert np.isfinite(z).all()
        assert np.isfinite(part.z(heard(4))).all()
