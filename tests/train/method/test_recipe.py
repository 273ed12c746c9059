"""What a recipe asks of its method."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from edge_asd.signal.segment import Windows
from edge_asd.signal.view import LogMel
from tests.train.method.graph import task
from train.method.catalogue import build

pytestmark = pytest.mark.train

FOLDER = Path(__file__).parents[3] / "train" / "recipes"
STATISTICS = {"indicators", "spectrum"}
BASELINES = {"ae", "mobilenetv2", "twfr_gmm", "imp_freq"}


def recipes() -> list[tuple[str, dict[str, Any]]]:
    """Those of the baselines, by name."""
    read = {file.stem: tomllib.loads(file.read_text()) for file in sorted(FOLDER.glob("*.toml"))}
    return [(name, recipe) for name, recipe in read.items() if recipe.get("method") in BASELINES]


@pytest.mark.parametrize(("name", "recipe"), recipes())
def test_a_recipe_looks_at_what_its_graph_gives(name: str, recipe: dict[str, Any]) -> None:
    windows = TypeAdapter(Windows).validate_python(recipe.get("windows", {}))
    embedder: Any = build(recipe["method"], task(samples=windows.segment), recipe.get("settings", {})).embedder
    looked_at = {part["feature"] for part in recipe["parts"]}
    assert looked_at - STATISTICS
    assert looked_at <= {*embedder.outputs, *STATISTICS}
    assert name == recipe["method"] + {"edge": "", "paper": "-paper"}[recipe["preset"]]


@pytest.mark.parametrize(("name", "recipe"), recipes())
def test_a_recipe_weighs_each_of_its_parts(name: str, recipe: dict[str, Any]) -> None:
    parts = [part["name"] for part in recipe["parts"]]
    assert sorted(recipe["fusion"]["weights"]) == sorted(parts), name
    assert sum(recipe["fusion"]["weights"].values()) > 0


@pytest.mark.parametrize(("name", "recipe"), recipes())
def test_a_paper_hears_ten_seconds_and_a_device_two(name: str, recipe: dict[str, Any]) -> None:
    windows = TypeAdapter(Windows).validate_python(recipe.get("windows", {}))
    front_end = TypeAdapter(LogMel).validate_python(recipe.get("front_end", {}))
    assert windows.segment == {"edge": 2, "paper": 10}[recipe["preset"]] * windows.sample_rate, name
    assert windows.sample_rate == front_end.sample_rate
    assert {part["feature"] for part in recipe["parts"]} >= STATISTICS or recipe["preset"] == "paper"
