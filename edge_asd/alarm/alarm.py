"""When clip scores become an alarm. Pure: a policy, a state and a score give a state.

Words and delays are those of ISA-18.2 and OPC UA Part 9; all patience is counted in clips, so no clock step can raise
or return an alarm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum


class Transition(StrEnum):
    """What a clip did to the alarm."""

    ACTIVATED = "activated"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class Policy:
    """Hysteresis in level and in time."""

    threshold: float
    """surprise, -log10 of a probability; a clip at or above it argues for an alarm"""
    deadband: float = 0.5
    """an alarm returns below ``threshold - deadband``"""
    on_delay: int = 3
    """clips in a row that raise the alarm"""
    off_delay: int = 6
    """clips in a row that let it return"""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and self.deadband >= 0 and min(self.on_delay, self.off_delay) >= 1):
            msg = f"need a finite threshold, deadband >= 0 and delays >= 1 clip, got {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Alarm:
    """Whether the alarm stands, and what argues for a change."""

    active: bool = False
    streak: int = 0
    """clips in a row that argue for a change"""
    streak_start: int = 0
    """first sample of the first clip of the streak"""
    since: int | None = None
    """first sample of the streak that brought the present state; None before the first alarm"""
    clips_over: int = 0
    """clips at or above the threshold in the episode that stands, has just ended or may begin"""
    count: int = 0
    """alarms raised so far"""


def advance(policy: Policy, alarm: Alarm, surprise: float | None, start: int = 0) -> tuple[Alarm, Transition | None]:
    """Fold one clip into the alarm.

    Invalid audio freezes everything: it is no evidence for a fault, nor for its end (``device.md`` section 2.5).

    Args:
        policy: thresholds and patience.
        alarm: the state before the clip.
        surprise: of the clip; None or NaN when its audio was invalid.
        start: index of the clip's first sample, kept to say since when.
    """
    if surprise is None or math.isnan(surprise):
        return alarm, None
    alarm = _count(policy, alarm, surprise, start)
    if alarm.streak < (policy.off_delay if alarm.active else policy.on_delay):
        return alarm, None
    changed = replace(alarm, active=not alarm.active, streak=0, since=alarm.streak_start)
    if alarm.active:
        return changed, Transition.RETURNED
    return replace(changed, count=alarm.count + 1), Transition.ACTIVATED


def _count(policy: Policy, alarm: Alarm, surprise: float, start: int) -> Alarm:
    over = surprise >= policy.threshold
    argues = surprise < policy.threshold - policy.deadband if alarm.active else over
    return replace(
        alarm,
        streak=alarm.streak + 1 if argues else 0,
        streak_start=alarm.streak_start if alarm.streak else start,
        clips_over=over + (alarm.clips_over if alarm.active or alarm.streak else 0),
    )
