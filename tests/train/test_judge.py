from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from train.judge import Figure, Judgement, Truth, auc, decide, harmonic_mean, judge, pauc

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

Section: TypeAlias = "tuple[NDArray[np.float64], Truth]"

TOLERANCE = 1e-12
EPSILON = np.finfo(np.float64).eps


def section(seed: int, normals: int = 20, anomalies: int = 30, levels: int | None = None) -> Section:
    """Random clips of one section, all four kinds among them; scores on a grid when levels are given: ties."""
    rng = np.random.default_rng(seed)
    anomaly = np.arange(normals + anomalies) >= normals
    target = np.arange(normals + anomalies) % 2 == 1
    scores = rng.normal(anomaly * 1.0)
    if levels:
        scores = np.round(scores * levels) / levels
    return scores, Truth(anomaly, target, [f"r{i // 3}" for i in range(scores.size)])


sections = st.builds(
    section, st.integers(0, 2**31), st.integers(2, 40), st.integers(2, 40), st.sampled_from([None, 1, 2, 5])
)


@given(sections)
def test_every_metric_is_scikit_learns(drawn: Section) -> None:
    scores, truth = drawn
    got = judge(scores, truth, resamples=2)

    def against(kept: NDArray[np.bool_], max_fpr: float | None = None) -> object:
        return pytest.approx(roc_auc_score(truth.anomaly[kept], scores[kept], max_fpr=max_fpr), abs=TOLERANCE)

    source, target = ~truth.target, truth.target
    assert got.auc_source.value == against(source | truth.anomaly)
    assert got.auc_target.value == against(target | truth.anomaly)
    assert got.same_source.value == against(source)
    assert got.same_target.value == against(target)
    assert got.pauc.value == against(source | target, 0.1)
    assert got.pauc_source.value == against(source | truth.anomaly, 0.1)
    assert got.pauc_target.value == against(target | truth.anomaly, 0.1)


@given(sections)
def test_no_metric_minds_how_scores_are_spaced(drawn: Section) -> None:
    scores, truth = drawn
    assert judge(np.arctan(scores) * 7 - 3, truth, resamples=20) == judge(scores, truth, resamples=20)


@given(sections)
def test_perfect_scores_are_one_and_constant_scores_a_half(drawn: Section) -> None:
    _, truth = drawn
    for scores, expected in ((truth.anomaly * 2.0 - 5, 1.0), (np.zeros(truth.anomaly.size), 0.5)):
        got = judge(scores, truth, resamples=5)
        for field in fields(got):
            figure = getattr(got, field.name)
            bounds = (figure.value, figure.by_clip.low, figure.by_clip.high, figure.by_recording.low)
            assert bounds == pytest.approx((expected,) * 4, abs=TOLERANCE)


@given(sections)
def test_turning_scores_around_mirrors_the_auc(drawn: Section) -> None:
    scores, truth = drawn
    up, down = judge(scores, truth, resamples=2), judge(-scores, truth, resamples=2)
    assert up.auc_source.value + down.auc_source.value == pytest.approx(1.0, abs=TOLERANCE)


@given(sections)
def test_a_clip_of_weight_two_counts_like_two_clips(drawn: Section) -> None:
    scores, truth = drawn
    weight = 1 + np.arange(scores.size) % 3
    weighted = [np.atleast_2d(weight * kind) for kind in (~truth.anomaly, truth.anomaly)]
    repeated = np.repeat(truth.anomaly, weight), np.repeat(scores, weight)
    assert auc(scores, *weighted)[0] == pytest.approx(roc_auc_score(*repeated), abs=TOLERANCE)
    assert pauc(scores, *weighted)[0] == pytest.approx(roc_auc_score(*repeated, max_fpr=0.1), abs=TOLERANCE)


def test_by_hand_anomalies_of_both_domains_stand_against_each_domains_normals() -> None:
    scores = np.array([0.1, 0.6, 0.3, 0.8, 0.5, 0.9])
    truth = Truth(
        anomaly=np.array([0, 0, 0, 0, 1, 1], bool), target=np.array([0, 0, 1, 1, 0, 1], bool), recording=list("abcdef")
    )
    got = judge(scores, truth, resamples=2)
    # source normals .1 .6 against .5 .9: three of four pairs right; target normals .3 .8: three of four
    assert got.auc_source.value == got.auc_target.value == 0.75
    # same domain: .1 .6 against .5 is one of two, .3 .8 against .9 both
    assert (got.same_source.value, got.same_target.value) == (0.5, 1.0)
    # up to a false-positive rate of 0.1 one anomaly of two is found: area 0.05 of between 0.005 and 0.1
    expected = 0.5 * (1 + (0.05 - 0.005) / (0.1 - 0.005))
    assert got.pauc.value == pytest.approx(expected)
    assert got.omega.value == pytest.approx(3 / (1 / 0.75 + 1 / 0.75 + 1 / expected))


