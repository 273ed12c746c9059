from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_asd.alarm.flood import Flood, FloodNotice, FloodStage, observe, tick

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGAN, CONTINUES, ENDED = FloodStage


def fold(
    times: Sequence[float], machine: str = "pump1", flood: Flood | None = None
) -> tuple[Flood, list[bool], list[FloodNotice]]:
    """The state, whether each activation was held back, and all notices."""
    flood, held, notices = flood or Flood(), [], []
    for at_s in times:
        flood, back, notice = observe(flood, at_s, machine)
        held.append(back)
        notices += [notice] * (notice is not None)
    return flood, held, notices


def test_ten_activations_in_ten_minutes_are_no_flood_and_the_eleventh_is() -> None:
    calm, held, none = fold([i * 60.0 for i in range(10)])
    flood, eleventh, notices = fold([599.9], "fan2", calm)

    assert (held, none, calm.lasting) == ([False] * 10, [], False)
    assert (eleventh, flood.lasting) == ([True], True)
    assert notices == [FloodNotice(BEGAN, {"pump1": 10, "fan2": 1}, held=1)]


def test_an_activation_of_ten_minutes_ago_counts_no_more() -> None:
    assert not fold([i * 60.0 for i in range(1000)])[0].lasting


def test_a_flood_that_goes_on_is_told_every_ten_minutes_with_what_was_held_back() -> None:
    flood, held, notices = fold([i * 30.0 for i in range(61)])  # 20 in ten minutes, for half an hour

    assert held == [False] * 10 + [True] * 51
    assert notices == [
        FloodNotice(BEGAN, {"pump1": 11}, held=1),
        FloodNotice(CONTINUES, {"pump1": 19}, held=19),  # 330 to 870 s, told at 900 s
        FloodNotice(CONTINUES, {"pump1": 20}, held=20),
    ]
    assert len(flood.held) == 51 - 1 - 19 - 20


def test_a_flood_ends_when_five_activations_are_left_in_ten_minutes() -> None:
    flood, _, _ = fold([*range(11), 60.0])

    lasting, nothing = tick(flood, 605.9)  # those of 6 to 10 s and of 60 s are left
    ended, notice = tick(lasting, 606.0)

    assert (lasting.lasting, nothing) == (True, None)
    assert (ended.lasting, notice) == (False, FloodNotice(ENDED, {"pump1": 1}, held=1))
    assert tick(ended, 5000.0)[1] is None


def test_the_end_is_told_the_moment_the_sixth_activation_leaves_the_window() -> None:
    flood, _, _ = fold([0.0] * 6 + [100.0] * 5)

    assert tick(flood, 599.999)[0].lasting
    assert tick(flood, 600.0)[1] == FloodNotice(ENDED, {}, held=0)


def test_the_first_alarm_after_a_flood_that_nobody_watched_ending_is_shown() -> None:
    flood, _, _ = fold(range(12))

    assert observe(flood, 5000.0, "fan2") == (
        Flood(recent=((5000.0, "fan2"),), noticed_at_s=10.0, hidden=frozenset({"pump1"})),
        False,
        FloodNotice(ENDED, {"pump1": 1}, held=1),
    )


def test_a_flood_soon_after_the_last_notice_holds_back_at_once_and_is_announced_when_the_window_is_over() -> None:
    flood, _, _ = fold([0.0] * 6 + [300.0] * 5)  # told at 300 s
    flood, ended = tick(flood, 600.0)
    flood, held, notices = fold([601.0] * 7, "fan2", flood)
    quiet, none = tick(flood, 899.0)
    _, began = tick(quiet, 900.0)

    assert (ended.stage, none, notices) == (ENDED, None, [])
    assert held == [False] * 5 + [True] * 2
    assert began == FloodNotice(BEGAN, {"fan2": 7}, held=2)


def test_the_return_of_an_alarm_that_was_held_back_is_told_from_that_of_one_that_was_shown() -> None:
    flood, _, _ = fold([0.0], "fan2")
    flood, _, _ = fold([1.0] * 10, "pump1", flood)

    assert flood.hidden == {"pump1"}
    assert fold([2000.0], "pump1", flood)[0].hidden == frozenset()


