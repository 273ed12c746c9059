"""When clip scores become an alarm, and what an operator may do with it. Pure: a state and an input give a state.

Words and rules are those of ISA-18.2 and OPC UA Part 9: the *condition* (active, acknowledged, latched) and its
*suppression* are two axes, and a suppressed alarm is evaluated as any other. All patience is counted in clips, so no
clock step can raise or return an alarm; only shelving ends by time, and that time is monotonic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from edge_asd.errors import AlarmRefused

SLACK = 0.8
"""surprise that a clip may have without adding to the sum; normal ones have 0.43 in the mean"""
MOST = 1.6
"""surprise that a clip counts for at most: no single sound raises an alarm, however strange"""


class Transition(StrEnum):
    """What happened to the alarm."""

    ACTIVATED = "activated"
    RETURNED = "returned"
    """the condition is over"""
    LATCHED = "latched"
    """the condition is over, but the latch holds the alarm until somebody resets it"""
    REALARMED = "realarmed"
    """acknowledged long ago and still standing: to be acknowledged again"""
    CHATTERING = "chattering"
    """comes and goes so often that it must from now on stay away longer to return"""
    ACKED = "acked"
    RESET = "reset"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"
    SUPPRESSED = "suppressed"
    UNSUPPRESSED = "unsuppressed"
    OUT_OF_SERVICE = "out_of_service"
    IN_SERVICE = "in_service"


class State(StrEnum):
    """The condition in one word."""

    NORMAL = "normal"
    ACTIVE_UNACKED = "active_unacked"
    ACTIVE_ACKED = "active_acked"
    RTN_UNACKED = "rtn_unacked"
    """returned to normal before anybody acknowledged it"""
    LATCHED_UNACKED = "latched_unacked"
    LATCHED_ACKED = "latched_acked"


class Suppression(StrEnum):
    """Why an alarm is not presented."""

    NONE = "none"
    SHELVED = "shelved"
    """by an operator, for a while"""
    BY_DESIGN = "by_design"
    """by logic, as when the machine is off"""
    OUT_OF_SERVICE = "out_of_service"
    """for maintenance, until put back"""


class Priority(StrEnum):
    """How soon somebody must act."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


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
    re_alarm: int = 0
    """clips after which an acknowledged alarm that still stands wants to be acknowledged again; 0 never"""
    latch: bool = False
    """an alarm stays after its condition has returned, until it is reset"""
    priority: Priority = Priority.HIGH
    chatter_count: int = 3
    """activations within ``chatter_clips`` that are chattering"""
    chatter_clips: int = 60
    """window of that count, and how long the condition must stay normal to end it; 0 for no guard"""
    chatter_factor: int = 4
    """how many times longer the off-delay of a chattering alarm is"""
    cusum: bool = False
    """what is a little strange for long raises the alarm, too"""

    def __post_init__(self) -> None:
        if not (
            math.isfinite(self.threshold)
            and 0 <= self.deadband < math.inf
            and min(self.on_delay, self.off_delay, self.chatter_factor) >= 1
            and min(self.re_alarm, self.chatter_clips) >= 0
            and self.chatter_count >= 2
        ):
            msg = (
                "need a finite threshold, a finite deadband >= 0, delays >= 1 clip, chatter_factor >= 1, "
                f"chatter_count >= 2, re_alarm and chatter_clips >= 0, got {self}"
            )
            raise ValueError(msg)

    @property
    def limit(self) -> float:
        """Sum from which on it raises the alarm: by chance a tenth as often as clips in a row do, and never sooner.

        Of independent surprises, which are exponential with a mean of 1 / ln 10, the average run length of the sum is
        10^(0.63 + limit / 0.698) clips, for the limits there are: Page's integral equation, solved numerically.
        """
        return max(0.698 * (self.threshold * self.on_delay + 1 - 0.63), (MOST - SLACK) * self.on_delay)


