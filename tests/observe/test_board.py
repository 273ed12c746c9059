from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from edge_asd.observe.board import free_bytes, temperature_c

if TYPE_CHECKING:
    from pathlib import Path


def test_room_is_that_of_the_disk_also_before_the_folder_exists(tmp_path: Path) -> None:
    there, yet_to_be = free_bytes(tmp_path), free_bytes(tmp_path / "a" / "b")
    free = shutil.disk_usage(tmp_path).free
    assert there
    assert yet_to_be
    assert abs(there - free) < 0.1 * free
    assert abs(yet_to_be - free) < 0.1 * free


def test_the_hottest_zone_counts_and_one_that_cannot_be_read_does_not(tmp_path: Path) -> None:
    assert temperature_c(tmp_path) is None
    for name, text in {"thermal_zone0": "41250\n", "thermal_zone1": "63000\n", "thermal_zone2": "asleep"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "temp").write_text(text)
    assert temperature_c(tmp_path) == 63.0
