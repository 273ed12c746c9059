from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from edge_asd.alarm.alarm import State, Suppression, Transition
from edge_asd.deliver.command import REQUESTS, Command, Refusal, answer, refuse
from edge_asd.deliver.message import Status, Verb
from edge_asd.deliver.payload import LessonStage, Notice
from edge_asd.deliver.publisher import Incoming
from edge_asd.deliver.schema import schemas, text, write
from edge_asd.errors import CommandRefused
from tests.deliver.scene import HEALTH, NOON, STAMP, STANDING, TOPICS, VOICE, everything

if TYPE_CHECKING:
    from edge_asd.deliver.message import Message

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "mqtt"
REPLIES = f"{TOPICS.root}/rsp/ack"


def checker(name: str) -> jsonschema.Draft202012Validator:
    """What holds a payload against a file that is shipped."""
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def check(message: Message) -> dict[str, Any]:
    """The payload, when the file that its ``schema`` names has no objection."""
    body: dict[str, Any] = json.loads(message.payload)
    checker(body["schema"].removeprefix("edge_asd.").removesuffix("/1")).validate(body)
    return body


def test_the_files_are_those_that_the_code_gives() -> None:
    kept = {file.name: file.read_text("utf-8") for file in FOLDER.glob("*.schema.json")}

    given = {name: text(schema) for name, schema in schemas().items()}
    assert kept == given, "run python -m edge_asd.deliver.schema docs/mqtt"


def test_writing_them_again_removes_what_is_no_more(tmp_path: Path) -> None:
    (tmp_path / "gone.schema.json").touch()
    (tmp_path / "README.md").touch()
    write(tmp_path)

    assert {file.name for file in tmp_path.iterdir()} == {*schemas(), "README.md"}


@pytest.mark.parametrize("name", schemas())
def test_every_schema_is_one_and_names_itself(name: str) -> None:
    schema = schemas()[name]
    jsonschema.Draft202012Validator.check_schema(schema)

    assert schema["$id"].replace(":", "-").endswith(f"{name.removesuffix('.schema.json')}-1")


def test_all_that_is_said_keeps_to_the_files() -> None:
    said = [check(message)["schema"] for message in everything()]

    assert {f"{schema.removeprefix('edge_asd.').removesuffix('/1')}.schema.json" for schema in said} | {
        "reply.schema.json"
    } == {name for name in schemas() if not name.startswith("cmd-")}


@pytest.mark.parametrize("data", [None, VOICE.alarm(STAMP, STANDING).alarm, HEALTH], ids=["nothing", "alarm", "health"])
def test_an_answer_keeps_to_the_files(data: Any) -> None:  # noqa: ANN401 - any of three
    request = REQUESTS[Verb.ACK].model_validate({"machine": "pump1", "transaction": "t-81"})

    assert check(answer(TOPICS, Command(Verb.ACK, request, REPLIES), NOON, data))["status"] == "ok"


@pytest.mark.parametrize("reason", Refusal)
def test_a_refusal_keeps_to_the_files(reason: Refusal) -> None:
    refused = refuse(
        TOPICS, Incoming(f"{TOPICS.root}/cmd/ack", b"", retained=False), CommandRefused("no", reason), NOON
    )

    assert refused is not None
    assert check(refused)["reason"] == reason


def test_what_is_said_may_get_new_fields_and_what_is_told_may_not() -> None:
    for name in schemas():
        objections = list(checker(name.removesuffix(".schema.json")).iter_errors({"colour": "blue"}))
        closed = any("colour" in objection.message for objection in objections)
        assert closed is name.startswith("cmd-"), name


def test_a_schema_objects_to_what_is_wrong() -> None:
    body = check(TOPICS.alarm(VOICE.alarm(STAMP, STANDING)))
    wrong = [body | {"event_seq": "7"}, body | {"ts": "noon"}, {k: v for k, v in body.items() if k != "alarm"}]

    assert all(list(checker("alarm").iter_errors(one)) for one in wrong)


@pytest.mark.parametrize(
    ("verb", "request_"),
    [
        (Verb.ACK, {"machine": "pump1", "by": "j.smith", "comment": "seen", "transaction": "t-81"}),
        (Verb.SHELVE, {"machine": "pump1", "minutes": 60, "ts": (NOON - timedelta(seconds=1)).isoformat()}),
        (Verb.THRESHOLD, {"machine": "pump1", "value": None}),
        (Verb.LABEL, {"machine": "pump1", "verdict": False}),
        (Verb.HEALTH_CHECK, {}),
    ],
)
def test_the_file_of_a_command_takes_what_the_node_takes(verb: Verb, request_: dict[str, object]) -> None:
    REQUESTS[verb].model_validate_json(json.dumps(request_))

    checker(f"cmd-{verb}").validate(request_)


def examples() -> list[tuple[str, Any]]:
    """The JSON that people are shown, and the topic it stands under."""
    page = (FOLDER / "README.md").read_text("utf-8")
    return [(topic, json.loads(text)) for topic, text in re.findall(r"```json *(\S*)\n(.*?)```", page, re.DOTALL)]


def test_the_examples_that_people_are_shown_are_true() -> None:
    for topic, body in examples():
        name = topic.replace("/", "-") or body["schema"].removeprefix("edge_asd.").removesuffix("/1")
        checker(name).validate(body)
        assert set(schemas()[f"{name}.schema.json"]["properties"]) == set(body) or topic

    assert {topic or body["schema"] for topic, body in examples()} == {
        "edge_asd.event/1",
        "edge_asd.flood/1",
        "edge_asd.lesson/1",
        "edge_asd.reply/1",
        "cmd/ack",
    }


def test_the_page_for_people_knows_every_word() -> None:
    page = (FOLDER / "README.md").read_text("utf-8")
    words = [*Verb, *Refusal, *Transition, *Notice, *State, *Suppression, *Status, *LessonStage]

    assert [word for word in words if f"`{word}`" not in page and f"[{word}](" not in page] == []
    assert [name for name in schemas() if f"({name})" not in page] == []
