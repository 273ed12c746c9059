"""What a running daemon makes of what is learned meanwhile, by ``edge-asd learn`` beside it.

A candidate hears along with the head that speaks, whose bundle is the same; what both say of the same clips is shown
and counted, for whoever is to commit it. What was committed, or undone, speaks from the next clip on. The alarm stays
what it is. While another model is on trial everything here waits.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edge_asd.errand import Errand, Errands
from edge_asd.learn.notebook import SLOTS, Notebook
from edge_asd.model.shadow import Trial
from edge_asd.understudy import Understudy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from edge_asd.observe.clock import Clock
    from edge_asd.observe.metric import Metrics
    from edge_asd.score.clip import ClipScore
    from edge_asd.score.queue import Piece
    from edge_asd.ward import Mind, Ward

log = logging.getLogger(__name__)

LOOK_S = 10.0
"""between two looks whether somebody has learned, committed or undone"""
CLIPS = 20
"""that a candidate hears along before it is told what came of it"""


class Speaker(Protocol):
    """The daemon, as far as what is learned goes."""

    clock: Clock
    metrics: Metrics

    def learned(self, machine: str) -> Lessons:
        """What is learned of a machine, proven on this computer; from any thread.

        Raises:
            BundleError: its bundle cannot be used.
            UpdateRefused: what is learned cannot be read.
        """
        ...

    def switched(self, ward: Ward) -> None:
        """A machine is judged by another head from now on."""
        ...

    def note(self, event: str, said: dict[str, Any]) -> None:
        """Write into the node's journal."""
        ...


@dataclass(frozen=True, slots=True)
class Lessons:
    """By what a machine is to be judged, and by what it might be."""

    active: Mind
    candidate: Mind | None


@dataclass(slots=True)
class Apprentice:
    """A candidate beside the head that speaks."""

    understudy: Understudy
    clips: int = 0
    over: int = 0
    """of them, those over its alarm threshold"""
    spoken_over: int = 0
    """those over that of the head that speaks"""

    def compare(self, ward: Ward, spoken: Iterable[ClipScore], along: Iterable[ClipScore]) -> None:
        """Count the clips that both have scored."""
        said = {clip.start: clip.surprise for clip in spoken}
        for clip in along:
            if clip.start in said:
                self.clips += 1
                self.over += clip.surprise >= self.understudy.mind.threshold
                self.spoken_over += said[clip.start] >= ward.policy.threshold
                self.understudy.said = said[clip.start], clip.surprise


@dataclass(slots=True)
class School:
    """Runs in the daemon's loop."""

    state: Path | None
    wards: Collection[Ward]
    speaker: Speaker
    trying: Callable[[Ward], bool]
    """whether another model is on trial for a machine"""
    _look_at: float = -math.inf
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    _due: dict[str, Mind] = field(default_factory=dict)
    _beside: dict[str, Apprentice] = field(default_factory=dict)
    _errands: Errands = field(default_factory=Errands)

    def close(self) -> None:
        """Nothing is read any more."""
        self._errands.close()

    def look(self) -> None:
        """Something was learned, committed or undone: see it in this round."""
        self._look_at = -math.inf

    def attend(self) -> None:
        """Look now and then whether something is new; it is read beside the loop."""
        self._errands.attend()
        now = self.speaker.clock.monotonic()
        if self.state is None or now < self._look_at or self._errands.busy:
            return
        self._look_at = now + LOOK_S
        for ward in self.wards:
            stamp = _stamp(Notebook.of(self.state, ward.name).folder / SLOTS)
            if stamp != self._seen.get(ward.name, (0, 0)) and not self.trying(ward):
                self._seen[ward.name] = stamp
                self._read(ward)

    def before(self, ward: Ward, start: int) -> None:
        """Ahead of a piece of sound at ``start``: what is due speaks, if a clip begins."""
        if ward.name in self._due and ward.between and not self.trying(ward):
            mind = self._due.pop(ward.name)
            if mind.digest != ward.digest:  # another model has taken over meanwhile, and knows what is learned itself
                return
            ward.adopt(mind, start)
            self.speaker.switched(ward)
            self._tell("learnt.speaks", ward, {"version": mind.model.version})

    def after(self, ward: Ward, piece: Piece, scores: Iterable[ClipScore], *, begins: bool) -> None:
        """Behind it: let a candidate hear it."""
        apprentice = self._beside.get(ward.name)
        if apprentice is None or self.trying(ward):
            return
        before = apprentice.clips
        try:
            ready = ward.followed(self.speaker.clock.monotonic())
            apprentice.compare(ward, scores, apprentice.understudy.hear(piece, begins=begins, ready=ready))
        except Exception as error:  # noqa: BLE001 - whatever a candidate does, the machine is heard
            self._hush(ward, f"it raised {type(error).__name__}: {error}")
            return
        if apprentice.clips > before and apprentice.understudy.said:
            self.speaker.metrics.shadowed(ward.name, apprentice.understudy.said[1])
            if apprentice.clips == CLIPS:
                self._tell("learnt.heard_along", ward, _found(apprentice))

    def _read(self, ward: Ward) -> None:
        def then(lessons: Lessons) -> None:
            self._hush(ward)
            if lessons.active.model.version != ward.voice.model.version:
                self._due[ward.name] = lessons.active
            if lessons.candidate:
                self._beside[ward.name] = Apprentice(Understudy(lessons.candidate, Trial()))
                self._tell("learnt.hears_along", ward, {"version": lessons.candidate.model.version})

        def otherwise(error: Exception) -> None:
            log.warning("learnt.ignored", extra={"machine": ward.name, "reason": str(error)})

        name = ward.name
        self._errands.send(
            Errand(f"read what is learned of {name}", lambda: self.speaker.learned(name), then, otherwise)
        )

    def _hush(self, ward: Ward, reason: str = "") -> None:
        """Nobody hears along any more."""
        if self._beside.pop(ward.name, None):
            self.speaker.metrics.shadowed(ward.name, None)
        if reason:
            self._tell("learnt.failed", ward, {"reason": reason})

    def _tell(self, event: str, ward: Ward, said: dict[str, Any]) -> None:
        log.info(event, extra={"machine": ward.name} | said)
        self.speaker.note(event.replace(".", "_"), {"machine": ward.name} | said)


def _found(apprentice: Apprentice) -> dict[str, Any]:
    version = apprentice.understudy.mind.model.version
    said = {"clips": apprentice.clips, "over": apprentice.over, "spoken_over": apprentice.spoken_over}
    return {"version": version} | said


def _stamp(path: Path) -> tuple[int, int]:
    """What differs when a file was replaced; zeros without one."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino
