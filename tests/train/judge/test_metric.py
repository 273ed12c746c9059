from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from train.judge.metric import PROTOCOLS, Truth, auc, decide, harmonic_mean, judge, official_ci95, overall, pauc

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

    from train.judge.metric import Interval, Protocol

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


@settings(max_examples=40)
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
    assert got.same_pauc_source.value == against(source, 0.1)
    assert got.same_pauc_target.value == against(target, 0.1)
    assert got.auc.value == against(source | target)
    assert got.pauc.value == against(source | target, 0.1)
    assert got.pauc_source.value == against(source | truth.anomaly, 0.1)
    assert got.pauc_target.value == against(target | truth.anomaly, 0.1)


@settings(max_examples=40)
@given(sections)
def test_no_metric_minds_how_scores_are_spaced(drawn: Section) -> None:
    scores, truth = drawn
    assert judge(np.arctan(scores) * 7 - 3, truth, resamples=20) == judge(scores, truth, resamples=20)


@settings(max_examples=40)
@given(sections)
def test_perfect_scores_are_one_and_constant_scores_a_half(drawn: Section) -> None:
    _, truth = drawn
    for scores, expected in ((truth.anomaly * 2.0 - 5, 1.0), (np.zeros(truth.anomaly.size), 0.5)):
        got = judge(scores, truth, resamples=5)
        for figure in got.figures.values():
            bounds = (figure.value, figure.by_clip.low, figure.by_clip.high, figure.by_recording.low)
            assert bounds == pytest.approx((expected,) * 4, abs=TOLERANCE)


@settings(max_examples=40)
@given(sections)
def test_turning_scores_around_mirrors_the_auc(drawn: Section) -> None:
    scores, truth = drawn
    up, down = judge(scores, truth, resamples=2), judge(-scores, truth, resamples=2)
    assert up.auc_source.value + down.auc_source.value == pytest.approx(1.0, abs=TOLERANCE)


@settings(max_examples=40)
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


def test_by_hand_in_2021_each_domain_stands_alone() -> None:
    scores = np.array([0.1, 0.6, 0.3, 0.8, 0.5, 0.9])
    truth = Truth(
        anomaly=np.array([0, 0, 0, 0, 1, 1], bool), target=np.array([0, 0, 1, 1, 0, 1], bool), recording=list("abcdef")
    )
    got = judge(scores, truth, protocol="2021", resamples=2)
    # source: .1 .6 against .5, nothing found below one false alarm; target: .3 .8 against .9, all of it
    nothing = 0.5 * (1 - 0.005 / 0.095)
    assert got.terms == pytest.approx([0.5, nothing, 1.0, 1.0])
    assert got.omega.value == pytest.approx(4 / (1 / 0.5 + 1 / nothing + 1 + 1))


def test_by_hand_in_2020_identities_are_averaged_and_then_machines() -> None:
    truth = Truth(np.array([0, 0, 1, 1], bool), np.zeros(4, bool), list("abcd"))
    perfect, reverse = np.array([0.0, 1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0, 0.0])
    judged = [judge(scores, truth, protocol="2020", resamples=2) for scores in (perfect, reverse)]
    wrong = 0.5 * (1 - 0.005 / 0.095)
    assert [term for one in judged for term in one.terms] == pytest.approx([1.0, 1.0, 0.0, wrong])
    assert [one.omega.value for one in judged] == pytest.approx([1.0, wrong / 2])
    # three identities of a fan and one of a pump: machines weigh alike, not identities
    keys = "s/fan/00", "s/fan/02", "s/fan/04", "s/pump/00"
    fan, pump = (1.0 + 1.0 + wrong / 2) / 3, wrong / 2
    figure = overall(dict(zip(keys, (judged[0], judged[0], judged[1], judged[1]), strict=True)))
    assert figure.value == pytest.approx((fan + pump) / 2)


@settings(max_examples=40)
@given(st.lists(sections, min_size=1, max_size=3), st.sampled_from(PROTOCOLS))
def test_the_score_over_sections_is_of_their_terms(drawn: list[Section], protocol: Protocol) -> None:
    judged = {f"s/fan/{i:02}": judge(*one, protocol=protocol, resamples=2) for i, one in enumerate(drawn)}
    terms = [term for one in judged.values() for term in one.terms]
    mean = np.mean if protocol == "2020" else stats.hmean
    assert overall(judged).value == pytest.approx(mean(np.maximum(terms, EPSILON)), abs=TOLERANCE)


def test_in_2021_a_section_whose_domains_are_one_sided_cannot_be_scored() -> None:
    anomaly = np.array([0, 0, 1, 1], bool)
    crossed, whole = (Truth(anomaly, target, list("abcd")) for target in (anomaly, np.zeros(4, bool)))
    assert [crossed.scorable(protocol) for protocol in PROTOCOLS] == [True, False, True]
    assert all(map(whole.scorable, PROTOCOLS))


def test_a_single_zero_ruins_the_harmonic_mean_without_dividing_by_zero() -> None:
    assert harmonic_mean([0.0, 1.0, 1.0]) == pytest.approx(3 * EPSILON)


def test_no_normals_or_no_anomalies_or_a_score_that_is_no_number_is_refused() -> None:
    scores, truth = section(0)
    for nonsense in (np.zeros(scores.size, bool), np.ones(scores.size, bool)):
        one_sided = Truth(nonsense, truth.target, truth.recording)
        assert not any(map(one_sided.scorable, PROTOCOLS))
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


