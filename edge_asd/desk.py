"""Where alarms are decided, remembered and announced, and where operators are obeyed.

Whatever happens to an alarm is one change: its state, its events with their numbers, and the reply to whoever asked.
The store keeps it whole or not at all, and only then is it told (decision 9).
"""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from edge_asd.alarm import alarm as acts
from edge_asd.alarm import drift
from edge_asd.alarm.alarm import Suppression, Transition
from edge_asd.alarm.flood import observe, tick
from edge_asd.deliver.command import (
    Ack,
    Calibrate,
    Discover,
    HealthCheck,
    Label,
    ModelOrder,
    OfMachine,
    OutOfService,
    Refusal,
    Reset,
    Restart,
    Shelve,
    Snapshot,
    Suppress,
    Teaching,
    Threshold,
    Unshelve,
    answer,
    answer_again,
    meant,
    parse,
    record,
    refuse,
)
from edge_asd.deliver.message import Verb, rfc3339
from edge_asd.deliver.payload import Labelled
from edge_asd.deliver.publisher import Incoming
from edge_asd.deliver.store import Change
from edge_asd.deliver.topic import wire
from edge_asd.deliver.voice import NOBODY, Act, Stamp, flood_event
from edge_asd.errors import AlarmRefused, AudioError, BundleError, CommandRefused, UpdateRefused
from edge_asd.judgement import Judgement
from edge_asd.observe.clock import clock_synced

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from edge_asd.alarm.alarm import Alarm
    from edge_asd.alarm.flood import Flood, FloodNotice
    from edge_asd.deliver.command import Command, Gate, Models, Request, Result, Saved
    from edge_asd.deliver.control import Asked
    from edge_asd.deliver.message import Message
    from edge_asd.deliver.payload import AlarmState, Health, LessonState, ThresholdSet
    from edge_asd.deliver.publisher import Publisher
    from edge_asd.deliver.store import Store
    from edge_asd.feedback import Feedback
    from edge_asd.observe.clock import Clock
    from edge_asd.observe.metric import Metrics
    from edge_asd.score.clip import ClipScore
    from edge_asd.ward import Ward

log = logging.getLogger(__name__)

AUDIT_S = 5.0
"""commands that changed nothing are written down together, lest whoever sends many wears out the flash"""
AUDITED = 500
"""of them, between two writings; the log has them all"""
KEEP_S = 60.0
"""how often the time left of shelving is written down"""
EPISODE = {Transition.ACTIVATED, Transition.RETURNED, Transition.LATCHED, Transition.CHATTERING}
"""what a flood holds back; what an operator does is always told"""
BESIDE_THE_POINT = {Suppression.BY_DESIGN, Suppression.OUT_OF_SERVICE}
"""the machine is off, or being worked at: it says nothing of its usual days"""


class Node(Protocol):
    """The daemon as the desk knows it: what it speaks with, and what operators can ask of it as a whole."""

    clock: Clock
    boot_id: str
    metrics: Metrics
    publisher: Publisher
    feedback: Feedback

    def health(self) -> Health:
        """How it is."""
        ...

    def introduce(self) -> None:
        """Say again what is here."""
        ...

    def snapshot(self, ward: Ward, seconds: float) -> Saved:
        """Keep what was heard last.

        Raises:
            AudioError: it cannot be kept.
        """
        ...

    def model(self, order: ModelOrder) -> Models:
        """Begin to change the models.

        Raises:
            UpdateRefused: not now, or not like that.
            BundleError: there is no such model.
        """
        ...

    def calibrate(self, ward: Ward, request: Calibrate) -> LessonState:
        """Have a machine taught; how it stands then.

        Raises:
            UpdateRefused: not now, or not like that.
        """
        ...

    def stop(self) -> None:
        """Whoever watches over the daemon starts it again."""
        ...


