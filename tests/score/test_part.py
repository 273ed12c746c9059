from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args, get_type_hints

import numpy as np
import pytest

from edge_asd.score.centre import ConditionCentres
from edge_asd.score.gaussian import DomainMoments, Gaussian
from edge_asd.score.likelihood import AsItIs
from edge_asd.score.listener import evidence
from edge_asd.score.neighbour import Knn, LocalDensity
from edge_asd.score.part import (
    DETECTORS,
    STATISTICS_PARTS,
    Evidence,
    Normal,
    PartSpec,
    features,
    fit_part,
)
from tests.example import COARSE, NETWORK_PART, NETWORK_PARTS, SECOND, embed, noise

if TYPE_CHECKING:
    from edge_asd.score.detector import Backend, Detector, References

SHAPE = PartSpec("shape", "embedding", "mahalanobis")
PARTS: dict[PartSpec, Backend] = {**STATISTICS_PARTS, **NETWORK_PARTS, SHAPE: Gaussian()}
INDICATORS, SPECTRUM, NEIGHBOUR = STATISTICS_PARTS


def heard(seed: int, level: float = 0.05) -> Evidence:
    return evidence(SECOND, COARSE, embed, noise(seed, 16_000, level))


NORMALS = [Normal(heard(seed)) for seed in range(20)]


@pytest.mark.parametrize(
    ("spec", "shape"), [(INDICATORS, (1, 3)), (SPECTRUM, (1, 24)), (NEIGHBOUR, (1, 24)), (NETWORK_PART, (3, 3))]
)
def test_clip_parts_look_once_and_segment_parts_at_each_segment(spec: PartSpec, shape: tuple[int, int]) -> None:
    assert features(spec, heard(0)).shape == shape
    assert spec.scope == ("clip" if shape[0] == 1 else "segment")


@pytest.mark.parametrize("spec", list(PARTS), ids=lambda spec: spec.name)
def test_leave_one_out_scores_of_the_training_clips_have_mean_0_and_deviation_1(spec: PartSpec) -> None:
    _, z = fit_part(spec, NORMALS, PARTS[spec])

    assert z.shape == (20,)
    assert z.mean() == pytest.approx(0, abs=1e-9)
    assert z.std() == pytest.approx(1)


@pytest.mark.parametrize("spec", list(STATISTICS_PARTS), ids=lambda spec: spec.name)
def test_a_louder_machine_is_strange_to_every_statistic(spec: PartSpec) -> None:
    part, _ = fit_part(spec, NORMALS, PARTS[spec])

    assert part.z(heard(50))[0] < 4
    assert part.z(heard(50, level=0.5))[0] > 10


@pytest.mark.parametrize("spec", list(PARTS), ids=lambda spec: spec.name)
def test_what_a_part_was_fitted_on_is_no_stranger_than_when_it_was_left_out(spec: PartSpec) -> None:
    part, z = fit_part(spec, NORMALS, PARTS[spec])
    known = np.array([part.z(clip.evidence).mean() for clip in NORMALS])

    assert (known <= z + 1e-3).mean() > 0.8


def test_indicators_are_level_crest_and_the_logarithm_of_kurtosis() -> None:
    clip = heard(1)
    expected = [clip.statistics.level, clip.statistics.crest, np.log(clip.statistics.kurtosis)]

    np.testing.assert_allclose(features(INDICATORS, clip)[0], expected, rtol=1e-6)


def test_the_length_of_an_embedding_says_nothing() -> None:
    clip = heard(2)
    longer = replace(clip, outputs={"embedding": 7 * clip.outputs["embedding"]})

    np.testing.assert_allclose(features(NETWORK_PART, longer), features(NETWORK_PART, clip), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(features(NETWORK_PART, clip), axis=1), 1, rtol=1e-6)


def test_an_embedding_of_zeros_gives_finite_scores() -> None:
    part, _ = fit_part(NETWORK_PART, NORMALS, LocalDensity())
    dead = replace(heard(3), outputs={"embedding": np.zeros((3, 3), np.float32)})

    assert np.isfinite(part.z(dead)).all()


def test_clips_that_are_all_the_same_give_finite_scores() -> None:
    for spec, backend in PARTS.items():
        part, z = fit_part(spec, [NORMALS[0]] * 8, backend)
        assert np.isfinite(z).all()
        assert np.isfinite(part.z(heard(4))).all()


# Outputs of a network -------------------------------------------------------------------------------------------------


def saying(seed: int, **about: object) -> Normal:
    """A clip of which a network said several things."""
    rng, clip = np.random.default_rng(seed), heard(seed)
    outputs = {"error": (3, 1), "residual": (3, 4, 2)}
    said = {name: rng.standard_normal(shape).astype(np.float32) + 5 for name, shape in outputs.items()}
    return Normal(replace(clip, outputs={**clip.outputs, **said}), **about)  # type: ignore[arg-type]


ROWS = PartSpec("rows", "residual", "neighbours")


