"""Alarms, not AUC: what a lesson of some minutes, of one day or of several, is worth in the hours after it.

A machine is learned as a device learns it (:mod:`edge_asd.learn.fit`), then judged clip by clip by the head and folded
into the alarm, all by the daemon's own code. Two kinds of sound: rendered machines (:mod:`train.corpus.shift`), normal
for hours and then faulty, and the normal recordings of a data set, of which lots decide what is learned and what is
judged; neither the clips that are learned nor others of the same recording are judged. Draws share clips, so intervals
over several draws are too narrow: the first draw of each machine has the honest ones.

A false-alarm rate is stated with the interval in which it lies with 95 %: of alarms by Poisson (Garwood 1936), of clips
by Clopper and Pearson (1934). Alarms once a week cannot be counted in hours, so the same rule is also asked for an
alarm a day and one an hour: those can.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import partial, reduce
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy import stats

from edge_asd.alarm.alarm import Alarm, Policy, Transition, advance
from edge_asd.bundle import open_bundle
from edge_asd.errors import ConfigError
from edge_asd.learn.fit import Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.render.performance import MACHINES
from edge_asd.score.calibration import WEEK_S
from edge_asd.score.listener import evidence
from train.corpus.clip import load as read
from train.corpus.render import rendered
from train.corpus.shift import LESSON, SEVERITIES, Shift
from train.file import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.progress import Progress

    from edge_asd.bundle import Bundle
    from edge_asd.learn.fit import Learnt
    from train.corpus.clip import Clip

HOUR_S = 3600.0
ASKED = (1.0, 7.0, 168.0)
"""false alarms a week: the default, one a day, one an hour"""
LEVEL = 0.95
"""of intervals"""
BEFORE = 1000
"""days that a lesson is spread over have numbers from here"""
Heard = dict[str, Memory]
"""what was heard of one machine: ``lesson 0`` …, ``same day``, ``day 1`` …, ``FAULT SEVERITY``"""


@dataclass(frozen=True, slots=True)
class Watch:
    """What to render.

    Raises:
        ConfigError: too little of something.
    """

    kinds: tuple[str, ...] = tuple(MACHINES)
    individuals: int = 2
    """of each kind"""
    lesson: int = 60
    """clips there are to learn from"""
    over: tuple[int, ...] = (1,)
    """days that a lesson is spread over"""
    days: int = 2
    """after that of the lesson"""
    clips: int = 360
    """normal ones that are judged a day"""
    faulty: int = 12
    """clips of each fault and severity"""
    seconds: float = 10.0
    """length of a clip"""
    seed: int = 0

    def __post_init__(self) -> None:
        counted = (self.individuals, self.lesson, self.clips, self.faulty, *self.over)
        if not self.over or min(counted) < 1 or min(self.days, self.seed) < 0:
            msg = f"need an individual, a clip of each sort, and no negative number, got {self}"
            raise ConfigError(msg)

    @property
    def shifts(self) -> list[Shift]:
        """All machines."""
        numbers = range(self.individuals)
        return [Shift(kind, number, self.seed, self.seconds) for kind in self.kinds for number in numbers]


@dataclass(frozen=True, slots=True)
class Rate:
    """How often it was wrong."""

    events: int
    trials: float
    """clips, or weeks"""
    low: float
    high: float
    """ends of the interval"""

    @classmethod
    def of_clips(cls, over: int, clips: int) -> Rate:
        """A share (Clopper and Pearson)."""
        interval = stats.binomtest(over, clips).proportion_ci(LEVEL, "exact")
        return cls(over, clips, float(interval.low), float(interval.high))

    @classmethod
    def a_week(cls, alarms: int, seconds: float) -> Rate:
        """Alarms a week (Garwood)."""
        weeks, tail = seconds / WEEK_S, (1 - LEVEL) / 2
        low = stats.chi2.ppf(tail, 2 * alarms) / 2 if alarms else 0.0
        return cls(alarms, weeks, float(low / weeks), float(stats.chi2.isf(tail, 2 * alarms + 2) / 2 / weeks))

    @property
    def value(self) -> float:
        """The rate."""
        return self.events / self.trials


@dataclass(slots=True)
class Count:
    """Of normal sound."""

    clips: int = 0
    over: int = 0
    alarms: int = 0

    def add(self, other: Count) -> None:
        """And of more."""
        self.clips, self.over, self.alarms = (
            self.clips + other.clips,
            self.over + other.over,
            self.alarms + other.alarms,
        )


@dataclass(slots=True)
class Finding:
    """What one length of lesson, with one rate asked for, came to over all machines."""

    learned: int
    """clips"""
    asked: float
    """false alarms a week"""
    clip_s: float
    over: int = 1
    """days that the lesson was spread over"""
    normal: dict[str, Count] = field(default_factory=dict)
    """by ``same day``, ``other days`` or the name of recordings"""
    delays: dict[float, list[int | None]] = field(default_factory=dict)
    """clips until the alarm, by severity; None where it never came"""

    @property
    def share(self) -> float:
        """Of normal clips, that may be over the threshold by what was asked for."""
        return float((self.asked * self.clip_s / WEEK_S) ** (1 / Goal(self.clip_s).on_delay))


# What is heard --------------------------------------------------------------------------------------------------------


def hear(path: Path, watch: Watch, work: Path, progress: Progress, *, workers: int = 1) -> dict[str, Heard]:
    """Render and listen; what is in the folder already is not done again.

    Raises:
        ConfigError: what is in the folder was heard otherwise.
    """
    wanted = json.loads(json.dumps({"bundle": open_bundle(path).digest, "watch": asdict(watch)}))
    told = work / "hours.json"
    if told.exists() and json.loads(told.read_text("utf-8")) != wanted:
        msg = f"{told} tells of another bundle or of other sound; name another folder, or remove this one"
        raise ConfigError(msg)
    write_whole(told, json.dumps(wanted).encode())
    missing = [shift for shift in watch.shifts if not _file(work, shift).exists()]
    done = rendered(partial(_listen, path, watch, work), missing, workers)
    for _ in progress.track(done, total=len(missing), description="listening"):
        pass
    return {shift.name: _read(_file(work, shift)) for shift in watch.shifts}


def _listen(path: Path, watch: Watch, work: Path, shift: Shift) -> None:
    bundle = open_bundle(path)
    first = _remembered(bundle, shift.normal(LESSON, watch.lesson + watch.clips))
    heard = {"lesson 0": first.some(range(watch.lesson)), "same day": first.some(range(watch.lesson, len(first)))}
    for day in range(1, max(watch.over)):
        most = max(len(range(day, watch.lesson, over)) for over in watch.over if over > day)
        heard[f"lesson {day}"] = _remembered(bundle, shift.normal(BEFORE + day, most), BEFORE + day)
    heard |= {f"day {day}": _remembered(bundle, shift.normal(day, watch.clips)) for day in range(1, watch.days + 1)}
    for fault in shift.faults:
        for severity in SEVERITIES:
            clips = shift.faulty(fault, severity, watch.faulty)
            heard[f"{fault} {severity}"] = _remembered(bundle, clips)
    flat = {f"{name}/{key}": value for name, memory in heard.items() for key, value in memory.features.items()}
    write_whole(_file(work, shift), save(flat))


def _remembered(bundle: Bundle, clips: Iterable[NDArray[np.float32]], day: int = 1) -> Memory:
    """What a device would keep of them."""
    listener = bundle.listener(next(iter(bundle.heads)))
    single = [
        Memory().with_clip(evidence(listener.windows, listener.spec, listener.embed, clip), FIRST, day)
        for clip in clips
    ]
    names = single[0].features
    return Memory((FIRST,) * len(single), {name: np.concatenate([m.features[name] for m in single]) for name in names})


def _file(work: Path, shift: Shift) -> Path:
    return work / f"{shift.name}.safetensors"


def _read(path: Path) -> Heard:
    try:
        flat = load(path.read_bytes())
    except SafetensorError as error:
        msg = f"{path} cannot be read: {error}; remove it, and it is heard again"
        raise ConfigError(msg) from error
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, value in flat.items():
        name, _, feature = key.partition("/")
        parts.setdefault(name, {})[feature] = value
    return {name: Memory((FIRST,) * len(features["mean"]), features) for name, features in parts.items()}


# What comes of it -----------------------------------------------------------------------------------------------------


def rendered_hours(
    path: Path, heard: Mapping[str, Heard], learned: Sequence[int], over: Sequence[int] = (1,)
) -> Iterator[Finding]:
    """A finding for each length of lesson, all days it is spread over, and each rate that is asked for."""
    bundle = open_bundle(path)
    for clips, days in product(learned, over):
        for asked in ASKED:
            found = Finding(clips, asked, clip_s(path), days)
            for machine in heard.values():
                _judge_machine(bundle, machine, found)
            yield found


def recorded_hours(
    path: Path, clips: Sequence[Clip], learned: Sequence[int], draws: int, seed: int = 0
) -> Iterator[Finding]:
    """The same on normal recordings, so many draws of what is learned from each machine's."""
    bundle = open_bundle(path)
    rate = bundle.manifest.windows.sample_rate
    machines = {key: [clip for clip in clips if clip.key == key] for key in dict.fromkeys(clip.key for clip in clips)}
    heard = {key: _remembered(bundle, (read(clip, rate) for clip in own)) for key, own in machines.items()}
    length = clip_s(path)
    for wanted in learned:
        for asked in ASKED:
            found = Finding(wanted, asked, length)
            for key, own in machines.items():
                for draw in range(draws):
                    _judge_draw(bundle, own, heard[key], found, np.random.default_rng([seed, draw]))
            yield found


