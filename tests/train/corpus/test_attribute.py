from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.corpus.attribute import FARTHEST, STEP, attributes, conditions

pytestmark = pytest.mark.train

QUIET = np.zeros(4)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["car_A1_spd_28V", "car_A2_spd_28V"], [("car", ("A1", "A2"))]),
        (["car_A1_spd_28V", "car_B1_spd_7V"], [("car", ("A1", "B1")), ("spd", ("7V", "28V"))]),
        (
            ["M1_1450rpmset_healthy_rain", "M1_1400rpmset_healthy_fan"],
            [("M1", ("1400rpmset", "1450rpmset")), ("healthy", ("fan", "rain"))],
        ),
        (["rest_260302", "run_260327"], [("1", ("rest", "run")), ("2", ("260302", "260327"))]),
        (["n_-6dB", "n_0dB"], [("n", ("-6dB", "0dB"))]),
        (["a_1", "b"], [("1", ("a_1", "b"))]),
        (["pat_00", "pat_00"], []),
        (["", ""], []),
    ],
)
def test_words_that_change_are_values(said: list[str], expected: list[tuple[str, tuple[str, ...]]]) -> None:
    assert [(one.name, one.values) for one in attributes(said)] == expected


def test_a_clip_without_attributes_has_none_of_the_values() -> None:
    (speed,) = attributes(["spd_2", "", "spd_1"])
    assert speed.of.tolist() == [1, -1, 0]
    assert speed.numbers.tolist() == [1.0, 2.0]


def test_neighbouring_speeds_lie_five_apart_and_their_mean_is_nought() -> None:
    found = conditions(["spd_1400rpm", "spd_1450rpm", "spd_1650rpm"], QUIET[:3])
    assert found == pytest.approx([-10.0, -5.0, 15.0])


def test_names_are_ranked() -> None:
    assert conditions(["load_C", "load_A", "load_B"], QUIET[:3]) == pytest.approx([5.0, -5.0, 0.0])


def test_the_attribute_that_is_a_number_wins_and_then_the_richest() -> None:
    said = ["car_A_spd_1_v_3", "car_B1_spd_2_v_3", "car_C_spd_1_v_4", "car_D_spd_2_v_5"]
    assert conditions(said, QUIET) == pytest.approx(STEP * (np.array([3, 3, 4, 5]) - 3.75))


def test_by_chance_every_attribute_comes_up() -> None:
    said = ["car_A_spd_1", "car_B_spd_1", "car_A_spd_3", "car_B_spd_3"]
    drawn = {tuple(conditions(said, QUIET, np.random.default_rng(seed))) for seed in range(20)}
    assert drawn == {(-2.5, 2.5, -2.5, 2.5), (-2.5, -2.5, 2.5, 2.5)}


def test_without_attributes_loudness_stands_in_by_fifths() -> None:
    found = conditions([""] * 10, np.arange(10) * 3.0)
    assert found == pytest.approx(STEP * np.repeat([-2, -1, 0, 1, 2], 2))


def test_a_single_condition_is_nought() -> None:
    assert not conditions(["spd_1"] * 4, np.arange(4.0)).any()
    assert not conditions([""] * 4, QUIET).any()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_no_condition_is_far_out_of_range(speeds: list[int]) -> None:
    found = conditions([f"spd_{speed}" for speed in speeds], np.zeros(len(speeds)))
    assert np.abs(found).max() <= FARTHEST
    assert len(found) == len(speeds)
