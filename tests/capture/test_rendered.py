"""A rendered machine in the place of a microphone."""

from __future__ import annotations

import numpy as np

from edge_asd.capture.rendered import RenderedSource
from edge_asd.render.machine import Condition
from edge_asd.render.performance import Performance, machine
from edge_asd.render.room import Room

RATE = 16_000
BROKEN = Condition(fault=machine("fan").faults[0], severity=1.0)


def fan() -> Performance:
    return Performance(machine("fan"), Room(), 7, RATE)


def hear(source: RenderedSource, seconds: int) -> np.ndarray:
    blocks = [block for block in (source.read() for _ in range(seconds)) if block]
    assert [block.start for block in blocks] == [i * RATE for i in range(seconds)]
    return np.concatenate([block.samples for block in blocks])


def test_what_is_heard_is_what_the_machine_performs() -> None:
    heard = hear(RenderedSource(fan(), RATE, speed=0), 3)
    np.testing.assert_array_equal(heard, fan().render(3 * RATE, Condition()))


def test_the_fault_begins_when_it_was_told_to() -> None:
    healthy = hear(RenderedSource(fan(), RATE, speed=0), 4)
    broken = hear(RenderedSource(fan(), RATE, speed=0, faulty=BROKEN, fault_after_s=2), 4)
    np.testing.assert_array_equal(broken[: 2 * RATE], healthy[: 2 * RATE])
    assert not np.allclose(broken[3 * RATE :], healthy[3 * RATE :])


def test_a_machine_is_heard_in_real_time() -> None:
    times = iter([0.0, 0.5, 0.5])
    source = RenderedSource(fan(), RATE, clock=lambda: next(times))
    block = source.read()
    assert block
    assert block.samples.size == RATE // 2
    assert source.read() is None
    assert not source.ended
    source.close()
