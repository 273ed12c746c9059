from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from edge_asd.errors import ConfigError
from edge_asd.signal.view import LogMel
from tests.train.method.toy import batch, learn, lived, outputs, size, task
from train.method.multitask import Multitask, Pooling, Settings, build, known
from train.method.oevae import exposure
from train.pack.graph import layers, macs, plain_graph, quantised, to_onnx

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from train.method.task import Batch, Task

pytestmark = pytest.mark.train

KINDS = ("identity", "noise", "fade")
SMALL = {"blocks": 1, "width": 32, "hidden": 32, "kernel": 7, "join": 4}
FRAMES_256 = 40_800


def heard(samples: int = 8_000, sections: int = 3, **changes: Any) -> Task:  # noqa: ANN401 - fields of Task
    """Log-mels 160 samples apart, as the report has them."""
    about = replace(task(sections, samples=samples), front_ends={"": LogMel(hop=160)}, augmentations=KINDS)
    return replace(about, **changes)


def network(about: Task, **settings: Any) -> Multitask:  # noqa: ANN401 - fields of Settings
    torch.manual_seed(0)
    return build(about, Settings(**settings))


def views(embedder: Any, shown: Batch) -> tuple[Tensor, ...]:  # noqa: ANN401 - a module that is an Embedder
    return tuple(shown.views[name] for name in embedder.views)


# The network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tgram", "parameters"), [(False, 3_158_528), (True, 3_191_296)])
def test_the_conformer_is_as_large_as_reported(tgram: bool, parameters: int) -> None:  # noqa: FBT001 - a case
    """methods.md §4.1, without TgramNet and without what names the machine."""
    embedder = network(heard(FRAMES_256), tgram=tgram).embedder
    assert size(embedder.enter, embedder.blocks, embedder.pooling, embedder.head) == parameters


def test_256_frames_cost_786_million_multiplications() -> None:
    """methods.md §4.1 for three blocks, of which one is counted; what attention multiplies with itself comes on top."""
    about = heard(FRAMES_256)
    assert about.frames == 256
    block = 256 * (4 * 256 * 512 + 4 * 256 * 256 + 3 * 256 * 256 + 31 * 256)
    assert macs(to_onnx(network(about, blocks=1).embedder.eval(), about)) == pytest.approx(
        786.3e6 - 2 * block, rel=1e-3
    )


def test_two_seconds_joined_by_four_are_50_steps() -> None:
    about, lengths = heard(32_000), []
    method: Any = network(about, join=4)
    method.embedder.blocks[0].register_forward_hook(lambda _block, given_in, _out: lengths.append(given_in[0].shape))
    outputs(method.embedder, *views(method.embedder, batch(2, about)))
    assert lengths == [(50, 2, 256)]


def test_pooling_is_weighted_mean_and_deviation() -> None:
    pooling = Pooling(6).double()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 6, 11)))
    with torch.no_grad():
        given_out, weight = pooling(x).numpy(), pooling.attention(x).exp().numpy()
    for row in range(3):
        for channel in range(6):
            mean = np.average(x[row, channel], weights=weight[row, channel])
            deviation = np.sqrt(np.average((x[row, channel].numpy() - mean) ** 2, weights=weight[row, channel]))
            assert given_out[row, [channel, 6 + channel]] == pytest.approx([mean, deviation], rel=1e-9)


def test_pooling_of_silence_can_be_learned_from() -> None:
    x = torch.zeros(2, 4, 5, requires_grad=True)
    Pooling(4)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_segment_is_heard_alone() -> None:
    about = heard()
    embedder: Any = lived(network(about, **SMALL)).embedder
    shown = batch(3, about)
    together = outputs(embedder, *views(embedder, shown))
    for row in range(3):
        alone = outputs(embedder, *(view[row : row + 1] for view in views(embedder, shown)))
        for name, output in alone.items():
            torch.testing.assert_close(output[0], together[name][row], rtol=1e-4, atol=1e-5)


# Losses ---------------------------------------------------------------------------------------------------------------

