"""When so many alarms come that one notice for all serves people better than each by itself. Pure, node-wide.

An operator can take in about ten alarms in ten minutes (EEMUA 191, ISA-18.2). Beyond that a flood is announced, and
while it lasts single alarms are held back from the wire: they stand in the local journal, and every notice counts them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class FloodStage(StrEnum):
    """What a notice says of the flood."""

    BEGAN = "began"
    CONTINUES = "continues"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class FloodNotice:
    """One word for many alarms."""

    stage: FloodStage
    counts: Mapping[str, int]
    """activations by machine, most first: those that made the flood when it began, later those held back since"""
    held: int
    """activations held back since the notice before"""


@dataclass(frozen=True, slots=True)
class Flood:
    """How many alarms have come lately, and what is held back for that.

    Between two notices lies at least one window; only the end is told at once. A flood that begins sooner after the
    last notice holds alarms back from its beginning, and is announced when the window is over.
    """

    limit: int = 10
    """activations in a window that are no flood yet"""
    calm: int = 5
    """activations in a window with which a flood is over"""
    window_s: float = 600.0
    recent: tuple[tuple[float, str], ...] = ()
    """activations of the last window: monotonic seconds and machine"""
    lasting: bool = False
    announced: bool = False
    noticed_at_s: float = -math.inf
    """last notice that was not an end"""
    held: tuple[str, ...] = ()
    """machines whose activations were held back since the last notice, one for each"""
    hidden: frozenset[str] = frozenset()
    """machines whose latest activation was held back: nobody waits for its return"""

    def __post_init__(self) -> None:
        if not (0 <= self.calm < self.limit and 0 < self.window_s < math.inf):
            msg = (
                "need 0 <= calm < limit and a finite window > 0 s, "
                f"got calm {self.calm}, limit {self.limit}, window {self.window_s} s"
            )
            raise ValueError(msg)


def observe(flood: Flood, at_s: float, machine: str) -> tuple[Flood, bool, FloodNotice | None]:
    """An alarm was activated, and nothing suppresses it.

    Args:
        flood: the state before.
        at_s: monotonic seconds, never less than before.
        machine: whose alarm it is.

    Returns:
        The state after it, whether the activation is held back from the wire, and a notice to send, if any.
    """
    flood, notice = tick(flood, at_s)  # ended meanwhile? then this one is not held back
    flood = replace(flood, recent=(*flood.recent, (at_s, machine)))
    if not (flood.lasting or len(flood.recent) > flood.limit):
        return replace(flood, hidden=flood.hidden - {machine}), False, notice
    held, hidden = (*flood.held, machine), flood.hidden | {machine}
    flood, news = tick(replace(flood, lasting=True, held=held, hidden=hidden), at_s)
    return flood, True, notice or news


def tick(flood: Flood, at_s: float) -> tuple[Flood, FloodNotice | None]:
    """Time has passed: the flood may have ended, or a notice may be due."""
    flood = replace(flood, recent=tuple(one for one in flood.recent if at_s - one[0] < flood.window_s))
    if not flood.lasting:
        return flood, None
    if len(flood.recent) <= flood.calm:
        return _tell(replace(flood, lasting=False, announced=False), FloodStage.ENDED, flood.held)
    if at_s - flood.noticed_at_s < flood.window_s:
        return flood, None
    flood, announced = replace(flood, announced=True, noticed_at_s=at_s), flood.announced
    if announced:
        return _tell(flood, FloodStage.CONTINUES, flood.held)
    return _tell(flood, FloodStage.BEGAN, tuple(machine for _, machine in flood.recent))


def _tell(flood: Flood, stage: FloodStage, machines: tuple[str, ...]) -> tuple[Flood, FloodNotice]:
    counts = dict(Counter(machines).most_common())
    return replace(flood, held=()), FloodNotice(stage, counts, len(flood.held))
