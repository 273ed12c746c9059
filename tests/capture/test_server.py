"""Staying with one microphone where a sound server has several."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import soundfile

from edge_asd.capture.microphone import Microphone
from edge_asd.capture.server import LOOK_S, SELDOM_S, Guard, News, recorded, source_of, sources
from edge_asd.errors import SourceError
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_asd.capture.microphone import MicrophoneSource
    from tests.conftest import PulseMicrophone

TOLD = """Source Output #3
\tDriver: protocol-native.c
\tClient: 7
\tSource: 2
\tMute: no
\tProperties:
\t\tmedia.name = "ALSA Capture"
\t\tapplication.process.id = "4711"

Source Output #5
\tDriver: protocol-native.c
\tClient: 9
\tSource: 12
\tProperties:
\t\tapplication.process.id = "471"
"""


def test_the_source_of_each_process_is_read_off_what_the_server_tells() -> None:
    assert recorded(TOLD, 4711) == "2"
    assert recorded(TOLD, 471) == "12"


def test_who_does_not_record_has_no_source() -> None:
    assert recorded(TOLD, 47) is None
    assert recorded("", 4711) is None
    assert source_of(os.getpid()) is None


@pytest.fixture
def source(pulse_microphone: PulseMicrophone) -> Iterator[MicrophoneSource]:
    """Hears the sink ``mic``."""
    hears = Microphone(pulse_microphone.token).tap(16_000).open()
    yield hears
    hears.close()


def control(*words: str) -> str:
    return subprocess.run(["pactl", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def news() -> Iterator[Callable[[str], News]]:
    """`news(code)` is told what this Python code prints."""
    started: list[News] = []

    def start(code: str) -> News:
        started.append(News((sys.executable, "-c", code)))
        return started[-1]

    yield start
    for one in started:
        one.close()


def waited(news: News, longest: float) -> float:
    began = time.monotonic()
    news.wait(longest)
    return time.monotonic() - began


def test_news_of_a_recording_ends_the_waiting(news: Callable[[str], News]) -> None:
    told = "print(\"Event 'change' on source-output #3\", flush=True); import time; time.sleep(60)"
    assert waited(news(told), 20) < 15


def test_other_news_or_none_or_nobody_who_tells_ends_it_in_its_time(news: Callable[[str], News]) -> None:
    for told in ("print(\"Event 'new' on client #3\", flush=True); import time; time.sleep(60)", "", "1 / 0"):
        assert waited(news(told), 0.4) >= 0.4


def test_who_tells_news_ends_with_the_process_that_listens_however_that_ends() -> None:
    code = (
        "import sys, time; from edge_asd.capture.server import News; "
        "news = News((sys.executable, '-c', 'import time; time.sleep(600)')); "
        "print(news._process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen((sys.executable, "-c", code), stdout=subprocess.PIPE, text=True) as listening:
        teller = psutil.Process(int(listening.stdout.readline()))
        listening.kill()
    until(lambda: not teller.is_running() or teller.status() == psutil.STATUS_ZOMBIE, 10, "it lives on")


class Server:
    """Answers questions in turn, and counts how long it was waited for; the last answer holds."""

    def __init__(self, recording: list[str | None], there: list[frozenset[str] | None]) -> None:
        self.recording, self.there, self.waited = recording, there, [0.0]

    def guard(self, *before: str) -> Guard:
        """Of a recording that began when there were these sources."""
        return Guard(frozenset(before), lambda: _next(self.recording), lambda: _next(self.there), self.waited.append)


def _next(answers: list[Any]) -> Any:  # noqa: ANN401 - whatever is in the list
    return answers.pop(0) if len(answers) > 1 else answers[0]


def test_a_recording_that_stays_is_watched_until_it_is_moved() -> None:
    server = Server(["1", "1", None, "1", "2"], [frozenset("12")])
    server.guard("1", "2").stay()
    assert server.waited == [0, *[LOOK_S] * 3]


def test_who_cannot_be_told_of_yet_is_watched_once_he_can_be_and_asked_for_ever_less_often() -> None:
    server = Server([*[None] * 9, "1", "2"], [None, frozenset("12")])
    server.guard("1", "2").stay()
    assert server.waited[1:8] == [1, 2, 4, 8, 16, 32, SELDOM_S]
    assert server.waited[-1] == LOOK_S


def test_when_a_source_went_before_the_first_answer_the_recording_counts_as_moved() -> None:
    server = Server(["2"], [frozenset("23")])
    server.guard("1", "2").stay()
    assert server.waited == [0]


@pytest.mark.system
def test_a_microphone_whose_place_another_takes_is_lost_before_a_sound_of_the_other_is_heard(
    pulse_microphone: PulseMicrophone, source: MicrophoneSource, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    control("load-module", "module-null-sink", "sink_name=other", "rate=16000")
    eventually(source.read, 15, "a block")
    for sink, level in {"mic": 0.1, "other": 0.5}.items():
        sound = np.random.default_rng(0).uniform(-level, level, 20 * 16_000)
        soundfile.write(tmp_path / f"{sink}.wav", sound, 16_000)
        pulse_microphone.play(tmp_path / f"{sink}.wav", sink)
    eventually(lambda: source_of(source.pid), 15, "the server to know of us")
    eventually(lambda: control("list", "short", "sinks").count("RUNNING") == 2, 15, "both to sound")
    assert source_of(source.pid) in sources()
    (microphone,) = (line.split()[0] for line in control("list", "short", "modules").splitlines() if "=mic " in line)
    heard = [0.0]

    def said() -> str | None:
        try:
            block = source.read()
        except SourceError as error:
            return str(error)
        heard.append(float(abs(block.samples).max()) if block else 0.0)
        return None

    eventually(lambda: said() or sum(level > 0.05 for level in heard) > 10, 15, "its own sound")
    control("unload-module", microphone)
    lost = eventually(said, 15, "the loss")
    assert lost == "name:default is gone: the sound server gave us another microphone in its place"
    assert max(heard) < 0.11
