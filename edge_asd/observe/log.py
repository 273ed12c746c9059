"""Logs: the name of an event and its fields. JSON lines for journald, words for a person at a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = ("debug", "info", "warning", "error")

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def start_logging(level: str = "info", stream: TextIO | None = None) -> None:
    """Send the logs of the whole process to standard error.

    ``log.warning("source.lost", extra={"source": "mic0"})`` becomes one line with those fields.

    Args:
        level: one of ``LEVELS``.
        stream: another place to write to.
    """
    stream = stream or sys.stderr
    out = logging.StreamHandler(stream)
    out.setFormatter(_Words() if stream.isatty() else _JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[out], force=True)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _Words(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        return f"{super().formatMessage(record)}  {fields}".rstrip()