numbers = st.floats(-20, 20)


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 99))
def test_either_side_of_a_sigmoid_weighs_half(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logit, own = rng.normal(0, 3, (rows, columns)), np.zeros((rows, columns))
    own[np.arange(rows), rng.integers(columns, size=rows)] = rng.random(rows) < 0.7  # the others are outliers
    p = 1 / (1 + np.exp(-logit))
    sides = [
        np.mean(-np.log(said[marks]))
        for c, yes in enumerate(own.T == 1)
        for said, marks in ((p[:, c], yes), (1 - p[:, c], ~yes))
        if marks.any()
    ]
    found = float(exposure(torch.from_numpy(logit), torch.from_numpy(own)))
    assert found == pytest.approx(np.mean(sides), rel=1e-9, abs=1e-12)


def test_a_trace_of_a_machine_weighs_no_more_than_a_trace() -> None:
    own = torch.tensor([[0.01], [0.0]])
    assert float(exposure(torch.tensor([[-10.0], [-10.0]]), own)) < 0.1


def known_by_torch(logits: Tensor, target: Tensor, values: tuple[int, ...]) -> tuple[float, float]:
    """Attribute by attribute, with whole rows alone."""
    losses: list[Tensor] = []
    right: list[Tensor] = []
    for block, marks in zip(logits.split(values, 1), target.split(values, 1), strict=True):
        there = marks.sum(1) > 0
        losses += functional.cross_entropy(block[there], marks[there].argmax(1), reduction="none")
        right += (block[there].argmax(1) == marks[there].argmax(1)).float()
    return float(torch.stack(losses).mean()), float(torch.stack(right).mean())


@given(st.lists(st.integers(2, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_heads_ignore_unknown_attributes(values: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for count in values:
        block = functional.one_hot(torch.randint(count, (7,), generator=generator), count).float()
        block[torch.rand(7, generator=generator) < 0.4] = 0.0
        block[0, 0] = 1.0 if not block[0].any() else block[0, 0]
        blocks.append(block)
    target = torch.cat(blocks, dim=1)
    logits = torch.randn(7, sum(values), generator=generator, requires_grad=True)
    loss, right = known(logits, target, values)
    assert (float(loss.detach()), float(right)) == pytest.approx(
        known_by_torch(logits.detach(), target, tuple(values)), rel=1e-5
    )
    loss.backward()
    assert logits.grad is not None
    for gradient, block in zip(logits.grad.split(values, 1), blocks, strict=True):
        assert not gradient[block.sum(1) == 0].any()


def test_nothing_known_costs_nothing() -> None:
    loss, right = known(torch.randn(4, 5), torch.zeros(4, 5), (2, 3))
    assert (float(loss), float(right)) == (0.0, 0.0)


def test_the_loss_is_the_weighted_sum_of_the_tasks() -> None:
    about = heard()
    method: Any = network(about, **SMALL, attribute=0.5, target=2.0, augmentation=3.0).eval()
    shown = batch(5, about, outliers=2)
    loss, parts = method.loss(shown, 0.0)
    given_out = outputs(method.embedder, *views(method.embedder, shown))
    with torch.no_grad():
        named = method.attributes(given_out["raw_embedding"])
        told = method.augmentation(given_out["raw_embedding"])
    expected = {
        "l_attribute": known(named, shown.attributes, [2, 2, 2])[0],
        "l_target": exposure(given_out["target_logit"], shown.section),
        "l_augmentation": functional.cross_entropy(told, shown.augmentation),
    }
    for name, value in expected.items():
        torch.testing.assert_close(parts[name].detach(), value)
    total = 0.5 * expected["l_attribute"] + 2.0 * expected["l_target"] + 3.0 * expected["l_augmentation"]
    torch.testing.assert_close(loss.detach(), total)


@pytest.mark.parametrize(
    ("changes", "tasks"),
    [
        ({"attributes": ()}, {"l_target", "l_augmentation"}),
        ({"augmentations": ()}, {"l_target", "l_attribute"}),
        ({"augmentations": ("identity",)}, {"l_target", "l_attribute"}),
        ({"attributes": (), "augmentations": ()}, {"l_target"}),
    ],
)
def test_a_task_that_is_not_there_is_left_out(changes: dict[str, Any], tasks: set[str]) -> None:
    about = heard(**changes)
    loss, parts = network(about, **SMALL).loss(batch(4, about), 0.0)
    assert set(parts) - {"loss", "accuracy"} == tasks
    torch.testing.assert_close(loss, sum(parts[name] for name in tasks))


@pytest.mark.parametrize("tgram", [False, True])
def test_it_learns_every_task(tgram: bool) -> None:  # noqa: FBT001 - a case
    about = heard(sections=2)
    lesson = batch(12, about)
    rows = torch.arange(12)
    lesson.section.copy_(torch.eye(2)[rows % 2])
    lesson.augmentation.copy_(torch.eye(3)[rows % 3])
    lesson.attributes.copy_(torch.cat([torch.eye(2)[rows // 6] * (rows % 2 == own)[:, None] for own in (0, 1)], 1))
    method: Any = network(about, **SMALL, tgram=tgram, dropout=0.0)
    _, before = method.loss(lesson, 0.0)
    learn(method, lesson, steps=60, rate=3e-3)
    _, after = method.loss(lesson, 1.0)
    for name in ("l_target", "l_attribute", "l_augmentation"):
        assert float(after[name].detach()) < 0.5 * float(before[name].detach())


# On a device ----------------------------------------------------------------------------------------------------------


def seen(about: Task, embedder: Any, seed: int = 0) -> dict[str, NDArray[np.float32]]:  # noqa: ANN401 - as above
    shown = batch(1, about, seed)
    return {name: shown.views[name].numpy() for name in embedder.views}


@pytest.mark.parametrize("settings", [SMALL, {**SMALL, "tgram": True}, {**SMALL, "join": 1}])
def test_a_device_computes_the_same(settings: dict[str, Any]) -> None:
    about = heard()
    embedder: Any = lived(network(about, **settings)).embedder
    shown = seen(about, embedder)
    expected = outputs(embedder, *map(torch.from_numpy, shown.values()))
    session = onnxruntime.InferenceSession(to_onnx(embedder, about), providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == list(embedder.views)
    for name, output in zip(embedder.outputs, session.run(list(embedder.outputs), shown), strict=True):
        np.testing.assert_allclose(output, expected[name], rtol=1e-3, atol=1e-4 * float(expected[name].abs().max()))


def test_all_but_the_ends_of_a_conformer_are_quantised_and_it_says_nearly_the_same() -> None:
    about = heard()
    embedder: Any = lived(network(about, **{**SMALL, "width": 64})).embedder
    full = to_onnx(embedder, about)
    # a block: two times two linear units, keys and queries and values, their output, two pointwise convolutions;
    # then two of the attention that is pooled by
    assert len(layers(plain_graph(full))) == 8 + 2
    small = quantised(full, [seen(about, embedder, seed) for seed in range(8)])
    said = [
        onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(
            ["raw_embedding"], seen(about, embedder)
        )[0][0]
        for graph in (full, small)
    ]
    cosine = said[0] @ said[1] / np.linalg.norm(said[0]) / np.linalg.norm(said[1])
    assert cosine > 0.99
    assert len(small) < 0.6 * len(full)


# Refused --------------------------------------------------------------------------------------------------------------


def test_one_machine_that_nothing_is_set_against_is_refused() -> None:
    alone = heard(sections=1, attributes=())
    with pytest.raises(ConfigError, match=r"one machine, toy/machine/00, .* with --outliers DIR"):
        build(alone, Settings())


@pytest.mark.parametrize("changes", [{"outliers": True}, {"attributes": (("toy/machine/00 speed", 2),)}])
def test_one_machine_with_anything_to_learn_is_not(changes: dict[str, Any]) -> None:
    about = heard(sections=1, **{"attributes": (), **changes})
    loss, _ = network(about, **SMALL).loss(batch(4, about), 0.0)
    assert loss.isfinite()


@pytest.mark.parametrize(("name", "value"), [("heads", 3), ("kernel", 8)])
def test_sizes_that_do_not_fit_are_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"settings.{name} {value}"):
        build(heard(), Settings(**{name: value}))
