"""What a node lets itself be told, and what it answers (``device.md`` section 2.4).

A message becomes a command only when it is meant for this node, is allowed here, is fresh, and says nothing unknown.
Whoever sends anything else gets the reason in one word and a sentence on what to do. Everything that comes in is
taken for hostile: it is bounded before it is read, and no answer leaves the node's own topics.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from edge_asd.deliver.message import NAME, Kind, Message, Verb
from edge_asd.deliver.payload import Condition, Health, Labelled, LessonState, Moment, Name, Shape, ThresholdSet
from edge_asd.deliver.topic import Topics, wire
from edge_asd.errors import CommandRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from pydantic_core import ErrorDetails

    from edge_asd.deliver.publisher import Incoming

ALLOWED = frozenset(Verb) - {Verb.OUT_OF_SERVICE, Verb.THRESHOLD, Verb.RESTART, Verb.MODEL, Verb.CALIBRATE}
"""verbs that a node obeys unless its settings say otherwise; only these may come without ``ts``"""
LIMIT = 16 * 1024
"""bytes of a payload"""
FRESH_S = 60.0
"""seconds that ``ts`` may differ from our clock, back or ahead"""
DAY_MINUTES = 1440
COMPLAINTS = 5
"""mistakes told at once"""
SHOWN = 60
"""characters of a foreign value that are repeated"""


class Refusal(StrEnum):
    """Why a command is not obeyed."""

    RETAINED = "retained"
    FOREIGN = "foreign"
    UNKNOWN_VERB = "unknown_verb"
    NOT_ALLOWED = "not_allowed"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    INVALID = "invalid"
    UNKNOWN_MACHINE = "unknown_machine"
    NO_TS = "no_ts"
    STALE = "stale"
    TRANSACTION_USED = "transaction_used"
    """it named another command before"""
    OTHER_ALARM = "other_alarm"
    """meant for an alarm that is no longer the present one"""
    CONDITION = "condition"
    """the alarm does not allow it as it stands"""
    FAILED = "failed"
    """tried, and it did not work"""


# Requests -------------------------------------------------------------------------------------------------------------

Line = Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
Text = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]
Token = Annotated[str, Field(max_length=128, pattern=r"^[\x21-\x7e]+$")]


class Request(BaseModel):
    """What every command may say."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    transaction: Token | None = None
    """up to 128 printable characters without spaces, another for each command: sent twice, it is done once"""
    by: Line | None = None
    """who sends it: one line of up to 128 characters"""
    comment: Text | None = None
    """why: up to 1024 characters"""
    ts: AwareDatetime | None = None
    """when it was sent, as 2026-11-20T17:45:00Z"""


class OfMachine(Request):
    """A command to one machine."""

    machine: Name
    """one that the node listens to"""


class Ack(OfMachine):
    """Somebody knows of the alarm."""

    alarm_id: Token | None = None
    """the alarm that is meant, refused when it is no longer the present one; null: whichever stands"""


class Reset(OfMachine):
    """Let go an alarm that its latch holds."""

    alarm_id: Token | None = None
    """the alarm that is meant, refused when it is no longer the present one; null: whichever stands"""


class Shelve(OfMachine):
    """Do not present the alarm for a while."""

    minutes: float = Field(gt=0, le=DAY_MINUTES)
    """above 0, at most 1440; for longer, take the machine out of service"""
    one_shot: bool = False
    """true: also end when the sound is normal again"""


class Unshelve(OfMachine):
    """Present it again."""


class Suppress(OfMachine):
    """Do not present alarms while something makes them senseless, as when the machine is off."""

    on: bool
    """true or false"""


class OutOfService(OfMachine):
    """Do not present alarms until the machine is put back in service."""

    on: bool
    """true or false"""


class Threshold(OfMachine):
    """Another alarm threshold."""

    value: float | None = Field(gt=0, le=1000)
    """surprise, -log10 of a probability: above 0, at most 1000; null: the configured one again"""


class Label(OfMachine):
    """Whether an alarm was true, to learn from."""

    event_id: Token | None = None
    """id of the event that is judged; null: the one that raised the present or last alarm"""
    verdict: bool
    """true: the machine had something; false: a false alarm"""
    fault: Line | None = None
    """what it was: one line of up to 128 characters"""


class Snapshot(OfMachine):
    """Keep what is heard now."""

    seconds: float = Field(default=10.0, gt=0, le=60)
    """above 0, at most 60"""


class Teaching(StrEnum):
    """What can be done about what a machine is taught."""

    START = "start"
    STATUS = "status"
    PAUSE = "pause"
    COMMIT = "commit"
    UNDO = "undo"
    ABORT = "abort"


