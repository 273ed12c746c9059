from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from edge_asd.errors import ConfigError
from edge_asd.score.detector import References, scored
from edge_asd.score.likelihood import AsItIs, LargestOfMixture, Mixture, OwnClasses, OwnLogit

LOGITS = (3 * np.random.default_rng(0).standard_normal((40, 6))).astype(np.float32)


def mixture(kind: type[Mixture] = Mixture) -> Mixture:
    """Two spheres on a line, one twice as wide and three times as frequent."""
    return kind(
        np.log([0.75, 0.25]).astype("f4"),
        np.array([[0], [10]], np.float32),
        np.array([[[0.5]], [[1.0]]], np.float32),
    )


def test_a_mixture_is_as_likely_as_its_components_are_together_or_the_likeliest_alone() -> None:
    x = np.array([[1.0], [5.0], [12.0]], np.float32)
    one = 0.75 * np.exp(-(x[:, 0] ** 2) / 8) / np.sqrt(8 * np.pi)
    other = 0.25 * np.exp(-((x[:, 0] - 10) ** 2) / 2) / np.sqrt(2 * np.pi)

    np.testing.assert_allclose(mixture().score(x), -np.log(one + other), rtol=1e-5)
    np.testing.assert_allclose(mixture(LargestOfMixture).score(x), -np.log(np.maximum(one, other)), rtol=1e-5)


def test_far_from_every_component_the_likelihood_is_small_and_still_a_number() -> None:
    assert (np.diff(mixture().score(np.array([[1e2], [1e3], [1e4]], np.float32))) > 1e3).all()


@pytest.mark.train
@pytest.mark.parametrize("own", [(2,), (0, 3, 5)])
def test_confidence_is_the_logarithm_of_the_mean_probability_of_the_own_classes(own: tuple[int, ...]) -> None:
    from scipy.special import softmax  # noqa: PLC0415 - not in the test group

    expected = -np.log10(softmax(LOGITS.astype(float), axis=1)[:, own].mean(axis=1) + 1e-8)

    np.testing.assert_allclose(OwnClasses(own).leave_one_out(References.of(LOGITS)), expected, rtol=1e-9)


@pytest.mark.train
@pytest.mark.parametrize("own", [(2,), (0, 3, 5)])
def test_odds_are_of_the_other_classes_against_the_own(own: tuple[int, ...]) -> None:
    from scipy.special import softmax  # noqa: PLC0415 - not in the test group

    p = softmax(LOGITS.astype(float), axis=1)[:, own].sum(axis=1)

    np.testing.assert_allclose(
        OwnClasses(own, odds=True).leave_one_out(References.of(LOGITS)), np.log(1 - p) - np.log(p), rtol=1e-6, atol=1e-9
    )


def test_the_odds_of_a_segment_are_the_mean_over_its_windows() -> None:
    """Not the odds of the mean probability: MobileNetV2's rule (methods.md §5.4)."""
    backend, windows = OwnClasses((1,), odds=True), LOGITS.reshape(8, 5, 6)
    fitted = backend.fit(References.of(windows))

    expected = fitted.score(LOGITS).reshape(8, 5).mean(axis=1)
    np.testing.assert_allclose(scored(backend.detector, fitted, windows), expected, rtol=1e-12)


@pytest.mark.parametrize("odds", [False, True])
@given(st.floats(-1e4, 1e4))
def test_a_very_sure_classifier_gives_finite_scores(odds: bool, logit: float) -> None:  # noqa: FBT001 - a parameter of the test
    fitted = OwnClasses((0,), odds).fit(References.of(LOGITS))
    sure = np.array([[logit, 0, 0, 0, 0, 0]], np.float32)

    assert np.isfinite(fitted.score(sure)).all()
    assert fitted.score(sure + np.float32(7)) == pytest.approx(fitted.score(sure), rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("own", [(), (6,), (0, -1), tuple(range(6))], ids=str)
def test_without_own_classes_or_without_others_there_is_no_confidence(own: tuple[int, ...]) -> None:
    said = re.escape(f"the machine's own classes are {sorted(own)}; need some, not all, of 0 to 5: train on several")
    with pytest.raises(ConfigError, match=said):
        OwnClasses(own).fit(References.of(LOGITS))


def test_a_value_is_its_own_score() -> None:
    errors = np.array([[0.5], [2.0]], np.float32)

    assert AsItIs().fit(References.of(errors)).score(errors).tolist() == [0.5, 2.0]
    assert AsItIs().leave_one_out(References.of(errors)).tolist() == [0.5, 2.0]
    with pytest.raises(ConfigError, match="back end value takes a feature of one number, got 6; choose another"):
        AsItIs().fit(References.of(LOGITS))


@given(st.integers(0, 3), st.floats(-60, 60))
def test_a_yes_or_no_is_scored_by_its_cross_entropy_alone(own: int, logit: float) -> None:
    logits = np.full((2, 4), 7.0, np.float32)
    logits[:, own] = logit
    detector = OwnLogit((own,)).fit(References.of(logits))

    expected = -special.log_expit(np.float64(np.float32(logit)))
    np.testing.assert_allclose(detector.score(logits), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("own", [(), (4,), (0, 1)])
def test_a_yes_or_no_is_of_one_machine(own: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"one of 4, got {sorted(own)}: name an output")):
        OwnLogit(own).fit(References.of(np.zeros((3, 4), np.float32)))
