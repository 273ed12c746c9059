"""A lesson: normal clips of a machine, heard one by one, and the head that comes of them. Proposes; a person decides.

The clips may come from a source that was opened for it (:mod:`edge_asd.attendance`) or from what a running daemon
hears anyway (:mod:`edge_asd.tutor`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edge_asd.alarm.alarm import Alarm, advance
from edge_asd.deliver.message import rfc3339
from edge_asd.deliver.payload import Proposal
from edge_asd.errors import AudioError, BundleError, ConfigError
from edge_asd.judgement import lesson
from edge_asd.learn.fit import TRUSTED, Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.learn.notebook import Notebook
from edge_asd.learn.overlay import Note
from edge_asd.model.opening import open_model
from edge_asd.score.forgetting import remember
from edge_asd.signal.health import LSB

if TYPE_CHECKING:
    from pathlib import Path

    from edge_asd.alarm.alarm import Policy
    from edge_asd.bundle import Bundle, Opens
    from edge_asd.config import Config
    from edge_asd.judgement import Lesson
    from edge_asd.learn.fit import Learnt
    from edge_asd.score.head import Head
    from edge_asd.score.part import Evidence

FALSE_ALARMS = "false alarms"
"""operating point of the clips of alarms that somebody judged false"""
SAVE_CLIPS = 3
"""between two moments at which what was heard is put on the disk; so many a kill may cost"""
FULL_SCALE_DBFS = 20 * math.log10(1 - LSB)
"""a peak from here on is what the converter made of a louder one"""


@dataclass(slots=True)
class Guard:
    """Keeps an alarm from being learned as what is normal.

    A clip over the threshold by itself is normal now and then, and without it the next threshold would be too low. So
    it waits for the clips after it: those of a run that raises the alarm are left out, and all until the alarm returns.
    """

    head: Head
    """that was learned of this machine and committed; a bundle's own knows nothing of it, and guards nothing"""
    policy: Policy
    alarm: Alarm = field(default_factory=Alarm)
    _waiting: list[Evidence] = field(default_factory=list)

    def admit(self, clip: Evidence) -> tuple[list[Evidence], int]:
        """Clips of which it is known now that they may be learned, and how many may not."""
        surprise = self.head.calibration.surprise(self.head.judge(clip).score)
        self.alarm, _ = advance(self.policy, self.alarm, surprise)
        waiting = [*self._waiting, clip]
        if surprise >= self.policy.threshold and not self.alarm.active:
            self._waiting = waiting
            return [], 0
        self._waiting = []
        return ([], len(waiting)) if self.alarm.active else (waiting, 0)


@dataclass(slots=True)
class Pupil:
    """Listens along, clip by clip."""

    state: Path
    notebook: Notebook
    bundle: Bundle
    key: str
    point: str
    known: Memory
    """learned before, to which an operating point is added"""
    heard: Memory
    """in this lesson, the part before an interruption too"""
    goal: Goal
    guard: Guard | None = None
    every: int = 1
    """one clip of so many is learned"""
    passed: int = 0
    """clips since the last one that was"""
    repeated: int = 0
    """clips that were heard before, and do not count"""
    clipped: int = 0
    """clips with samples at full scale, which do not count"""
    strange: int = 0
    """clips of an alarm, which do not count"""
    reason: str = ""
    """why the clip that was heard last does not count; empty when it does"""
    saved: int = 0
    """clips of those heard that are on the disk"""

    @property
    def machine(self) -> str:
        """Its name in the config."""
        return self.notebook.folder.name

    @property
    def minutes(self) -> float:
        """Of normal sound that counts."""
        return len(self.heard) * self.goal.clip_s / 60

    def said(self, wanted: float) -> str:
        """How far it is, for people."""
        said = coverage(self.minutes, wanted, self.heard.found_points())
        return said if self.every == 1 else f"{said}, one clip in {self.every}"

    def hear(self, clip: Evidence, day: int) -> None:
        """One clip of an ear that was well, and the day it is, by any calendar."""
        if clip.statistics.peak >= FULL_SCALE_DBFS:
            self.clipped += 1
            self.reason = "samples are at full scale; lower the gain by 10 dB"
            return
        admitted, strange = self.guard.admit(clip) if self.guard else ([clip], 0)
        self.strange += strange
        self.reason = "" if admitted else f"it is {OVER}; {ALARMS_ADVICE}"
        for each in admitted:
            self._take(each, day)
        if len(self.heard) - self.saved >= (SAVE_CLIPS if self.every == 1 else 1):
            self.save()

    def save(self) -> None:
        """For the same command to go on with; nothing of nothing."""
        if len(self.heard):
            self.notebook.keep_heard(self.heard, self.bundle.digest, self.key)
        self.saved = len(self.heard)

    def _take(self, clip: Evidence, day: int) -> None:
        self.passed += 1
        if len(self.heard) and self.passed < self.every:
            return
        if self.heard.knows(clip) or self.known.knows(clip):
            self.repeated += 1
            self.reason = "it was heard before: played again, or a recording that goes round"
            return
        self.heard, self.passed = self.heard.with_clip(clip, self.point, day), 0


