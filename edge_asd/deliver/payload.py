"""What is said: the shapes of the payloads that people build on (``device.md`` section 2.3).

Field names are snake_case, a ``schema`` string names each shape, and changes only add. Numbers are finite, times are
UTC. ``docs/mqtt`` holds the same as JSON Schema (:mod:`edge_asd.deliver.schema`).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from edge_asd.alarm.alarm import Priority, State, Suppression, Transition
from edge_asd.alarm.drift import Quantity
from edge_asd.alarm.flood import FloodStage
from edge_asd.capture.source import SourceState
from edge_asd.deliver.message import NAME, Verb, rfc3339

Moment = Annotated[
    datetime,
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": "Z$"}, mode="serialization"),
]
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]


class Shape(BaseModel):
    """Frozen, closed, finite: what is not in the contract cannot be sent."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class Model(Shape):
    """Which bundle speaks, and what computes it."""

    id: str
    version: str
    backend: str
    precision: str


class _Said(Shape):
    """What every message begins with that speaks of a moment."""

    node: Name
    id: str
    """unique for ever; consumers drop repeats by it"""
    boot_id: str
    """differs after every start of the daemon"""
    ts: Moment
    """end of the clip it speaks of, or when somebody acted"""
    clock_synced: bool
    """false: the node's clock was not set by anybody, so order by the numbers instead"""
    late: bool = False
    """replayed after the broker was away: what happened then, not what is now"""


class _OfMachine(_Said):
    machine: Name
    source: Name
    """whose sound it is"""


class Score(_OfMachine):
    """What one clip sounded like."""

    shape: Literal["edge_asd.score/1"] = Field(default="edge_asd.score/1", alias="schema")
    seq: int
    """counts the node's scores since the daemon started; a gap is a loss"""
    clip_seconds: float
    segments: int
    segments_valid: int
    score: float
    """surprise: -log10 of the probability that a normal clip sounds as strange"""
    threshold: float
    """score from which on a clip argues for an alarm"""
    health_index: int
    """10 as in training, 4 at the threshold, down to 1"""
    segment_scores: tuple[float, ...]
    level_dbfs: float
    parts: dict[str, float]
    """how unusual each part of the evidence is, standard deviations"""
    model: Model


class Condition(Shape):
    """The alarm as it stands, in OPC UA Part 9 words."""

    state: State
    active: bool
    acked: bool
    """somebody knows; true also while there is nothing to know"""
    latched: bool
    """the sound is normal again, and the alarm stays until it is reset"""
    suppression: Suppression
    """the strongest reason not to present the alarm; it is evaluated all the same"""
    shelved_until: Moment | None
    """null when not shelved"""
    one_shot: bool
    """shelving also ends when the sound is normal again"""
    by_design: bool
    out_of_service: bool
    priority: Priority
    chattering: bool
    """comes and goes so often that it must stay away longer to return"""
    since: Moment | None
    """beginning of the clips that brought this condition; null before the first alarm"""
    repeat_count: int
    """alarms raised ever"""


class Evidence(Shape):
    """What the latest clip sounded like, and how it was judged."""

    score: float
    threshold: float
    deadband: float
    on_delay_seconds: float
    clips_over: int
    """clips at or above the threshold in the episode"""
    sum: float | None = None
    """what the latest clips had beyond 0.8, each counting for 1.6 at most, added up and never below 0: what is a little
    strange for long; null where that raises no alarm, as the head does not know several days"""
    sum_limit: float | None = None
    """sum that raises the alarm"""
    health_index: int
    level_dbfs: float
    segment_scores: tuple[float, ...]
    parts: dict[str, float]
    bands: dict[str, float] = Field(default_factory=dict)
    """share of each frequency band in how far the spectrum is from normal, by mid-band frequency in hertz: the largest
    five; none when no part that counts looks at the spectrum"""
    indicators: dict[str, float] = Field(default_factory=dict)
    """share of level, crest and kurtosis in how far they are from normal together"""
    nearest: str | None = None
    """the normal clip it is most like, by the beginning of its file's SHA-256, or of what was learned on the device by
    operating point and number; null when the bundle names none"""
    words: tuple[str, ...] = ()
    """of the parts that are off what each says, as ``spectrum 4.2 σ: band 3.1–4.0 kHz +9.3 dB``; who adds most to the
    score speaks first, but for a sum of more than half its limit"""


