from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import ConfigError
from tests.train.method.toy import batch, in_onnx_runtime, learn, lived, macs, outputs, size, task
from train.method.mobilenetv2 import Embedder, InvertedResidual, MobileNetV2, Settings, build, halved, some

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

pytestmark = pytest.mark.train
TEN_SECONDS = 160_000


def network(samples: int = 32_000, sections: int = 3, **settings: int) -> MobileNetV2:
    torch.manual_seed(0)
    return build(task(sections, samples=samples), Settings(**settings))


# The network ----------------------------------------------------------------------------------------------------------


def test_the_network_is_as_large_as_the_official_one() -> None:
    """methods.md §11: with the three sections of 2022."""
    assert size(network()) == 691_523


def test_a_window_costs_15_million_multiplications() -> None:
    """methods.md §5.4."""
    assert macs(network().embedder.eval(), batch(1, task()).views["log_mel"]) == pytest.approx(15.65e6, rel=1e-3)


def test_half_the_channels_are_multiples_of_eight() -> None:
    assert [halved(channels) for channels in (32, 16, 24, 64, 96, 160, 320)] == [16, 8, 16, 32, 48, 80, 160]


def test_an_image_is_halved_five_times() -> None:
    embedder = network().embedder.eval()
    with torch.no_grad():
        assert embedder.backbone(torch.zeros(2, 3, 64, 128)).shape == (2, 1280, 2, 4)