@dataclass(frozen=True, slots=True)
class Alarm:
    """Whether the alarm stands, what argues for a change, and who keeps it from being presented.

    ``Alarm(**fields)`` takes back what ``dataclasses.asdict`` gave, also after JSON made a list of the tuple.
    """

    active: bool = False
    acked: bool = True
    """somebody knows; True also while there is nothing to know"""
    latched: bool = False
    """the condition has returned, and the latch holds the alarm"""
    streak: int = 0
    """clips in a row that argue for a change"""
    streak_start: int = 0
    """first sample of the first clip of the streak"""
    sum: float = 0.0
    """what clips had beyond :data:`SLACK`, added up and never below 0 (CUSUM; Page 1954)"""
    sum_start: int = 0
    """first sample of the first clip in it"""
    since: int | None = None
    """first sample of the streak that brought the present condition; None before the first in this run"""
    clips_over: int = 0
    """clips at or above the threshold in the episode that stands, has just ended or may begin"""
    count: int = 0
    """alarms raised ever"""
    clips: int = 0
    """valid clips ever; the clock of the three that follow"""
    acked_at: int = 0
    returned_at: int = 0
    activations: tuple[int, ...] = ()
    """the latest, as many as chattering needs"""
    chattering: bool = False
    shelved_s: float | None = None
    """seconds of shelving left; None when not shelved"""
    one_shot: bool = False
    """shelving also ends when the condition returns"""
    by_design: bool = False
    out_of_service: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "activations", tuple(self.activations))  # frozen; JSON knows only lists

    @property
    def suppression(self) -> Suppression:
        """The strongest that holds."""
        if self.out_of_service:
            return Suppression.OUT_OF_SERVICE
        if self.by_design:
            return Suppression.BY_DESIGN
        return Suppression.NONE if self.shelved_s is None else Suppression.SHELVED

    @property
    def state(self) -> State:
        """The condition, whatever suppresses it."""
        if self.active:
            return State.ACTIVE_ACKED if self.acked else State.ACTIVE_UNACKED
        if self.latched:
            return State.LATCHED_ACKED if self.acked else State.LATCHED_UNACKED
        return State.NORMAL if self.acked else State.RTN_UNACKED

    @property
    def annunciated(self) -> bool:
        """Whether people are to be shown an alarm."""
        return (self.active or self.latched) and self.suppression is Suppression.NONE


Change: TypeAlias = tuple[Alarm, tuple[Transition, ...]]
"""the alarm afterwards, and what happened on the way"""


# What clips and time do -----------------------------------------------------------------------------------------------


def advance(policy: Policy, alarm: Alarm, surprise: float | None, start: int = 0) -> Change:
    """Fold one clip into the alarm.

    Invalid audio freezes the condition wholly: it is no evidence for a fault, nor for its end, nor does it count as
    time (``device.md`` section 2.5).

    Args:
        policy: thresholds and patience.
        alarm: the state before the clip.
        surprise: of the clip; None or NaN when its audio was invalid.
        start: index of the clip's first sample, kept to say since when.
    """
    if surprise is None or math.isnan(surprise):
        return alarm, ()
    alarm = _count(policy, alarm, surprise, start)
    if not _argued(policy, alarm):
        return _stay(policy, alarm)
    return _return(policy, alarm) if alarm.active else _activate(policy, alarm)


def elapse(alarm: Alarm, seconds: float) -> Change:
    """Let monotonic time pass: shelving runs out. The condition knows no time but clips.

    Raises:
        ValueError: time would run backwards.
    """
    if not seconds >= 0:
        msg = f"need seconds >= 0, got {seconds}"
        raise ValueError(msg)
    if alarm.shelved_s is None:
        return alarm, ()
    left = alarm.shelved_s - seconds
    return (replace(alarm, shelved_s=left), ()) if left > 0 else unshelve(alarm)


def resume(alarm: Alarm) -> Alarm:
    """The alarm of an earlier run in one that counts samples anew: everything stands but the indices of samples."""
    return replace(alarm, since=None, streak_start=0, sum_start=0)


def _count(policy: Policy, alarm: Alarm, surprise: float, start: int) -> Alarm:
    over = surprise >= policy.threshold
    argues = surprise < policy.threshold - policy.deadband if alarm.active else over
    return replace(
        alarm,
        clips=alarm.clips + 1,
        streak=alarm.streak + 1 if argues else 0,
        streak_start=alarm.streak_start if alarm.streak else start,
        sum=_sum(policy, alarm.sum + min(surprise, MOST) - SLACK),
        sum_start=alarm.sum_start if alarm.sum or not policy.cusum else start,
        clips_over=over + (alarm.clips_over if alarm.active or alarm.streak or alarm.sum else 0),
    )


def _sum(policy: Policy, value: float) -> float:
    return min(max(value, 0.0), policy.limit) if policy.cusum else 0.0


