from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tests.train.method.toy import batch, learn, macs, size, task
from train.method.stgram_mfn import ArcFace, Settings, StgramMfn, Tgram, build, head, mobile_face_net

pytestmark = pytest.mark.train


def stgram(groups: int = 3, **settings: object) -> StgramMfn:
    torch.manual_seed(0)
    return build(task(2, [5] * groups), Settings.model_validate(settings))


@pytest.mark.parametrize(("seconds", "parameters"), [(2, 1_088_995), (10, 1_156_031)])
def test_the_network_is_as_large_as_derived(seconds: int, parameters: int) -> None:
    """methods.md §1.1, the three-stage variant for DCASE 2020's 41 identities."""
    about = task(samples=16_000 * seconds)
    assert size(Tgram(about), mobile_face_net(), head(about), nn.Linear(128, 41)) == parameters


@pytest.mark.parametrize(("seconds", "cost"), [(2, 158.6e6), (10, 785.6e6)])
def test_a_segment_costs_what_was_derived(seconds: int, cost: float) -> None:
    about = task(1, [1, 1], 16_000 * seconds)
    views = batch(1, about).views.values()
    assert macs(build(about, Settings()).embedder.eval(), *views) == pytest.approx(cost, rel=2e-3)


# ArcFace --------------------------------------------------------------------------------------------------------------


def arc(classes: int = 4, **settings: object) -> ArcFace:
    torch.manual_seed(1)
    return ArcFace(classes, Settings.model_validate(settings)).double()


@given(st.integers(0, 99), st.floats(0, 1.5), st.floats(1, 64))
def test_the_margin_is_an_angle_added_to_the_true_class(seed: int, margin: float, scale: float) -> None:
    """Deng et al., eq. (3), computed with angles."""
    head = arc(margin=margin, scale=scale)
    e = torch.from_numpy(np.random.default_rng(seed).standard_normal((8, 128)))
    classes = torch.arange(8) % 4
    given_out = head(e, functional.one_hot(classes, 4).double()).detach().numpy()
    rows, centres = e.numpy(), head.weight.detach().numpy()
    cos = (rows @ centres.T) / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(centres, axis=1)
    expected = scale * cos
    for row, one in enumerate(classes):
        angle = math.acos(cos[row, one]) + margin
        below = scale * (cos[row, one] - margin * math.sin(margin))
        expected[row, one] = scale * math.cos(angle) if angle < math.pi else below
    np.testing.assert_allclose(given_out, expected, rtol=1e-6, atol=1e-6)


def test_without_a_margin_it_is_a_cosine_softmax() -> None:
    head, e = arc(margin=0.0, scale=7.0), torch.randn(5, 128, dtype=torch.float64)
    target = functional.one_hot(torch.arange(5) % 4, 4).double()
    torch.testing.assert_close(head(e, target), 7.0 * head.cosines(e))


def test_of_several_centres_the_nearest_counts() -> None:
    head, e = arc(centres=3), torch.randn(5, 128, dtype=torch.float64)
    every = functional.cosine_similarity(e[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head.cosines(e), every.reshape(5, 4, 3).max(2).values)


def test_a_class_takes_the_margin_in_the_share_in_which_it_is_present() -> None:
    head, e = arc(), torch.randn(1, 128, dtype=torch.float64)
    a, b = (head(e, functional.one_hot(torch.tensor([n]), 4).double()) for n in (0, 1))
    half = head(e, torch.tensor([[0.5, 0.5, 0.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(half, (a + b) / 2)


@pytest.mark.parametrize(("classes", "output", "width"), [("group", "group_logit", 3), ("section", "section_logit", 2)])
def test_a_device_gets_the_embedding_and_scaled_cosines_of_the_classes_taught(
    classes: str, output: str, width: int
) -> None:
    network = stgram(classes=classes).eval()
    shown = batch(2, task(2, [5, 5, 5]))
    with torch.no_grad():
        e, logits = network.embedder(*shown.views.values())
    assert network.embedder.outputs == ("embedding", output)
    assert (e.shape, logits.shape) == ((2, 128), (2, width))
    torch.testing.assert_close(logits, 30.0 * network.embedder.arc.cosines(e))


def test_a_few_steps_lower_the_loss() -> None:
    shown = batch(8, task(2, [5] * 4))
    taught = replace(shown, group=functional.one_hot(torch.arange(8) % 4, 4).float())
    losses = learn(stgram(4), taught, 4)
    assert losses[-1] < 0.8 * losses[0]