def clip_s(path: Path) -> float:
    """Seconds of a clip, by the bundle."""
    windows = open_bundle(path).manifest.windows
    return windows.clip / windows.sample_rate


def _judge_machine(bundle: Bundle, heard: Heard, found: Finding) -> None:
    learnt = _learnt(bundle, lesson(heard, found.learned, found.over), found)
    for name, memory in heard.items():
        if name == "same day" or name.startswith("day "):
            where = name if name == "same day" else "other days"
            found.normal.setdefault(where, Count()).add(counted(learnt, memory))
        elif not name.startswith("lesson "):
            severity = float(name.rpartition(" ")[2])
            found.delays.setdefault(severity, []).append(delay(learnt, memory))


def lesson(heard: Heard, clips: int, over: int) -> Memory:
    """So many clips, of so many days in turn."""
    days = [heard[f"lesson {day}"].some(range(len(range(day, clips, over)))) for day in range(over)]
    return reduce(Memory.plus, days)


def _judge_draw(
    bundle: Bundle, clips: Sequence[Clip], heard: Memory, found: Finding, lots: np.random.Generator
) -> None:
    order = lots.permutation(len(clips))
    known = order[: found.learned]
    recordings = {clips[row].recording for row in known}
    rest = [row for row in range(len(clips)) if clips[row].recording not in recordings]
    if len(known) < found.learned or not rest:
        return
    learnt = _learnt(bundle, heard.some(known), found)
    found.normal.setdefault(clips[0].key, Count()).add(counted(learnt, heard.some(rest)))


