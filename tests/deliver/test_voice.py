from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from edge_asd.alarm.alarm import Alarm, Transition, acknowledge, shelve
from edge_asd.alarm.flood import FloodNotice, FloodStage
from edge_asd.deliver.payload import Labelled, Model
from edge_asd.deliver.voice import Standing, flood_event, source_level
from edge_asd.score.clip import PartScore
from edge_asd.signal.level import Level
from tests.deliver.scene import (
    ALARMS,
    CLIP,
    HEALTH,
    INFO,
    MODEL,
    NOON,
    RAISED,
    SHIFT,
    SMITH,
    SOURCE,
    STAMP,
    STANDING,
    TOPICS,
    VOICE,
    events,
)

if TYPE_CHECKING:
    from edge_asd.deliver.message import Message


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


def test_what_is_a_little_strange_for_long_is_said_first_and_in_numbers() -> None:
    patient = replace(VOICE, policy=replace(VOICE.policy, cusum=True))
    limit = patient.policy.limit
    loud, calm = (patient.evidence(replace(RAISED, sum=total), CLIP) for total in (limit, limit / 3))
    assert (loud.sum, loud.sum_limit) == (limit, limit)
    assert loud.words == (f"a little strange for long: sum {limit:.1f}, an alarm from {limit:.1f} on", *CLIP.why.words)
    assert calm.words == CLIP.why.words
    assert VOICE.evidence(replace(RAISED, sum=limit), CLIP).words == CLIP.why.words


def test_an_event_is_spelled_as_the_contract_says() -> None:
    event, _ = VOICE.transition(STAMP, Transition.ACTIVATED, STANDING)
    message = TOPICS.event(event)

    assert message.topic == "edge_asd/v1/press-hall-3/machine/pump1/event"
    assert body(message) == {
        "schema": "edge_asd.event/1",
        "event": "activated",
        "by": None,
        "comment": None,
        "transaction": None,
        "detail": None,
        "node": "press-hall-3",
        "machine": "pump1",
        "source": "mic0",
        "id": "5b0f0d3c-event-7",
        "alarm_id": "5b0f0d3c-event-7",
        "event_seq": 7,
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
            "shelved_until": None,
            "one_shot": False,
            "by_design": False,
            "out_of_service": False,
            "priority": "high",
            "chattering": False,
            "since": "2026-11-20T11:59:30.104Z",
            "repeat_count": 1,
        },
        "evidence": {
            "score": 2.41,
            "threshold": 4.0,
            "deadband": 0.5,
            "on_delay_seconds": 30.0,
            "clips_over": 3,
            "sum": None,
            "sum_limit": None,
            "health_index": 8,
            "level_dbfs": -31.75,
            "segment_scores": [2.25, 2.5],
            "parts": {"bands": 1.5, "network": 2.25},
            "bands": {"2500": 0.5, "125": 0.25},
            "indicators": {"level": 0.75, "crest": 0.25},
            "nearest": "0123456789abcdef",
            "words": ["bands 1.5 σ: band 2.41–2.63 kHz +9.3 dB"],
        },
        "model": {"id": "pump", "version": "2026.11.1", "backend": "cpu", "precision": "int8"},
    }


def test_the_retained_alarm_is_the_event_without_what_was_done() -> None:
    event, alarm = VOICE.transition(STAMP, Transition.ACKED, STANDING, SMITH)
    said = body(TOPICS.event(event))
    for word in ("event", "by", "comment", "transaction", "detail"):
        del said[word]

    message = TOPICS.alarm(alarm)
    assert message.topic == "edge_asd/v1/press-hall-3/machine/pump1/alarm"
    assert body(message) == said | {"schema": "edge_asd.alarm/1"}


def test_an_activation_begins_an_episode_and_all_else_belongs_to_one() -> None:
    before = replace(STANDING, raised_by="5b0f0d3c-event-3")
    ids = {what: VOICE.transition(STAMP, what, before)[0].alarm_id for what in Transition}

    assert ids.pop(Transition.ACTIVATED) == "5b0f0d3c-event-7"
    assert set(ids.values()) == {"5b0f0d3c-event-3"}


def test_an_operators_act_says_who_did_it_and_why() -> None:
    alarm, (transition,) = acknowledge(RAISED)
    event, _ = VOICE.transition(STAMP, transition, Standing(alarm, NOON, "5b0f0d3c-event-3", CLIP), SMITH)

    assert (event.event, event.alarm.state) == ("acked", "active_acked")
    assert (event.by, event.comment, event.transaction) == ("j.smith", "bearing greased", "t-81")


def test_what_is_shelved_says_until_when() -> None:
    alarm, (transition,) = shelve(Alarm(), 600, one_shot=True)
    event, state = VOICE.transition(STAMP, transition, Standing(alarm), SMITH)

    assert (event.alarm_id, event.evidence, event.alarm.suppression) == (None, None, "shelved")
    assert (state.alarm.shelved_until, state.alarm.one_shot) == (NOON + timedelta(seconds=600), True)


def test_a_suppression_does_not_hide_the_one_below_it() -> None:
    hidden = VOICE.alarm(STAMP, Standing(ALARMS["out_of_service"])).alarm

    assert (hidden.suppression, hidden.by_design, hidden.out_of_service) == ("out_of_service", True, True)


def test_before_the_first_alarm_the_retained_alarm_is_normal_and_rests_on_nothing() -> None:
    alarm = VOICE.alarm(STAMP, Standing(Alarm()))

    assert (alarm.alarm.state, alarm.alarm.since, alarm.alarm_id, alarm.evidence) == ("normal", None, None, None)


