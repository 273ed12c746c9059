from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.deliver.command import (
    ALLOWED,
    FRESH_S,
    LIMIT,
    REQUESTS,
    Command,
    Gate,
    Refusal,
    Saved,
    answer,
    answer_again,
    meant,
    parse,
    record,
    refuse,
)
from edge_asd.deliver.message import Kind, Verb
from edge_asd.deliver.publisher import Incoming
from edge_asd.deliver.topic import Topics
from edge_asd.errors import CommandRefused
from tests.deliver.scene import HEALTH, NOON, STAMP, STANDING, TOPICS, VOICE

ROOT = TOPICS.root
GATE = Gate(TOPICS, {"pump1", "fan2"})
EVERYTHING = Gate(TOPICS, {"pump1", "fan2"}, frozenset(Verb))
MINIMAL: dict[Verb, dict[str, Any]] = {
    Verb.ACK: {"machine": "pump1"},
    Verb.RESET: {"machine": "pump1"},
    Verb.SHELVE: {"machine": "pump1", "minutes": 60},
    Verb.UNSHELVE: {"machine": "pump1"},
    Verb.SUPPRESS: {"machine": "pump1", "on": True},
    Verb.OUT_OF_SERVICE: {"machine": "pump1", "on": True},
    Verb.THRESHOLD: {"machine": "pump1", "value": 4.5},
    Verb.LABEL: {"machine": "pump1", "verdict": False},
    Verb.SNAPSHOT: {"machine": "pump1"},
    Verb.HEALTH_CHECK: {},
    Verb.DISCOVERY: {},
    Verb.RESTART: {},
    Verb.MODEL: {"action": "list"},
    Verb.CALIBRATE: {"machine": "pump1", "action": "status"},
}
"""the least that each may say, besides ts"""


def sent(verb: str, body: object, **how: Any) -> Incoming:  # noqa: ANN401 - fields of Incoming
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Incoming(**{"topic": f"{ROOT}/cmd/{verb}", "payload": payload, "retained": False, **how})


def taken(incoming: Incoming, gate: Gate = GATE, *, clock_synced: bool = True) -> Command:
    return parse(incoming, gate, NOON, clock_synced=clock_synced)


def refused(incoming: Incoming, gate: Gate = GATE) -> CommandRefused:
    with pytest.raises(CommandRefused) as caught:
        taken(incoming, gate)
    return caught.value


# What is obeyed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", Verb)
def test_every_verb_is_taken_with_the_least_it_needs(verb: Verb) -> None:
    command = taken(sent(verb, MINIMAL[verb] | {"ts": NOON.isoformat()}), EVERYTHING)

    assert (command.verb, type(command.request)) == (verb, REQUESTS[verb])
    assert (command.machine, command.reply_to) == (MINIMAL[verb].get("machine"), f"{ROOT}/rsp/{verb}")


@pytest.mark.parametrize("verb", Verb)
def test_only_what_is_allowed_everywhere_may_come_without_a_time(verb: Verb) -> None:
    incoming = sent(verb, MINIMAL[verb])

    if verb in ALLOWED:
        assert taken(incoming, EVERYTHING).request.ts is None
    else:
        assert refused(incoming, EVERYTHING).reason == Refusal.NO_TS


def test_the_safe_list_is_that_of_the_specification() -> None:
    names = "ack reset shelve unshelve suppress label snapshot health_check discovery"

    assert {str(verb) for verb in ALLOWED} == set(names.split())


def test_an_operator_says_who_and_why() -> None:
    body = {"transaction": "t-81", "machine": "pump1", "by": "j.smith", "comment": "grease\nand wait", "alarm_id": "a"}
    request = taken(sent("ack", body)).request

    assert (request.transaction, request.by, request.comment) == ("t-81", "j.smith", "grease\nand wait")


def test_nothing_at_all_asks_for_the_health() -> None:
    assert taken(sent("health_check", b"")).request.model_dump(exclude_unset=True) == {}


def test_the_roll_call_reaches_every_node_and_each_answers_in_its_own_place() -> None:
    command = taken(sent("", {}, topic="edge_asd/v1/all/cmd/health_check"))

    assert (command.verb, command.reply_to) == (Verb.HEALTH_CHECK, f"{ROOT}/rsp/health_check")