class _OfAlarm(_OfMachine):
    event_seq: int
    """counts the node's events for ever, without gaps; the alarm bears that of its latest event"""
    alarm_id: str | None
    """id of the event that raised the present or last alarm; null before the first"""
    alarm: Condition
    evidence: Evidence | None
    """null before the first clip since the daemon started"""
    model: Model


class AlarmState(_OfAlarm):
    """The alarm of a machine, retained: what a subscriber that comes late must know."""

    shape: Literal["edge_asd.alarm/1"] = Field(default="edge_asd.alarm/1", alias="schema")


class Notice(StrEnum):
    """What an event tells besides the alarm's own transitions; the condition stays as it is."""

    THRESHOLD = "threshold"
    """somebody set another alarm threshold"""
    LABELLED = "labelled"
    """somebody said whether an alarm was true"""
    DRIFTED = "drifted"
    """the scores have changed slowly: something to look at, and no alarm"""
    SETTLED = "settled"
    """the scores are again as they were"""


class ThresholdSet(Shape):
    """Another alarm threshold."""

    kind: Literal["threshold"] = "threshold"
    threshold: float
    """in force from now on"""
    own: bool
    """set by somebody; false: the bundle's or the configuration's again"""


class Labelled(Shape):
    """Somebody's verdict on an alarm, to learn from."""

    kind: Literal["label"] = "label"
    event_id: str
    """the event that is judged"""
    verdict: bool
    """true: the machine had something"""
    fault: str | None
    """what it was"""
    alarm_id: str = ""
    """the alarm that the event belongs to: by this name the label is kept"""
    sound: bool = False
    """its sound was kept, so that it can be learned from; false: the label is kept without"""


class Drifted(Shape):
    """A slow change of a machine's scores."""

    kind: Literal["drift"] = "drift"
    quantity: Quantity
    """of a day's scores: their median, or what one clip in ten exceeds"""
    before: float
    """its mean over the days that are the measure, as a fused score: standard deviations of the training clips"""
    spread: float
    """standard deviation of those days"""
    now: float
    """that of the latest day"""
    days: int
    """how many are the measure: days of clips that were judged"""
    advice: str
    """what to do, for people"""


Detail = Annotated[ThresholdSet | Labelled | Drifted, Field(discriminator="kind")]


class Event(_OfAlarm):
    """One transition of an alarm, or one thing done about it: never retained, never lost."""

    shape: Literal["edge_asd.event/1"] = Field(default="edge_asd.event/1", alias="schema")
    event: Transition | Notice
    by: str | None = None
    """who did it; null: nobody, or nobody said"""
    comment: str | None = None
    transaction: str | None = None
    """of the command that did it"""
    detail: Detail | None = None
    """of ``threshold``, ``labelled``, ``drifted`` and ``settled``"""


class FloodEvent(_Said):
    """So many alarms come that one notice for all takes the place of each; never retained, never lost."""

    shape: Literal["edge_asd.flood/1"] = Field(default="edge_asd.flood/1", alias="schema")
    event_seq: int
    """counts the node's events for ever, without gaps"""
    event: FloodStage
    machines: dict[Name, int]
    """activations by machine: those that made the flood when it began, later those held back since"""
    held: int
    """activations held back since the notice before"""


class Proposal(Shape):
    """What a lesson came to."""

    machine: Name
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
    clipped: int
    """clips with samples at full scale, which do not count"""
    strange: int
    """clips of an alarm, by the head that was learned before, which do not count"""
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
    few: bool
    """so few clips that more alarms will be false than the threshold promises: add to them, or learn longer"""
    days: int = 1
    """on which they were heard; of five or more, and by fifty clips, it knows how days differ, and what is a little
    strange for long raises the alarm, too"""