class Calibrate(OfMachine):
    """Learn the machine from what is heard of it while it runs normally."""

    action: Teaching
    """start: listen, or go on, and propose a head; pause: stop, and keep what was heard; abort: forget that, and what
    was proposed; commit: judge by what was proposed; undo: by what was before; status: how it stands"""
    minutes: float = Field(default=30.0, ge=0.5, le=240)
    """start: of normal sound, from 0.5 to 240"""
    add: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    """start: name of an operating point that is added to what is learned, one line of up to 64 characters; null: all
    is learned anew"""
    alarms: bool = False
    """start: true: clips of alarms are learned, too, because the machine is well and sounds otherwise now"""
    over_hours: float = Field(default=0.0, ge=0, le=1000)
    """start: hours that the minutes are taken from, a clip now and then, so that more is known than one day; 0: none
    is passed over"""


class HealthCheck(Request):
    """How is the node?"""


class Discover(Request):
    """Announce everything to Home Assistant again."""


class Restart(Request):
    """Start the daemon anew."""


class Action(StrEnum):
    """What can be done about models."""

    INSTALL = "install"
    LIST = "list"
    SHADOW = "shadow"
    ACTIVATE = "activate"
    ROLLBACK = "rollback"
    PIN = "pin"
    UNPIN = "unpin"


class ModelOrder(Request):
    """See the models that are installed, and change them while the node listens."""

    action: Action
    """install: fetch it; shadow: let it hear along; activate: let it hear along, then speak; rollback: let the one
    before speak; pin, unpin: nothing older than the current one any more, or again; list: how things stand"""
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$")] | None = None
    """of a model, as installed; needed by all but install and list"""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{4,64}$")] | None = None
    """first hex digits of what a model is known by; null: the one that was installed last and never used"""
    ref: Annotated[str, Field(max_length=1024, pattern=r"^https://[\x21-\x7e]+$")] | None = None
    """install: https address of the bundle, below one that the node's settings allow"""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """install: SHA-256 of the file, 64 hex digits"""
    at_once: bool = False
    """activate: true: let it speak without hearing along first, whatever was found"""

    @property
    def missing(self) -> str:
        """A field that the action needs and that was not sent; empty when there is none."""
        needed = {Action.INSTALL: ("ref", "sha256"), Action.LIST: ()}.get(self.action, ("name",))
        return next((field for field in needed if getattr(self, field) is None), "")


REQUESTS: Mapping[Verb, type[Request]] = {
    Verb.ACK: Ack,
    Verb.RESET: Reset,
    Verb.SHELVE: Shelve,
    Verb.UNSHELVE: Unshelve,
    Verb.SUPPRESS: Suppress,
    Verb.OUT_OF_SERVICE: OutOfService,
    Verb.THRESHOLD: Threshold,
    Verb.LABEL: Label,
    Verb.SNAPSHOT: Snapshot,
    Verb.HEALTH_CHECK: HealthCheck,
    Verb.DISCOVERY: Discover,
    Verb.RESTART: Restart,
    Verb.MODEL: ModelOrder,
    Verb.CALIBRATE: Calibrate,
}


@dataclass(frozen=True, slots=True)
class Command:
    """A request that may be carried out, and where its answer goes."""

    verb: Verb
    request: Request
    reply_to: str
    """topic; always one of the node's own"""
    correlation: bytes | None = None

    @property
    def machine(self) -> str | None:
        """Whom it is about; None for the node itself."""
        return self.request.machine if isinstance(self.request, OfMachine) else None


@dataclass(frozen=True, slots=True)
class Gate:
    """Who is listening, and what it lets itself be told."""

    topics: Topics
    machines: Collection[str]
    allowed: Collection[Verb] = ALLOWED


def parse(incoming: Incoming, gate: Gate, now: datetime, *, clock_synced: bool) -> Command:
    """What somebody sent, as a command to carry out.

    Args:
        incoming: as it came.
        gate: what may come in.
        now: wall time.
        clock_synced: whether ``now`` can be believed; ``ts`` is not judged otherwise.

    Raises:
        CommandRefused: it is none; ``reason`` is a :class:`Refusal`.
    """
    verb = _verb(incoming, gate)
    request = _request(REQUESTS[verb], incoming.payload)
    _check_machine(request, gate.machines)
    _check_age(verb, request, now if clock_synced else None)
    return Command(verb, request, _answer_topic(incoming, gate.topics, verb), incoming.correlation)


def meant(command: Command, alarm_id: str | None) -> None:
    """Check that a command is about the present alarm.

    Raises:
        CommandRefused: it names another, which came before or was never here.
    """
    named = getattr(command.request, "alarm_id", None)
    if named is not None and named != alarm_id:
        said = f"alarm_id: {named} is not the present alarm, that is {alarm_id or 'none'}; look at it, then send its id"
        raise CommandRefused(said, Refusal.OTHER_ALARM, command.request.transaction)