def _learnt(bundle: Bundle, memory: Memory, found: Finding) -> Learnt:
    base = next(iter(bundle.heads.values()))
    return learn(base, memory, Goal(found.clip_s, false_alarms_per_week=found.asked))


def counted(learnt: Learnt, memory: Memory) -> Count:
    """Of normal sound in the order in which it was heard."""
    surprises, policy = _surprises(learnt, memory), _policy(learnt)
    alarm, alarms = Alarm(), 0
    for surprise in surprises:
        alarm, transitions = advance(policy, alarm, surprise)
        alarms += Transition.ACTIVATED in transitions
    return Count(len(surprises), sum(surprise >= policy.threshold for surprise in surprises), alarms)


def delay(learnt: Learnt, memory: Memory) -> int | None:
    """Clips of a fault until the alarm stands; None if it never does."""
    alarm, policy = Alarm(), _policy(learnt)
    for number, surprise in enumerate(_surprises(learnt, memory), 1):
        alarm, _ = advance(policy, alarm, surprise)
        if alarm.active:
            return number
    return None


def _policy(learnt: Learnt) -> Policy:
    at = learnt.card.thresholds
    return Policy(at.alarm, on_delay=at.on_delay, cusum=learnt.card.knows_days)


def _surprises(learnt: Learnt, memory: Memory) -> list[float]:
    return [learnt.head.judge(normal.evidence).surprise for normal in memory.normals()]