class LessonStage(StrEnum):
    """How far a machine's lesson is."""

    IDLE = "idle"
    """nobody teaches; what was heard before may be kept"""
    BEGINNING = "beginning"
    LISTENING = "listening"
    FITTING = "fitting"
    PAUSED = "paused"
    """what was heard is kept, and the same order goes on with it"""
    DONE = "done"
    """it came to a ``proposal``"""
    REFUSED = "refused"
    """``reason`` says why"""


class LessonState(Shape):
    """What a machine is being taught, and what of it is in use; retained."""

    shape: Literal["edge_asd.lesson/1"] = Field(default="edge_asd.lesson/1", alias="schema")
    node: Name
    machine: Name
    ts: Moment
    stage: LessonStage
    said: str
    """how far it is, for people"""
    reason: str | None
    """listening: why the last sound does not count; refused: why there is no candidate"""
    minutes: float
    """of normal sound that counts so far"""
    wanted_minutes: float | None
    """null: nothing is ordered"""
    add: str | None
    """operating point that is being added; null: all is learned anew"""
    points_found: int
    """operating points that the spectra show so far"""
    unfit: int
    """clips that do not count because the source was not well, or samples were at full scale"""
    repeated: int
    """clips that do not count because they were heard before"""
    strange: int
    """clips that do not count because they are an alarm of the head that was learned before"""
    active: int
    """number of the learned head that judges, or will from the next clip on; 0: the bundle's own"""
    previous: int | None
    """number of what an undo leads to; null: there is nothing to go back to"""
    candidate: int | None
    """number of what waits to be committed; null: nothing does"""
    proposal: Proposal | None
    """what the lesson came to"""


class Device(Shape):
    """The microphone behind a source."""

    token: str
    name: str


class Source(Shape):
    """How an ear is, and why; retained."""

    shape: Literal["edge_asd.source/1"] = Field(default="edge_asd.source/1", alias="schema")
    node: Name
    source: Name
    state: SourceState
    reason: str
    since: Moment
    device: Device
    sample_rate_hz: int
    restarts: int


class SourceLevel(Shape):
    """How loud it is at an ear."""

    shape: Literal["edge_asd.level/1"] = Field(default="edge_asd.level/1", alias="schema")
    node: Name
    source: Name
    ts: Moment
    clock_synced: bool
    level_dbfs: float
    """root mean square; -120 is digital silence"""
    peak_dbfs: float
    bands: dict[str, float]
    """third octaves in dBFS by nominal mid-band frequency in hertz"""


class Info(Shape):
    """What runs here; retained."""

    shape: Literal["edge_asd.info/1"] = Field(default="edge_asd.info/1", alias="schema")
    node: Name
    boot_id: str
    ts: Moment
    """when the daemon started"""
    version: str
    versions: dict[str, str] = Field(default_factory=dict)
    """of what it rests on"""
    config_sha256: str | None = None
    """of the settings in force; nodes set up alike have the same"""
    commands: tuple[Verb, ...] = ()
    """what it may be asked"""
    machines: dict[Name, Model]
    sources: tuple[Name, ...]


class Check(Shape):
    """One thing that must be well."""

    name: str
    well: bool
    said: str
    """what was found, for people"""


class Backlog(Shape):
    """What waits for the broker, and what never will arrive."""

    messages: int
    size_bytes: int
    kept: bool
    """on disk; false: in memory only, because the disk fails"""
    trouble: str | None
    """why it is not kept"""
    dropped: dict[Literal["event", "score"], int]
    """lost since the daemon started"""


class Health(Shape):
    """How the node itself is; retained, each minute, and the answer to a health check."""

    shape: Literal["edge_asd.health/1"] = Field(default="edge_asd.health/1", alias="schema")
    node: Name
    boot_id: str
    ts: Moment
    clock_synced: bool
    version: str
    uptime_s: float
    scored: int
    """machines of which a clip was scored since the start"""
    well: bool
    """every check is"""
    checks: tuple[Check, ...]
    outbox: Backlog
    disk_free_bytes: int | None
    """where the outbox lies; null when it is kept in memory by choice"""
    temperature_celsius: float | None
    """of the processor; null when nothing measures it"""