def _verb(incoming: Incoming, gate: Gate) -> Verb:
    if incoming.retained:
        said = "retained: commands are obeyed when they are sent, not kept; send it without retain, and clear the topic"
        raise CommandRefused(said, Refusal.RETAINED)
    word = _word(incoming.topic, gate.topics)
    if word is None:
        said = f"topic {_shown(incoming.topic)}: is not ours; use {gate.topics.root}/cmd/VERB"
        raise CommandRefused(said, Refusal.FOREIGN)
    transaction = _transaction(incoming.payload)
    if word not in list(Verb):
        said = f"{_shown(word)}: is unknown; allowed: {_listed(gate.allowed)}"
        raise CommandRefused(said, Refusal.UNKNOWN_VERB, transaction)
    if (verb := Verb(word)) not in gate.allowed:
        said = f"{verb}: is not allowed here; allowed: {_listed(gate.allowed)}; add it to the node's settings"
        raise CommandRefused(said, Refusal.NOT_ALLOWED, transaction)
    return verb


def _word(topic: str, topics: Topics) -> str | None:
    """The last level of a command's topic; None when it is not one of ours."""
    if topic == topics.roll_call:
        return Verb.HEALTH_CHECK
    before, _, word = topic.rpartition("/")
    return word if before == f"{topics.root}/cmd" else None


def _request(shape: type[Request], payload: bytes) -> Request:
    if len(payload) > LIMIT:
        said = f"payload: has {len(payload)} bytes; at most {LIMIT} are allowed"
        raise CommandRefused(said, Refusal.TOO_LARGE)
    try:
        return shape.model_validate_json(payload or b"{}")
    except ValidationError as error:
        details = error.errors(include_url=False)
        reason = Refusal.INVALID if details[0]["loc"] else Refusal.NOT_JSON
        said = "; ".join(_complaint(shape, detail) for detail in details[:COMPLAINTS])
        more = f"; and {len(details) - COMPLAINTS} more" if len(details) > COMPLAINTS else ""
        raise CommandRefused(said + more, reason, _transaction(payload)) from None


def _complaint(shape: type[Request], detail: ErrorDetails) -> str:
    """What was sent, what was allowed, what to do."""
    fields = shape.model_fields
    if not detail["loc"]:
        return f"payload: {_lower(detail['msg'])}; send one JSON object with {', '.join(fields)}"
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        return f"{_shown(name)}: is unknown; allowed: {', '.join(fields)}"
    allowed = f"send {fields[name].description}"
    if detail["type"] == "missing":
        return f"{name}: is missing; {allowed}"
    return f"{name}: {_lower(detail['msg'])}, got {_shown(detail['input'])}; {allowed}"


def _check_machine(request: Request, machines: Collection[str]) -> None:
    if isinstance(request, OfMachine) and request.machine not in machines:
        said = f"machine: {_shown(request.machine)} is not listened to; allowed: {', '.join(sorted(machines))}"
        raise CommandRefused(said, Refusal.UNKNOWN_MACHINE, request.transaction)


def _check_age(verb: Verb, request: Request, now: datetime | None) -> None:
    """Not too old and not from the future; ``now`` None: nobody can say."""
    if request.ts is None:
        if verb in ALLOWED:
            return
        said = f"ts: is missing; {verb} is obeyed only with the time it was sent, as 2026-11-20T17:45:00Z"
        raise CommandRefused(said, Refusal.NO_TS, request.transaction)
    if now is None:
        return
    age = (now - request.ts).total_seconds()
    if abs(age) > FRESH_S:
        where = "old" if age > 0 else "ahead"
        said = (
            f"ts: {request.ts.isoformat()} is {abs(age):.0f} s {where}, at most {FRESH_S:.0f} s are allowed; "
            "send it again, and compare the clocks"
        )
        raise CommandRefused(said, Refusal.STALE, request.transaction)


