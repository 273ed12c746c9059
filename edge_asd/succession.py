"""How one model follows another while the daemon runs (``device.md`` section 7).

A model from the shelf first *shadows*: it hears the same pieces of sound as the one that speaks, in the same turns, and
only while the computer keeps up. Found fit, it takes over between two clips; the alarm stays what it is. Then the one
that spoke before *watches*, and speaks again as soon as the new one errs. Whatever takes long is an errand: fetching,
proving, reading, writing. Everything else happens in the daemon's loop.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from edge_asd.deliver.command import Action, Models, OnTrial, Pair, Shelved
from edge_asd.errand import Errand, Errands
from edge_asd.errors import BundleCorrupt, BundleError, EdgeAsdError, UpdateRefused
from edge_asd.model.fetch import fetch, permitted
from edge_asd.model.opening import INSTALLED, open_model, shelf
from edge_asd.model.shadow import Verdict
from edge_asd.observe.metric import Outcome
from edge_asd.understudy import MOVING, SPEAKS, Candidate, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from edge_asd.bundle import Bundle, Opens
    from edge_asd.deliver.command import ModelOrder
    from edge_asd.model.shelf import Installed, Shelf
    from edge_asd.observe.clock import Clock
    from edge_asd.observe.metric import Metrics
    from edge_asd.score.clip import ClipScore
    from edge_asd.score.queue import Piece
    from edge_asd.signature import Trust
    from edge_asd.ward import Mind, Ward

log = logging.getLogger("edge_asd")
T = TypeVar("T")

INCOMING = "incoming.asd"
"""what is being fetched, in the state folder"""
VERDICTS = {
    Verdict.FIT: (Stage.FIT, Outcome.FIT),
    Verdict.UNFIT: (Stage.UNFIT, Outcome.UNFIT),
    Verdict.UNDECIDED: (Stage.UNDECIDED, Outcome.UNDECIDED),
}
WARNED = {Outcome.UNFIT, Outcome.UNDECIDED, Outcome.RETURNED, Outcome.REFUSED}
"""outcomes that somebody should look at"""
BY_HAND = "an operator wanted the one before"


class Speaker(Protocol):
    """The daemon, as far as its models go."""

    clock: Clock
    metrics: Metrics

    def mind(self, machine: str, bundle: Bundle) -> Mind:
        """What a machine would be judged by, proven on this computer; from any thread.

        Raises:
            BundleError: not with this bundle.
        """
        ...

    def switched(self, ward: Ward) -> None:
        """A machine is judged by another model from now on."""
        ...

    def note(self, event: str, said: dict[str, Any]) -> None:
        """Write into the node's journal."""
        ...


@dataclass(frozen=True, slots=True)
class Fallen:
    """A model that could not be used when the daemon began, so that the one before speaks."""

    model: Installed
    reason: str


def opened(
    reference: str, state: Path | None, trust: Trust, opens: Opens, prove: Callable[[Bundle], T]
) -> tuple[T, list[Fallen]]:
    """What ``prove`` makes of the bundle that a machine is configured with, or of the installed one before it.

    Args:
        reference: as configured.
        state: where models are installed.
        trust: whose bundles are used.
        opens: how.
        prove: may raise BundleError.

    Raises:
        BundleError: it cannot be used here; nor can the one before it, if it is an installed one.
    """
    try:
        return prove(open_model(reference, state, trust, opens)), []
    except BundleError as error:
        if not reference.startswith(INSTALLED):
            raise
        there, name = shelf(state, trust), reference.removeprefix(INSTALLED)
        try:
            model = there.current(name)
            there.rollback(name)
        except BundleError:
            raise error from None
        try:
            return prove(open_model(reference, state, trust, opens)), [Fallen(model, str(error))]
        except BundleError:
            with suppress(BundleError):  # back to where it was, if that can be
                there.rollback(name)
            raise error from None


def _open(model: Installed, shelf: Shelf) -> Bundle:
    bundle = shelf.opens(model.path, trust=shelf.trust)
    if bundle.digest != model.digest:
        msg = f"{model.path}: is {bundle.digest[:16]}, installed was {_short(model)}; install it again"
        raise BundleCorrupt(msg)
    return bundle


