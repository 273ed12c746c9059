"""A model beside the one that speaks: how far it has come, what it says of the same clips, and what that proves."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from edge_asd.model.shadow import Heard, Trial, Verdict, compare, fail, together
from edge_asd.score.clip import ClipScore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_asd.bundle import Bundle
    from edge_asd.model.shelf import Installed
    from edge_asd.score.queue import Piece
    from edge_asd.ward import Mind, Ward


class Stage(StrEnum):
    """How far a model has come."""

    LOADING = "loading"
    """it is read and proven, or written down as the current one"""
    SHADOW = "shadow"
    """it hears along"""
    FIT = "fit"
    UNFIT = "unfit"
    UNDECIDED = "undecided"
    SWITCHING = "switching"
    """each machine at the end of its clip"""
    WATCH = "watch"
    """it speaks, and the one before hears along"""
    KEPT = "kept"
    RETURNING = "returning"
    """to the one before, each machine at the end of its clip"""
    RETURNED = "returned"
    ROLLED_BACK = "rolled_back"


SPEAKS = {Stage.SWITCHING, Stage.WATCH}
"""stages in which it may be judged for what it said aloud"""
MOVING = {Stage.LOADING, Stage.SWITCHING, Stage.RETURNING}
"""stages that end by themselves, and soon"""


@dataclass(slots=True)
class Understudy:
    """Hears one machine beside the model that speaks for it."""

    mind: Mind
    trial: Trial
    in_step: bool = False
    """it has heard the clip in progress from its beginning"""
    said: tuple[float, float] | None = None
    """surprise of the last clip that both scored: of the model that speaks, and its own"""

    def hear(self, piece: Piece, *, begins: bool, ready: bool) -> list[ClipScore]:
        """A piece that the model that speaks has heard; a clip that begins with it only if the computer is ready."""
        if begins:
            self.in_step = ready
            self.mind.listener.forget(piece.start)
        results = self.mind.listener.push(piece.block) if self.in_step else []
        return [result for result in results if isinstance(result, ClipScore)]


@dataclass(slots=True)
class Candidate:
    """A model that is to speak for all machines of one name on the shelf."""

    model: Installed
    clips: int
    """of each machine, for a verdict"""
    activate: bool = False
    """as soon as it is fit"""
    at_once: bool = False
    """as soon as it is loaded"""
    stage: Stage = Stage.LOADING
    reason: str = ""
    """why it is not fit, or did not stay"""
    end: Stage = Stage.RETURNED
    """after :attr:`Stage.RETURNING`"""
    bundle: Bundle | None = None
    minds: dict[str, Mind] = field(default_factory=dict)
    """by machine"""
    beside: dict[str, Understudy] = field(default_factory=dict)
    """who hears along, by machine: the model itself, later the one before it"""
    due: dict[str, Mind] = field(default_factory=dict)
    """whom to switch to at the end of the clip, by machine"""
    proving: bool = False
    """its golden waveforms are being scored once more"""

    @property
    def verdict(self) -> Verdict:
        """Of all machines together."""
        return together([understudy.trial.verdict for understudy in self.beside.values()])

    @property
    def complaint(self) -> str:
        """Why it is unfit."""
        return "; ".join(f"{name}: {u.trial.reason}" for name, u in self.beside.items() if u.trial.reason)

    def begin(self, bundle: Bundle, minds: dict[str, Mind]) -> None:
        """It is loaded, and hears along from the next clips on."""
        self.bundle, self.minds, self.stage = bundle, minds, Stage.SHADOW
        self.beside = {machine: Understudy(mind, Trial(self.clips)) for machine, mind in minds.items()}

    def hear(self, ward: Ward, piece: Piece, scores: Iterable[ClipScore], *, begins: bool, ready: bool) -> float | None:
        """A piece that the one that speaks made these scores of; its surprise at a clip that both have scored."""
        understudy = self.beside[ward.name]
        try:
            along = understudy.hear(piece, begins=begins, ready=ready)
        except Exception as error:  # noqa: BLE001 - whatever a model on trial does, the machine is heard
            self._drop(ward.name, error)
            return None
        spoken = {clip.start: clip for clip in scores}
        for clip in along:
            if clip.start in spoken:
                self._pair(ward, understudy, spoken[clip.start], clip)
                return clip.surprise
        return None

    def fail(self, machine: str, error: Exception) -> None:
        """It raised an error; one time is enough."""
        if machine in self.beside:
            understudy = self.beside[machine]
            understudy.trial = fail(understudy.trial, f"{type(error).__name__}: {error}")

    def finish(self, stage: Stage) -> None:
        """Nobody hears along any more."""
        self.stage, self.beside, self.minds, self.bundle = stage, {}, {}, None

    def switch(self, ward: Ward, start: int) -> None:
        """Let the one that is due speak from the clip on that begins at ``start``; the one before watches a new one."""
        former = ward.adopt(self.due.pop(ward.name), start)
        if self.stage is Stage.SWITCHING:
            self.beside[ward.name] = Understudy(former, Trial(self.clips))

    def _drop(self, machine: str, error: Exception) -> None:
        """What raises an error is not fit to speak, and no witness either."""
        if self.stage is Stage.SHADOW:
            self.fail(machine, error)
        else:
            del self.beside[machine]

    def _pair(self, ward: Ward, understudy: Understudy, spoken: ClipScore, along: ClipScore) -> None:
        threshold = understudy.mind.threshold if ward.threshold is None else ward.threshold
        loud, quiet = _heard(spoken, ward.policy.threshold), _heard(along, threshold)
        witness, tried = (loud, quiet) if self.stage is Stage.SHADOW else (quiet, loud)
        understudy.trial = compare(understudy.trial, witness, tried)
        understudy.said = spoken.surprise, along.surprise


def _heard(clip: ClipScore, threshold: float) -> Heard:
    return Heard(clip.score, clip.surprise, clip.surprise >= threshold)
