"""A head that a device learns is the head that training would fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from edge_asd.errors import AudioError, BundleError
from edge_asd.learn.fit import Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.score.gaussian import BandGaussians
from edge_asd.score.head import Fusion, Head, fit_head
from edge_asd.score.likelihood import OwnClasses
from edge_asd.score.listener import evidence
from edge_asd.score.neighbour import Knn
from edge_asd.score.part import EMBEDDING, STATISTICS_PARTS, Normal, PartSpec
from tests.example import NETWORK_PARTS, SECOND, embed, front_end, head, noise

SPEC = front_end(SECOND)
GOAL = Goal(clip_s=1.0)


def taught(seeds: range, point: str = FIRST, level: float = 0.05, told: Memory | None = None) -> Memory:
    told = told or Memory()
    for seed in seeds:
        told = told.with_clip(evidence(SECOND, SPEC, embed, noise(seed, SECOND.clip, level)), point)
    return told


def score(fitted: Head, seed: int, level: float = 0.05) -> float:
    return fitted.judge(evidence(SECOND, SPEC, embed, noise(seed, SECOND.clip, level))).score


def test_it_is_the_head_that_training_fits_on_the_same_clips() -> None:
    parts = {
        **STATISTICS_PARTS,
        **NETWORK_PARTS,
        PartSpec("knn", EMBEDDING, "neighbours"): Knn(3),
        PartSpec("bands", EMBEDDING, "bands"): BandGaussians(2),
    }
    base = head(SECOND, parts, embed)
    normals = [Normal(evidence(SECOND, SPEC, embed, noise(seed, SECOND.clip))) for seed in range(100, 120)]
    trained, scores = fit_head(parts, normals, base.fusion)
    learnt = learn(base, taught(range(100, 120)), GOAL)
    np.testing.assert_allclose(learnt.scores, scores, atol=1e-4)
    assert learnt.head.names == trained.names
    assert score(learnt.head, 500) == pytest.approx(score(trained, 500), abs=1e-4)
    assert learnt.left_out == ()


def test_the_threshold_keeps_the_false_alarms_that_were_asked_for() -> None:
    card = learn(head(SECOND), taught(range(10)), Goal(clip_s=10.0, on_delay=2, false_alarms_per_week=7.0)).card
    a_day = 86_400 / 10.0  # clips, of which two in a row shall be over it once
    assert 10 ** (-2 * card.thresholds.alarm) * a_day == pytest.approx(1.0)
    assert card.clips == 10


def test_of_normal_clips_it_never_heard_as_many_are_surprising_as_it_says() -> None:
    learnt = learn(head(SECOND), taught(range(1_000, 1_060)), GOAL)
    surprises = [learnt.head.calibration.surprise(score(learnt.head, seed)) for seed in range(2_000, 2_200)]
    over = sum(surprise > 1.0 for surprise in surprises)  # one in ten
    assert stats.binomtest(over, 200, 0.1).pvalue > 0.01


def test_a_thinned_bank_is_calibrated_by_all_that_was_heard() -> None:
    learnt = learn(head(SECOND), taught(range(40)), GOAL, most=15)
    assert len(learnt.memory) == learnt.card.clips == 15
    assert learnt.scores.size == 40
    assert learnt.head.calibration.body[-1] == pytest.approx(np.median(learnt.scores))


def test_an_operating_point_of_a_handful_of_clips_is_normal_once_it_is_added_and_the_old_one_stays_so() -> None:
    first = taught(range(3_000, 3_040))
    before = learn(head(SECOND), first, GOAL)
    after = learn(head(SECOND), taught(range(4_000, 4_010), "loud", 0.4, first), GOAL)
    loud, usual, faulty = (range(n, n + 20) for n in (5_000, 6_000, 7_000))

    def surprise(of: Head, seeds: range, level: float) -> float:
        return float(np.median([of.calibration.surprise(score(of, seed, level)) for seed in seeds]))

    assert surprise(before.head, loud, 0.4) > before.card.thresholds.alarm
    assert surprise(after.head, loud, 0.4) < 1.0
    assert surprise(after.head, usual, 0.05) < 1.0
    assert surprise(after.head, faulty, 0.004) > after.card.thresholds.alarm


def test_what_only_training_can_fit_is_left_out_and_said() -> None:
    parts = {**STATISTICS_PARTS, PartSpec("classes", EMBEDDING, "confidence"): OwnClasses((0,))}
    base = head(SECOND, parts, embed)
    learnt = learn(base, taught(range(10)), GOAL)
    assert learnt.left_out == ("classes",)
    assert learnt.head.names == [spec.name for spec in STATISTICS_PARTS]
    alone = replace(base, fusion=Fusion(weights={spec.name: 0.0 for spec in STATISTICS_PARTS}))
    with pytest.raises(BundleError, match="classes cannot be learned on a device"):
        learn(alone, taught(range(10)), GOAL)


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(AudioError, match="at least 5 normal clips to fit a head, got 4"):
        learn(head(SECOND), taught(range(4)), GOAL)