class Succession:
    """Runs in the daemon's loop."""

    def __init__(
        self,
        shelf: Shelf | None,
        speaker: Speaker,
        clips: int,
        allowed: Sequence[str] = (),
        ca_file: Path | None = None,
    ) -> None:
        """Nothing is on trial yet, and nobody is listened to.

        Args:
            shelf: None: there is no folder for one.
            speaker: the daemon.
            clips: of each machine, for a verdict.
            allowed: addresses below which bundles may be fetched.
            ca_file: who vouches for their servers.
        """
        self._shelf, self._speaker, self._clips = shelf, speaker, clips
        self._wards: dict[str, list[Ward]] = {}
        self._allowed, self._ca_file = allowed, ca_file
        self._candidates: dict[str, Candidate] = {}
        self._names: dict[str, str] = {}
        self._errands = Errands()
        self.close = self._errands.close

    def admit(self, name: str, ward: Ward) -> None:
        """A machine is judged by the model of this name on the shelf; by none on it, if that is empty."""
        if name:
            self._wards.setdefault(name, []).append(ward)
            self._names[ward.name] = name

    def unready(self, name: str, mind: Mind) -> str:
        """Why a machine with this mind cannot be admitted now; empty when it can."""
        others = {ward.digest for ward in self._wards.get(name, ())} - {mind.digest}
        return self._changing(name) or (f"{name} is another model by now" if others else "")

    def fell(self, fallen: Fallen) -> None:
        """Tell of a model that could not be used when the daemon began."""
        self._tell(Outcome.RETURNED, fallen.model, fallen.reason)

    # What sound does

    def before(self, ward: Ward, start: int) -> bool:
        """Ahead of a piece of sound at ``start``: switch if that is due; whether a clip begins with the piece."""
        c = self._of(ward)
        if c and ward.name in c.due and ward.between:
            c.switch(ward, start)
            self._speaker.switched(ward)
            log.info("model.speaks", extra={"machine": ward.name, "model": c.model.name, "digest": ward.digest})
        return ward.between or start != ward.listener.end

    def after(self, ward: Ward, piece: Piece, scores: Iterable[ClipScore], *, begins: bool) -> None:
        """Behind it: let the other model hear it, and compare what both say of a clip."""
        c = self._of(ward)
        if c and c.stage in {Stage.SHADOW, Stage.WATCH} and ward.name in c.beside:
            ready = ward.followed(self._speaker.clock.monotonic())
            surprise = c.hear(ward, piece, scores, begins=begins, ready=ready)
            if surprise is not None:
                self._speaker.metrics.shadowed(ward.name, surprise)

    def failed(self, ward: Ward, error: Exception) -> None:
        """The model that speaks raised an error; if it is new, it does not stay."""
        c = self._of(ward)
        if c and c.stage in SPEAKS and ward.digest == c.model.digest:
            c.fail(ward.name, error)

    def trying(self, ward: Ward) -> bool:
        """Whether another model hears along with a machine, or is about to speak for it."""
        c = self._of(ward)
        return c is not None and (ward.name in c.beside or ward.name in c.due)

    def _of(self, ward: Ward) -> Candidate | None:
        return self._candidates.get(self._names.get(ward.name, ""))

    # What time does

    def attend(self) -> None:
        """Go on: errands that are back, verdicts, ends."""
        self._errands.attend()
        for c in self._candidates.values():
            match c.stage:
                case Stage.SHADOW if c.verdict is not Verdict.PENDING:
                    self._judge(c)
                case Stage.SWITCHING | Stage.WATCH if c.verdict is Verdict.UNFIT:
                    self._return(c, c.complaint, Outcome.RETURNED)
                case Stage.SWITCHING if not c.due:
                    c.stage = Stage.WATCH
                case Stage.RETURNING if not c.due:
                    self._finish(c, c.end)
                case Stage.WATCH if not c.proving and (c.verdict is not Verdict.PENDING or not c.beside):
                    self._prove(c)

    def _judge(self, c: Candidate) -> None:
        stage, outcome = VERDICTS[c.verdict]
        c.stage, c.reason = stage, c.complaint
        if stage is Stage.UNDECIDED:
            c.reason = "the model that speaks finds hardly a clip normal"
        self._tell(outcome, c.model, c.reason)
        self._hush(c)
        if stage is not Stage.FIT:
            c.minds, c.bundle = {}, None
        elif c.activate:
            self._take_over(c)

    def _prove(self, c: Candidate) -> None:
        """Score once more the golden waveforms, with what has been speaking here."""
        bundle, machines = c.bundle, list(c.minds)
        c.proving = True

        def work() -> None:
            for machine in machines:
                if bundle:
                    self._speaker.mind(machine, bundle)

        def keep(_: None) -> None:
            if c.stage is Stage.WATCH:
                self._tell(Outcome.KEPT, c.model)
                self._finish(c, Stage.KEPT)

        def drop(error: Exception) -> None:
            self._return(c, str(error), Outcome.RETURNED)

        self._errands.send(Errand(f"prove {_short(c.model)}", work, keep, drop))

    def _take_over(self, c: Candidate) -> None:
        """Write it down as the current one, then switch."""
        c.stage, c.beside = Stage.LOADING, {}

        def then(_: Installed) -> None:
            c.stage, c.due, c.reason = Stage.SWITCHING, dict(c.minds), ""
            self._tell(Outcome.ACTIVATED, c.model)

        def work() -> Installed:
            return self._on_shelf().activate(c.model.name, c.model.digest)

        self._errands.send(Errand(f"activate {_short(c.model)}", work, then, self._ended(c)))

    def _return(self, c: Candidate, reason: str, outcome: Outcome) -> None:
        """The model before speaks again, machine by machine; the shelf follows."""
        if c.stage not in SPEAKS:
            return
        c.due, c.reason = {machine: u.mind for machine, u in c.beside.items()}, reason
        c.stage, c.end = Stage.RETURNING, Stage(str(outcome))
        self._tell(outcome, c.model, reason)
        name = c.model.name

        def failed(error: Exception) -> None:
            self._refuse(f"roll back {name} on disk", error)

        self._errands.send(Errand(f"roll back {name}", lambda: self._on_shelf().rollback(name), lambda _: None, failed))

    def _finish(self, c: Candidate, stage: Stage) -> None:
        self._hush(c)
        c.finish(stage)

    def _hush(self, c: Candidate) -> None:
        for machine in c.beside:
            self._speaker.metrics.shadowed(machine, None)

    def _ended(self, c: Candidate) -> Callable[[Exception], None]:
        def end(error: Exception) -> None:
            c.reason = str(error)
            self._finish(c, Stage.UNFIT)
            self._refuse(f"use {c.model.name} {_short(c.model)}", error)

        return end

    # What operators want

    def order(self, order: ModelOrder) -> Models:
        """Begin what is wanted; how things stand then.

        Raises:
            UpdateRefused: not now, or not like that.
            BundleError: there is no such model.
        """
        shelf, name = self._on_shelf(), order.name or ""
        match order.action:
            case Action.INSTALL:
                self._install(shelf, order.ref or "", order.sha256 or "")
            case Action.SHADOW:
                self._try(shelf.find(name, order.digest))
            case Action.ACTIVATE:
                self._activate(shelf.find(name, order.digest), at_once=order.at_once)
            case Action.ROLLBACK:
                self._roll_back(shelf, name)
            case Action.PIN:
                shelf.pin(name)
            case Action.UNPIN:
                shelf.unpin(name)
        return self._stand(shelf)

    def _install(self, shelf: Shelf, ref: str, sha256: str) -> None:
        self._idle()
        if not permitted(ref, self._allowed):
            msg = f"ref: {ref} is not below what the settings allow: {', '.join(self._allowed) or 'nothing'}"
            raise UpdateRefused(msg)

        def work() -> Installed:
            file = shelf.folder.parent / INCOMING
            try:
                fetch(ref, sha256, file, self._allowed, self._ca_file)
                return shelf.install(file)
            finally:
                file.unlink(missing_ok=True)

        def then(model: Installed) -> None:
            self._tell(Outcome.INSTALLED, model)

        def failed(error: Exception) -> None:
            self._refuse(f"install {ref}", error)

        self._errands.send(Errand(f"install {ref}", work, then, failed))

    def _try(self, model: Installed, *, activate: bool = False, at_once: bool = False) -> None:
        """Load it beside the one that speaks."""
        self._idle()
        mine = self._machines(model.name)
        if {ward.digest for ward in mine} == {model.digest}:
            msg = f"digest: {_short(model)} speaks already for {', '.join(ward.name for ward in mine)}"
            raise UpdateRefused(msg)
        self._still(model.name)
        c = self._candidates[model.name] = Candidate(model, self._clips, activate, at_once)

        def then(got: tuple[Bundle, dict[str, Mind]]) -> None:
            c.begin(*got)
            log.info("model.shadow", extra={"model": model.name, "digest": model.digest, "clips": self._clips})
            if c.at_once:
                self._take_over(c)

        self._errands.send(Errand(f"load {_short(model)}", lambda: self._load(model), then, self._ended(c)))

    def _activate(self, model: Installed, *, at_once: bool) -> None:
        c = self._candidates.get(model.name)
        stage = c.stage if c and c.model.digest == model.digest else None
        if c and (stage is Stage.FIT or (stage is Stage.SHADOW and at_once)):
            self._take_over(c)
        elif c and stage is Stage.SHADOW:
            c.activate = True
        elif c and stage in {Stage.UNFIT, Stage.UNDECIDED} and not at_once:
            msg = f"digest: {_short(model)} is {stage} ({c.reason}); mend it, or overrule that with at_once"
            raise UpdateRefused(msg)
        else:
            self._try(model, activate=True, at_once=at_once)

    def _roll_back(self, shelf: Shelf, name: str) -> None:
        before = self._candidates.get(name)
        if before and before.stage is Stage.WATCH:
            self._return(before, BY_HAND, Outcome.ROLLED_BACK)
            return
        self._idle()
        self._machines(name)
        self._still(name)
        if before:
            self._hush(before)
        c = self._candidates[name] = Candidate(shelf.current(name), self._clips, reason=BY_HAND, end=Stage.ROLLED_BACK)

        def work() -> tuple[Installed, dict[str, Mind]]:
            model = shelf.rollback(name)
            try:
                return model, self._load(model)[1]
            except EdgeAsdError:
                shelf.rollback(name)
                raise

        def then(got: tuple[Installed, dict[str, Mind]]) -> None:
            c.model, c.due = got
            c.stage = Stage.RETURNING
            self._tell(Outcome.ROLLED_BACK, c.model, BY_HAND)

        self._errands.send(Errand(f"roll back {name}", work, then, self._ended(c)))

    def _on_shelf(self) -> Shelf:
        if self._shelf is None:
            msg = "models: this node keeps no state, so nothing can be installed; give it a state_dir, and restart it"
            raise UpdateRefused(msg)
        return self._shelf

    def _idle(self) -> None:
        if busy := self._errands.busy:
            msg = f"models: busy ({busy}); wait until that is done"
            raise UpdateRefused(msg)

    def _still(self, name: str) -> None:
        if changing := self._changing(name):
            msg = f"name: {changing}; wait until it is done, or roll it back"
            raise UpdateRefused(msg)

    def _changing(self, name: str) -> str:
        c = self._candidates.get(name)
        return f"{name} is changing ({c.stage}, {_short(c.model)})" if c and c.stage in {*MOVING, Stage.WATCH} else ""

    def _machines(self, name: str) -> Sequence[Ward]:
        if name not in self._wards:
            names = ", ".join(self._wards) or "none"
            msg = f'name: no machine has bundle = "installed:{name}"; names in use: {names}'
            raise UpdateRefused(msg)
        return self._wards[name]

    def _load(self, model: Installed) -> tuple[Bundle, dict[str, Mind]]:
        """Open it, prove it for each machine, and see that it wants the sound that there is; an errand's work.

        Raises:
            BundleError: it cannot speak here without a restart, or at all.
        """
        bundle = _open(model, self._on_shelf())
        for ward in self._machines(model.name):
            wanted, given = bundle.manifest.windows, ward.listener.windows
            if (wanted.sample_rate, wanted.clip) != (given.sample_rate, given.clip):
                msg = f"{model.path}: wants clips of {wanted.clip} samples at {wanted.sample_rate} hertz, {ward.name} "
                msg += f"has {given.clip} at {given.sample_rate}; activate it while the daemon is stopped"
                raise BundleError(msg)
        return bundle, {ward.name: self._speaker.mind(ward.name, bundle) for ward in self._machines(model.name)}

    # What is told

    def _stand(self, shelf: Shelf) -> Models:
        """What is installed, what is on trial, and what is being done."""
        trials = tuple(_on_trial(name, candidate) for name, candidate in self._candidates.items())
        return Models(installed=tuple(map(_shelved, shelf.list())), trials=trials, busy=self._errands.busy or None)

    def _tell(self, outcome: Outcome, model: Installed, reason: str = "") -> None:
        said = {"model": model.name, "version": model.version, "digest": model.digest}
        self._write(outcome, said | ({"reason": reason} if reason else {}))

    def _refuse(self, what: str, error: Exception) -> None:
        self._write(Outcome.REFUSED, {"what": what, "reason": str(error)})

    def _write(self, outcome: Outcome, said: dict[str, Any]) -> None:
        log.log(logging.WARNING if outcome in WARNED else logging.INFO, f"model.{outcome}", extra=said)  # noqa: G004 - a name
        self._speaker.note(f"model_{outcome}", said)
        self._speaker.metrics.updated(outcome)


def _short(model: Installed) -> str:
    return model.digest[:16]


def _shelved(model: Installed) -> Shelved:
    names = ("name", "version", "created", "digest", "signer", "role", "pinned")
    return Shelved(**{name: getattr(model, name) for name in names})


def _on_trial(name: str, c: Candidate) -> OnTrial:
    said = {machine: u.said for machine, u in c.beside.items() if u.said}
    return OnTrial(
        name=name,
        digest=c.model.digest,
        version=c.model.version,
        stage=c.stage,
        reason=c.reason or None,
        clips=min((u.trial.normal for u in c.beside.values()), default=0),
        clips_needed=c.clips,
        scores={machine: Pair(speaks=pair[0], hears_along=pair[1]) for machine, pair in said.items()},
    )
