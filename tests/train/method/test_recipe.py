"""What a recipe asks of its method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_asd.score.head import Fusion
from edge_asd.score.part import STATISTICS, STATISTICS_PARTS
from tests.train.method.toy import task
from train.method import catalogue
from train.method.backend import backend
from train.teach.recipe import load_recipe, recipes

pytestmark = pytest.mark.train
PUBLISHED = {"adversarial": 40_800, "multitask": 40_800, "oevae": 32_000}
"""samples of a segment, where they are not ten seconds"""
NETWORKS = [name for name in recipes() if name != catalogue.NETWORKLESS]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_recipe_looks_at_what_its_graph_gives(name: str) -> None:
    recipe = load_recipe(name)
    about = replace(task(samples=recipe.windows.segment), front_ends=recipe.specs)
    embedder: Any = catalogue.build(recipe.method, about, recipe.settings).embedder
    looked_at = {part.feature for part in recipe.parts}
    assert looked_at
    assert looked_at <= {*embedder.outputs, *STATISTICS}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_recipe_names_back_ends_and_weighs_parts_that_there_are(name: str) -> None:
    recipe = load_recipe(name)
    assert all(backend(part.backend, own=[0]).detector for part in recipe.parts)
    parts = [part.name for part in (*(STATISTICS_PARTS if recipe.statistics else ()), *recipe.parts)]
    assert Fusion(recipe.fusion.rule, recipe.fusion.weights).over(parts).sum() > 0


@pytest.mark.parametrize("name", sorted(set(catalogue.NAMES) - {catalogue.NETWORKLESS}))
def test_every_method_has_a_preset_for_devices_and_one_for_comparison(name: str) -> None:
    edge, paper = load_recipe(name), load_recipe(f"{name}-paper")
    assert (edge.preset, edge.windows.segment, edge.statistics) == ("edge", 32_000, True)
    assert (paper.preset, paper.windows.segment, paper.statistics) == ("paper", PUBLISHED.get(name, 160_000), False)
    assert paper.precision == "fp32"
    assert edge.precision == ("int8" if catalogue.trained(edge.method) else "fp32")