@pytest.mark.parametrize("output", ["error", "residual"])
def test_what_is_no_embedding_is_taken_as_it_is(output: str) -> None:
    clip = saying(1).evidence
    spec = PartSpec("any", output, "neighbours")

    assert spec.scope == "segment"
    np.testing.assert_array_equal(features(spec, clip), clip.outputs[output])


def test_an_embedding_of_several_rows_is_shortened_row_by_row() -> None:
    clip = saying(1).evidence
    rows = features(NETWORK_PART, replace(clip, outputs={"embedding": clip.outputs["residual"]}))

    assert rows.shape == (3, 4, 2)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=2), 1, rtol=1e-6)


def test_a_part_over_rows_gives_one_score_a_segment() -> None:
    part, _ = fit_part(ROWS, [saying(seed) for seed in range(12)], Knn())
    clip = saying(30).evidence
    every = part.detector.score(clip.outputs["residual"].reshape(12, 2)).reshape(3, 4)

    np.testing.assert_allclose(part.z(clip), (every.mean(axis=1) - part.centre) / part.spread, rtol=1e-6)


def test_the_error_of_a_reconstruction_is_a_score() -> None:
    normals = [saying(seed) for seed in range(12)]
    part, z = fit_part(PartSpec("error", "error", "value"), normals, AsItIs())
    errors = np.array([normal.evidence.outputs["error"].mean() for normal in normals])

    np.testing.assert_allclose(z, (errors - errors.mean()) / errors.std(), rtol=1e-4)
    assert part.z(normals[0].evidence).mean() == pytest.approx(z[0], rel=1e-4)


def test_a_back_end_that_learns_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="part 'rows' has detector 'neighbours', its back end learns 'mahalanobis'"):
        fit_part(ROWS, [saying(seed) for seed in range(12)], Gaussian())


# What is known of a clip ----------------------------------------------------------------------------------------------


class Witness:
    """A back end that tells what it was given."""

    detector = "neighbours"
    seen: References

    def fit(self, references: References) -> Detector:
        """Remember them."""
        self.seen = references
        return Knn().fit(references)

    def leave_one_out(self, references: References) -> np.ndarray:
        """As the nearest would."""
        return Knn().leave_one_out(references)


def told(*normals: Normal) -> References:
    witness = Witness()
    fit_part(PartSpec("any", "error", "neighbours"), normals, witness)
    return witness.seen


def test_a_back_end_is_told_of_every_segment_where_it_comes_from() -> None:
    about = [("a", False, "slow"), ("a", True, ""), ("b", False, "fast"), ("c", False, ""), ("b", False, "slow")]
    seen = told(*(saying(n, recording=r, target=t, attribute=a) for n, (r, t, a) in enumerate(about)))

    assert seen.group.tolist() == list(np.repeat([0, 0, 1, 2, 1], 3))
    assert seen.clip.tolist() == list(np.repeat([0, 1, 2, 3, 4], 3))
    assert seen.target.tolist() == list(np.repeat([False, True, False, False, False], 3))
    conditions = seen.attribute[::3].tolist()
    assert conditions[0] == conditions[4]
    assert len(set(conditions)) == 4  # an unknown condition is one of each domain


@pytest.mark.parametrize(("recordings", "groups"), [("aaabb", 5), ("aaabc", 3), ("     ", 5)])
def test_fewer_than_three_recordings_cannot_be_left_out(recordings: str, groups: int) -> None:
    """Without one there would be none whose neighbours could be of another."""
    seen = told(*(saying(number, recording=recording.strip()) for number, recording in enumerate(recordings)))

    assert np.unique(seen.group).size == groups


def test_clips_of_one_recording_do_not_vouch_for_each_other() -> None:
    """Five recordings of four clips each, the clips of one being all but the same."""
    normals = [replace(saying(number // 4, recording=str(number // 4))) for number in range(20)]
    spec = PartSpec("rows", "residual", "neighbours")
    alone, _ = fit_part(spec, [replace(normal, recording=str(n)) for n, normal in enumerate(normals)], Knn())
    grouped, _ = fit_part(spec, normals, Knn())

    assert alone.centre < 1e-3
    assert grouped.centre > 0.1


def test_conditions_and_domains_reach_their_back_ends() -> None:
    normals = [saying(n, target=n > 15, attribute=str(n % 2)) for n in range(20)]
    centres, _ = fit_part(PartSpec("c", "embedding", "centres"), normals, ConditionCentres())
    moments, _ = fit_part(PartSpec("m", "residual", "selective"), normals, DomainMoments())

    assert len(centres.detector.centres) == 2 + 4 * 3  # type: ignore[attr-defined]
    assert not np.array_equal(moments.detector.source, moments.detector.target)  # type: ignore[attr-defined]


def test_every_detector_has_a_name_that_a_part_may_use() -> None:
    allowed = get_args(get_type_hints(PartSpec)["detector"])

    assert sorted(allowed) == sorted(DETECTORS)
