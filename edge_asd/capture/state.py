"""How an ear is: a table of troubles, folded second by second. A fault of the source is none of the machine."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.capture.source import SourceState
from edge_asd.signal.health import Fault, band_limit, clipped, fault, is_flat, power
from edge_asd.signal.level import measure
from edge_asd.signal.profile import OFF, WINDOW, changed, mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from edge_asd.signal.profile import Bands, Profile
    from edge_asd.signal.segment import Block

WINDOW_S = 2.5
"""the shortest time in which a sample rate is measured; three of them tell a wrong one, in less than ten seconds"""
MEMORY_S = 60.0
"""over which a rate that is nearly right is measured"""
WRONG_RATE = 0.01
"""a clock that is so far off is none: the device runs at another rate than it says"""
LOSSY_RATE = 0.001
"""no quartz is so slow: what is missing was lost, and nobody told"""
DRAINED_S = 0.9
"""a block shorter than this was all there was, so it came when it was recorded and not when there was time"""
WHOLE = 0.5
"""share of a second that must have come for its sound to be judged"""
NOISE_DBFS = -60.0
"""white noise below this level is the converter's own"""
BELOW_FLOOR_DB = 10.0
"""no room becomes so much quieter"""


class Trouble(StrEnum):
    """What a second of audio may show."""

    SILENT = "silent"
    STUCK = "stuck"
    CLIPPING = "clipping"
    NOT_FINITE = "not_finite"
    WRONG_RATE = "wrong_rate"
    LOSS = "loss"
    BAND_LIMITED = "band_limited"
    BARE_NOISE = "bare_noise"
    GAIN = "gain"
    COVERED = "covered"
    FAINT = "faint"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a trouble becomes the state of the ear, and when it is over."""

    state: SourceState
    onset: int
    """seconds that show it"""
    calm: int
    """seconds in a row that do not; until then it is one episode"""


RULES: Mapping[Trouble, Rule] = MappingProxyType(
    {
        Trouble.SILENT: Rule(SourceState.SILENT, onset=1, calm=5),
        Trouble.STUCK: Rule(SourceState.STUCK, onset=1, calm=5),
        Trouble.NOT_FINITE: Rule(SourceState.FAILED, onset=1, calm=5),
        Trouble.WRONG_RATE: Rule(SourceState.FAILED, onset=1, calm=5),
        Trouble.CLIPPING: Rule(SourceState.CLIPPING, onset=2, calm=5),
        Trouble.LOSS: Rule(SourceState.FAILED, onset=3, calm=12),  # longer than a clip: no clip is ever whole
        Trouble.BAND_LIMITED: Rule(SourceState.SUSPECT, onset=3, calm=5),
        Trouble.BARE_NOISE: Rule(SourceState.SUSPECT, onset=60, calm=5),
        # ten seconds over the ten that are compared: before the third bad clip in a row, which would raise an alarm
        Trouble.GAIN: Rule(SourceState.SUSPECT, onset=10, calm=5),
        Trouble.COVERED: Rule(SourceState.SUSPECT, onset=10, calm=5),
        Trouble.FAINT: Rule(SourceState.SUSPECT, onset=3_600, calm=60),
    }
)
"""the first that holds is the state (device.md §5)"""
UNSEEN = frozenset(
    {
        Trouble.WRONG_RATE,
        Trouble.BAND_LIMITED,
        Trouble.BARE_NOISE,
        Trouble.GAIN,
        Trouble.COVERED,
        Trouble.FAINT,
    }
)
"""what whoever looks at one segment cannot know: only the ear can say that it must not be scored"""


@dataclass(frozen=True, slots=True)
class Spell:
    """One trouble, as it comes and goes."""

    bad: int = 0
    """seconds that showed it in this episode"""
    calm: int = 0
    """seconds since the last of them"""
    reason: str = ""
    """as first told; an episode has one"""


@dataclass(frozen=True, slots=True)
class Condition:
    """An ear at one moment."""

    state: SourceState = SourceState.RECOVERING
    reason: str = "starting"
    spells: Mapping[Trouble, Spell] = field(default_factory=dict)
    """of the troubles that are on record"""

    def holds(self, troubles: Iterable[Trouble]) -> bool:
        """Any of them is going on, whether the state tells or not."""
        return any(_holds(trouble, self.spells) for trouble in troubles)


def advance(condition: Condition, shown: Mapping[Trouble, str]) -> Condition:
    """Fold what one second of audio has shown, trouble and reason, into how the ear is."""
    spells = {}
    for trouble, rule in RULES.items():
        spell = _continued(condition.spells.get(trouble, Spell()), shown.get(trouble), rule.calm)
        if spell.bad:
            spells[trouble] = spell
    for trouble, rule in RULES.items():
        if _holds(trouble, spells):
            return Condition(rule.state, spells[trouble].reason, spells)
    return Condition(SourceState.OK, "audio flows", spells)


def _holds(trouble: Trouble, spells: Mapping[Trouble, Spell]) -> bool:
    return trouble in spells and spells[trouble].bad >= RULES[trouble].onset


def _continued(spell: Spell, reason: str | None, patience: int) -> Spell:
    if reason is not None:
        return Spell(spell.bad + 1, 0, spell.reason or reason)
    if spell.calm + 1 >= patience:
        return Spell()
    return Spell(spell.bad, spell.calm + 1, spell.reason)


@dataclass(slots=True)
class Tempo:
    """How fast samples come by the monotonic clock.

    Audio may be read late and never early, so the least lag in a window of time is that of the device.
    """

    rate: int
    """hertz, as the device says"""
    _windows: list[tuple[float, float]] = field(default_factory=list)
    """begin and least lag of each, seconds; the last one is in progress"""
    _settled: float = 0.0
    """hertz, over a whole minute"""

    def observe(self, now: float, received: int) -> None:
        """``received`` samples have come, lost ones included, and none is waiting."""
        lag = now - received / self.rate
        if not self._windows or now - self._windows[-1][0] >= WINDOW_S:
            self._windows.append((now, lag))
        began, least = self._windows[-1]
        self._windows[-1] = began, min(lag, least)

    @property
    def effective(self) -> float:
        """Hertz, over the last whole minute if there was one; 0 until it is known."""
        if self._settled and not self.wrong():
            return self._settled
        whole = self._windows[:-1]
        return self.rate * (1 - _slope(whole[0], whole[-1])) if len(whole) > 1 else 0.0

    def wrong(self) -> str | None:
        """Why the rate cannot be what it is said to be: the last two measurements agree on it."""
        off = [_slope(*pair) for pair in pairwise(self._windows[-4:-1])]
        if len(off) < 2 or min(map(abs, off)) <= WRONG_RATE or off[0] * off[1] < 0:
            return None
        return f"{self.rate * (1 - sum(off) / 2):.0f} samples come in a second, not {self.rate}; check the device"

    def missing(self) -> int:
        """Samples that were lost though nobody told, found once a minute; a source that starts may stumble first."""
        whole = self._windows[1:-1]
        if len(whole) < 2 or whole[-1][0] - whole[0][0] < MEMORY_S:
            return 0
        wrong, slope = self.wrong(), _slope(whole[0], whole[-1])
        self._settled, self._windows = self.rate * (1 - slope), self._windows[-3:]
        if wrong or slope <= LOSSY_RATE:
            return 0
        return round((whole[-1][1] - whole[0][1]) * self.rate)


def _slope(earlier: tuple[float, float], later: tuple[float, float]) -> float:
    """By how much the lag grows in a second."""
    return (later[1] - earlier[1]) / (later[0] - earlier[0])


@dataclass(slots=True)
class Watch:
    """Looks at the sound of one opened source, a second at a time."""

    rate: int
    """hertz"""
    live: bool = True
    """it comes as fast as time passes"""
    floor_dbfs: float | None = None
    """level of the room when the machine is off; None when nobody knows"""
    baseline: Mapping[str, Profile] = field(default_factory=dict)
    """what was heard here when it was commissioned, by the state of the machine"""
    tempo: Tempo = field(init=False)
    _bands: deque[Bands] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """of the last whole seconds in a row"""
    _pieces: list[NDArray[np.float32]] = field(default_factory=list)
    _begun: int = 0
    _end: int | None = None
    """index behind the newest sample"""
    _lost: bool = False
    """within the second in progress"""

    def __post_init__(self) -> None:
        self.tempo = Tempo(self.rate)

    def push(self, block: Block, now: float) -> list[dict[Trouble, str]]:
        """What each second that is now complete has shown; lost samples count as time."""
        if self.live and block.samples.size < DRAINED_S * self.rate:
            self.tempo.observe(now, block.start + block.samples.size)
        seconds = self._jump(block.start) if block.start != self._end else []
        return seconds + self._cut(block)

    def _jump(self, start: int) -> list[dict[Trouble, str]]:
        """Go on from here; a second that the gap reaches beyond is over."""
        self._lost = self._end is not None
        over = bool(self._pieces) and start >= self._begun + self.rate
        seconds = [self._shown()] if over else []
        if over or not self._pieces:
            self._begun = start
        return seconds

    def _cut(self, block: Block) -> list[dict[Trouble, str]]:
        seconds, start, rest = [], block.start, block.samples
        while rest.size:
            take = min(rest.size, self._begun + self.rate - start)
            self._pieces.append(rest[:take])
            start, rest = start + take, rest[take:]
            if start - self._begun >= self.rate:
                seconds.append(self._shown())
                self._begun = start
        self._end = start
        return seconds

    def _shown(self) -> dict[Trouble, str]:
        samples = np.concatenate(self._pieces)
        shown = heard(samples, self.rate, self._floor) if samples.size >= self.rate * WHOLE else {}
        shown |= self._altered(samples, well=samples.size == self.rate and not self._lost and shown.keys() <= UNSEEN)
        if self._lost:
            shown[Trouble.LOSS] = "audio is lost again and again; free the processor or the bus it shares"
        if reason := self.tempo.wrong():
            shown[Trouble.WRONG_RATE] = reason
        self._pieces, self._lost = [], False
        return shown

    @property
    def _floor(self) -> float | None:
        known = self.baseline[OFF].level_dbfs if OFF in self.baseline else None
        return known if self.floor_dbfs is None else self.floor_dbfs

    def _altered(self, samples: NDArray[np.float32], *, well: bool) -> dict[Trouble, str]:
        """What the last ten seconds show of an ear that was commissioned."""
        if not well or not self.baseline:
            self._bands.clear()
            return {}
        self._bands.append(measure(samples, self.rate).bands)
        change = changed(mean(self._bands), self.baseline) if len(self._bands) == WINDOW else None
        return {Trouble(change[0]): change[1]} if change else {}


def heard(samples: NDArray[np.float32], rate: int, floor_dbfs: float | None = None) -> dict[Trouble, str]:
    """What (n,) samples at ``rate`` hertz show, with its reason."""
    if unfit := fault(samples):
        return {Trouble(unfit): _said(unfit, samples)}
    shown = {}
    spectrum, level = power(samples), 20 * float(np.log10(samples.std(dtype=np.float64)))
    if lower := band_limit(spectrum, rate):
        shown[Trouble.BAND_LIMITED] = f"sound ends near {lower // 2} Hz, as if recorded at {lower} Hz and not at {rate}"
    if level < NOISE_DBFS and is_flat(spectrum, rate):
        shown[Trouble.BARE_NOISE] = f"nothing but a converter's noise, {level:.0f} dBFS; is the microphone dead?"
    if floor_dbfs is not None and level < floor_dbfs - BELOW_FLOOR_DB:
        shown[Trouble.FAINT] = f"{level:.0f} dBFS, but the room alone has {floor_dbfs:.0f}; is the microphone covered?"
    return shown


def _said(unfit: Fault, samples: NDArray[np.float32]) -> str:
    match unfit:
        case Fault.SILENT:
            return "audio is silent: zeros to the last bit; is the input muted or the cable out?"
        case Fault.STUCK:
            return f"audio is stuck, near {samples.mean():.4f} or repeating itself; plug the device in again"
        case Fault.CLIPPING:
            return f"audio is clipping: {clipped(samples) / samples.size:.0%} is at full scale; lower the gain"
        case _:
            return "audio is not_finite: the device delivers what are no numbers"