@settings(max_examples=40)
@given(sections)
def test_an_interval_is_an_interval_within_zero_and_one(drawn: Section) -> None:
    for figure in judge(*drawn, resamples=50).figures.values():
        intervals = figure.by_clip, figure.by_recording, figure.jackknife_by_clip, figure.jackknife_by_recording
        for interval in filter(None, intervals):
            assert 0 <= interval.low <= interval.high <= 1 + TOLERANCE


def explicit(
    metric: Callable[[NDArray[np.bool_]], float], units: NDArray[np.intp]
) -> tuple[NDArray[np.float64], float, int]:
    """Pseudo-values as Mesaros et al. write them, (2) to (7): their mean and t half width, unit by unit."""
    count, whole = units.max() + 1, metric(np.ones(units.size, bool))
    pseudo = np.array([count * whole - (count - 1) * metric(units != unit) for unit in range(count)])
    return pseudo, float(stats.t.ppf(0.975, count - 1) * pseudo.std(ddof=1) / np.sqrt(count)), count


@pytest.mark.parametrize("seed", range(2))
def test_the_jackknife_is_that_of_scikit_learns_omega(seed: int) -> None:
    scores, truth = section(seed, 12, 9)
    got = judge(scores, truth, resamples=2).omega

    def omega(kept: NDArray[np.bool_]) -> float:
        a, t, s = truth.anomaly[kept], truth.target[kept], scores[kept]
        sides = [roc_auc_score(a[(t == side) | a], s[(t == side) | a]) for side in (False, True)]
        return float(stats.hmean(np.maximum([*sides, roc_auc_score(a, s, max_fpr=0.1)], EPSILON)))

    def bounds(units: NDArray[np.intp]) -> object:
        _, half, _ = explicit(omega, units)
        return pytest.approx((max(got.value - half, 0), min(got.value + half, 1)), abs=1e-9)

    def ends(interval: Interval) -> tuple[float, float]:
        return interval.low, interval.high

    assert ends(got.jackknife_by_clip) == bounds(np.arange(scores.size))
    assert ends(got.jackknife_by_recording) == bounds(np.arange(scores.size) // 3)


def test_jackknife_and_bootstrap_agree_where_both_are_at_home() -> None:
    omega = judge(*section(2, 150, 150), resamples=4000).omega
    for jackknife, bootstrap in (
        (omega.jackknife_by_clip, omega.by_clip),
        (omega.jackknife_by_recording, omega.by_recording),
    ):
        assert (jackknife.low, jackknife.high) == pytest.approx((bootstrap.low, bootstrap.high), abs=0.015)


def test_over_sections_one_clip_of_one_section_is_left_out_at_a_time() -> None:
    drawn = [section(seed, 9, 12) for seed in (0, 1)]
    judged = [judge(*one, resamples=2) for one in drawn]
    without = []
    for i, (scores, truth) in enumerate(drawn):
        for clip in range(scores.size):
            kept = np.arange(scores.size) != clip
            less = Truth(truth.anomaly[kept], truth.target[kept], np.array(truth.recording)[kept])
            without.append(harmonic_mean([*judge(scores[kept], less, resamples=2).terms, *judged[1 - i].terms]))
    count = len(without)
    half = stats.t.ppf(0.975, count - 1) * np.sqrt((count - 1) / count * np.square(without - np.mean(without)).sum())
    figure = overall({"s/m/00": judged[0], "s/m/01": judged[1]})
    assert (figure.jackknife_by_clip.low, figure.jackknife_by_clip.high) == pytest.approx(
        (figure.value - half, figure.value + half), abs=1e-9
    )


def test_two_sections_are_known_better_than_one() -> None:
    judged = {f"s/m/{seed}": judge(*section(seed, 80, 80), seed=seed) for seed in (3, 4)}
    both = overall(judged)
    for width in (
        lambda figure: figure.by_clip.high - figure.by_clip.low,
        lambda figure: figure.jackknife_by_clip.high - figure.jackknife_by_clip.low,
    ):
        one = np.mean([width(judgement.omega) for judgement in judged.values()])
        assert width(both) == pytest.approx(one / np.sqrt(2), rel=0.1)


def test_what_cannot_be_spared_leaves_no_jackknife() -> None:
    scores, truth = section(0)
    one_normal = Truth(np.arange(scores.size) > 0, truth.target, truth.recording)
    assert judge(scores, one_normal, resamples=2).omega.jackknife_by_clip is None
    one_recording = Truth(truth.anomaly, truth.target, ["r"] * scores.size)
    got = judge(scores, one_recording, resamples=2).omega
    assert (got.jackknife_by_recording, got.jackknife_by_clip is None) == (None, False)


def test_what_the_official_evaluator_calls_ci95_is_a_jackknife_divided_by_the_clips_left() -> None:
    scores, truth = section(5, 30, 25)
    halves = []
    for max_fpr in (None, 0.1):
        pseudo, half, count = explicit(
            lambda kept, limit=max_fpr: roc_auc_score(truth.anomaly[kept], scores[kept], max_fpr=limit),
            np.arange(scores.size),
        )
        assert pseudo.size == count
        halves.append(half / (count - 1))
    assert official_ci95(scores, truth.anomaly) == pytest.approx(np.mean(halves))


# Decisions ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
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