def test_an_alarm_that_outlived_a_restart_keeps_its_id_and_its_time() -> None:
    alarm = VOICE.alarm(STAMP, Standing(RAISED, NOON, "0ld0b007-event-3"))

    assert (alarm.alarm_id, alarm.alarm.since, alarm.alarm.state) == ("0ld0b007-event-3", NOON, "active_unacked")


def test_a_drift_is_told_with_its_numbers_and_what_to_do_and_leaves_the_alarm_as_it_is() -> None:
    told = [body(TOPICS.event(VOICE.drift(STAMP, STANDING, replace(SHIFT, begins=begins)))) for begins in (True, False)]
    plain = body(TOPICS.event(VOICE.threshold(STAMP, STANDING, SMITH, own=True)))

    assert [event["event"] for event in told] == ["drifted", "settled"]
    numbers = {"kind": "drift", "quantity": "median", "before": 0.25, "spread": 0.125, "now": 1.5, "days": 28}
    assert {name: told[0]["detail"][name] for name in numbers} == numbers
    assert "clean the microphone" in told[0]["detail"]["advice"]
    assert (told[0]["alarm"], told[0]["by"]) == (plain["alarm"], None)


def test_other_things_done_about_an_alarm_are_events_too() -> None:
    event_id = "5b0f0d3c-event-3"
    label = Labelled(event_id=event_id, verdict=False, fault=None, alarm_id=event_id, sound=True)
    labelled = body(TOPICS.event(VOICE.label(STAMP, STANDING, SMITH, label)))
    threshold = body(TOPICS.event(VOICE.threshold(STAMP, STANDING, SMITH, own=True)))

    assert (labelled["event"], threshold["event"]) == ("labelled", "threshold")
    said = {"kind": "label", "event_id": "5b0f0d3c-event-3", "verdict": False, "fault": None}
    assert labelled["detail"] == said | {"alarm_id": "5b0f0d3c-event-3", "sound": True}
    assert threshold["detail"] == {"kind": "threshold", "threshold": 4.0, "own": True}
    assert (labelled["by"], labelled["alarm"]) == ("j.smith", threshold["alarm"])


def test_events_are_numbered_by_event_seq_and_scores_by_seq() -> None:
    numbered = [{"seq", "event_seq"} & set(body(message)) for message in events()]

    assert numbered == [{"event_seq"}] * len(numbered)


def test_a_flood_is_told_for_the_whole_node() -> None:
    notice = FloodNotice(FloodStage.BEGAN, {"pump1": 9, "fan2": 2}, held=1)
    message = TOPICS.flood(flood_event("press-hall-3", STAMP, notice))

    assert message.topic == "edge_asd/v1/press-hall-3/event"
    assert body(message) == {
        "schema": "edge_asd.flood/1",
        "event": "began",
        "node": "press-hall-3",
        "id": "5b0f0d3c-event-7",
        "event_seq": 7,
        "boot_id": "5b0f0d3c",
        "ts": "2026-11-20T12:00:00.104Z",
        "clock_synced": True,
        "late": False,
        "machines": {"pump1": 9, "fan2": 2},
        "held": 1,
    }


def test_a_source_its_level_and_the_node_are_spelled_as_the_contract_says() -> None:
    level = source_level("press-hall-3", "mic0", NOON, Level(-31.5, -12.25, {"31.5": -60.0}), clock_synced=False)

    assert TOPICS.source(SOURCE).topic == "edge_asd/v1/press-hall-3/source/mic0/state"
    assert body(TOPICS.source(SOURCE)) == {
        "schema": "edge_asd.source/1",
        "node": "press-hall-3",
        "source": "mic0",
        "state": "lost",
        "reason": "device_removed",
        "since": "2026-11-20T12:00:00.104Z",
        "device": {"token": "usb-id:0d8c:0014:", "name": "USB Audio Device"},
        "sample_rate_hz": 48_000,
        "restarts": 2,
    }
    assert TOPICS.level(level).topic == "edge_asd/v1/press-hall-3/source/mic0/level"
    assert body(TOPICS.level(level)) == {
        "schema": "edge_asd.level/1",
        "node": "press-hall-3",
        "source": "mic0",
        "ts": "2026-11-20T12:00:00.104Z",
        "clock_synced": False,
        "level_dbfs": -31.5,
        "peak_dbfs": -12.25,
        "bands": {"31.5": -60.0},
    }
    assert TOPICS.info(INFO).topic == "edge_asd/v1/press-hall-3/info"
    assert body(TOPICS.info(INFO)) == {
        "schema": "edge_asd.info/1",
        "node": "press-hall-3",
        "boot_id": "5b0f0d3c",
        "ts": "2026-11-20T12:00:00.104Z",
        "version": "0.1.0",
        "versions": {"numpy": "2.2.0"},
        "config_sha256": "0" * 64,
        "commands": ["ack", "health_check"],
        "machines": {"pump1": MODEL.model_dump()},
        "sources": ["mic0"],
    }
    assert TOPICS.health(HEALTH).topic == "edge_asd/v1/press-hall-3/health"
    assert body(TOPICS.health(HEALTH)) == {
        "schema": "edge_asd.health/1",
        "node": "press-hall-3",
        "boot_id": "5b0f0d3c",
        "ts": "2026-11-20T12:00:00.104Z",
        "clock_synced": True,
        "version": "0.1.0",
        "uptime_s": 12.5,
        "scored": 1,
        "well": False,
        "checks": [{"name": "mic0", "well": False, "said": "lost"}],
        "outbox": {
            "messages": 3,
            "size_bytes": 2048,
            "kept": True,
            "trouble": None,
            "dropped": {"event": 0, "score": 1},
        },
        "disk_free_bytes": 10**9,
        "temperature_celsius": None,
    }


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
