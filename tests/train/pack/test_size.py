"""What sizes cost is measured of real bundles: they open, score and hold as much as is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_asd.bundle import open_bundle
from train.pack.size import HEAD, Against, Size, sizes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.train

SMALL = """
method = "ae"
[training]
epochs = 1
[settings]
width = 8
[[parts]]
name = "network"
feature = "mean_residual"
backend = "knn"
[[parts]]
name = "shown"
feature = "error"
backend = "value"
[fusion]
weights = { shown = 0.0 }
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Size, Path]:
    """Its cost, and the folder with its bundle."""
    folder = tmp_path_factory.mktemp("size")
    recipe = folder / "small.toml"
    recipe.write_text(SMALL)
    (size,) = sizes([str(recipe)], folder / "out", rounds=3)
    return size, folder / "out"


def test_what_is_measured_opens_and_scores_by_the_parts_that_count(measured: tuple[Size, Path]) -> None:
    _, folder = measured
    assert [path.name for path in folder.iterdir()] == ["ae.asd"]
    bundle = open_bundle(folder / "ae.asd")
    verdict = bundle.scorer(HEAD).score(np.full(160_000, 0.01, np.float32))
    assert [part.name for part in verdict.parts] == ["indicators", "spectrum", "neighbour", "network"]


def test_the_network_is_timed_on_the_views_that_it_is_given_in_a_clip(measured: tuple[Size, Path]) -> None:
    backbone = open_bundle(measured[1] / "ae.asd").backbone
    assert backbone is not None
    segment = (0.05 * np.random.default_rng(1).standard_normal(32_000)).astype(np.float32)
    views = backbone.seen(segment)
    assert {name: image.shape for name, image in views.items()} == {"log_mel": (1, 128, 63)}
    for name, output in backbone(segment).items():
        np.testing.assert_array_equal(backbone.look(views)[name], output)


def test_weights_and_multiplications_are_those_of_the_layers(measured: tuple[Size, Path]) -> None:
    wide, narrow, inner = 640, 8, 8
    weights = wide * narrow + 3 * narrow**2 + narrow * inner + inner * narrow + 3 * narrow**2 + narrow * wide
    biases, norms = 8 * narrow + inner + wide, 2 * (8 * narrow + inner)
    size = measured[0]
    assert size.parameters == weights + biases + norms
    assert size.macs == 59 * weights  # vectors of a segment


def test_a_whole_clip_takes_longer_than_its_views_and_less_memory_than_torch(measured: tuple[Size, Path]) -> None:
    size = measured[0]
    assert size.clip_ms.ours > size.views_ms > 0
    assert size.memory_mb.ratio < 1


def test_a_ratio_is_ours_over_torch_s() -> None:
    assert Against(2.0, 8.0).ratio == 0.25