OVER = "over the alarm threshold of what was learned before, and a few in a row are an alarm"
ALARMS_ADVICE = "if the machine was well, and only sounded otherwise, say so: --add, --alarms"


def coverage(minutes: float, wanted: float, points: int) -> str:
    """How far a lesson is, for people."""
    return f"{minutes:.1f} of {wanted:g} minutes, operating points: {points}"


def begin(
    config: Config, machine: str, opens: Opens, add: str | None = None, *, alarms: bool = False, every: int = 1
) -> Pupil:
    """Whoever is to hear the clips of this machine's bundle, and has heard those before an interruption.

    Args:
        config: of the daemon.
        machine: its name there.
        opens: opens bundles.
        add: operating point to be added to what is active; without, all is learned anew.
        alarms: clips count too of which the head that was learned before says that they are an alarm. Those of an
            operating point that is added always do.
        every: one clip of so many is learned.

    Raises:
        ConfigError: no such machine or no state folder; or the operating point is there already, or cannot be added.
        BundleError: the bundle cannot be used.
        UpdateRefused: the state folder cannot be used.
    """
    state, settings = state_of(config, machine), config.machines[machine]
    bundle = open_model(settings.bundle, state, config.trust.trust(), opens)
    notebook, key, windows = Notebook.of(state, machine), bundle.key(settings.head), bundle.manifest.windows
    point, known = _point(notebook, bundle, key, add)
    heard = notebook.heard(bundle.digest, key)
    if other := set(heard.points) - {point}:
        msg = f"a lesson on {', '.join(other)} is not over; finish it, or: edge-asd learn {machine} discard"
        raise ConfigError(msg)
    goal = Goal(windows.clip / windows.sample_rate, settings.alarm.on_delay)
    pupil = Pupil(state, notebook, bundle, key, point, known, heard, goal, every=every, saved=len(heard))
    if add is None and not alarms:
        pupil.guard = _guard(config, pupil)
    return pupil


def propose(pupil: Pupil, wanted: float) -> Proposal:
    """Fit a head to what was heard, and keep it as the candidate.

    Args:
        pupil: has listened.
        wanted: minutes that it was to listen.

    Raises:
        AudioError: what was heard is too little.
        BundleError: what is learned cannot be over the bundle.
        UpdateRefused: the state folder cannot be used.
    """
    if not len(pupil.heard):
        msg = (
            f"no clip counts: {pupil.repeated} were heard before, {pupil.clipped} were at full scale, {pupil.strange} "
            "are an alarm, none was new and fit; let the machine run, and listen"
        )
        raise AudioError(msg)
    bundle, key = pupil.bundle, pupil.key
    judged = lesson(pupil.state, pupil.machine, bundle.digest)
    together = pupil.known.plus(pupil.heard)
    learnt, refused = _taught(bundle.heads[key], _speaking(pupil.notebook, bundle, key), together, judged, pupil.goal)
    note = Note(
        machine=pupil.machine,
        bundle_sha256=bundle.digest,
        key=key,
        created=rfc3339(datetime.now(UTC)),
        card=learnt.card,
        points=learnt.memory.counts(),
    )
    slots = pupil.notebook.propose(note, learnt)
    return _proposal(pupil, learnt, slots.last, wanted, refused)


