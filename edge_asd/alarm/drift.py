"""Whether the scores of a machine change slowly: a chart of its days. Pure: a state and a score give a state.

Two numbers stand for a day: the median of its scores, and what one clip in ten exceeds. Both are medians over hours of
what the hours gave, so that an odd clip or an odd hour says nothing. They are held against the machine's own first
weeks rather than against its calibration, which no site matches exactly. While those weeks are not over, a day is
judged by the days before it, and Student's distribution allows for how few they are (Hawkins, "Self-starting CUSUM
charts for location and scale", The Statistician 36, 1987). After that the weeks stay as they are, where Hawkins goes on
learning: a change over months must not become its own measure. Cumulative sums in both directions (Page 1954) then
answer to a small change that lasts. Days are days of clips that were judged, not of the calendar.

By simulation of independent days (400 machines of 1500 days each): a drift that is none is found in 4 % of years, in
5 % where days are distributed like Student's t with 5 degrees of freedom; in 40 % where each day is correlated with the
one before by 0.3. After 40 days a change by 1.5, 2 and 3 standard deviations is found within 9, 5 and 3 days (medians).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from statistics import NormalDist, median, quantiles
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR_S = 3600.0
FURTHEST = 3.0
"""standard deviations that one day may count for: a single day never makes a drift"""
LEAST_SPREAD = 0.1
"""standard deviation of days, in z: with a slack of one, a change within what processors may differ by is none"""
DOUBT = 2.5
"""sum from which on no day is learned, more than one day adds: a drift in the first weeks is not to be their measure"""
NORMAL = NormalDist()


class Quantity(StrEnum):
    """What of a day's scores is followed."""

    MEDIAN = "median"
    UPPER = "upper"
    """what one clip in ten exceeds"""


@dataclass(frozen=True, slots=True)
class Chart:
    """How long one looks, and from where on it is a drift."""

    hour: int = 360
    """clips"""
    day: int = 24
    """hours"""
    least: int = 5
    """days that must be known before one is judged"""
    most: int = 28
    """days that are the measure of all later ones"""
    slack: float = 1.0
    """standard deviations by which a day may be off without adding to a sum"""
    limit: float = 6.0
    """sum that is a drift; it is over below half of that"""

    def __post_init__(self) -> None:
        if not (min(self.hour, self.day) >= 1 and 3 <= self.least <= self.most and min(self.slack, self.limit) > 0):
            msg = f"need hour and day >= 1, 3 <= least <= most, slack and limit > 0, got {self}"
            raise ValueError(msg)

    @classmethod
    def of(cls, clip_s: float) -> Self:
        """For clips of so many seconds."""
        return cls(hour=max(1, round(HOUR_S / clip_s)))


@dataclass(frozen=True, slots=True)
class Track:
    """One quantity: how its first days were, and how far the later ones have gone."""

    days: int = 0
    """that are known"""
    mean: float = 0.0
    squares: float = 0.0
    """sum of squared deviations from the mean"""
    up: float = 0.0
    """cumulative sum, standard deviations"""
    down: float = 0.0
    now: float = 0.0
    """the latest day"""

    @property
    def spread(self) -> float:
        """Standard deviation of the days that are known, at least two."""
        return max(math.sqrt(self.squares / (self.days - 1)), LEAST_SPREAD)

    @property
    def sum(self) -> float:
        """The larger of both."""
        return max(self.up, self.down)


@dataclass(frozen=True, slots=True)
class Drift:
    """What is remembered of a machine's scores."""

    scores: tuple[float, ...] = ()
    """of the hour in progress"""
    hours: tuple[tuple[float, float], ...] = ()
    """median and upper, of the day in progress"""
    tracks: Mapping[Quantity, Track] = field(default_factory=lambda: dict.fromkeys(Quantity, Track()))
    lasting: bool = False
    """a drift was found and is not over"""

    @classmethod
    def recalled(cls, kept: Mapping[str, Any]) -> Self:
        """Back from :meth:`kept`, also after JSON made lists of the tuples.

        Raises:
            ValueError, TypeError, KeyError: it is not what was kept.
        """
        hours = tuple((float(middle), float(upper)) for middle, upper in kept["hours"])
        tracks = {quantity: Track(**kept["tracks"][quantity]) for quantity in Quantity}
        return cls(tuple(map(float, kept["scores"])), hours, tracks, bool(kept["lasting"]))

    def kept(self) -> dict[str, Any]:
        """As plain values."""
        tracks = {str(quantity): asdict(track) for quantity, track in self.tracks.items()}
        return {"scores": self.scores, "hours": self.hours, "tracks": tracks, "lasting": self.lasting}


