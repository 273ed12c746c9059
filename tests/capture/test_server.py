"""Staying with one microphone where a sound server has several."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from edge_asd.capture.microphone import Microphone
from edge_asd.capture.server import recorded, source_of
from edge_asd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@pytest.mark.system
def test_a_microphone_whose_place_another_takes_is_lost(
    source: MicrophoneSource, eventually: Callable[..., Any]
) -> None:
    control("load-module", "module-null-sink", "sink_name=other")
    eventually(source.read, 15, "a block")
    home = eventually(lambda: source_of(source.pid), 15, "the server to know of us")
    (microphone,) = (line.split()[0] for line in control("list", "short", "modules").splitlines() if "=mic " in line)
    control("unload-module", microphone)
    eventually(lambda: source_of(source.pid) != home, 15, "the server to give us another source, as it does")

    def said() -> str | None:
        try:
            source.read()
        except SourceError as error:
            return str(error)
        return None

    lost = eventually(said, 15, "the loss")
    assert lost == "name:default is gone: the sound server gave us another microphone in its place"