@pytest.mark.parametrize("age", [0, FRESH_S, -FRESH_S])
def test_a_command_may_be_a_minute_old_or_ahead(age: float) -> None:
    ts = (NOON - timedelta(seconds=age)).isoformat()

    assert taken(sent("ack", {"machine": "pump1", "ts": ts})).request.ts is not None


def test_a_node_that_does_not_know_the_time_does_not_judge_it() -> None:
    incoming = sent("ack", {"machine": "pump1", "ts": "2001-01-01T00:00:00Z"})

    assert refused(incoming).reason == Refusal.STALE
    assert taken(incoming, clock_synced=False).verb is Verb.ACK


# What is not ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("incoming", "reason", "said"),
    [
        (sent("ack", {"machine": "pump1"}, retained=True), "retained", "send it without retain, and clear the topic"),
        (sent("", {}, topic="edge_asd/v1/other/cmd/ack"), "foreign", "use edge_asd/v1/press-hall-3/cmd/VERB"),
        (sent("", {}, topic="edge_asd/v1/all/cmd/ack"), "foreign", "'edge_asd/v1/all/cmd/ack': is not ours"),
        (sent("", {}, topic="edge_asd/v1/all/cmd/restart"), "foreign", "is not ours"),
        (sent("ack/now", {}), "foreign", "is not ours"),
        (sent("", {}, topic=f"{ROOT}/rsp/ack"), "foreign", "is not ours"),
        (sent("explode", {}), "unknown_verb", "'explode': is unknown; allowed: ack, discovery, health_check,"),
        (sent("", {}), "unknown_verb", "'': is unknown"),
        (sent("ACK", {}), "unknown_verb", "'ACK': is unknown"),
        (sent("restart", {}), "not_allowed", "restart: is not allowed here; allowed: ack, discovery"),
        (sent("ack", b" " * (LIMIT + 1)), "too_large", "has 16385 bytes; at most 16384 are allowed"),
        (sent("ack", b"on"), "not_json", "invalid JSON"),
        (sent("ack", b'"pump1"'), "not_json", "send one JSON object with transaction, by, comment, ts, machine"),
        (sent("ack", b"[]"), "not_json", "send one JSON object"),
        (sent("ack", b'{"machine":"pump\xff"}'), "not_json", "invalid JSON"),
        (sent("ack", b""), "invalid", "machine: is missing; send one that the node listens to"),
        (sent("ack", {"machine": "a/b"}), "invalid", "machine: string should match pattern"),
        (sent("ack", {"machine": "pump1", "colour": 1}), "invalid", "'colour': is unknown; allowed: transaction, by,"),
        (sent("ack", {"machine": "pump1", "by": "a\nb"}), "invalid", "one line of up to 128 characters"),
        (sent("ack", {"machine": "pump1", "transaction": "t 81"}), "invalid", "printable characters without spaces"),
        (sent("ack", {"machine": "pump1", "ts": "2026-11-20T12:00:00"}), "invalid", "as 2026-11-20T17:45:00Z"),
        (sent("ack", {"machine": "pump1", "ts": 1_795_000_000}), "invalid", "as 2026-11-20T17:45:00Z"),
        (
            sent("shelve", {"machine": "pump1"}),
            "invalid",
            "minutes: is missing; send above 0, at most 1440; for longer,",
        ),
        (sent("shelve", {"machine": "pump1", "minutes": 0}), "invalid", "got 0; send above 0"),
        (sent("shelve", {"machine": "pump1", "minutes": 1441}), "invalid", "take the machine out of service"),
        (sent("shelve", {"machine": "pump1", "minutes": "60"}), "invalid", "valid number, got '60'"),
        (sent("shelve", b'{"machine":"pump1","minutes":NaN}'), "invalid", "finite number, got nan"),
        (sent("suppress", {"machine": "pump1", "on": "true"}), "invalid", "got 'true'; send true or false"),
        (sent("snapshot", {"machine": "pump1", "seconds": 61}), "invalid", "above 0, at most 60"),
        (sent("ack", {"machine": "pump9"}), "unknown_machine", "'pump9' is not listened to; allowed: fan2, pump1"),
        (sent("ack", {"machine": "pump1", "ts": "2026-11-20T11:58:59Z"}), "stale", "is 61 s old, at most 60 s are"),
        (sent("ack", {"machine": "pump1", "ts": "2026-11-20T13:00:00Z"}), "stale", "is 3600 s ahead"),
    ],
)
def test_a_refusal_says_what_was_sent_what_is_allowed_and_what_to_do(
    incoming: Incoming, reason: str, said: str
) -> None:
    error = refused(incoming)

    assert (error.reason, said in str(error)) == (reason, True), str(error)