def _transaction(payload: bytes) -> str | None:
    """Of a request that may be wrong in every other way."""
    if len(payload) > LIMIT:
        return None
    try:
        return Request.model_validate({"transaction": from_json(payload)["transaction"]}).transaction
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def _listed(verbs: Collection[Verb]) -> str:
    return ", ".join(sorted(verbs)) or "none"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _shown(value: object) -> str:
    """A foreign value, printable and bounded."""
    shown = ascii(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"


# Answers --------------------------------------------------------------------------------------------------------------


class Saved(Shape):
    """Where sound was kept."""

    kind: Literal["saved"] = "saved"
    file: str
    seconds: float
    sha256: str


class Shelved(Shape):
    """A model that is installed."""

    name: str
    version: str
    created: str
    digest: str
    """SHA-256 that it is known by"""
    signer: str | None
    """id of the key that signed it; null: nobody did"""
    role: Literal["current", "previous", "candidate"]
    pinned: bool
    """nothing older than the current one of its name is let in"""


class Pair(Shape):
    """Surprise at the same clip."""

    speaks: float
    """of the model that the machine is judged by"""
    hears_along: float


class OnTrial(Shape):
    """A model that is to take over, or did lately."""

    name: str
    digest: str
    version: str
    stage: str
    """loading, shadow, fit, unfit, undecided, switching, watch, kept, returning, returned or rolled_back"""
    reason: str | None
    """why it is not fit, or did not stay"""
    clips: int
    """that were compared of the machine with the fewest"""
    clips_needed: int
    scores: dict[Name, Pair]
    """of the last clip, by machine"""


class Models(Shape):
    """How things stand with the models of a node."""

    kind: Literal["models"] = "models"
    installed: tuple[Shelved, ...]
    trials: tuple[OnTrial, ...]
    busy: str | None
    """what is being done; ask for the list later to see what came of it"""


Result: TypeAlias = Condition | Health | ThresholdSet | Labelled | Saved | Models | LessonState


class Reply(Shape):
    """What became of a command."""

    shape: Literal["edge_asd.reply/1"] = Field(default="edge_asd.reply/1", alias="schema")
    node: Name
    verb: str
    machine: Name | None
    transaction: str | None
    """as it was sent"""
    ts: Moment
    """when it was done, also in an answer that is given again"""
    status: Literal["ok", "error"]
    reason: Refusal | None = None
    """why not, in one word; null when it was done"""
    error: str | None = None
    """why not, and what to do; null when it was done"""
    data: Result | None = None
    """the alarm afterwards, the node's health, what was set or saved, or how a lesson stands"""


def answer(topics: Topics, command: Command, now: datetime, data: Result | None = None) -> Message:
    """The command was carried out. Keep the payload under its transaction."""
    transaction, machine = command.request.transaction, command.machine
    reply = Reply(
        node=topics.node, verb=command.verb, machine=machine, transaction=transaction, ts=now, status="ok", data=data
    )
    return Message(command.reply_to, wire(reply), Kind.REPLY, command.correlation)


def answer_again(command: Command, receipt: bytes) -> Message:
    """The same answer to the same transaction, without doing anything.

    Args:
        command: of a transaction that was answered before.
        receipt: the payload of that answer.

    Raises:
        CommandRefused: that was another command.
    """
    before = from_json(receipt)
    if (before["verb"], before["machine"]) != (command.verb, command.machine):
        said = (
            f"transaction: {command.request.transaction} was {before['verb']} of {before['machine'] or 'the node'} "
            "before; give each command a transaction of its own"
        )
        raise CommandRefused(said, Refusal.TRANSACTION_USED, command.request.transaction)
    return Message(command.reply_to, receipt, Kind.REPLY, command.correlation)


def refuse(topics: Topics, incoming: Incoming, refused: CommandRefused, now: datetime) -> Message | None:
    """The command was not carried out; None when nobody is to be told.

    Nobody waits for an answer to a retained message, and what is not ours is not ours to answer.
    """
    verb = _word(incoming.topic, topics)
    if incoming.retained or verb is None or not (NAME.fullmatch(verb) and len(verb) <= SHOWN):
        return None
    reply = Reply(
        node=topics.node,
        verb=verb,
        machine=None,
        transaction=refused.transaction,
        ts=now,
        status="error",
        reason=Refusal(refused.reason),
        error=str(refused),
    )
    return Message(_answer_topic(incoming, topics, verb), wire(reply), Kind.REPLY, incoming.correlation)


def _answer_topic(incoming: Incoming, topics: Topics, verb: str) -> str:
    """Where the sender wants it, as long as that lies under the node's own answers; else the usual place.

    A node that published wherever it is told would lend its rights to everybody who may send it a command.
    """
    wanted = incoming.response_topic or ""
    levels = wanted.removeprefix(topics.replies).split("/")
    ours = wanted.startswith(topics.replies) and all(map(NAME.fullmatch, levels)) and len(wanted) <= 256
    return wanted if ours else topics.replies + verb


def record(command: Command) -> dict[str, Any]:
    """What was asked, for the local journal: only what the sender set. A log has a ``name`` of its own."""
    said = command.request.model_dump(mode="json", exclude_unset=True)
    return {"verb": command.verb, **{"model" if field == "name" else field: value for field, value in said.items()}}
