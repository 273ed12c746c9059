from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional

from tests.train.method.toy import batch, learn, macs, size, task
from train.method.grhd import Grhd, Settings, class_weights, ignorance, reversal_strength, reversed_gradient
from train.method.stgram_mfn import Tgram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.method.task import Task

pytestmark = pytest.mark.train


def grhd(about: Task, seed: int = 0, **settings: Any) -> Grhd:  # noqa: ANN401 - whatever a setting can be
    torch.manual_seed(seed)
    network = Grhd(about, Settings(**settings))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def listened(layer: nn.Module) -> list[Tensor]:
    """What the layer gives from now on."""
    given_out: list[Tensor] = []
    layer.register_forward_hook(lambda _layer, _given, out: given_out.append(out.detach()))
    return given_out


# The graph ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "inference", "training"), [(2, 1_379_386, 1_688_057), (10, 1_446_422, 1_886_165)])
def test_the_network_is_as_large_as_derived(seconds: int, inference: int, training: int) -> None:
    """methods.md §1.3; the device also gets the classifier of the groups."""
    about = task(3, [33] * 30, 16_000 * seconds)
    assert size(Tgram(about)) == {2: 278_906, 10: 280_406}[seconds]
    network = grhd(about)
    assert size(network.embedder) - size(network.embedder.classes) == inference
    assert size(network) == training


@pytest.mark.parametrize(("seconds", "cost"), [(2, 168.1e6), (10, 832.8e6)])
def test_a_segment_costs_what_was_derived(seconds: int, cost: float) -> None:
    about = task(1, [1], 16_000 * seconds)
    views = batch(1, about).views.values()
    assert macs(grhd(about).embedder.eval(), *views) == pytest.approx(cost, rel=2e-3)


@pytest.mark.parametrize(("seconds", "width"), [(2, 4), (10, 20)])
def test_maps_and_embedding_have_the_shapes_of_the_drawing(seconds: int, width: int) -> None:
    about = task(1, [1], 16_000 * seconds)
    embedder, shown = grhd(about).embedder.eval(), batch(2, about)
    log_mel, waveform = shown.views.values()
    with torch.no_grad():
        assert embedder.tgram(waveform).shape == log_mel.shape
        assert [tuple(z.shape) for z in embedder.maps(log_mel, waveform)] == [(2, 128, 8, width)] * 3
        assert [tuple(out.shape) for out in embedder(log_mel, waveform)] == [(2, 128), (2, 1)]


def test_an_embedding_does_not_depend_on_its_batch() -> None:
    about = task(2, [5, 5])
    network, shown = grhd(about), batch(8, about)
    network.loss(shown, 0.5)  # so that batch norm has seen something
    embedder, views = network.embedder.eval(), list(shown.views.values())
    with torch.no_grad():
        together = embedder(*views)[0]
        alone = torch.cat([embedder(*(view[[i]] for view in views))[0] for i in range(8)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5 * float(together.abs().max()))


@pytest.mark.parametrize(
    ("classifiers", "terms", "names"),
    [
        ("section", {"l_sec"}, "section_logit"),
        ("attribute", {"l_att"}, "group_logit"),
        ("both", {"l_sec", "l_att"}, "group_logit"),
        ("all", {"l_rev", "l_sec", "l_att"}, "group_logit"),
    ],
)
def test_every_row_of_the_ablation_has_its_losses_and_its_classes(
    classifiers: str, terms: set[str], names: str
) -> None:
    about = task(2, [5, 5, 5])
    network = grhd(about, classifiers=classifiers)
    total, parts = network.loss(batch(4, about), 0.5)
    total.backward()  # type: ignore[no-untyped-call]
    assert terms == {name for name in parts if name.startswith("l_")}
    assert network.embedder.outputs == ("embedding", names)
    untaught = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert untaught == []


def normalised(x: NDArray[np.float64], layer: Any) -> NDArray[np.float64]:  # noqa: ANN401 - a LayerNorm, as arrays
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.eps)
    return np.asarray(scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy())