def test_what_needs_a_time_says_so() -> None:
    error = refused(sent("restart", {}), EVERYTHING)

    assert str(error) == "ts: is missing; restart is obeyed only with the time it was sent, as 2026-11-20T17:45:00Z"


def test_many_mistakes_are_counted_and_not_repeated() -> None:
    error = refused(sent("ack", {"machine": "pump1"} | {f"x{i}": "y" * 50 for i in range(200)}))

    assert str(error).endswith("; and 195 more")
    assert len(str(error)) < 1000


def test_a_node_with_nothing_allowed_says_none() -> None:
    error = refused(sent("ack", {"machine": "pump1"}), Gate(TOPICS, {"pump1"}, ()))

    assert "allowed: none" in str(error)


def test_a_command_may_name_the_alarm_it_means() -> None:
    command = taken(sent("ack", {"machine": "pump1", "alarm_id": "b-event-3", "transaction": "t-1"}))

    meant(command, "b-event-3")
    meant(taken(sent("ack", {"machine": "pump1"})), "b-event-4")
    for present in ("b-event-4", None):
        with pytest.raises(CommandRefused, match="b-event-3 is not the present alarm") as caught:
            meant(command, present)
        assert (caught.value.reason, caught.value.transaction) == (Refusal.OTHER_ALARM, "t-1")


# Answers --------------------------------------------------------------------------------------------------------------


def test_an_answer_tells_the_alarm_afterwards() -> None:
    command = taken(sent("ack", {"machine": "pump1", "transaction": "t-81"}, correlation=b"\x00\xff"))
    condition = VOICE.alarm(STAMP, STANDING).alarm
    message = answer(TOPICS, command, NOON, condition)

    assert (message.topic, message.kind, message.correlation) == (f"{ROOT}/rsp/ack", Kind.REPLY, b"\x00\xff")
    assert json.loads(message.payload) == {
        "schema": "edge_asd.reply/1",
        "node": "press-hall-3",
        "verb": "ack",
        "machine": "pump1",
        "transaction": "t-81",
        "ts": "2026-11-20T12:00:00.104Z",
        "status": "ok",
        "reason": None,
        "error": None,
        "data": condition.model_dump(mode="json"),
    }


@pytest.mark.parametrize("data", [HEALTH, Saved(file="pump1/x.flac", seconds=10, sha256="0"), None])
def test_an_answer_carries_what_was_asked_for(data: Any) -> None:  # noqa: ANN401 - one of three shapes
    said = json.loads(answer(TOPICS, taken(sent("health_check", {})), NOON, data).payload)

    assert said["data"] == (data and data.model_dump(mode="json", by_alias=True))


def test_a_refusal_is_answered_with_its_transaction() -> None:
    incoming = sent("ack", {"machine": "pump9", "transaction": "t-81"}, correlation=b"7")
    message = refuse(TOPICS, incoming, refused(incoming), NOON)

    assert message is not None
    assert (message.topic, message.correlation) == (f"{ROOT}/rsp/ack", b"7")
    said = json.loads(message.payload)
    assert (said["status"], said["reason"], said["transaction"]) == ("error", "unknown_machine", "t-81")
    assert "pump9" in said["error"]


@pytest.mark.parametrize("body", [{"machine": "a/b"}, {"colour": 1}, {"machine": "pump1", "ts": "noon"}])
@pytest.mark.parametrize("verb", ["ack", "explode", "restart"])
def test_a_transaction_is_read_from_a_request_that_is_wrong_otherwise(verb: str, body: dict[str, object]) -> None:
    assert refused(sent(verb, body | {"transaction": "t-81"})).transaction == "t-81"


