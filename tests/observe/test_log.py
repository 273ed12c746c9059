from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from edge_asd.observe.log import LEVELS, start_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("edge_asd.somewhere")


class Terminal(io.StringIO):
    """A person reads here."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers.clear()  # logging would close pytest's own
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def test_journald_gets_one_json_object_a_line() -> None:
    out = io.StringIO()
    start_logging(stream=out)

    log.warning("source.lost", extra={"source": "mic0", "after_s": 31.2})
    log.info("a\nb")

    first, second = map(json.loads, out.getvalue().splitlines())
    assert first.pop("ts").endswith("+00:00")
    assert first == {"level": "warning", "event": "source.lost", "source": "mic0", "after_s": 31.2}
    assert second["event"] == "a\nb"


def test_a_trace_stays_on_its_line() -> None:
    out = io.StringIO()
    start_logging(stream=out)
    try:
        int("no such microphone")
    except ValueError:
        log.exception("capture.failed")

    (line,) = out.getvalue().splitlines()
    assert "no such microphone" in json.loads(line)["trace"]


def test_a_person_gets_words() -> None:
    out = Terminal()
    start_logging(stream=out)

    log.info("mqtt.connected", extra={"host": "broker", "port": 1883})

    assert out.getvalue().endswith("INFO    mqtt.connected  host=broker port=1883\n")


@pytest.mark.parametrize("level", LEVELS)
def test_the_level_hides_what_lies_below(level: str) -> None:
    out = io.StringIO()
    start_logging(level, out)
    for each in LEVELS:
        log.log(logging.getLevelNamesMapping()[each.upper()], each)

    shown = [json.loads(line)["event"] for line in out.getvalue().splitlines()]
    assert shown == list(LEVELS[LEVELS.index(level) :])
