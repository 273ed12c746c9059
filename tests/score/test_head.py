from __future__ import annotations

import numpy as np
import pytest

from edge_asd.errors import AudioError
from edge_asd.score.head import fit_head
from edge_asd.score.listener import evidence
from edge_asd.score.part import NETWORK_PART, STATISTICS_PARTS, Evidence
from tests.example import COARSE, SECOND, embed, noise

PARTS = (*STATISTICS_PARTS, NETWORK_PART)


def heard(seed: int, level: float = 0.05) -> Evidence:
    return evidence(SECOND, COARSE, embed, noise(seed, 16_000, level))


NORMALS = [heard(seed) for seed in range(20)]


def test_the_fused_score_is_the_mean_of_the_parts() -> None:
    verdict = fit_head(PARTS, NORMALS)[0].judge(heard(30))

    assert [part.name for part in verdict.parts] == ["indicators", "spectrum", "neighbour", "network"]
    assert verdict.score == pytest.approx(np.mean([part.z for part in verdict.parts]))


def test_segment_scores_are_those_of_the_network_and_average_to_its_part() -> None:
    verdict = fit_head(PARTS, NORMALS)[0].judge(heard(30))

    assert len(verdict.segment_scores) == 3
    assert verdict.parts[-1].z == pytest.approx(np.mean(verdict.segment_scores))


def test_without_a_network_there_are_no_segment_scores() -> None:
    assert fit_head(STATISTICS_PARTS, NORMALS)[0].judge(heard(30)).segment_scores == ()


def test_surprise_is_the_calibration_of_the_left_out_scores() -> None:
    head, left_out = fit_head(PARTS, NORMALS)
    verdict = head.judge(heard(30))

    assert left_out.shape == (20,)
    assert left_out.mean() == pytest.approx(0, abs=1e-9)
    assert head.calibration.body[-1] == pytest.approx(np.median(left_out))
    assert verdict.surprise == head.calibration.surprise(verdict.score)


def test_what_was_never_heard_is_surprising_and_the_usual_is_not() -> None:
    head, _ = fit_head(PARTS, NORMALS)

    assert np.mean([head.judge(heard(seed)).surprise for seed in range(30, 40)]) < 1
    assert head.judge(heard(30, level=0.5)).surprise > 4


def test_four_clips_are_too_few() -> None:
    with pytest.raises(AudioError, match="need at least 5 normal clips to fit a head, got 4; record more"):
        fit_head(PARTS, NORMALS[:4])
    fit_head(PARTS, NORMALS[:5])