@pytest.mark.parametrize("how", [{"retained": True}, {"topic": "edge_asd/v1/other/cmd/ack"}])
def test_nobody_is_told_of_what_was_not_for_us(how: dict[str, Any]) -> None:
    incoming = sent("ack", {"machine": "pump1", "transaction": "t"}, **how)

    assert refuse(TOPICS, incoming, refused(incoming), NOON) is None


@pytest.mark.parametrize("verb", ["", "a b", "ü", "x" * 61])
def test_a_word_that_is_no_topic_gets_no_answer(verb: str) -> None:
    incoming = sent(verb, {})

    assert refuse(TOPICS, incoming, refused(incoming), NOON) is None


@pytest.mark.parametrize("wanted", [f"{ROOT}/rsp/mine", f"{ROOT}/rsp/desk-1/ack"])
def test_an_answer_goes_where_it_is_wanted_among_the_nodes_own(wanted: str) -> None:
    assert taken(sent("ack", {"machine": "pump1"}, response_topic=wanted)).reply_to == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "homeassistant/status",
        "edge_asd/v1/other/cmd/restart",
        f"{ROOT}/cmd/restart",
        f"{ROOT}/machine/pump1/alarm",
        f"{ROOT}/rsp",
        f"{ROOT}/rsp/",
        f"{ROOT}/rsp//x",
        f"{ROOT}/rsp/+",
        f"{ROOT}/rsp/#",
        f"{ROOT}/rsp/a\x00b",
        f"{ROOT}/rsp/../cmd/restart",
        f"{ROOT}/rsp/{'x' * 300}",
        f"x{ROOT}/rsp/a",
    ],
)
def test_nobody_makes_a_node_publish_elsewhere(wanted: str) -> None:
    incoming = sent("ack", {"machine": "pump1"}, response_topic=wanted, correlation=b"7")
    wrong = replace(incoming, payload=b"[]")
    refusal = refuse(TOPICS, wrong, refused(wrong), NOON)

    assert (taken(incoming).reply_to, taken(incoming).correlation) == (f"{ROOT}/rsp/ack", b"7")
    assert refusal is not None
    assert refusal.topic == f"{ROOT}/rsp/ack"


def test_the_same_transaction_gets_the_same_answer() -> None:
    body = {"machine": "pump1", "transaction": "t-81"}
    first = answer(TOPICS, taken(sent("ack", body)), NOON)
    again = answer_again(taken(sent("ack", body, correlation=b"2")), first.payload)

    assert again == replace(first, correlation=b"2")


@pytest.mark.parametrize(("verb", "machine"), [("unshelve", "pump1"), ("ack", "fan2")])
def test_a_used_transaction_does_not_answer_for_another_command(verb: str, machine: str) -> None:
    receipt = answer(TOPICS, taken(sent("ack", {"machine": "pump1", "transaction": "t-81"})), NOON).payload

    with pytest.raises(CommandRefused, match="t-81 was ack of pump1 before") as caught:
        answer_again(taken(sent(verb, {"machine": machine, "transaction": "t-81"})), receipt)
    assert caught.value.reason == Refusal.TRANSACTION_USED


def test_the_journal_gets_what_was_asked() -> None:
    body = {"machine": "pump1", "minutes": 60, "by": "j.smith", "ts": NOON.isoformat()}

    said = json.loads(json.dumps(record(taken(sent("shelve", body)))))
    assert said == {"verb": "shelve", "machine": "pump1", "minutes": 60, "by": "j.smith", "ts": said["ts"]}


# Whatever comes -------------------------------------------------------------------------------------------------------


def explained(incoming: Incoming, gate: Gate, error: CommandRefused) -> str:
    """The reason, where there is one with a message that can be answered."""
    assert 0 < len(str(error)) < 2000
    message = refuse(gate.topics, incoming, error, NOON)
    assert message is None or message.topic.startswith(gate.topics.replies)
    return Refusal(error.reason)


