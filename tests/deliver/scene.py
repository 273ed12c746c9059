"""One node with one machine, and everything it may say: for the tests of the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from edge_asd.alarm.alarm import Alarm, Policy, Transition
from edge_asd.alarm.drift import Quantity, Shift
from edge_asd.alarm.flood import FloodNotice, FloodStage
from edge_asd.capture.source import SourceState
from edge_asd.deliver.message import Message, Verb
from edge_asd.deliver.payload import (
    Backlog,
    Check,
    Device,
    Health,
    Info,
    Labelled,
    LessonStage,
    LessonState,
    Model,
    Proposal,
    Source,
)
from edge_asd.deliver.topic import Topics
from edge_asd.deliver.voice import Act, Stamp, Standing, Voice, flood_event, source_level
from edge_asd.score.clip import ClipScore, PartScore, Why
from edge_asd.signal.level import measure

NOON = datetime(2026, 11, 20, 12, 0, 0, 104_999, tzinfo=UTC)
MODEL = Model(id="pump", version="2026.11.1", backend="cpu", precision="int8")
VOICE = Voice("press-hall-3", "pump1", "mic0", MODEL, sample_rate=16_000, clip=160_000, policy=Policy(threshold=4.0))
STAMP = Stamp(boot_id="5b0f0d3c", seq=7, ts=NOON, clock_synced=True)
CLIP = ClipScore(
    start=0,
    samples=160_000,
    score=1.9,
    surprise=2.41,
    health_index=8,
    parts=(PartScore("bands", 1.5), PartScore("network", 2.25)),
    segment_scores=(2.25, 2.5),
    level_dbfs=-31.75,
    why=Why(
        {2500: 0.5, 125: 0.25},
        {"level": 0.75, "crest": 0.25},
        "0123456789abcdef",
        ("bands 1.5 σ: band 2.41–2.63 kHz +9.3 dB",),
    ),
)
TOPICS = Topics("press-hall-3")
RAISED = Alarm(active=True, acked=False, since=0, clips_over=3, count=1)
STANDING = Standing(RAISED, NOON - timedelta(seconds=30), None, CLIP)
SHIFT = Shift(begins=True, quantity=Quantity.MEDIAN, before=0.25, spread=0.125, now=1.5, days=28)
SMITH = Act(by="j.smith", comment="bearing greased", transaction="t-81")
HEALTH = Health(
    node="press-hall-3",
    boot_id="5b0f0d3c",
    ts=NOON,
    clock_synced=True,
    version="0.1.0",
    uptime_s=12.5,
    scored=1,
    well=False,
    checks=(Check(name="mic0", well=False, said="lost"),),
    outbox=Backlog(messages=3, size_bytes=2048, kept=True, trouble=None, dropped={"event": 0, "score": 1}),
    disk_free_bytes=10**9,
    temperature_celsius=None,
)
SOURCE = Source(
    node="press-hall-3",
    source="mic0",
    state=SourceState.LOST,
    reason="device_removed",
    since=NOON,
    device=Device(token="usb-id:0d8c:0014:", name="USB Audio Device"),  # noqa: S106 - names a microphone
    sample_rate_hz=48_000,
    restarts=2,
)
INFO = Info(
    node="press-hall-3",
    boot_id="5b0f0d3c",
    ts=NOON,
    version="0.1.0",
    versions={"numpy": "2.2.0"},
    config_sha256="0" * 64,
    commands=(Verb.ACK, Verb.HEALTH_CHECK),
    machines={"pump1": MODEL},
    sources=("mic0",),
)
PROPOSAL = Proposal(
    machine="pump1",
    number=4,
    minutes=30.0,
    wanted_minutes=30.0,
    points={"first": 180},
    points_found=2,
    repeated=0,
    clipped=1,
    strange=0,
    threshold=1.6,
    on_delay=3,
    false_alarms_per_week=1.0,
    over=4,
    clips=180,
    left_out=(),
    refused="",
    few=False,
)
LESSON = LessonState(
    node="press-hall-3",
    machine="pump1",
    ts=NOON,
    stage=LessonStage.LISTENING,
    said="12.0 of 30 minutes, operating points: 2",
    reason=None,
    minutes=12.0,
    wanted_minutes=30.0,
    add=None,
    points_found=2,
    unfit=1,
    repeated=0,
    strange=0,
    active=3,
    previous=0,
    candidate=None,
    proposal=None,
)
ALARMS = {
    "normal": Alarm(),
    "active_unacked": RAISED,
    "active_acked": replace(RAISED, acked=True),
    "rtn_unacked": replace(RAISED, active=False),
    "latched_unacked": replace(RAISED, active=False, latched=True),
    "latched_acked": replace(RAISED, active=False, latched=True, acked=True),
    "shelved": replace(RAISED, shelved_s=600.0, one_shot=True),
    "by_design": replace(RAISED, by_design=True),
    "out_of_service": replace(RAISED, by_design=True, out_of_service=True),
}
"""every state, and every suppression"""


def events() -> list[Message]:
    """One of every kind, before any clip and after."""
    transitions = [
        VOICE.transition(STAMP, transition, replace(STANDING, raised_by="5b0f0d3c-event-3", clip=clip), SMITH)[0]
        for transition in Transition
        for clip in (CLIP, None)
    ]
    label = Labelled(event_id="5b0f0d3c-event-3", verdict=True, fault="bearing")
    notices = [VOICE.threshold(STAMP, STANDING, SMITH, own=True), VOICE.label(STAMP, STANDING, SMITH, label)]
    drifts = [VOICE.drift(STAMP, STANDING, replace(SHIFT, begins=begins)) for begins in (True, False)]
    return [TOPICS.event(event) for event in [*transitions, *notices, *drifts]]


def floods() -> list[Message]:
    """One of every stage."""
    counts = {"pump1": 9, "fan2": 2}
    return [TOPICS.flood(flood_event("press-hall-3", STAMP, FloodNotice(stage, counts, 11))) for stage in FloodStage]


def alarms() -> list[Message]:
    """The retained alarm in every state."""
    return [TOPICS.alarm(VOICE.alarm(STAMP, replace(STANDING, alarm=alarm))) for alarm in ALARMS.values()]


def lessons() -> list[Message]:
    """A lesson in every stage; one that is done has a proposal."""
    said = LESSON.model_dump()
    bodies = [said | {"stage": stage, "proposal": PROPOSAL if stage == "done" else None} for stage in LessonStage]
    return [TOPICS.lesson(LessonState.model_validate(body)) for body in bodies]


def everything() -> list[Message]:
    """All that is said in JSON."""
    loud = measure(np.random.default_rng(0).standard_normal(32_000).astype(np.float32) / 10, 16_000)
    level = source_level("press-hall-3", "mic0", NOON, loud, clock_synced=True)
    state = [TOPICS.info(INFO), TOPICS.health(HEALTH), TOPICS.source(SOURCE), TOPICS.level(level)]
    return [*state, TOPICS.score(VOICE.score(STAMP, CLIP)), *alarms(), *events(), *floods(), *lessons()]
