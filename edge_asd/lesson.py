"""A lesson: listen to a machine that runs normally, and learn it. Proposes; what counts is for a person to say."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.commission import judge, record
from edge_asd.deliver.message import rfc3339
from edge_asd.errors import AudioError, BundleError, ConfigError
from edge_asd.judgement import lesson
from edge_asd.learn.fit import Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.learn.notebook import Notebook
from edge_asd.learn.overlay import Note
from edge_asd.model.opening import open_model
from edge_asd.score.forgetting import remember
from edge_asd.signal.profile import profile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_asd.bundle import Bundle
    from edge_asd.commission import Finding
    from edge_asd.config import Config
    from edge_asd.judgement import Lesson
    from edge_asd.learn.fit import Learnt
    from edge_asd.score.head import Head
    from edge_asd.score.part import Evidence

    Progress = Callable[[Memory, float], None]
    """told what was heard so far, and the seconds of a clip"""

KEPT_S = 60.0
"""of sound that is judged; all before is forgotten but for its features"""
FALSE_ALARMS = "false alarms"
"""operating point of the clips of alarms that somebody judged false"""
SAVE_S = 5.0
"""of time between two moments at which what was heard is put on the disk"""
OWED = frozenset({"sound", "headroom"})
"""findings of which each makes a lesson worthless; a gap costs the clip it is in and no more"""


@dataclass(slots=True)
class Pupil:
    """Listens along, clip by clip."""

    notebook: Notebook
    digest: str
    key: str
    point: str
    known: Memory
    """learned before, to which an operating point is added"""
    heard: Memory
    """in this lesson, the part before an interruption too"""
    clip_s: float
    progress: Progress
    repeated: int = 0
    """clips that were heard before, and do not count"""
    saved: float = field(default_factory=time.monotonic)

    def hear(self, evidence: Evidence) -> None:
        """One clip, found fit."""
        if self.heard.knows(evidence) or self.known.knows(evidence):
            self.repeated += 1
            return
        self.heard = self.heard.with_clip(evidence, self.point)
        self.progress(self.heard, self.clip_s)
        if time.monotonic() - self.saved >= SAVE_S:
            self.save()

    def save(self) -> None:
        """For the same command to go on with; nothing of nothing."""
        if len(self.heard):
            self.notebook.keep_heard(self.heard, self.digest, self.key)
        self.saved = time.monotonic()


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a lesson came to."""

    machine: str
    number: int
    """of the candidate"""
    minutes: float
    """of normal sound that counts, in this lesson"""
    wanted_minutes: float
    points: dict[str, int]
    """clips in the bank by operating point, as they were called"""
    points_found: int
    """operating points that the spectra of this lesson show"""
    repeated: int
    """clips that were heard before, and do not count"""
    threshold: float
    """surprise"""
    on_delay: int
    false_alarms_per_week: float
    over: int
    """of the clips learned from, those over the threshold, each left out of what judged it"""
    clips: int
    """learned from"""
    left_out: tuple[str, ...]
    """parts of the bundle's head that only training can fit"""
    refused: str
    """why false alarms were not learned as normal clips; empty when they were, or there are none"""


