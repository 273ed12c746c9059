"""What decides whether a model on trial may speak: pinned by hand, and by what calibration promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.model.shadow import CLIPS, LATEST, Heard, Trial, Verdict, compare, fail, together

THRESHOLD = 3.0


def heard(surprise: float, score: float | None = None) -> Heard:
    """By a model whose threshold is 3."""
    return Heard(surprise if score is None else score, surprise, surprise >= THRESHOLD)


def tried(witness: list[float], on_trial: list[float], needed: int = CLIPS) -> Trial:
    """After these surprises."""
    trial = Trial(needed)
    for known, new in zip(witness, on_trial, strict=True):
        trial = compare(trial, heard(known), heard(new))
    return trial


def calibrated(seed: int, clips: int) -> list[float]:
    """-log10 of uniform probabilities: what a calibrated model says of normal clips."""
    return list(-np.log10(np.random.default_rng(seed).uniform(size=clips)))


@given(st.integers(0, 10_000))
def test_a_model_that_is_calibrated_here_is_fit_after_as_many_clips_as_are_needed(seed: int) -> None:
    trial = tried(calibrated(seed, CLIPS), calibrated(seed + 1, CLIPS))
    # the witness is over 3 once in a thousand clips, and such a clip does not count
    assert trial.verdict in {Verdict.FIT, Verdict.PENDING}
    assert (trial.verdict is Verdict.FIT) == (trial.normal == CLIPS)


def test_nothing_is_said_before_enough_clips_came() -> None:
    assert tried([0.4] * (CLIPS - 1), [0.1 * n for n in range(CLIPS - 1)]).verdict is Verdict.PENDING


def test_a_model_that_finds_a_quarter_of_the_normal_clips_strange_is_unfit_at_once() -> None:
    four = tried([0.4] * 4, [3.5, 3.6, 3.7, 3.8])
    assert four.verdict is Verdict.PENDING
    five = compare(four, heard(0.4), heard(4.0))
    assert five.verdict is Verdict.UNFIT
    assert five.reason == "5 of 5 normal clips are over its alarm threshold"


def test_a_model_that_is_a_hundred_times_more_surprised_is_unfit_though_it_raises_no_alarm() -> None:
    assert tried([0.4] * CLIPS, [2.35 + 0.001 * n for n in range(CLIPS)]).verdict is Verdict.FIT
    trial = tried([0.4] * CLIPS, [2.41 + 0.001 * n for n in range(CLIPS)])
    assert trial.verdict is Verdict.UNFIT
    assert trial.reason == "normal clips surprise it by 2.4 on average, the trusted model by 0.4"


def test_a_model_that_says_the_same_of_every_clip_is_unfit() -> None:
    trial = tried(calibrated(1, CLIPS), [0.4] * CLIPS)
    assert (trial.verdict, trial.reason) == (Verdict.UNFIT, f"it says the same of each of {CLIPS} clips")


def test_a_fault_that_both_hear_condemns_nobody() -> None:
    trial = tried([5.0] * 50, [8.0 + 0.1 * n for n in range(50)])
    assert (trial.verdict, trial.pairs, trial.normal) == (Verdict.PENDING, 50, 0)


def test_a_witness_that_finds_everything_strange_cannot_judge() -> None:
    clips = LATEST * CLIPS
    assert tried([5.0] * clips, calibrated(2, clips)).verdict is Verdict.UNDECIDED


def test_a_model_that_hears_less_of_a_fault_than_the_witness_is_not_judged_by_it() -> None:
    quiet, fault = calibrated(3, CLIPS), [6.0] * 10
    trial = tried([0.3] * CLIPS + fault, quiet + [0.5] * 10)
    assert trial.verdict is Verdict.FIT


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), max_size=2 * CLIPS))
def test_one_error_is_enough_whatever_was_said(pairs: list[tuple[float, float]]) -> None:
    trial = fail(tried([a for a, _ in pairs], [b for _, b in pairs]), "BundleError: it broke")
    assert (trial.verdict, trial.reason) == (Verdict.UNFIT, "BundleError: it broke")


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), max_size=2 * CLIPS))
def test_sums_are_those_of_the_clips_that_the_witness_finds_normal(pairs: list[tuple[float, float]]) -> None:
    trial, normal = tried([a for a, _ in pairs], [b for _, b in pairs]), [p for p in pairs if p[0] < THRESHOLD]
    assert (trial.pairs, trial.normal) == (len(pairs), len(normal))
    assert trial.witness == pytest.approx(math.fsum(a for a, _ in normal))
    assert trial.tried == pytest.approx(math.fsum(b for _, b in normal))
    assert trial.over == sum(b >= THRESHOLD for _, b in normal)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], Verdict.PENDING),
        ([Verdict.FIT, Verdict.FIT], Verdict.FIT),
        ([Verdict.FIT, Verdict.PENDING], Verdict.PENDING),
        ([Verdict.FIT, Verdict.UNDECIDED], Verdict.UNDECIDED),
        ([Verdict.PENDING, Verdict.UNFIT], Verdict.UNFIT),
    ],
)
def test_several_machines_must_agree(verdicts: list[Verdict], expected: Verdict) -> None:
    assert together(verdicts) is expected