def _argued(policy: Policy, alarm: Alarm) -> bool:
    """Enough for a change."""
    in_a_row = alarm.streak >= _patience(policy, alarm)
    if not policy.cusum:
        return in_a_row
    return in_a_row and alarm.sum <= policy.limit / 2 if alarm.active else in_a_row or alarm.sum >= policy.limit


def _patience(policy: Policy, alarm: Alarm) -> int:
    if alarm.active:
        return policy.off_delay * (policy.chatter_factor if alarm.chattering else 1)
    return policy.on_delay


def _activate(policy: Policy, alarm: Alarm) -> Change:
    late = (*alarm.activations, alarm.clips)[-policy.chatter_count :]
    chatters = len(late) == policy.chatter_count and alarm.clips - late[0] < policy.chatter_clips
    activated = replace(
        alarm,
        active=True,
        acked=False,
        latched=False,
        streak=0,
        since=alarm.streak_start if alarm.streak >= policy.on_delay else alarm.sum_start,
        count=alarm.count + 1,
        activations=late,
        chattering=alarm.chattering or chatters,
    )
    begins = activated.chattering and not alarm.chattering
    return activated, (Transition.ACTIVATED, *[Transition.CHATTERING] * begins)


def _return(policy: Policy, alarm: Alarm) -> Change:
    returned = replace(
        alarm,
        active=False,
        latched=policy.latch,
        streak=0,
        since=alarm.streak_start,
        returned_at=alarm.clips,
    )
    how = Transition.LATCHED if policy.latch else Transition.RETURNED
    if not returned.one_shot:
        return returned, (how,)
    presented, unshelved = unshelve(returned)
    return presented, (how, *unshelved)


def _stay(policy: Policy, alarm: Alarm) -> Change:
    if alarm.active and alarm.acked and 0 < policy.re_alarm <= alarm.clips - alarm.acked_at:
        return replace(alarm, acked=False), (Transition.REALARMED,)
    calm = not alarm.active and alarm.clips - alarm.returned_at >= policy.chatter_clips
    return replace(alarm, chattering=alarm.chattering and not calm), ()


# What an operator may do; what already holds changes nothing ----------------------------------------------------------


def acknowledge(alarm: Alarm) -> Change:
    """Somebody knows of the alarm."""
    if alarm.acked:
        return alarm, ()
    return replace(alarm, acked=True, acked_at=alarm.clips), (Transition.ACKED,)


def reset(alarm: Alarm) -> Change:
    """Let go of the latch.

    Raises:
        AlarmRefused: the condition still stands, or nobody has acknowledged it (OPC UA Part 9, 5.8.5).
    """
    if alarm.active:
        msg = f"cannot reset an alarm in state {alarm.state}: its condition must return to normal first"
        raise AlarmRefused(msg)
    if not alarm.acked:
        msg = f"cannot reset an alarm in state {alarm.state}: acknowledge it first"
        raise AlarmRefused(msg)
    return _act(alarm, replace(alarm, latched=False), Transition.RESET)


def shelve(alarm: Alarm, seconds: float, *, one_shot: bool = False) -> Change:
    """Do not present the alarm for a while; shelved again, the new time holds from now.

    Args:
        alarm: any, also one that does not stand.
        seconds: how long at most, on the monotonic clock.
        one_shot: end earlier, when the condition returns.

    Raises:
        ValueError: no time that ends.
    """
    if not 0 < seconds < math.inf:
        msg = f"need a finite time of shelving > 0 s, got {seconds}"
        raise ValueError(msg)
    return _act(alarm, replace(alarm, shelved_s=seconds, one_shot=one_shot), Transition.SHELVED)


def unshelve(alarm: Alarm) -> Change:
    """Present the alarm again before the time of shelving is over."""
    return _act(alarm, replace(alarm, shelved_s=None, one_shot=False), Transition.UNSHELVED)


def suppress(alarm: Alarm, *, on: bool) -> Change:
    """By design: logic says that the alarm means nothing now, or that it does again."""
    return _act(alarm, replace(alarm, by_design=on), Transition.SUPPRESSED if on else Transition.UNSUPPRESSED)


def withdraw(alarm: Alarm, *, on: bool) -> Change:
    """Take out of service for maintenance, or put back."""
    return _act(alarm, replace(alarm, out_of_service=on), Transition.OUT_OF_SERVICE if on else Transition.IN_SERVICE)


def _act(before: Alarm, after: Alarm, transition: Transition) -> Change:
    return after, () if after == before else (transition,)
