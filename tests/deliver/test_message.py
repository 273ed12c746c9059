from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_asd.alarm.alarm import Alarm, Policy, Transition
from edge_asd.deliver.message import (
    Device,
    Info,
    Kind,
    Message,
    Model,
    Source,
    SourceState,
    Stamp,
    Status,
    Topics,
    Voice,
    rfc3339,
)
from edge_asd.score.clip import ClipScore, PartScore

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
)
TOPICS = Topics("press-hall-3")
RAISED = Alarm(active=True, since=0, clips_over=3, count=1)


def body(message: Message) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(message.payload)
    return decoded


def test_a_score_is_spelled_as_the_contract_says() -> None:
    message = TOPICS.score(VOICE.score(STAMP, CLIP))

    assert message.topic == "edge_asd/v1/press-hall-3/machine/pump1/score"
    assert body(message) == {
        "schema": "edge_asd.score/1",
        "node": "press-hall-3",
        "machine": "pump1",
        "source": "mic0",
        "id": "5b0f0d3c-score-7",
        "seq": 7,
        "boot_id": "5b0f0d3c",
        "ts": "2026-11-20T12:00:00.104Z",
        "clock_synced": True,
        "late": False,
        "clip_seconds": 10.0,
        "segments": 2,
        "segments_valid": 2,
        "score": 2.41,
        "threshold": 4.0,
        "health_index": 8,
        "segment_scores": [2.25, 2.5],
        "level_dbfs": -31.75,
        "parts": {"bands": 1.5, "network": 2.25},
        "model": {"id": "pump", "version": "2026.11.1", "backend": "cpu", "precision": "int8"},
    }


def test_an_event_is_spelled_as_the_contract_says() -> None:
    since = NOON - timedelta(seconds=30)
    event, _ = VOICE.transition(STAMP, Transition.ACTIVATED, RAISED, since, CLIP)
    message = TOPICS.event(event)

    assert message.topic == "edge_asd/v1/press-hall-3/machine/pump1/event"
    assert body(message) == {
        "schema": "edge_asd.event/1",
        "event": "activated",
        "node": "press-hall-3",
        "machine": "pump1",
        "source": "mic0",
        "id": "5b0f0d3c-event-7",
        "alarm_id": "5b0f0d3c-event-7",
        "seq": 7,
        "boot_id": "5b0f0d3c",
        "ts": "2026-11-20T12:00:00.104Z",
        "clock_synced": True,
        "late": False,
        "alarm": {
            "state": "active_unacked",
            "active": True,
            "acked": False,
            "latched": False,
            "suppression": "none",
            "since": "2026-11-20T11:59:30.104Z",
            "repeat_count": 1,
        },
        "evidence": {
            "score": 2.41,
            "threshold": 4.0,
            "deadband": 0.5,
            "on_delay_seconds": 30.0,
            "clips_over": 3,
            "health_index": 8,
            "level_dbfs": -31.75,
            "segment_scores": [2.25, 2.5],
            "parts": {"bands": 1.5, "network": 2.25},
        },
        "model": {"id": "pump", "version": "2026.11.1", "backend": "cpu", "precision": "int8"},
    }


def test_the_retained_alarm_is_the_event_without_its_name() -> None:
    event, alarm = VOICE.transition(STAMP, Transition.ACTIVATED, RAISED, NOON, CLIP)
    said = body(TOPICS.event(event))
    del said["event"]

    message = TOPICS.alarm(alarm)
    assert message.topic == "edge_asd/v1/press-hall-3/machine/pump1/alarm"
    assert body(message) == said | {"schema": "edge_asd.alarm/1"}


def test_a_return_names_the_alarm_that_it_ends() -> None:
    returned = replace(RAISED, active=False)
    event, alarm = VOICE.transition(STAMP, Transition.RETURNED, returned, NOON, CLIP, raised_by="5b0f0d3c-event-3")

    assert (event.alarm_id, alarm.alarm_id, alarm.alarm.state) == ("5b0f0d3c-event-3", "5b0f0d3c-event-3", "normal")


def test_before_the_first_alarm_the_retained_alarm_is_normal_and_rests_on_nothing() -> None:
    alarm = VOICE.alarm(STAMP, Alarm(), since=None)

    assert (alarm.alarm.state, alarm.alarm.since, alarm.alarm_id, alarm.evidence) == ("normal", None, None, None)