# For people and for programs ------------------------------------------------------------------------------------------


def rows(found: Finding) -> Iterator[dict[str, object]]:
    """A row for each sort of normal sound."""
    for where, count in found.normal.items():
        share = Rate.of_clips(count.over, count.clips)
        week = Rate.a_week(count.alarms, count.clips * found.clip_s)
        yield {
            "sound": where,
            "learned": found.learned,
            "over_days": found.over,
            "asked_a_week": found.asked,
            "hours": count.clips * found.clip_s / HOUR_S,
            "share_allowed": found.share,
            "share_over": share.value,
            "share_interval": (share.low, share.high),
            "alarms": count.alarms,
            "alarms_an_hour": week.value * HOUR_S / WEEK_S,
            "alarms_an_hour_interval": (week.low * HOUR_S / WEEK_S, week.high * HOUR_S / WEEK_S),
        }


def delays(found: Finding) -> Iterator[dict[str, object]]:
    """A row for each severity of faults."""
    for severity, clips in sorted(found.delays.items()):
        came = [each for each in clips if each is not None]
        yield {
            "severity": severity,
            "learned": found.learned,
            "over_days": found.over,
            "asked_a_week": found.asked,
            "faults": len(clips),
            "alarmed": len(came),
            "median_delay_s": float(np.median(came)) * found.clip_s if came else None,
        }


def show(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Two tables; plain text and no narrower than it needs when piped."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=160)
    false = Table(
        "normal sound",
        "clips learned",
        "over days",
        "asked a week",
        "hours",
        "over, allowed %",
        "over %",
        "alarms",
        "an hour",
    )
    true = Table("severity", "clips learned", "over days", "asked a week", "faults", "alarmed", "median delay, s")
    for found in findings:
        for row in rows(found):
            false.add_row(*map(_said, _columns(row)))
        for row in delays(found):
            true.add_row(*map(_said, row.values()))
    console.print(false)
    if true.row_count:
        console.print(true)
    console.print(f"intervals of {LEVEL:.0%}: clips by Clopper and Pearson, alarms by Poisson", highlight=False)


def _columns(row: dict[str, object]) -> list[object]:
    """With each interval beside its figure."""
    low, high = np.array(row["share_interval"]) * 100
    first, last = np.array(row["alarms_an_hour_interval"])
    over, allowed = (100 * float(str(row[name])) for name in ("share_over", "share_allowed"))
    known = [row[name] for name in ("sound", "learned", "over_days", "asked_a_week", "hours")]
    an_hour = float(str(row["alarms_an_hour"]))
    return [
        *known,
        allowed,
        f"{over:.2f} [{low:.2f}, {high:.2f}]",
        row["alarms"],
        f"{an_hour:.3f} [{first:.3f}, {last:.3f}]",
    ]


def _said(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
