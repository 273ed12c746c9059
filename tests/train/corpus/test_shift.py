from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from edge_asd.errors import ConfigError
from edge_asd.signal.statistic import Statistic
from tests.example import SECOND, front_end
from train.corpus.shift import SEVERITIES, Shift

pytestmark = pytest.mark.train

FAN = Shift("fan", 3, seconds=1.0)


def spectrum(clip: np.ndarray) -> np.ndarray:
    statistic = Statistic(front_end(SECOND))
    statistic.push(clip)
    return statistic.finish().mean


def test_a_clip_is_the_same_however_many_are_asked_for() -> None:
    np.testing.assert_array_equal(list(FAN.normal(0, 2)), list(islice(FAN.normal(0, 5), 2)))


def test_no_two_clips_are_the_same_nor_two_days_nor_two_individuals() -> None:
    clips = [*FAN.normal(0, 2), *FAN.normal(1, 2), *Shift("fan", 4, seconds=1.0).normal(0, 1)]
    assert len({clip.tobytes() for clip in clips}) == len(clips) == 5
    assert all(clip.size == 16_000 and np.abs(clip).max() < 1 for clip in clips)


def test_clips_of_one_machine_lie_nearer_to_each_other_than_to_another_individual() -> None:
    own, other = list(map(spectrum, FAN.normal(0, 4))), spectrum(next(Shift("fan", 4, seconds=1.0).normal(0, 1)))
    apart = [np.abs(one - own[0]).mean() for one in own[1:]]
    assert max(apart) < np.abs(other - own[0]).mean()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_fault_is_heard_in_another_clip_than_any_normal_one(severity: float) -> None:
    normal, faulty = next(FAN.normal(0, 1)), next(FAN.faulty(FAN.faults[0], severity, 1))
    assert not np.array_equal(normal, faulty)


def test_a_machine_that_nobody_renders_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="whistle"):
        Shift("whistle", 0)


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="number=-1"):
        Shift("fan", -1)