def test_a_source_and_the_node_are_spelled_as_the_contract_says() -> None:
    device = Device(token="usb-id:0d8c:0014:", name="USB Audio Device")  # noqa: S106 - names a microphone
    source = Source(
        node="n", source="mic0", state=SourceState.LOST, reason="device_removed", since=NOON, device=device,
        sample_rate_hz=48_000, restarts=2,
    )  # fmt: skip
    info = Info(node="n", boot_id="b", ts=NOON, version="0.1.0", machines={"pump1": MODEL}, sources=("mic0",))

    topics = Topics("n")
    assert topics.source(source).topic == "edge_asd/v1/n/source/mic0/state"
    assert body(topics.source(source)) == {
        "schema": "edge_asd.source/1",
        "node": "n",
        "source": "mic0",
        "state": "lost",
        "reason": "device_removed",
        "since": "2026-11-20T12:00:00.104Z",
        "device": {"token": "usb-id:0d8c:0014:", "name": "USB Audio Device"},
        "sample_rate_hz": 48_000,
        "restarts": 2,
    }
    assert topics.info(info).topic == "edge_asd/v1/n/info"
    assert set(body(topics.info(info))) == {"schema", "node", "boot_id", "ts", "version", "machines", "sources"}


def test_status_and_availability_are_plain_words() -> None:
    assert TOPICS.status(Status.OFFLINE) == Message("edge_asd/v1/press-hall-3/status", b"offline", Kind.STATUS)
    available = TOPICS.availability("pump1", online=True)
    assert (available.topic, available.payload) == ("edge_asd/v1/press-hall-3/machine/pump1/availability", b"online")


def test_state_is_retained_and_events_never_are() -> None:
    assert {kind for kind in Kind if not kind.retained} == {Kind.EVENT, Kind.SCORE, Kind.LEVEL, Kind.REPLY}
    assert {kind for kind in Kind if kind.queued} == {Kind.EVENT, Kind.SCORE}
    assert {kind for kind in Kind if kind.qos == 0} == {Kind.LEVEL, Kind.HEALTH}
    assert {kind for kind in Kind if kind.expiry_s is not None} == {Kind.SCORE, Kind.LEVEL, Kind.REPLY}


def test_a_node_listens_to_its_own_commands_and_to_the_roll_call() -> None:
    assert TOPICS.commands == ("edge_asd/v1/press-hall-3/cmd/+", "edge_asd/v1/all/cmd/health_check")
    assert TOPICS.probe == "edge_asd/v1/press-hall-3/probe"


def test_no_node_may_be_called_everybody() -> None:
    with pytest.raises(ValueError, match="'all'"):
        Topics("all")


def test_a_late_message_differs_in_one_word() -> None:
    event, _ = VOICE.transition(STAMP, Transition.ACTIVATED, RAISED, NOON, CLIP)
    message = TOPICS.event(event)

    assert body(message.late()) == body(message) | {"late": True}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["surprise", "level_dbfs"])
def test_what_is_no_number_in_json_cannot_be_said(field: str, bad: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        VOICE.score(STAMP, replace(CLIP, **{field: bad}))


def test_no_part_and_no_segment_may_hide_a_nan() -> None:
    for clip in (replace(CLIP, parts=(PartScore("bands", math.nan),)), replace(CLIP, segment_scores=(math.nan,))):
        with pytest.raises(ValidationError, match="finite"):
            VOICE.score(STAMP, clip)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Model.model_validate({**MODEL.model_dump(), "colour": "blue"})


@given(st.text())
def test_only_plain_names_become_topics(name: str) -> None:
    plain = bool(name) and all(c.isascii() and (c.isalnum() or c in "_-") for c in name)
    try:
        topic = Topics("n").availability(name, online=True).topic
    except ValueError:
        assert not plain
    else:
        assert plain
        assert topic == f"edge_asd/v1/n/machine/{name}/availability"


@pytest.mark.parametrize("name", ["a/b", "+", "#", "", "pump 1", "pump1\n", "pümpe"])
def test_a_node_that_is_no_topic_level_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits, _ and -"):
        Topics(name)


def test_the_base_may_have_several_levels() -> None:
    assert Topics("n", base="plant/hall-3").status(Status.ONLINE).topic == "plant/hall-3/v1/n/status"


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_times_are_utc_to_the_millisecond(moment: datetime) -> None:
    said = rfc3339(moment)

    assert len(said) == len("2026-11-20T12:00:00.104Z")
    assert said.endswith("Z")
    assert timedelta(0) <= moment - datetime.fromisoformat(said) < timedelta(milliseconds=1)
