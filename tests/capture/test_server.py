"""Staying with one microphone where a sound server has several."""

from __future__ import annotations

import os

from edge_asd.capture.server import recorded, source_of

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
