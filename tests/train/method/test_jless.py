from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.train.method.toy import batch, size, task
from train.method.jless import Settings, build
from train.teach.recipe import load_recipe

pytestmark = pytest.mark.train


@pytest.mark.parametrize("name", ["jless", "jless-paper"])
def test_every_segment_is_mixed(name: str) -> None:
    training = load_recipe(name).training
    assert training is not None
    assert training.mixup == 1.0


def test_two_classifiers_stand_side_by_side_on_one_embedding() -> None:
    about = task(2, [5, 9, 7])
    torch.manual_seed(0)
    network, shown = build(about, Settings(section=0.5, group=2.0)), batch(4, about)
    total, parts = network.loss(shown, 0.5)
    e, section, group = network.embedder(*shown.views.values())
    torch.testing.assert_close(
        section, functional.linear(e, network.embedder.sections.weight, network.embedder.sections.bias)
    )
    torch.testing.assert_close(parts["l_sec"], functional.cross_entropy(section, shown.section))
    torch.testing.assert_close(parts["l_att"], functional.cross_entropy(group, shown.group))
    torch.testing.assert_close(total, 0.5 * parts["l_sec"] + 2.0 * parts["l_att"])
    assert size(network.embedder.sections, network.embedder.groups) == 129 * 5
