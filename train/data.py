"""Data sets as they lie on disk: folders with ``train/`` or ``test/`` in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a data set."""

    path: Path
    key: str
    """machine identity, ``set/machine/section``"""
    attribute: str
    """operating condition, the values of all attributes joined; empty when unknown"""
    domain: Literal["source", "target"]
    split: Literal["train", "test"]
    label: Literal["normal", "anomaly", "unknown"]
    recording: str
    """id of the recording the clip was cut from; clips that share it are not independent"""
    noise: str = ""
    """id of the noise recording mixed in; empty when none"""
