from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.deliver.message import Kind, Message, Status, rfc3339
from edge_asd.deliver.topic import Topics

TOPICS = Topics("press-hall-3")


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
    message = Message("t", b'{"id":"b-event-7","late":false,"score":6.830000000000001,"said":"\xc3\xa4"}', Kind.EVENT)

    assert message.late().payload == message.payload.replace(b"false", b"true")


def test_a_machine_is_forgotten_by_an_empty_retained_message_for_each_that_the_broker_keeps() -> None:
    root = "edge_asd/v1/press-hall-3/machine/pump1"
    forgotten = TOPICS.forgotten("pump1")

    assert [(m.topic, m.payload, m.kind.retained) for m in forgotten] == [
        (f"{root}/alarm", b"", True),
        (f"{root}/availability", b"", True),
        (f"{root}/lesson", b"", True),
    ]


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
