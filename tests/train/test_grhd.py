from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional

from train.grhd import (
    Embedder,
    Grhd,
    Tgram,
    class_weights,
    head,
    mobile_face_net,
    reversal_strength,
    reversed_gradient,
)
from train.recipe import GrhdSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

pytestmark = pytest.mark.train

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy computer are 25 times as slow as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def size(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def grhd(sections: int, groups: Sequence[int], seed: int = 0, **settings: float) -> Grhd:
    torch.manual_seed(seed)
    network = Grhd(sections, groups, GrhdSettings(**settings))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def batch(count: int, sections: int, groups: int, seed: int = 0) -> Batch:
    """Log-mel, waveform, and soft targets that sum to one."""
    torch.manual_seed(seed)
    log_mel, waveform = 20.0 * torch.randn(count, 128, 63) - 40.0, 0.1 * torch.randn(count, 32_000)
    section, group = (torch.rand(count, classes) for classes in (sections, groups))
    return log_mel, waveform, section / section.sum(1, keepdim=True), group / group.sum(1, keepdim=True)


def listened(layer: nn.Module) -> list[Tensor]:
    """What the layer gives from now on."""
    given_out: list[Tensor] = []
    layer.register_forward_hook(lambda _layer, _given, out: given_out.append(out.detach()))
    return given_out


# The graph ------------------------------------------------------------------------------------------------------------


def test_the_network_is_as_large_as_derived() -> None:
    """methods.md §1.1 and §1.3, for segments of 2 s."""
    assert size(Tgram()) == 278_906
    assert size(Tgram(), mobile_face_net(), head(), nn.Linear(128, 41)) == 1_088_995  # STgram-MFN, DCASE 2020
    assert size(Embedder()) == 1_379_386
    assert size(grhd(3, [33] * 30)) == 1_688_057


def test_a_segment_costs_168_million_multiplications() -> None:
    embedder, macs = Embedder().eval(), [0]

    def count(layer: Any, _given: object, out: Tensor) -> None:  # noqa: ANN401 - any layer with a weight
        macs[0] += out.numel() * layer.weight[0].numel()

    for layer in embedder.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        embedder(*batch(1, 1, 1)[:2])
    assert macs[0] == pytest.approx(168.1e6, rel=2e-3)


def test_maps_and_embedding_have_the_shapes_of_the_drawing() -> None:
    embedder, (log_mel, waveform, *_) = Embedder().eval(), batch(2, 1, 1)
    with torch.no_grad():
        assert embedder.tgram(waveform).shape == log_mel.shape
        assert [tuple(z.shape) for z in embedder.maps(log_mel, waveform)] == [(2, 128, 8, 4)] * 3
        assert embedder(log_mel, waveform).shape == (2, 128)


def test_an_embedding_does_not_depend_on_its_batch() -> None:
    network, views = grhd(2, [5, 5]), batch(8, 2, 2)
    network.loss(*views, 0.5)  # so that batch norm has seen something
    embedder = network.embedder.eval()
    with torch.no_grad():
        together = embedder(*views[:2])
        alone = torch.cat([embedder(views[0][[i]], views[1][[i]]) for i in range(8)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5 * float(together.abs().max()))


def normalised(x: NDArray[np.float64], layer: Any) -> NDArray[np.float64]:  # noqa: ANN401 - a LayerNorm, as arrays
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.eps)
    return np.asarray(scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy())


def test_the_learned_spectrogram_is_frames_times_kernels_then_three_rounds_of_norm_leak_and_convolution() -> None:
    tgram = Tgram().double()
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
    same = reversed_gradient(x, strength)
    assert torch.equal(same, x)
    (gradient,) = torch.autograd.grad((slope * same).sum(), x)
    torch.testing.assert_close(gradient, -strength * slope)


def plain_focal(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return (weights * target * (1 - p) ** 2 * -p.log()).sum(1).mean()


def test_the_backbone_unlearns_what_the_reversed_head_learns() -> None:
    """Only the gradient that leaves towards the backbone is turned round (methods.md §10, row 8)."""
    network = grhd(2, [30, 10, 2], alpha=1.0, beta=0.0, gamma=0.0).double()
    log_mel, waveform, section, group = (tensor.double() for tensor in batch(4, 2, 3))
    backbone = [*network.embedder.tgram.parameters(), *network.embedder.backbone.parameters()]
    adversary = [*network.reverse_head.parameters(), *network.reverse_classes.parameters()]
    later = [*network.embedder.section.parameters(), *network.embedder.head.parameters()]

    network.loss(log_mel, waveform, section, group, 0.25)[0].backward()
    z_rev = network.embedder.maps(log_mel, waveform)[0]
    logits = network.reverse_classes(network.reverse_head(z_rev))
    expected = torch.autograd.grad(plain_focal(logits, group, network.weights), backbone + adversary)

    turned = [-reversal_strength(0.25) * gradient for gradient in expected[: len(backbone)]]
    for parameter, gradient in zip(backbone + adversary, [*turned, *expected[len(backbone) :]], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-7, atol=1e-12)
    assert any(bool(parameter.grad.any()) for parameter in backbone if parameter.grad is not None)
    assert not any(bool(parameter.grad.any()) for parameter in later if parameter.grad is not None)


# Losses ---------------------------------------------------------------------------------------------------------------


def test_attribute_losses_are_focal_with_class_weights() -> None:
    """Eq. (2) and (5) in NumPy: −Σ_c α_c t_c (1 − p_c)² ln p_c."""
    counts = [990, 10, 100]
    network, views = grhd(2, counts), batch(4, 2, 3)
    heard = {"l_att": listened(network.group_classes), "l_rev": listened(network.reverse_classes)}
    _, parts = network.loss(*views, 0.3)
    inverse = 1.0 / np.array(counts)
    weights = inverse / inverse.mean()
    for name, logits in heard.items():
        powers = np.exp(logits[0].double().numpy())
        p = powers / powers.sum(1, keepdims=True)
        focal = -(weights * views[3].numpy() * (1 - p) ** 2 * np.log(p)).sum(1).mean()
        assert parts[name] == pytest.approx(focal, rel=1e-5)


def test_focal_loss_without_focus_and_with_equal_groups_is_cross_entropy() -> None:
    network, views = grhd(2, [7, 7, 7], focal_gamma=0.0), batch(4, 2, 3)
    logits = listened(network.group_classes)
    _, parts = network.loss(*views, 0.3)
    assert parts["l_att"] == pytest.approx(float(functional.cross_entropy(logits[0], views[3])), rel=1e-5)


def test_the_section_loss_is_cross_entropy() -> None:
    network, views = grhd(3, [7, 7]), batch(4, 3, 2)
    logits = listened(network.section_classes)
    _, parts = network.loss(*views, 0.3)
    assert parts["l_sec"] == pytest.approx(float(functional.cross_entropy(logits[0], views[2])), rel=1e-5)


def test_the_total_is_the_weighted_sum_of_three_losses() -> None:
    """Eq. (6)."""
    network = grhd(2, [5, 9], alpha=0.3, beta=0.7, gamma=2.0)
    total, parts = network.loss(*batch(4, 2, 2), 0.3)
    assert parts["l_sec"] > 0
    assert parts["loss"] == pytest.approx(0.3 * parts["l_rev"] + 0.7 * parts["l_sec"] + 2.0 * parts["l_att"])
    assert float(total.detach()) == parts["loss"]


def test_with_one_section_its_loss_is_dropped() -> None:
    network = grhd(1, [5, 9], alpha=0.3, beta=0.7, gamma=2.0)
    total, parts = network.loss(*batch(4, 1, 2), 0.3)
    assert parts["loss"] == pytest.approx(0.3 * parts["l_rev"] + 2.0 * parts["l_att"])
    total.backward()
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
    network, views = grhd(1, [5, 5, 5]).eval(), batch(4, 1, 3)
    nn.init.zeros_(network.group_classes.weight)
    with torch.no_grad():
        network.group_classes.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
        assert network.accuracy(views[:2], torch.tensor([1, 0, 1, 1])) == 0.75


def test_a_few_steps_lower_the_loss() -> None:
    network, (log_mel, waveform, *_) = grhd(2, [4, 4, 4, 4]), batch(8, 2, 4)
    group = torch.arange(8) % 4
    targets = functional.one_hot(group // 2, 2).float(), functional.one_hot(group, 4).float()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(4):
        loss, parts = network.loss(log_mel, waveform, *targets, 0.5)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(parts["loss"])
    assert losses[-1] < 0.6 * losses[0]