def test_the_learned_spectrogram_is_frames_times_kernels_then_three_rounds_of_norm_leak_and_convolution() -> None:
    tgram = Tgram(task()).double()
    for parameter in tgram.parameters():
        nn.init.normal_(parameter, std=0.1)
    waveform = np.random.default_rng(0).standard_normal(32_000)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, 512), 1024)[::512]  # (T, 1024)
    x = tgram.cut.weight.detach().numpy()[:, 0] @ frames.T  # (M, T)
    for norm, leak, conv in zip(*[iter(tgram.layers)] * 3, strict=True):
        x = normalised(x, norm)
        x = np.pad(np.where(x > 0, x, 0.2 * x), ((0, 0), (1, 1)))
        kernel = conv.weight.detach().numpy()  # (M, M, 3)
        x = sum(kernel[:, :, k] @ x[:, k : k + 63] for k in range(3))
        assert isinstance(leak, nn.LeakyReLU)
    with torch.no_grad():
        np.testing.assert_allclose(tgram(torch.from_numpy(waveform)[None])[0], x, rtol=1e-9, atol=1e-12)


# Gradient reversal, eq. (3) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "strength"), [(0.0, 0.0), (0.1, 0.4621), (0.25, 0.8483), (0.5, 0.9866), (1.0, 0.9999)]
)
def test_the_reversal_grows_by_the_dann_schedule(progress: float, strength: float) -> None:
    """methods.md §11."""
    assert reversal_strength(progress) == pytest.approx(strength, abs=5e-5)


@given(st.floats(0, 1))
def test_the_reversal_schedule_is_a_hyperbolic_tangent(progress: float) -> None:
    assert reversal_strength(progress) == pytest.approx(math.tanh(5.0 * progress), abs=1e-12)


@given(st.floats(0, 2))
def test_reversal_changes_nothing_forward_and_turns_the_gradient_round(strength: float) -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    slope = torch.arange(7, dtype=torch.float64)
    same = reversed_gradient(x, torch.tensor(strength, dtype=torch.float64))
    assert torch.equal(same, x)
    (gradient,) = torch.autograd.grad((slope * same).sum(), x)
    torch.testing.assert_close(gradient, -strength * slope)


