"""How the computer itself is: room on its disk, its temperature, how long it has been up."""

from __future__ import annotations

import os
from pathlib import Path

THERMAL = Path("/sys/class/thermal")


def free_bytes(folder: Path) -> int | None:
    """Room for others than root on the disk of the nearest folder above that exists; None where nobody can say."""
    existing = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
    try:
        room = os.statvfs(existing)
    except OSError:
        return None
    return room.f_bavail * room.f_frsize


def temperature_c(thermal: Path = THERMAL) -> float | None:
    """Of the hottest zone, in degrees Celsius; None where no sensor is."""
    return max(filter(None, map(_degrees, thermal.glob("thermal_zone*/temp"))), default=None)


def _degrees(file: Path) -> float | None:
    try:
        return int(file.read_text("ascii")) / 1000
    except (OSError, ValueError):  # a sensor that is asleep fails to be read
        return None
