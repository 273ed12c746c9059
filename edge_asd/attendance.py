"""A lesson for which a source is opened: ``edge-asd learn`` where no daemon listens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.commission import judge, record
from edge_asd.errors import AudioError
from edge_asd.lesson import begin, propose, state_of
from edge_asd.signal.profile import profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_asd.commission import Recording
    from edge_asd.config import Config
    from edge_asd.deliver.payload import Proposal
    from edge_asd.learn.memory import Memory
    from edge_asd.lesson import Pupil
    from edge_asd.score.part import Evidence

    Progress = Callable[[float, str], None]
    """told the minutes of sound that count so far, and how far that is, for people"""

KEPT_S = 60.0
"""of sound that is judged; all before is forgotten but for its features"""
OWED = frozenset({"sound", "headroom"})
"""findings of which each makes a lesson worthless; a gap costs the clip it is in and no more"""


def attend(
    config: Config,
    machine: str,
    minutes: float,
    add: str | None = None,
    *,
    alarms: bool = False,
    progress: Progress,
) -> Proposal:
    """Listen until so much was heard, or the source has ended, and keep a candidate.

    Interrupted, it keeps what was heard; the same call goes on. Audio that is unfit by the findings of commissioning is
    refused whole, for nobody knows since when it was.

    Args:
        config: of the daemon.
        machine: its name there.
        minutes: of normal sound.
        add: operating point to be added to what is active; without, all is learned anew.
        alarms: clips of alarms count, too.
        progress: told clip by clip.

    Raises:
        ConfigError: no such machine or no state folder; or the operating point is there already, or cannot be added.
        BundleError: the bundle cannot be used, or what is learned cannot be over it.
        SourceError: the source delivers nothing.
        AudioError: what was heard is unfit, or too little.
        UpdateRefused: the state folder cannot be used.
    """
    opens = config.engine.engine(state_of(config, machine)).open  # what computes for the daemon, too
    pupil = begin(config, machine, opens, add, alarms=alarms)
    if (missing := 60 * (minutes - pupil.minutes)) > 0:
        _listen(config, pupil, missing, lambda: progress(pupil.minutes, pupil.said(minutes)))
    return propose(pupil, minutes)


def _listen(config: Config, pupil: Pupil, seconds: float, tell: Callable[[], None]) -> None:
    settings, before = config.machines[pupil.machine], pupil.heard

    def hear(clip: Evidence) -> None:
        pupil.hear(clip, datetime.now(UTC).toordinal())
        tell()

    listener = replace(pupil.bundle.scorer(settings.head), overhear=hear)
    try:
        heard = record(config, settings.source, listener, seconds, KEPT_S, progress=lambda _: None)
    finally:
        pupil.save()
    _refuse_unfit(heard, pupil, before)


def _refuse_unfit(heard: Recording, pupil: Pupil, before: Memory) -> None:
    """AudioError where the sound is not fit; then what was heard since the last interruption is forgotten."""
    findings = judge(heard, profile(np.concatenate(heard.pieces), heard.rate))
    unfit = [f"{finding.what}: {finding.said}" for finding in findings if finding.what in OWED and not finding.well]
    if unfit:
        pupil.notebook.keep_heard(before, pupil.bundle.digest, pupil.key)
        msg = f"what was heard is not fit to learn from: {'; '.join(unfit)}; mend that, and learn again"
        raise AudioError(msg)