def plain_focal(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return (weights * target * (1 - p) ** 2 * -p.log()).sum(1).mean()


def test_the_backbone_unlearns_what_the_reversed_head_learns() -> None:
    """Only the gradient that leaves towards the backbone is turned round (methods.md §10, row 8)."""
    about = task(2, [30, 10, 2])
    network, shown = grhd(about, alpha=1.0, beta=0.0, gamma=0.0, guard=False).double(), batch(4, about)
    views = [view.double() for view in shown.views.values()]
    section, group = shown.section.double(), shown.group.double()
    backbone = [*network.embedder.tgram.parameters(), *network.embedder.backbone.parameters()]
    adversary = [*network.reverse_head.parameters(), *network.reverse_classes.parameters()]
    later = [*network.embedder.section.parameters(), *network.embedder.head.parameters()]

    network.loss(replace(shown, views=dict(zip(shown.views, views, strict=True)), section=section, group=group), 0.25)[
        0
    ].backward()
    z_rev = network.embedder.maps(*views)[0]
    logits = network.reverse_classes(network.reverse_head(z_rev))
    expected = torch.autograd.grad(plain_focal(logits, group, network.weights), backbone + adversary)

    turned = [-reversal_strength(0.25) * gradient for gradient in expected[: len(backbone)]]
    for parameter, gradient in zip(backbone + adversary, [*turned, *expected[len(backbone) :]], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-7, atol=1e-12)
    assert any(bool(parameter.grad.any()) for parameter in backbone if parameter.grad is not None)
    assert not any(bool(parameter.grad.any()) for parameter in later if parameter.grad is not None)


@pytest.mark.parametrize(("loss", "strength"), [(0.2, 1.0), (1.0, 1.0), (1.5, 0.5), (2.0, 0.0), (9.0, 0.0)])
def test_the_guard_lets_go_between_once_and_twice_the_loss_of_knowing_nothing(loss: float, strength: float) -> None:
    network = grhd(task(2, [5, 5, 5]), schedule="constant")
    given = torch.tensor(loss * network.ignorance)
    free = grhd(task(2, [5, 5, 5]), schedule="constant", guard=False)
    assert float(network.reversal(given, 0.0)) == pytest.approx(strength)
    assert float(free.reversal(given, 0.0)) == 1.0


@given(st.lists(st.integers(1, 990), min_size=2, max_size=9), st.floats(0, 4))
def test_knowing_nothing_costs_what_a_uniform_guess_costs(sizes: list[int], gamma: float) -> None:
    weights, groups = class_weights(sizes), np.repeat(np.arange(len(sizes)), sizes)
    uniform = np.full(len(sizes), 1 / len(sizes))
    losses = -weights.numpy()[groups] * (1 - uniform[groups]) ** gamma * np.log(uniform[groups])
    assert ignorance(weights, sizes, gamma) == pytest.approx(losses.mean(), rel=1e-4)


# Losses ---------------------------------------------------------------------------------------------------------------


def test_attribute_losses_are_focal_with_class_weights() -> None:
    """Eq. (2) and (5) in NumPy: −Σ_c α_c t_c (1 − p_c)² ln p_c."""
    about = task(2, [990, 10, 100])
    network, shown = grhd(about), batch(4, about)
    heard = {"l_att": listened(network.embedder.classes), "l_rev": listened(network.reverse_classes)}
    _, parts = network.loss(shown, 0.3)
    inverse = 1.0 / np.array(about.sizes)
    weights = inverse / inverse.mean()
    for name, logits in heard.items():
        powers = np.exp(logits[0].double().numpy())
        p = powers / powers.sum(1, keepdims=True)
        focal = -(weights * shown.group.numpy() * (1 - p) ** 2 * np.log(p)).sum(1).mean()
        assert float(parts[name].detach()) == pytest.approx(focal, rel=1e-5)


def test_focal_loss_without_focus_and_with_equal_groups_is_cross_entropy() -> None:
    about = task(2, [7, 7, 7])
    network, shown = grhd(about, focal_gamma=0.0), batch(4, about)
    logits = listened(network.embedder.classes)
    _, parts = network.loss(shown, 0.3)
    torch.testing.assert_close(parts["l_att"], functional.cross_entropy(logits[0], shown.group))


def test_the_section_loss_is_cross_entropy() -> None:
    about = task(3, [7, 7])
    network, shown = grhd(about), batch(4, about)
    logits = listened(network.section_classes)
    _, parts = network.loss(shown, 0.3)
    torch.testing.assert_close(parts["l_sec"], functional.cross_entropy(logits[0], shown.section))


def test_the_total_is_the_weighted_sum_of_three_losses() -> None:
    """Eq. (6)."""
    about = task(2, [5, 9])
    total, parts = grhd(about, alpha=0.3, beta=0.7, gamma=2.0).loss(batch(4, about), 0.3)
    assert parts["l_sec"] > 0
    torch.testing.assert_close(total, 0.3 * parts["l_rev"] + 0.7 * parts["l_sec"] + 2.0 * parts["l_att"])


def test_with_one_section_its_loss_is_dropped() -> None:
    about = task(1, [5, 9])
    network = grhd(about, alpha=0.3, beta=0.7, gamma=2.0)
    total, parts = network.loss(batch(4, about), 0.3)
    torch.testing.assert_close(total, 0.3 * parts["l_rev"] + 2.0 * parts["l_att"])
    total.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in network.section_head.parameters()]
    assert not any(bool(gradient.any()) for gradient in gradients if gradient is not None)


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=30))
def test_class_weights_have_mean_one_and_are_never_a_hundredfold_apart(counts: list[int]) -> None:
    weights = class_weights(counts).double()
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-5)
    assert float(weights.max() / weights.min()) <= 100.0 * (1 + 1e-5)
    by_size = weights[torch.argsort(torch.tensor(counts))]
    assert bool((by_size.diff() <= 0).all())  # the rarer, the heavier


@given(st.lists(st.integers(10, 990), min_size=2, max_size=6))
def test_class_weights_that_need_no_cap_are_scikit_learns_balanced_ones(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    balanced = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    np.testing.assert_allclose(class_weights(counts).numpy(), balanced / balanced.mean(), rtol=1e-4)


def test_accuracy_is_the_share_of_segments_whose_group_is_named() -> None:
    about = task(1, [5, 5, 5])
    network, shown = grhd(about).eval(), batch(4, about)
    nn.init.zeros_(network.embedder.classes.weight)
    group = functional.one_hot(torch.tensor([1, 0, 1, 1]), 3).float()
    with torch.no_grad():
        network.embedder.classes.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
        assert network.loss(replace(shown, group=group), 1.0)[1]["accuracy"] == 0.75


def test_a_few_steps_lower_the_loss() -> None:
    about = task(2, [4, 4, 4, 4])
    group = torch.arange(8) % 4
    targets = functional.one_hot(group // 2, 2).float(), functional.one_hot(group, 4).float()
    losses = learn(grhd(about), replace(batch(8, about), section=targets[0], group=targets[1]), 4)
    assert losses[-1] < 0.6 * losses[0]