def test_a_section_without_target_normals_averages_what_there_is() -> None:
    scores, truth = section(0)
    truth = Truth(truth.anomaly, np.zeros(scores.size, bool), truth.recording)
    got = judge(scores, truth)
    assert (got.auc_target, got.same_target, got.pauc_target) == (None, None, None)
    assert got.terms == [got.auc_source.value, got.pauc.value]
    assert got.omega.value == pytest.approx(harmonic_mean(got.terms))


@pytest.mark.parametrize(
    ("values", "expected"), [((84.64, 72.43, 68.82), 74.72), ((68.74, 41.91, 53.73), 52.61)], ids=["A", "B"]
)
def test_the_harmonic_mean_is_the_published_one(values: tuple[float, ...], expected: float) -> None:
    assert harmonic_mean(values) == pytest.approx(expected, abs=0.005)


def test_a_single_zero_ruins_the_harmonic_mean_without_dividing_by_zero() -> None:
    assert harmonic_mean([0.0, 1.0, 1.0]) == pytest.approx(3 * EPSILON)


def test_no_normals_or_no_anomalies_or_a_score_that_is_no_number_is_refused() -> None:
    scores, truth = section(0)
    for nonsense in (np.zeros(scores.size, bool), np.ones(scores.size, bool)):
        one_sided = Truth(nonsense, truth.target, truth.recording)
        assert not one_sided.scorable
        with pytest.raises(ValueError, match="need finite scores of normals and of anomalies"):
            judge(scores, one_sided)
    with pytest.raises(ValueError, match="finite"):
        judge(np.where(truth.anomaly, np.nan, scores), truth)


# Intervals ------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_interval() -> None:
    scores, truth = section(3)
    assert judge(scores, truth, seed=5) == judge(scores, truth, seed=5)
    assert judge(scores, truth, seed=5).omega.by_clip != judge(scores, truth, seed=6).omega.by_clip


@pytest.mark.parametrize("seed", range(3))
def test_an_interval_agrees_with_one_that_draws_clips_one_by_one(seed: int) -> None:
    scores, truth = section(seed, 40, 60)
    rng = np.random.default_rng(seed)
    normals, anomalies = scores[~truth.anomaly], scores[truth.anomaly]
    drawn = [(rng.choice(anomalies, 60)[:, None] > rng.choice(normals, 40)).mean() for _ in range(2000)]
    plain = Truth(truth.anomaly, np.zeros(scores.size, bool), truth.recording)
    got = judge(scores, plain, resamples=2000).auc_source
    assert got is not None
    assert (got.by_clip.low, got.by_clip.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.015)


def test_clips_that_are_copies_of_few_recordings_make_the_interval_wider() -> None:
    scores, truth = section(1, 20, 20)
    copied = np.repeat(scores, 6)
    told = Truth(np.repeat(truth.anomaly, 6), np.repeat(truth.target, 6), [f"r{i // 6}" for i in range(copied.size)])
    omega = judge(copied, told).omega
    clip, recording = (i.high - i.low for i in (omega.by_clip, omega.by_recording))
    assert recording > 1.8 * clip  # six copies: a factor of about the root of six


def test_recordings_of_one_clip_each_are_clips() -> None:
    scores, truth = section(1)
    alone = Truth(truth.anomaly, truth.target, [str(i) for i in range(scores.size)])
    omega = judge(scores, alone, resamples=4000).omega
    assert omega.by_recording.low == pytest.approx(omega.by_clip.low, abs=0.02)
    assert omega.by_recording.high == pytest.approx(omega.by_clip.high, abs=0.02)


@given(sections)
def test_an_interval_is_an_interval_within_zero_and_one(drawn: Section) -> None:
    got = judge(*drawn, resamples=50)
    for field in fields(Judgement):
        figure: Figure = getattr(got, field.name)
        for interval in (figure.by_clip, figure.by_recording):
            assert 0 <= interval.low <= interval.high <= 1 + TOLERANCE


# Decisions ------------------------------------------------------------------------------------------------------------


@given(sections, st.floats(-2, 2))
def test_decisions_are_counted_like_scikit_learn_does(drawn: Section, threshold: float) -> None:
    scores, truth = drawn
    decided = scores > threshold
    for target in (False, True):
        kept = truth.target == target
        pair = truth.anomaly[kept], decided[kept]
        got = decide(decided, truth, target=target)
        expected = [f(*pair, zero_division=0) for f in (precision_score, recall_score, f1_score)]
        assert (got.precision, got.recall, got.f1) == pytest.approx(expected, abs=TOLERANCE)


def test_a_domain_without_clips_has_no_decisions() -> None:
    scores, truth = section(0)
    source = Truth(truth.anomaly, np.zeros(scores.size, bool), truth.recording)
    assert decide(scores > 0, source, target=True) is None


@pytest.mark.benchmark
def test_a_thousand_resamples_of_a_section_of_four_hundred_clips(benchmark: BenchmarkFixture) -> None:
    benchmark(judge, *section(0, 200, 200))
