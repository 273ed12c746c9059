from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from edge_asd.observe.clock import REFUSED, UNSYNCHRONISED, clock_synced, set_lately

if TYPE_CHECKING:
    from pathlib import Path

NINE_HOURS_S = 9 * 3600.0


def test_the_kernel_is_believed_where_it_may_be_asked() -> None:
    state = ctypes.CDLL(None).ntp_adjtime(ctypes.create_string_buffer(512))  # the same question by another name

    assert state == REFUSED or clock_synced() is (state != UNSYNCHRONISED)


def test_a_clock_that_timesyncd_has_set_is_right_for_some_hours(tmp_path: Path) -> None:
    touched = tmp_path / "synchronized"
    touched.touch()
    os.utime(touched, (1e9, 1e9))

    assert set_lately(touched, 1e9 + 2048)  # the longest that timesyncd waits between two looks
    assert not set_lately(touched, 1e9 + NINE_HOURS_S)


def test_a_clock_that_nobody_has_set_is_not_right(tmp_path: Path) -> None:
    assert not set_lately(tmp_path / "synchronized", 1e9)