def attend(config: Config, machine: str, minutes: float, add: str | None = None, *, progress: Progress) -> Proposal:
    """Listen until so much was heard, or the source has ended, and keep a candidate.

    Interrupted, it keeps what was heard; the same call goes on. Audio that is unfit by the findings of commissioning is
    refused whole, for nobody knows since when it was.

    Args:
        config: of the daemon.
        machine: its name there.
        minutes: of normal sound.
        add: operating point to be added to what is active; without, all is learned anew.
        progress: told what was heard so far and how long a clip is, clip by clip.

    Raises:
        ConfigError: no such machine or no state folder; or the operating point is there already, or cannot be added.
        BundleError: the bundle cannot be used, or what is learned cannot be over it.
        SourceError: the source delivers nothing.
        AudioError: what was heard is unfit, or too little.
        UpdateRefused: the state folder cannot be used.
    """
    state = state_of(config, machine)
    settings = config.machines[machine]
    opens = config.engine.engine(state).open  # what computes for the daemon, too
    bundle = open_model(settings.bundle, state, config.trust.trust(), opens)
    listener, key, notebook = bundle.scorer(settings.head), bundle.key(settings.head), Notebook.of(state, machine)
    clip_s = listener.windows.clip / listener.windows.sample_rate
    pupil = _pupil(notebook, bundle, key, add)(clip_s, progress)
    listener.overhear = pupil.hear
    before = pupil.heard
    if (missing := 60 * minutes - len(before) * clip_s) > 0:
        try:
            heard = record(config, settings.source, listener, missing, KEPT_S, progress=lambda _: None)
        finally:
            pupil.save()
        findings = judge(heard, profile(np.concatenate(heard.pieces), heard.rate))
        _refuse_unfit(findings, notebook, pupil, before)
    if not len(pupil.heard):
        msg = (
            f"no clip counts: {pupil.repeated} were heard before, none was new and fit; let the machine run, and listen"
        )
        raise AudioError(msg)
    together = _joined(pupil.known, pupil.heard)
    goal = Goal(clip_s, settings.alarm.on_delay)
    judged = lesson(state, machine, bundle.digest)
    learnt, refused = _taught(bundle.heads[key], _speaking(notebook, bundle, key), together, judged, goal)
    note = Note(
        machine=machine,
        bundle_sha256=bundle.digest,
        key=key,
        created=rfc3339(datetime.now(UTC)),
        card=learnt.card,
        points=learnt.memory.counts(),
    )
    slots = notebook.propose(note, learnt)
    return _proposal(pupil, learnt, slots.last, minutes, clip_s, refused)


def state_of(config: Config, machine: str) -> Path:
    """The folder that keeps what is learned of a machine; ConfigError where there is none, or no such machine."""
    if machine not in config.machines:
        msg = f"no machine {machine!r} in the config, which has {', '.join(config.machines)}"
        raise ConfigError(msg)
    if config.state_dir is None:
        msg = "state_dir is off, so nothing that is learned can be kept; set it"
        raise ConfigError(msg)
    return config.state_dir


def _pupil(notebook: Notebook, bundle: Bundle, key: str, add: str | None) -> Callable[[float, Progress], Pupil]:
    """Who knows what is known, and wants to know how long a clip is and whom to tell."""
    point, known = add or FIRST, Memory()
    if add is not None:
        known = _active(notebook, bundle, key)
        if add in {FIRST, FALSE_ALARMS} or add in known.points or "\n" in add:
            names = ", ".join(known.counts())
            msg = f"--add {add!r}: the operating points {names} are known already; choose another name, in one line"
            raise ConfigError(msg)
    heard = notebook.heard(bundle.digest, key)
    if other := set(heard.points) - {point}:
        name = notebook.folder.name
        msg = f"a lesson on {', '.join(other)} is not over; finish it, or: edge-asd learn {name} discard"
        raise ConfigError(msg)
    return partial(Pupil, notebook, bundle.digest, key, point, known, heard)


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


def _refuse_unfit(findings: list[Finding], notebook: Notebook, pupil: Pupil, before: Memory) -> None:
    """AudioError where the sound is not fit; then what was heard since the last interruption is forgotten."""
    unfit = [f"{finding.what}: {finding.said}" for finding in findings if finding.what in OWED and not finding.well]
    if unfit:
        notebook.keep_heard(before, pupil.digest, pupil.key)
        msg = f"what was heard is not fit to learn from: {'; '.join(unfit)}; mend that, and learn again"
        raise AudioError(msg)


def _joined(known: Memory, heard: Memory) -> Memory:
    if not known.points:
        return heard
    features = {name: np.concatenate([value, heard.features[name]]) for name, value in known.features.items()}
    return Memory(known.points + heard.points, features)


def _proposal(pupil: Pupil, learnt: Learnt, number: int, minutes: float, clip_s: float, refused: str) -> Proposal:
    at = learnt.card.thresholds
    surprises = [learnt.head.calibration.surprise(score) for score in learnt.scores]
    return Proposal(
        machine=pupil.notebook.folder.name,
        number=number,
        minutes=len(pupil.heard) * clip_s / 60,
        wanted_minutes=minutes,
        points=learnt.memory.counts(),
        points_found=pupil.heard.found_points(),
        repeated=pupil.repeated,
        threshold=at.alarm,
        on_delay=at.on_delay,
        false_alarms_per_week=at.false_alarms_per_week,
        over=sum(surprise >= at.alarm for surprise in surprises),
        clips=len(surprises),
        left_out=learnt.left_out,
        refused=refused,
    )