class Desk:
    """Runs in the daemon's loop; nothing here waits but for the disk."""

    def __init__(self, wards: Mapping[str, Ward], gate: Gate, store: Store, node: Node, flood: Flood) -> None:
        """Take up the alarms where the last daemon left them."""
        self._wards, self._gate, self._store, self._node, self._flood = wards, gate, store, node, flood
        self._event_seq, self._held = store.event_seq, 0
        self._last = self._kept = self._audited = node.clock.monotonic()
        self._audit: deque[bytes] = deque(maxlen=AUDITED)
        for ward in wards.values():
            self.admit(ward)

    def admit(self, ward: Ward) -> None:
        """Take up the alarm of a machine where the last daemon left it."""
        if text := self._store.recall().get(ward.name):
            ward.recall(text)
        self._node.metrics.alarm(ward.name, ward.alarm)
        self._show_drift(ward)

    def introduce(self) -> None:
        """Tell each alarm as it stands."""
        now = self._node.clock.wall()
        for ward in self._wards.values():
            state = ward.voice.alarm(self._stamp(self._event_seq, now), ward.standing)
            self._node.publisher.publish(self._gate.topics.alarm(state))

    # What sound and time do

    def judge(self, ward: Ward, clip: ClipScore) -> tuple[Transition, ...]:
        """Fold a clip into the alarm of its machine; what it did to it."""
        now, before = self._node.clock.wall(), ward.alarm
        ward.clip = clip
        ward.alarm, transitions = acts.advance(ward.policy, before, clip.surprise, clip.start)
        if ward.alarm.active is not before.active:
            ward.since = ward.when(ward.alarm.since or 0, now)
        ended = ward.when(clip.start + clip.samples, now)
        self._announce(ward, transitions, ended)
        if not ward.alarm.active and ward.alarm.suppression not in BESIDE_THE_POINT:
            self._follow(ward, clip, ended)
        return transitions

    def elapse(self) -> None:
        """Time has passed: shelving may have ended, or a flood."""
        now = self._node.clock.monotonic()
        passed, self._last = now - self._last, now
        for ward in self._wards.values():
            ward.alarm, transitions = acts.elapse(ward.alarm, passed)
            self._announce(ward, transitions, self._node.clock.wall())
        self._flood, notice = tick(self._flood, now)
        if notice:
            self._keep(_Draft([self._flooded(notice)]))
        if self._audit and now - self._audited > AUDIT_S:
            self._audited = now
            self._keep(_Draft())
        if now - self._kept > KEEP_S:
            self._kept = now
            self._keep_shelves()
        self._store.flush()

    def _announce(self, ward: Ward, transitions: tuple[Transition, ...], at: datetime) -> None:
        if transitions:
            draft = _Draft()
            for transition in transitions:
                self._tell(draft, ward, transition, at)
            self._keep(draft, ward)

    def _follow(self, ward: Ward, clip: ClipScore, at: datetime) -> None:
        """See whether the scores change slowly; once an hour of them is full, it is written down."""
        ward.drift, shift = drift.observe(ward.chart, ward.drift, clip.score)
        if ward.drift.scores:
            return
        draft = _Draft()
        if shift:
            event = ward.voice.drift(self._next(at), ward.standing, shift)
            draft.events.append(self._gate.topics.event(event))
            level = logging.WARNING if shift.begins else logging.INFO
            said = {"machine": ward.name, "before": shift.before, "now": shift.now, "advice": shift.advice}
            log.log(level, f"score.{event.event}", extra=said)  # noqa: G004 - a name
        self._keep(draft, ward)
        self._show_drift(ward)

    def _show_drift(self, ward: Ward) -> None:
        self._node.metrics.drifting(ward.name, drift.reach(ward.chart, ward.drift), lasting=ward.drift.lasting)

    def _tell(self, draft: _Draft, ward: Ward, transition: Transition, at: datetime) -> None:
        held, notice = self._hold(ward, transition)
        if held:
            self._note(draft, ward, transition, at)
        else:
            self._add(draft, ward, transition, at, NOBODY)
        if notice:
            draft.events.append(self._flooded(notice))

    def _hold(self, ward: Ward, transition: Transition) -> tuple[bool, FloodNotice | None]:
        """Whether a flood keeps it from the wire."""
        if transition is Transition.ACTIVATED and ward.alarm.suppression is Suppression.NONE:
            self._flood, held, notice = observe(self._flood, self._node.clock.monotonic(), ward.name)
            return held, notice
        return transition in EPISODE and ward.name in self._flood.hidden, None

    def _add(self, draft: _Draft, ward: Ward, transition: Transition, at: datetime, act: Act) -> None:
        event, draft.state = ward.voice.transition(self._next(at), transition, ward.standing, act)
        ward.raised_by = event.alarm_id
        draft.events.append(self._gate.topics.event(event))
        level = logging.WARNING if act is NOBODY else logging.INFO
        surprise = ward.clip and round(ward.clip.surprise, 2)
        log.log(level, f"alarm.{transition}", extra={"machine": ward.name, "surprise": surprise, "by": act.by})  # noqa: G004 - a name

    def _note(self, draft: _Draft, ward: Ward, transition: Transition, at: datetime) -> None:
        """For the journal only: it has an id, but no number on the wire."""
        self._held += 1
        stamp = self._stamp(self._event_seq, at)
        event, state = ward.voice.transition(stamp, transition, ward.standing)
        own = {"id": f"{self._node.boot_id}-held-{self._held}"}
        own |= {"alarm_id": own["id"]} if transition is Transition.ACTIVATED else {}
        draft.state = state.model_copy(update=own)
        ward.raised_by = draft.state.alarm_id
        draft.notes.append(json.dumps(json.loads(wire(event)) | own | {"event_seq": None, "held": True}).encode())

    def _flooded(self, notice: FloodNotice) -> Message:
        event = flood_event(self._gate.topics.node, self._next(self._node.clock.wall()), notice)
        self._node.metrics.flooded(lasting=self._flood.lasting)
        log.warning(f"flood.{notice.stage}", extra={"machines": dict(notice.counts), "held": notice.held})  # noqa: G004 - a name
        return self._gate.topics.flood(event)

    def _keep_shelves(self) -> None:
        if shelved := {n: w.text() for n, w in self._wards.items() if w.alarm.shelved_s is not None}:
            self._store.commit(Change(self._event_seq, states=shelved))

    def _keep(self, draft: _Draft, ward: Ward | None = None, receipts: Mapping[str, bytes] | None = None) -> None:
        """Write down, then tell."""
        states = {ward.name: ward.text()} if ward else {}
        notes = (*self._audit, *draft.notes)
        self._audit.clear()
        self._store.commit(
            Change(self._event_seq, tuple(draft.events), notes, states, receipts or {}),
        )
        if draft.state:
            self._node.publisher.publish(self._gate.topics.alarm(draft.state))
        if ward:
            self._node.metrics.alarm(ward.name, ward.alarm)
        self._node.publisher.wake()

    # What operators do

    def obey(self, incoming: Incoming, gate: Gate | None = None) -> Message | None:
        """Carry out what came in, whether it is meant for us or not; the answer, if anybody is to have one."""
        try:
            command = parse(incoming, gate or self._gate, self._node.clock.wall(), clock_synced=clock_synced())
            return self._repeat(command) or self._carry_out(command)
        except CommandRefused as refused:
            verb = incoming.topic.rpartition("/")[2][:32]
            said = {"verb": verb, "reason": refused.reason, "said": str(refused)}
            log.warning("command.refused", extra=said)
            self.note("refused", said)
            self._node.metrics.commanded(verb, "refused")
            return refuse(self._gate.topics, incoming, refused, self._node.clock.wall())

    def ask(self, asked: Asked) -> bytes:
        """The same for the person at the box, who may command everything."""
        body = {"by": asked.by, "ts": rfc3339(self._node.clock.wall())} | asked.body
        incoming = Incoming(f"{self._gate.topics.root}/cmd/{asked.verb}", json.dumps(body).encode(), retained=False)
        everything = replace(self._gate, allowed=frozenset(Verb))
        reply = self.obey(incoming, everything)
        return reply.payload if reply else b""

    def note(self, event: str, said: dict[str, Any]) -> None:
        """Write into the journal, soon: what changes no alarm, and must be known all the same."""
        fields = {name: value for name, value in said.items() if name != "ts"}
        self._audit.append(json.dumps({"event": event, "ts": rfc3339(self._node.clock.wall())} | fields).encode())

    def _repeat(self, command: Command) -> Message | None:
        transaction = command.request.transaction
        receipt = self._store.receipt(transaction) if transaction else None
        return answer_again(command, receipt) if receipt else None

    def _carry_out(self, command: Command) -> Message:
        draft, request, now = _Draft(), command.request, self._node.clock.wall()
        ward = self._wards[request.machine] if isinstance(request, OfMachine) else None
        try:
            result = self._of_machine(draft, command, ward) if ward else self._of_node(request)
        except (AlarmRefused, AudioError, BundleError, UpdateRefused) as refused:
            reason = Refusal.CONDITION if isinstance(refused, AlarmRefused | UpdateRefused) else Refusal.FAILED
            raise CommandRefused(str(refused), reason, request.transaction) from refused
        reply = answer(self._gate.topics, command, now, result)
        self._node.metrics.commanded(command.verb, "ok")
        if isinstance(request, Calibrate) and request.action is Teaching.STATUS:
            return reply  # who looks on asks every second; written down, it would wear out the flash
        if draft.events or not isinstance(request, HealthCheck | Discover | ModelOrder):
            receipts = {request.transaction: reply.payload} if request.transaction else {}
            self._keep(draft, ward, receipts)
        log.info("command.done", extra=(said := record(command)))
        if not draft.events:
            self.note("command", said)
        return reply

    def _of_machine(self, draft: _Draft, command: Command, ward: Ward) -> Result:
        meant(command, ward.raised_by)
        request, now = command.request, self._node.clock.wall()
        act = Act(request.by, request.comment, request.transaction)
        match request:
            case Threshold():
                ward.heed(request.value)
                event = ward.voice.threshold(self._next(now), ward.standing, act, own=request.value is not None)
            case Label():
                return self._label(draft, request, ward, act)
            case Snapshot():
                return self._node.snapshot(ward, request.seconds)
            case Calibrate():
                return self._node.calibrate(ward, request)
            case _:
                ward.alarm, transitions = _done(ward.alarm, request)
                for transition in transitions:
                    self._add(draft, ward, transition, now, act)
                return ward.voice.condition(ward.standing, now)
        draft.events.append(self._gate.topics.event(event))
        return cast("ThresholdSet | Labelled", event.detail)

    def _label(self, draft: _Draft, request: Label, ward: Ward, act: Act) -> Labelled:
        """Keep what was said of an alarm; said before, it is no event."""
        now, told = self._node.clock.wall(), self._judged(request, ward)
        alarm_id, windows = told["alarm_id"], ward.listener.windows
        judgement = Judgement(
            machine=ward.name,
            alarm_id=alarm_id,
            verdict=request.verdict,
            fault=request.fault,
            comment=act.comment,
            by=act.by,
            labelled=rfc3339(now),
            clip_s=windows.clip / windows.sample_rate,
            event=self._told(ward, alarm_id) or told,
        )
        news, sound = self._node.feedback.keep(ward, judgement), self._node.feedback.audible(alarm_id)
        label = Labelled(
            event_id=told["id"], verdict=request.verdict, fault=request.fault, alarm_id=alarm_id, sound=sound
        )
        if news:
            draft.events.append(self._gate.topics.event(ward.voice.label(self._next(now), ward.standing, act, label)))
        return label

    def _judged(self, request: Label, ward: Ward) -> dict[str, Any]:
        event_id = request.event_id or ward.raised_by
        told = self._told(ward, event_id) if event_id else None
        if told is None or not told.get("alarm_id"):
            msg = f"event_id: {event_id} is no event of an alarm of {ward.name} that is remembered; "
            raise CommandRefused(msg + "`edge-asd events` lists them", Refusal.INVALID, request.transaction)
        return told

    def _told(self, ward: Ward, event_id: str) -> dict[str, Any] | None:
        """The event of that id, as the journal has it."""
        bodies = (json.loads(entry.body) for entry in self._store.history(machine=ward.name))
        return next((body for body in bodies if body.get("id") == event_id), None)

    def _of_node(self, request: Request) -> Health | Models | None:
        match request:
            case ModelOrder():
                return self._model(request)
            case Discover():
                self._node.introduce()
            case Restart():
                self._node.stop()
            case _:
                return self._node.health()
        return None

    def _model(self, order: ModelOrder) -> Models:
        if order.missing:
            msg = f"{order.missing}: is missing; {order.action} needs it: {_described(order.missing)}"
            raise CommandRefused(msg, Refusal.INVALID, order.transaction)
        return self._node.model(order)

    # Numbers

    def _next(self, at: datetime) -> Stamp:
        self._event_seq += 1
        return self._stamp(self._event_seq, at)

    def _stamp(self, seq: int, at: datetime) -> Stamp:
        return Stamp(self._node.boot_id, seq, at, clock_synced())


@dataclass(slots=True)
class _Draft:
    """A change that is being written."""

    events: list[Message] = field(default_factory=list)
    notes: list[bytes] = field(default_factory=list)
    state: AlarmState | None = None
    """to be retained"""


def _described(field: str) -> str:
    return str(ModelOrder.model_fields[field].description)


def _done(alarm: Alarm, request: Request) -> acts.Change:
    """What an operator asks for, done to the alarm.

    Raises:
        AlarmRefused: it does not allow that as it stands.
    """
    match request:
        case Ack():
            return acts.acknowledge(alarm)
        case Reset():
            return acts.reset(alarm)
        case Shelve():
            return acts.shelve(alarm, 60 * request.minutes, one_shot=request.one_shot)
        case Unshelve():
            return acts.unshelve(alarm)
        case Suppress():
            return acts.suppress(alarm, on=request.on)
        case OutOfService():
            return acts.withdraw(alarm, on=request.on)
    raise AssertionError(request)