@dataclass(frozen=True, slots=True)
class Shift:
    """What a drift is, or was."""

    begins: bool
    """false: the days are again as they were"""
    quantity: Quantity
    """of both the one that has gone further"""
    before: float
    """mean of the days that are the measure, z"""
    spread: float
    """their standard deviation"""
    now: float
    """the latest day"""
    days: int
    """how many are the measure"""

    @property
    def advice(self) -> str:
        """What to do, for people."""
        if not self.begins:
            return f"it sounds again as in its first {self.days} days: nothing is to be done"
        which = "the strangest clips sound" if self.quantity is Quantity.UPPER else "it sounds"
        if self.now > self.before:
            return (
                f"{which} stranger day by day than in its first {self.days} days: clean the microphone, check how it "
                "is mounted, then look at the machine; if it is to sound like that from now on: "
                "edge-asd learn MACHINE --add NAME"
            )
        return (
            f"{which} less strange than in its first {self.days} days, as when less of it is heard: is the microphone "
            "covered, moved or turned down, or does the machine do less? If that is meant: edge-asd learn MACHINE"
        )


def observe(chart: Chart, drift: Drift, score: float) -> tuple[Drift, Shift | None]:
    """Fold in the fused score of one clip, in z; what is said, if a drift begins or ends with it.

    Leave out clips of a machine that is off or in alarm: they say nothing of its usual days.
    """
    scores = (*drift.scores, round(score, 4))
    if len(scores) < chart.hour:
        return replace(drift, scores=scores), None
    hours = (*drift.hours, (median(scores), _upper(scores)))
    if len(hours) < chart.day:
        return replace(drift, scores=(), hours=hours), None
    return _end_of_day(chart, drift, hours)


def reach(chart: Chart, drift: Drift) -> float:
    """How far the days have gone: 0 not at all, 1 a drift."""
    return max(track.sum for track in drift.tracks.values()) / chart.limit


def _end_of_day(chart: Chart, drift: Drift, hours: tuple[tuple[float, float], ...]) -> tuple[Drift, Shift | None]:
    values = dict(zip(Quantity, map(median, zip(*hours, strict=True)), strict=True))
    tracks = {
        quantity: _step(chart, track, values[quantity], learns=not drift.lasting)
        for quantity, track in drift.tracks.items()
    }
    after = Drift(tracks=tracks, lasting=drift.lasting)
    far = reach(chart, after)
    lasting = far >= 1 or (drift.lasting and far >= 0.5)
    return replace(after, lasting=lasting), _shift(after, begins=lasting) if lasting is not drift.lasting else None


def _shift(drift: Drift, *, begins: bool) -> Shift:
    quantity, track = max(drift.tracks.items(), key=lambda item: item[1].sum)
    return Shift(begins, quantity, track.mean, track.spread, track.now, track.days)


def _step(chart: Chart, track: Track, value: float, *, learns: bool) -> Track:
    track = replace(track, now=value)
    if track.days >= chart.least:
        off = _deviation(track, value)
        up = min(max(0.0, track.up + off - chart.slack), chart.limit)
        down = min(max(0.0, track.down - off - chart.slack), chart.limit)
        track = replace(track, up=up, down=down)
    return _learn(track, value) if learns and track.days < chart.most and track.sum < DOUBT else track


def _learn(track: Track, value: float) -> Track:
    """Mean and squares with one more day (Welford 1962)."""
    days, step = track.days + 1, value - track.mean
    mean = track.mean + step / days
    return replace(track, days=days, mean=mean, squares=track.squares + step * (value - mean))


def _deviation(track: Track, value: float) -> float:
    """By how many standard deviations a day is off, as though the days that are known were without number."""
    t = (value - track.mean) / track.spread * math.sqrt(track.days / (track.days + 1))
    least, most = NORMAL.cdf(-FURTHEST), NORMAL.cdf(FURTHEST)
    return NORMAL.inv_cdf(min(max(student(t, track.days - 1), least), most))


def student(t: float, degrees: int) -> float:
    """Probability that Student's t is at most this, for 2 degrees of freedom or more.

    A finite sum for whole degrees (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    odd = degrees % 2
    sine, cosine_2 = t / math.hypot(t, math.sqrt(degrees)), degrees / (degrees + t * t)
    term = total = math.sqrt(cosine_2) if odd else 1.0
    for n in range(2 + odd, degrees - 1, 2):
        term *= (n - 1) / n * cosine_2
        total += term
    within = 2 / math.pi * (math.asin(sine) + sine * total) if odd else sine * total
    return (1 + within) / 2


def _upper(scores: tuple[float, ...]) -> float:
    return quantiles(scores, n=10, method="inclusive")[-1] if len(scores) > 1 else scores[0]
