"""Would a head that learned more clips still hear the faults that are known? Asked before it may judge.

A false alarm is learned by taking its clips for normal ones. Where they sound like a fault that somebody has confirmed,
they would take that fault with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_asd.score.head import Head
    from edge_asd.score.part import Evidence


@dataclass(frozen=True, slots=True)
class Known:
    """One confirmed fault, as two heads hear it: surprise of the clip that argues least for an alarm.

    All clips that raised an alarm must argue for it, so the least of them decides.
    """

    name: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Recollection:
    """All faults that are known, and from where on each raises an alarm."""

    faults: tuple[Known, ...]
    threshold: float
    """surprise"""

    @property
    def heard(self) -> tuple[Known, ...]:
        """Those that the head raises an alarm for that judges now; of the others nothing can be forgotten."""
        return tuple(fault for fault in self.faults if fault.before >= self.threshold)

    @property
    def forgotten(self) -> tuple[Known, ...]:
        """Those that it does and the new one would not."""
        return tuple(fault for fault in self.heard if fault.after < self.threshold)

    @property
    def reason(self) -> str:
        """Why the new head may not judge, with the numbers; empty when it may."""
        if not self.forgotten:
            return ""
        lost = ", ".join(f"{fault.name} from {fault.before:.2f} to {fault.after:.2f}" for fault in self.forgotten)
        return (
            f"{len(self.forgotten)} of {len(self.heard)} known faults would not be heard any more (alarm threshold "
            f"{self.threshold:.2f}): {lost}; leave out the false alarms that sound like them, or correct a wrong label"
        )


def remember(before: Head, after: Head, faults: Mapping[str, Sequence[Evidence]], threshold: float) -> Recollection:
    """How two heads hear the clips of each fault, by its name; one without clips is left out.

    Args:
        before: the head that judges now.
        after: the one that has learned more.
        faults: clips that raised an alarm which somebody found true.
        threshold: alarm threshold, surprise; the same for both, as it follows from the stated rate of false alarms.
    """
    known = tuple(Known(name, _least(before, clips), _least(after, clips)) for name, clips in faults.items() if clips)
    return Recollection(known, threshold)


def _least(head: Head, clips: Sequence[Evidence]) -> float:
    return min(head.judge(clip).surprise for clip in clips)