def judged(incoming: Incoming, gate: Gate) -> str:
    """What became of it: ``ok`` or the reason; whatever it is, it can be answered."""
    try:
        command = parse(incoming, gate, NOON, clock_synced=True)
    except CommandRefused as error:
        return explained(incoming, gate, error)
    assert (command.verb in gate.allowed, command.machine in {None, *gate.machines}) == (True, True)
    message = answer(gate.topics, command, NOON)
    assert message.topic.startswith(gate.topics.replies)
    json.dumps(record(command))
    assert answer_again(command, message.payload) == message
    return "ok"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["pump1", "t-81", "noon"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({name for shape in REQUESTS.values() for name in shape.model_fields})
NEARLY = st.builds(
    lambda verb, body, more: (str(verb), json.dumps(body | more).encode()),
    st.sampled_from(Verb),
    st.sampled_from(list(MINIMAL.values())),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
)
ANY = st.tuples(st.sampled_from(Verb) | st.text(max_size=20), st.binary(max_size=200))


INCOMING = st.builds(
    lambda what, retained, wanted: sent(*what, retained=retained, response_topic=wanted, correlation=b"7"),
    ANY | NEARLY,
    st.booleans(),
    st.none() | st.text(max_size=40),
)


@given(INCOMING, st.sampled_from([GATE, EVERYTHING]))
def test_whatever_comes_is_obeyed_or_refused_by_name(incoming: Incoming, gate: Gate) -> None:
    assert judged(incoming, gate) in {"ok", *Refusal}


@given(st.text(max_size=60))
def test_only_our_own_topics_are_obeyed(topic: str) -> None:
    assert judged(Incoming(topic, b"{}", retained=False), EVERYTHING) == Refusal.FOREIGN


TIMES = ("2026-11-20T12:00:00Z", "2026-11-20T12:00:59+00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
SCRAPS = (None, True, 0, -1, 1e308, 10**30, "", "pump1", "t-81", "ü" * 200, "a\u0000b", [], {}, [[[]]], *TIMES)


PAYLOADS = 100_000


def mangled(rng: random.Random) -> Incoming:
    """A command with up to four mistakes in topic, fields or bytes."""
    verb = rng.choice(list(Verb))
    body = dict(MINIMAL[verb]) | ({"ts": TIMES[0]} if rng.random() < 0.7 else {})
    for _ in range(rng.choice((0, 0, 1, 2))):
        body[rng.choice([*FIELDS, "colour", ""])] = rng.choice(SCRAPS)
    payload = bytearray(json.dumps(body, ensure_ascii=rng.random() < 0.5).encode())
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        at = rng.randrange(len(payload) + 1)
        payload[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
    if rng.random() < 0.01:
        payload = bytearray(rng.choice((b"[" * LIMIT, b'{"' + b"x" * LIMIT, b'{"a":' * 3000, b"9" * LIMIT)))
    node = rng.choice(("press-hall-3",) * 9 + ("other", "all"))
    word = verb if rng.random() < 0.95 else rng.choice(("explode", "", "ack/now", "+", "ü"))
    wanted = rng.choice((None, "x", f"{ROOT}/rsp/mine", f"{ROOT}/cmd/restart"))
    return Incoming(f"edge_asd/v1/{node}/cmd/{word}", bytes(payload), rng.random() < 0.05, wanted, rng.randbytes(4))


def test_a_hundred_thousand_mangled_commands_give_nothing_but_reasons() -> None:
    rng, seen = random.Random(20261120), Counter[str]()  # noqa: S311 - repeatable
    for number in range(PAYLOADS):
        seen[judged(mangled(rng), (GATE, EVERYTHING)[number % 2])] += 1

    elsewhere = {Refusal.TRANSACTION_USED, Refusal.OTHER_ALARM, Refusal.CONDITION, Refusal.FAILED}
    assert set(seen) == {"ok", *set(Refusal) - elsewhere}


def test_topics_with_another_base_have_another_gate() -> None:
    gate = Gate(Topics("n", base="plant/hall"), ())

    assert judged(Incoming("plant/hall/v1/n/cmd/health_check", b"", retained=False), gate) == "ok"
    assert judged(Incoming("plant/hall/v1/all/cmd/health_check", b"", retained=False), gate) == "ok"
    assert judged(Incoming("edge_asd/v1/n/cmd/health_check", b"", retained=False), gate) == Refusal.FOREIGN
