from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_asd.observe.clock import STEP_S, StepWatch

CALM = st.floats(-0.4 * STEP_S, 0.4 * STEP_S)


@given(st.lists(st.tuples(st.floats(0.001, 3600), st.one_of(CALM, st.just(0.0))), min_size=2, max_size=30))
def test_time_that_passes_is_no_step_however_long_nobody_looked(moments: list[tuple[float, float]]) -> None:
    """Wavering by less than a step between two looks is slewing, or the time between the two questions."""
    watch, now = StepWatch(), 0.0
    for passed, waver in moments:
        now += passed
        assert watch.see(now, 1.8e9 + now + waver) == 0.0


@given(st.floats(2 * STEP_S, 1e9), st.sampled_from((-1, 1)), st.floats(0.05, 60))
def test_a_step_is_seen_once_with_its_size_and_direction(size: float, sign: int, passed: float) -> None:
    watch = StepWatch()
    watch.see(10.0, 1.8e9)
    moved = watch.see(10.0 + passed, 1.8e9 + passed + sign * size)

    assert abs(moved - sign * size) < 1e-3 * STEP_S
    assert watch.see(11.0 + passed, 1.8e9 + 1.0 + passed + sign * size) == 0.0


def test_the_first_look_is_no_step() -> None:
    assert StepWatch().see(5.0, 1.8e9) == 0.0
