"""The contract for programs: JSON Schemas of everything a node says and of every command.

    python -m edge_asd.deliver.schema docs/mqtt

What a node says is open, since changes add fields; what it is told is closed, since it refuses what it does not know.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from edge_asd.deliver.command import REQUESTS, Reply
from edge_asd.deliver.payload import (
    AlarmState,
    Event,
    FloodEvent,
    Health,
    Info,
    LessonState,
    Score,
    Source,
    SourceLevel,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SAID: tuple[type[BaseModel], ...] = (
    Info,
    Health,
    Source,
    SourceLevel,
    Score,
    AlarmState,
    Event,
    FloodEvent,
    LessonState,
    Reply,
)


class _Terse(GenerateJsonSchema):
    """Fields without a title: it would be their name again."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - for any field
        return False


def schemas() -> dict[str, dict[str, Any]]:
    """File name and schema of every shape."""
    return dict(_said()) | dict(_told())


def write(folder: Path) -> None:
    """Fill a folder; schemas of shapes that are no more go."""
    wanted = schemas()
    for file in folder.glob("*.schema.json"):
        if file.name not in wanted:
            file.unlink()
    for name, schema in wanted.items():
        (folder / name).write_text(text(schema), "utf-8")


def text(schema: dict[str, Any]) -> str:
    """As it stands in the file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _said() -> Iterator[tuple[str, dict[str, Any]]]:
    for shape in SAID:
        schema = _open(shape.model_json_schema(mode="serialization", schema_generator=_Terse))
        name, _, version = str(schema["properties"]["schema"]["const"]).removeprefix("edge_asd.").partition("/")
        yield f"{name}.schema.json", _titled(f"urn:edge_asd:{name}:{version}", schema)


def _told() -> Iterator[tuple[str, dict[str, Any]]]:
    for verb, shape in REQUESTS.items():
        schema = shape.model_json_schema(schema_generator=_Terse)
        yield f"cmd-{verb}.schema.json", _titled(f"urn:edge_asd:cmd:{verb}:1", schema)


def _titled(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": DIALECT, "$id": name, **schema}


def _open(schema: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Without the ban on fields that are not there yet; shapes with a type for further fields keep it."""
    if isinstance(schema, list):
        return [_open(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _open(part) for key, part in schema.items() if (key, part) != ("additionalProperties", False)}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
