"""What a network can be computed with: ONNX Runtime's execution providers, and how many threads they may have."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

EXECUTION: Mapping[str, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""ONNX Runtime's names by ours; each hands what it cannot compute to those behind it"""
MOST_THREADS = 4
"""a graph of a few milliseconds is not worth more: waking them would take longer than what they do"""
TOPOLOGY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Provider:
    """One way to compute."""

    name: str
    """a key of ``EXECUTION``"""
    options: Mapping[str, str] = field(default_factory=dict)
    """as ONNX Runtime calls them"""

    def chain(self, installed: Collection[str]) -> list[tuple[str, dict[str, str]]]:
        """It, and who computes what it cannot: those behind it of the installed ones."""
        behind = list(EXECUTION)[list(EXECUTION).index(self.name) + 1 :]
        others: list[tuple[str, dict[str, str]]] = [(EXECUTION[n], {}) for n in behind if n in installed]
        return [(EXECUTION[self.name], dict(self.options)), *others]


CPU = Provider("cpu")


@dataclass(frozen=True, slots=True)
class Trial:
    """How one provider did."""

    provider: str
    seconds: float | None = None
    """for one segment, median; None when it was refused"""
    refused: str = ""
    """why"""


def known(available: Iterable[str]) -> list[str]:
    """Of ONNX Runtime's names those we can use, by ours, the most capable first."""
    there = set(available)
    return [name for name, execution in EXECUTION.items() if execution in there]


def fastest(trials: Sequence[Trial]) -> Trial | None:
    """Of those that passed."""
    passed = [trial for trial in trials if trial.seconds is not None]
    return min(passed, key=lambda trial: trial.seconds or 0.0, default=None)


def spare_threads(allowed: Collection[int] | None = None, topology: Path = TOPOLOGY) -> int:
    """How many a graph may have, so that capture keeps a core of its own.

    Args:
        allowed: processors we may run on; by default what the kernel says.
        topology: where the kernel tells which of them share a core.
    """
    processors = os.sched_getaffinity(0) if allowed is None else allowed
    cores = len({_core(topology / f"cpu{processor}", processor) for processor in processors})
    return max(1, min(cores - 1, MOST_THREADS))


def _core(place: Path, processor: int) -> str:
    """The processors of one core have the same; one that says nothing is a core of its own."""
    try:
        return (place / "topology" / "thread_siblings_list").read_text("ascii").strip()
    except OSError:
        return f"alone {processor}"