@pytest.mark.parametrize(
    "wrong", [{"calm": 10}, {"calm": -1}, {"window_s": 0.0}, {"window_s": math.nan}, {"window_s": math.inf}]
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="0 <= calm < limit"):
        replace(Flood(), **wrong)


moments = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 30.0, 200.0, 600.0]), st.booleans()), max_size=120)


@given(moments)
def test_how_often_one_looks_changes_nothing_of_what_is_held_back(steps: Sequence[tuple[float, bool]]) -> None:
    now, watched, blind = 0.0, Flood(limit=4, calm=2), Flood(limit=4, calm=2)
    for step, look in steps:
        now += step
        if look:
            watched, _ = tick(watched, now)
        watched, seen, _ = observe(watched, now, "pump1")
        blind, unseen, _ = observe(blind, now, "pump1")
        assert seen is unseen


def eighths(most: int) -> st.SearchStrategy[float]:
    """Seconds that add up exactly, so that a window of 60 s is one."""
    return st.integers(0, most).map(lambda count: count / 8)


class FloodMachine(RuleBasedStateMachine):
    """Alarms of a node over time, beside plain lists of all that ever happened."""

    def __init__(self) -> None:
        super().__init__()
        self.flood, self.now = Flood(limit=4, calm=2, window_s=60.0), 1000.0
        self.times: list[float] = []
        self.held: list[str] = []
        self.notices: list[tuple[float, FloodNotice]] = []

    def _told(self, notice: FloodNotice | None) -> None:
        if notice:
            self.notices.append((self.now, notice))

    def _lately(self) -> int:
        return sum(self.now - at_s < 60.0 for at_s in self.times)

    @rule(seconds=st.one_of(eighths(80), eighths(1600), st.sampled_from([60.0, 30.0])))
    def _wait(self, seconds: float) -> None:
        self.now += seconds
        self.flood, notice = tick(self.flood, self.now)
        self._told(notice)

    @rule(machine=st.sampled_from(["pump1", "fan2", "valve3"]))
    def _alarm(self, machine: str) -> None:
        lasted = self.flood.lasting
        self.flood, held, notice = observe(self.flood, self.now, machine)
        self.times.append(self.now)
        self.held += [machine] * held
        self._told(notice)
        assert held is self.flood.lasting is (lasted or self._lately() > 4)
        assert (machine in self.flood.hidden) is held

    @rule(machine=st.sampled_from(["pump1", "fan2", "valve3"]), count=st.integers(3, 8))
    def _storm(self, machine: str, count: int) -> None:
        for _ in range(count):
            self._alarm(machine)

    @rule()
    def _quiet(self) -> None:
        self._wait(60.0)
        assert not self.flood.lasting
        assert self.flood.held == ()

    @invariant()
    def _a_flood_lasts_until_it_is_calm(self) -> None:
        assert not (self.flood.lasting and self._lately() <= 2)
        assert len(self.flood.recent) == self._lately()

    @invariant()
    def _between_two_notices_lies_a_window_but_for_the_end(self) -> None:
        told = [at_s for at_s, notice in self.notices if notice.stage is not ENDED]
        assert all(later - at_s >= 60.0 for at_s, later in itertools.pairwise(told))

    @invariant()
    def _a_lasting_flood_is_never_silent_for_longer_than_a_window(self) -> None:
        if self.flood.lasting:
            assert self.now - max(at_s for at_s, _ in self.notices) < 60.0

    @invariant()
    def _everything_held_back_is_counted_once(self) -> None:
        assert sum(notice.held for _, notice in self.notices) + len(self.flood.held) == len(self.held)
        counted = Counter(self.flood.held)
        for _, notice in self.notices:
            if notice.stage is not BEGAN:
                assert sum(notice.counts.values()) == notice.held
                counted += Counter(notice.counts)
        assert counted <= Counter(self.held)

    @invariant()
    def _what_began_ends_before_it_begins_again(self) -> None:
        stages = [notice.stage for _, notice in self.notices]
        for before, stage in zip([ENDED, *stages], stages, strict=False):
            assert (stage is BEGAN) <= (before is ENDED)
            assert (stage is CONTINUES) <= (before is not ENDED)


TestFloodMachine = FloodMachine.TestCase
TestFloodMachine.settings = settings(max_examples=100, stateful_step_count=40)
