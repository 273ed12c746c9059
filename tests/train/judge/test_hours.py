from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from scipy import stats
from typer.testing import CliRunner

from edge_asd.errors import ConfigError
from edge_asd.learn.fit import Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.score.listener import evidence
from tests.example import SECOND, bundle, front_end, head, noise
from train.__main__ import app
from train.corpus.shift import Shift
from train.judge.hours import ASKED, BEFORE, Finding, Rate, Watch, counted, delay, hear, lesson, rendered_hours, rows

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.train

SMALL = Watch(("fan",), individuals=1, lesson=8, days=1, clips=10, faulty=4, seconds=1.0)


def told(seeds: range, level: float = 0.05) -> Memory:
    memory = Memory()
    for seed in seeds:
        clip = noise(seed, SECOND.clip, level)
        memory = memory.with_clip(evidence(SECOND, front_end(SECOND), None, clip), FIRST)
    return memory


@given(over=st.integers(0, 200), more=st.integers(1, 2000))
def test_the_interval_of_a_share_leaves_a_fortieth_on_either_side(over: int, more: int) -> None:
    rate = Rate.of_clips(over, over + more)
    assert rate.low <= rate.value <= rate.high
    assert stats.binom.cdf(over, over + more, rate.high) == pytest.approx(0.025, rel=1e-4)
    assert over == 0 or stats.binom.sf(over - 1, over + more, rate.low) == pytest.approx(0.025, rel=1e-4)


@given(alarms=st.integers(0, 200), weeks=st.floats(0.01, 100))
def test_the_interval_of_a_rate_leaves_a_fortieth_on_either_side(alarms: int, weeks: float) -> None:
    rate = Rate.a_week(alarms, weeks * 604_800)
    assert stats.poisson.cdf(alarms, rate.high * weeks) == pytest.approx(0.025, rel=1e-6)
    assert alarms == 0 or stats.poisson.sf(alarms - 1, rate.low * weeks) == pytest.approx(0.025, rel=1e-6)


def test_no_alarm_in_a_week_allows_for_more_than_three() -> None:
    assert Rate.a_week(0, 604_800.0).high == pytest.approx(-math.log(0.025))


def test_the_share_allowed_is_what_brings_as_many_alarms_as_asked_for() -> None:
    asked = Finding(31, 168.0, 10.0)
    assert asked.share**3 * 360 == pytest.approx(1.0)  # three in a row, in 360 clips an hour


def test_a_louder_machine_is_told_at_the_third_clip_and_a_usual_one_never() -> None:
    learnt = learn(head(SECOND), told(range(20)), Goal(1.0))
    assert delay(learnt, told(range(100, 104), level=0.5)) == 3
    assert delay(learnt, told(range(100, 102), level=0.5)) is None
    loud = counted(learnt, told(range(100, 110), level=0.5))
    assert (loud.clips, loud.over, loud.alarms) == (10, 10, 1)


def test_what_was_heard_is_judged_again_without_hearing_and_gives_the_same(tmp_path: Path) -> None:
    path, work = bundle(tmp_path / "toy.asd"), tmp_path / "work"
    first = hear(path, SMALL, work, Progress(disable=True))
    written = {file: file.stat().st_mtime_ns for file in work.iterdir() if file.suffix == ".safetensors"}
    again = hear(path, SMALL, work, Progress(disable=True))
    assert written == {file: file.stat().st_mtime_ns for file in written}
    assert set(first["fan-0"]) >= {"lesson 0", "same day", "day 1"}
    for name, memory in first["fan-0"].items():
        np.testing.assert_array_equal(memory.features["mean"], again["fan-0"][name].features["mean"])

    found = list(rendered_hours(path, first, (6, 8)))
    assert [(each.learned, each.asked) for each in found] == [(n, a) for n in (6, 8) for a in ASKED]
    assert {row["sound"]: row["hours"] for row in rows(found[0])} == {"same day": 10 / 3600, "other days": 10 / 3600}
    for few, many in pairwise(found):
        assert few.learned < many.learned or all(
            few.normal[where].over <= many.normal[where].over for where in few.normal
        )


def test_a_lesson_over_days_has_its_clips_of_each_in_turn(tmp_path: Path) -> None:
    watch = replace(SMALL, lesson=7, over=(1, 3))
    (heard,) = hear(bundle(tmp_path / "toy.asd"), watch, tmp_path / "work", Progress(disable=True)).values()
    assert [len(heard[f"lesson {day}"]) for day in range(3)] == [7, 2, 2]
    assert lesson(heard, 7, 1).days == 1
    spread = lesson(heard, 7, 3)
    assert np.unique(spread.features["day"], return_counts=True)[1].tolist() == [3, 2, 2]
    apart = Shift("fan", 0, SMALL.seed, SMALL.seconds)
    assert spread.knows(evidence(SECOND, front_end(SECOND), None, next(iter(apart.normal(BEFORE + 2, 1)))))


def test_other_sound_than_the_folder_has_is_refused(tmp_path: Path) -> None:
    path, work = bundle(tmp_path / "toy.asd"), tmp_path / "work"
    work.mkdir()
    (work / "hours.json").write_text("{}")
    with pytest.raises(ConfigError, match="name another folder"):
        hear(path, SMALL, work, Progress(disable=True))


def test_the_command_prints_both_tables(tmp_path: Path) -> None:
    path = bundle(tmp_path / "toy.asd")
    size = ["--machine", "fan", "--individuals", "1", "--days", "0", "--clips", "2", "--faulty", "3", "--learn", "5"]
    done = CliRunner().invoke(app, ["hours", str(path), "--work", str(tmp_path / "work"), *size])
    assert done.exit_code == 0, done.output
    assert "same day" in done.output
    assert "median delay" in done.output