def normalised(x: NDArray[np.float64], norm: Any) -> NDArray[np.float64]:  # noqa: ANN401 - a BatchNorm2d, as arrays
    mean, variance, weight, bias = (
        value.detach().numpy()[:, None, None] for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return np.asarray((x - mean) / np.sqrt(variance + 1e-3) * weight + bias)


@pytest.mark.parametrize(("outputs_", "stride"), [(8, 1), (8, 2), (16, 1)])
def test_an_inverted_residual_expands_filters_projects_and_adds_itself_where_it_fits(
    outputs_: int, stride: int
) -> None:
    block: Any = lived(InvertedResidual(8, outputs_, stride, 6).double())
    image = np.random.default_rng(0).standard_normal((8, 10, 12))
    (expand, norm), _, (each, norm_each), _, (project, norm_last) = block.layers

    x = np.einsum("oi,ihv->ohv", expand.weight.detach().numpy()[:, :, 0, 0], image)
    x = np.pad(np.clip(normalised(x, norm), 0, 6), ((0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    x = np.einsum("chvij,cij->chv", patches, each.weight.detach().numpy()[:, 0])
    x = np.clip(normalised(x, norm_each), 0, 6)
    x = normalised(np.einsum("oi,ihv->ohv", project.weight.detach().numpy()[:, :, 0, 0], x), norm_last)
    expected = x + image if (outputs_, stride) == (8, 1) else x

    with torch.no_grad():
        np.testing.assert_allclose(block(torch.from_numpy(image)[None])[0], expected, rtol=1e-9, atol=1e-9)


# Windows --------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 200))
def test_a_window_is_64_frames_and_begins_every_eighth(frames: int) -> None:
    log_mel = np.random.default_rng(frames).standard_normal((2, 5, frames)).astype(np.float32)
    windows = Embedder(task(), Settings()).windows(torch.from_numpy(log_mel)).numpy()
    assert windows.shape == (2, 1 + max(frames - 64, 0) // 8, 64, 5)
    for number in range(windows.shape[1]):
        seen = log_mel[:, :, 8 * number : 8 * number + 64].transpose(0, 2, 1)
        np.testing.assert_array_equal(windows[:, number, : seen.shape[1]], seen)
        np.testing.assert_array_equal(windows[:, number, seen.shape[1] :], seen[:, -1:].repeat(64 - seen.shape[1], 1))


def test_ten_seconds_are_32_windows_and_two_seconds_one() -> None:
    """methods.md §5.4."""
    for samples, windows in ((TEN_SECONDS, 32), (32_000, 1)):
        asked = task(samples=samples)
        given_out = outputs(network(samples).embedder.eval(), batch(1, asked).views["log_mel"])
        assert given_out["section_logit"].shape == (1, windows, 3)
        assert given_out["embedding"].shape == (1, 1280)


def test_all_three_channels_are_the_image() -> None:
    embedder, seen = network().embedder.eval(), []
    embedder.backbone.register_forward_hook(lambda _layer, given_in, _out: seen.append(given_in[0]))
    log_mel = batch(2, task()).views["log_mel"]
    outputs(embedder, log_mel)
    for channel in range(3):
        np.testing.assert_array_equal(seen[0][:, channel], embedder.windows(log_mel)[:, 0])


def test_each_window_is_seen_alone_and_the_embedding_is_their_mean() -> None:
    embedder: Any = lived(network(64_000)).embedder
    log_mel = batch(1, task(samples=64_000)).views["log_mel"]
    whole = outputs(embedder, log_mel)
    alone = [outputs(embedder, log_mel[:, :, start : start + 64]) for start in range(0, 126 - 63, 8)]
    logits, embeddings = (torch.cat([one[name] for one in alone]) for name in ("section_logit", "embedding"))
    torch.testing.assert_close(whole["section_logit"], logits.squeeze(1)[None], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole["embedding"], embeddings.mean(0, keepdim=True), rtol=1e-4, atol=1e-4)


def test_some_windows_are_different_ones_of_the_same_segment() -> None:
    torch.manual_seed(0)
    images = torch.arange(6)[:, None] * 100 + torch.arange(9)
    drawn = some(images, 4)
    assert drawn.shape == (6, 4)
    assert (drawn // 100 == torch.arange(6)[:, None]).all()
    assert all(row.unique().numel() == 4 for row in drawn)
    assert len((drawn % 100).sort(1).values.unique(dim=0)) > 1  # not the same four of each
    assert torch.equal(some(images, 20).sort(1).values, images)


# Learning -------------------------------------------------------------------------------------------------------------


def entropy(logits: Tensor, target: Tensor) -> float:
    powers = np.exp(logits.double().numpy())
    p = powers / powers.sum(axis=-1, keepdims=True)
    return float(-(target.numpy()[:, None] * np.log(p)).sum(axis=-1).mean())


def test_the_loss_is_the_cross_entropy_of_every_window() -> None:
    samples = 64_000
    method: Any = network(samples, windows=2).eval()  # drawn in training only
    lesson = batch(3, task(samples=samples))
    loss, parts = method.loss(lesson, 0.0)
    logits = outputs(method.embedder, lesson.views["log_mel"])["section_logit"]
    assert float(loss.detach()) == pytest.approx(entropy(logits, lesson.section), rel=1e-5)
    right = (logits.argmax(-1) == lesson.section.argmax(-1)[:, None]).double().mean()
    assert float(parts["accuracy"]) == pytest.approx(float(right))


def test_in_training_as_many_windows_are_seen_as_were_asked_for_and_all_afterwards() -> None:
    method, seen = network(64_000, windows=2), []
    method.embedder.backbone.register_forward_hook(lambda _layer, given_in, _out: seen.append(len(given_in[0])))
    method.loss(batch(3, task(samples=64_000)), 0.0)
    method.eval()
    method.loss(batch(3, task(samples=64_000)), 0.0)
    assert seen == [3 * 2, 3 * 8]


def test_it_learns_to_tell_two_machines_apart() -> None:
    asked = task(sections=2)
    lesson = batch(8, asked)
    lesson.section.copy_(torch.eye(2)[[0, 1] * 4])
    lesson.views["log_mel"][1::2, 40:60] += 20.0  # the second one hums
    losses = learn(network(sections=2), lesson, steps=8)
    assert losses[-1] < 0.5 * losses[0]


def test_a_device_computes_the_same() -> None:
    samples = 64_000
    embedder: Any = lived(network(samples)).embedder
    log_mel = batch(1, task(samples=samples)).views["log_mel"]
    expected, given_out = outputs(embedder, log_mel), in_onnx_runtime(embedder, log_mel)
    assert list(given_out) == ["section_logit", "embedding"]
    for name, output in given_out.items():
        np.testing.assert_allclose(output, expected[name], rtol=1e-3, atol=1e-3 * float(expected[name].abs().max()))


def test_a_device_repeats_the_last_frame_of_a_short_segment_too() -> None:
    embedder: Any = lived(network()).embedder
    log_mel = batch(1, task()).views["log_mel"]
    expected, given_out = outputs(embedder, log_mel), in_onnx_runtime(embedder, log_mel)
    largest = float(expected["section_logit"].abs().max())
    np.testing.assert_allclose(given_out["section_logit"], expected["section_logit"], rtol=1e-3, atol=1e-3 * largest)


def test_one_section_is_nothing_to_tell_apart() -> None:
    with pytest.raises(ConfigError, match="there is one, toy/machine/00: train on several together"):
        network(sections=1)
