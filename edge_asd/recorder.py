"""Keeps the sound of alarms, and what operators ask for; nothing, unless the settings say so.

Whatever the disk does, the daemon listens on: an alarm without its sound is an alarm all the same.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from edge_asd.deliver.command import Saved
from edge_asd.deliver.message import rfc3339
from edge_asd.errors import AudioError
from edge_asd.observe.evidence import FOLDER, LONGEST_S, Archive, Kept, Tail

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edge_asd.config import EvidenceSettings
    from edge_asd.observe.clock import Clock
    from edge_asd.observe.metric import Metrics
    from edge_asd.score.clip import ClipScore
    from edge_asd.signal.segment import Block
    from edge_asd.ward import Ward

log = logging.getLogger(__name__)

MOST_S = 120.0
"""of an alarm's recording; one with more clips than that is heard from there on"""
SLACK_S = 5.0
"""sound that may come in one piece, behind the end of the clip that it makes whole"""


class Recorder:
    """Runs in the daemon's loop."""

    def __init__(
        self, settings: EvidenceSettings, state: Path | None, wards: Collection[Ward], clock: Clock, metrics: Metrics
    ) -> None:
        """Without a place to keep state, or unless enabled, nothing is remembered of what is heard."""
        self._settings, self._wards, self._clock, self._metrics = settings, wards, clock, metrics
        self._archive: Archive | None = None
        self._tails: dict[str, Tail] = {}
        self._failing = False
        if settings.enabled and state:
            self._archive = Archive(state / FOLDER, int(settings.quota_mb * 1e6), int(settings.free_mb * 1e6))
            metrics.stored(self._archive.used())
            for ward in wards:
                self.admit(ward)
            reason = f"the sound of alarms is kept in {state / FOLDER}, speech too where it is heard"
            log.warning("evidence.enabled", extra={"reason": reason})

    def admit(self, ward: Ward) -> None:
        """A machine is listened to from now on; what its source has said so far is forgotten."""
        if self._archive:
            self._tails[ward.ear.name] = Tail(self._longest(ward, self._wards))

    def hear(self, source: str, block: Block) -> None:
        """Audio came in."""
        if source in self._tails:
            self._tails[source].push(block)

    def raised(self, ward: Ward, clip: ClipScore) -> None:
        """This clip has raised an alarm: keep all clips that did, and what came before them."""
        if self._archive is None:
            return
        rate, end = ward.listener.windows.sample_rate, clip.start + clip.samples
        since = clip.start if ward.alarm.since is None else ward.alarm.since
        start = max(since - int(self._settings.pre_roll_s * rate), end - int(MOST_S * rate))
        first, samples = self._tails[ward.ear.name].between(start, end)
        about = {"event_id": ward.raised_by, "alarm_begins_s": max(since - first, 0) / rate}
        try:
            self._keep(self._archive, ward, samples, first, about)
            self._failing = False
        except AudioError as error:
            if not self._failing:
                log.error("evidence.lost", extra={"machine": ward.name, "reason": str(error)})  # noqa: TRY400 - the reason says it
            self._failing = True

    def snapshot(self, ward: Ward, seconds: float) -> Saved:
        """Keep the last of what was heard.

        Raises:
            AudioError: the settings forbid it, nothing was heard, or the disk fails.
        """
        if self._archive is None:
            msg = "no sound is kept here; set evidence.enabled = true where no speech is heard"
            raise AudioError(msg)
        rate = ward.listener.windows.sample_rate
        samples = self._tails[ward.ear.name].last(int(seconds * rate))
        if not samples.size:
            msg = f"nothing was heard of {ward.name} yet"
            raise AudioError(msg)
        about = {"event_id": None, "alarm_begins_s": None}
        kept = self._keep(self._archive, ward, samples, ward.ear.heard - samples.size, about)
        return Saved(file=str(kept.file), seconds=samples.size / rate, sha256=kept.sha256)

    def _keep(
        self, archive: Archive, ward: Ward, samples: NDArray[np.float32], first: int, about: dict[str, Any]
    ) -> Kept:
        now, rate = self._clock.wall(), ward.listener.windows.sample_rate
        about |= {"began": rfc3339(ward.when(first, now)), "source": ward.ear.name} | _judged(ward)
        try:
            kept = archive.keep(ward.name, samples, rate, ward.when(first + samples.size, now), about)
        except AudioError:
            self._metrics.not_kept()
            raise
        self._metrics.kept(kept.evicted, kept.total)
        log.info("evidence.kept", extra={"machine": ward.name, "file": str(kept.file), "event_id": about["event_id"]})
        return kept

    def _longest(self, ward: Ward, wards: Collection[Ward]) -> int:
        """Samples of its source to remember, that each machine there may find what it needs."""
        rate = ward.listener.windows.sample_rate
        needs = [
            self._settings.pre_roll_s + other.policy.on_delay * other.listener.windows.clip / rate
            for other in wards
            if other.ear is ward.ear
        ]
        return int(rate * (SLACK_S + max(LONGEST_S, *(min(need, MOST_S) for need in needs))))


def _judged(ward: Ward) -> dict[str, Any]:
    """How the latest clip was judged, and by what."""
    evidence = ward.voice.evidence(ward.alarm, ward.clip).model_dump(mode="json") if ward.clip else None
    return {"evidence": evidence, "model": ward.voice.model.model_dump(mode="json"), "bundle_sha256": ward.digest}
