"""What a node exports, and what a PromQL expression asks for: that the two meet."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge_asd.deliver.publisher import Traffic
from edge_asd.deliver.store import Store
from edge_asd.observe.metric import MachineLabel, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = {"job", "instance"}
"""labels that Prometheus adds"""
OPTIONAL = {"edge_asd_temperature_celsius": [{}]}
"""that not every computer has"""
FOREIGN = {"up", "ALERTS"}
"""made by Prometheus itself"""
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
SELECTOR = re.compile(r"\b((?:edge_asd|process)_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


class Selector(NamedTuple):
    """Series that an expression asks for."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    """label, operator, value"""

    def found(self) -> bool:
        """Whether a node has such a series; what Prometheus adds, and what is chosen on a dashboard, is left aside."""
        if self.name in FOREIGN:
            return True
        own = [m for m in self.matchers if m[0] not in TARGET and "$" not in m[2]]
        return any(all(_fits(labels, *matcher) for matcher in own) for labels in exported().get(self.name, ()))


def _fits(labels: dict[str, str], label: str, operator: str, value: str) -> bool:
    if label not in labels:
        return False
    same = re.fullmatch(value if "~" in operator else re.escape(value), labels[label]) is not None
    return same is not operator.startswith("!")


def selectors(expression: str) -> Iterator[Selector]:
    """All in an expression."""
    for name, matchers in SELECTOR.findall(GROUPING.sub("", expression)):
        yield Selector(name, tuple(MATCHER.findall(matchers)))


@cache
def exported() -> dict[str, list[dict[str, str]]]:
    """Labels of all series by name: of a node with one machine, before anything has happened."""
    label = MachineLabel("pump1", model="pump", version="1", sha256="9f2c", backend="cpu", precision="int8")
    metrics = Metrics("0.1.0", "", 1.0, ["mic0"], [label])
    metrics.hears("pump1", "mic0")
    metrics.watch(Traffic, Store(None).condition, lambda: 1000.0)
    metrics.watch_node(Path("/"))
    series = {name: list(labels) for name, labels in OPTIONAL.items()}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            series.setdefault(sample.name, []).append(sample.labels)
    return series