def state_of(config: Config, machine: str) -> Path:
    """The folder that keeps what is learned of a machine; ConfigError where there is none, or no such machine."""
    if machine not in config.machines:
        msg = f"no machine {machine!r} in the config, which has {', '.join(config.machines)}"
        raise ConfigError(msg)
    if config.state_dir is None:
        msg = "state_dir is off, so nothing that is learned can be kept; set it"
        raise ConfigError(msg)
    return config.state_dir


def _point(notebook: Notebook, bundle: Bundle, key: str, add: str | None) -> tuple[str, Memory]:
    """What the operating point is called, and what is known already."""
    if add is None:
        return FIRST, Memory()
    known = _active(notebook, bundle, key)
    if add in {FIRST, FALSE_ALARMS} or add in known.points or "\n" in add:
        names = ", ".join(known.counts())
        msg = f"--add {add!r}: the operating points {names} are known already; choose another name, in one line"
        raise ConfigError(msg)
    return add, known


def _guard(config: Config, pupil: Pupil) -> Guard | None:
    """None where nothing was learned of this machine: what a bundle of others finds strange is to be learned."""
    found = pupil.notebook.active(pupil.bundle)
    if found is None or found[1].note.key != pupil.key:
        return None
    alarm, overlay = config.machines[pupil.machine].alarm, found[1]
    card = overlay.note.card
    policy = alarm.policy(card.thresholds.alarm_for(alarm.on_delay), knows_days=card.knows_days)
    return Guard(overlay.head, policy)


def _active(notebook: Notebook, bundle: Bundle, key: str) -> Memory:
    found = notebook.active(bundle)
    if found is None or found[1].note.key != key:
        name = notebook.folder.name
        msg = f"nothing is learned yet that an operating point could be added to; first: edge-asd learn {name} --yes"
        raise BundleError(msg)
    return found[1].memory


def _speaking(notebook: Notebook, bundle: Bundle, key: str) -> Head:
    """By which the machine is judged now."""
    found = notebook.active(bundle)
    return found[1].head if found and found[1].note.key == key else bundle.heads[key]


def _taught(base: Head, now: Head, memory: Memory, judged: Lesson, goal: Goal) -> tuple[Learnt, str]:
    """With the false alarms as normal clips, unless the machine's known faults would not be heard any more; why not."""
    plain, taught = learn(base, memory, goal), memory
    for clips in judged.normals.values():
        for clip in clips:
            taught = taught if taught.knows(clip) else taught.with_clip(clip, FALSE_ALARMS)
    if len(taught) == len(memory):
        return plain, ""
    learnt = learn(base, taught, goal)
    reason = remember(now, learnt.head, judged.faults, learnt.card.thresholds.alarm).reason
    return (plain, reason) if reason else (learnt, "")


def _proposal(pupil: Pupil, learnt: Learnt, number: int, wanted: float, refused: str) -> Proposal:
    at = learnt.card.thresholds
    surprises = [learnt.head.calibration.surprise(score) for score in learnt.scores]
    return Proposal(
        machine=pupil.machine,
        number=number,
        minutes=pupil.minutes,
        wanted_minutes=wanted,
        points=learnt.memory.counts(),
        points_found=pupil.heard.found_points(),
        repeated=pupil.repeated,
        clipped=pupil.clipped,
        strange=pupil.strange,
        threshold=at.alarm,
        on_delay=at.on_delay,
        false_alarms_per_week=at.false_alarms_per_week,
        over=sum(surprise >= at.alarm for surprise in surprises),
        clips=len(surprises),
        left_out=learnt.left_out,
        refused=refused,
        few=len(surprises) < TRUSTED,
        days=learnt.card.days,
    )
