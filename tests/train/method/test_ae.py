from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from edge_asd.errors import ConfigError
from tests.train.method.toy import batch, in_onnx_runtime, learn, lived, macs, outputs, size, task
from train.method.ae import Ae, Settings, build, stacked

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.train


def ae(samples: int = 32_000, seed: int = 0, **settings: int) -> Ae:
    torch.manual_seed(seed)
    return build(task(samples=samples), Settings(**settings))


def vectors(log_mel: NDArray[np.float64], frames: int = 5) -> NDArray[np.float64]:
    """(M, T) -> (n, P·M) by hand."""
    count = log_mel.shape[1] - frames + 1
    return np.stack([np.concatenate([log_mel[:, i + p] for p in range(frames)]) for i in range(count)])


def reconstructed(layers: Any, x: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: ANN401 - modules, as arrays
    """(n, P·M) -> (n, P·M) by matrices."""

    def array(parameter: torch.Tensor) -> NDArray[np.float64]:
        return parameter.detach().double().numpy()

    for conv, norm, _ in zip(*[iter(layers[:-1])] * 3, strict=True):
        x = x @ array(conv.weight)[:, :, 0].T + array(conv.bias)
        x = (x - array(norm.running_mean)) / np.sqrt(array(norm.running_var) + 1e-3)
        x = np.maximum(x * array(norm.weight) + array(norm.bias), 0.0)
    return x @ array(layers[-1].weight)[:, :, 0].T + array(layers[-1].bias)


def test_the_network_is_as_large_as_the_official_one() -> None:
    """methods.md §11."""
    assert size(ae()) == 267_928


def test_a_vector_costs_a_quarter_of_a_million_multiplications() -> None:
    """methods.md §5.1: 59 vectors in 2 s, 309 in 10 s."""
    short, long = task(), task(samples=160_000)
    assert macs(ae().embedder.eval(), batch(1, short).views["log_mel"]) == 59 * 264_192
    assert macs(ae(160_000).embedder.eval(), batch(1, long).views["log_mel"]) == 309 * 264_192


def test_five_frames_in_a_row_are_a_vector() -> None:
    log_mel = batch(2, task()).views["log_mel"]
    for one, by_hand in zip(stacked(log_mel, 5), log_mel, strict=True):
        np.testing.assert_array_equal(one.T, vectors(by_hand.numpy()))


@pytest.mark.parametrize(("zero", "unit"), [(0.0, 1.0), (-20.0, 20.0)])
def test_residuals_are_what_matrices_say(zero: float, unit: float) -> None:
    network, log_mel = lived(ae(scaled=unit != 1.0)), batch(2, task()).views["log_mel"]
    given = outputs(network.embedder, log_mel)
    for number, one in enumerate(log_mel.double().numpy()):
        x = vectors((one - zero) / unit)
        residual = unit * (x - reconstructed(network.embedder.layers, x))  # type: ignore[union-attr]
        rows = residual.reshape(-1, 128)  # each vector's five blocks
        np.testing.assert_allclose(given["residual"][number], rows, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(given["mean_residual"][number], rows.mean(axis=0), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(given["error"][number], [np.square(residual).mean()], rtol=1e-4)


def test_the_official_mahalanobis_score_is_the_distance_of_the_mean_residual() -> None:
    """methods.md §5.2 and §11: the mean of *all* entries of δΣ⁻¹δᵀ, Σ of rows, is δ̄ᵀΣ⁻¹δ̄; the diagonal's is not."""
    asked = task()
    given = outputs(lived(ae()).embedder, batch(4, asked).views["log_mel"])  # type: ignore[arg-type]
    training = given["residual"][1:].flatten(0, 1).double().numpy()
    precision = np.linalg.inv(np.cov(training, rowvar=False))
    rows, mean = given["residual"][0].double().numpy(), given["mean_residual"][0].double().numpy()

    products = rows @ precision @ rows.T

    assert mean @ precision @ mean == pytest.approx(products.mean(), rel=1e-5)
    assert np.diagonal(products).mean() > 1.1 * products.mean()


def test_the_loss_is_the_mean_squared_error() -> None:
    network, lesson = lived(ae()), batch(3, task())
    loss, parts = network.loss(lesson, 0.5)  # type: ignore[operator]
    expected = outputs(network.embedder, lesson.views["log_mel"])["error"].mean()
    torch.testing.assert_close(loss, expected)
    assert set(parts) == {"loss"}


def test_it_learns_to_reconstruct() -> None:
    lesson = batch(2, task())
    loudness = torch.randn(2, 1, 63)  # one number a frame to know
    lesson.views["log_mel"].copy_(torch.linspace(-10.0, 10.0, 128)[:, None] * loudness)
    losses = learn(ae(), lesson, steps=30, rate=1e-2)
    assert losses[-1] < 0.5 * losses[0]


def test_a_device_computes_the_same() -> None:
    embedder, log_mel = lived(ae()).embedder, batch(1, task()).views["log_mel"]
    expected, given = outputs(embedder, log_mel), in_onnx_runtime(embedder, log_mel)
    assert list(given) == ["error", "mean_residual", "residual"]
    assert {name: output.shape for name, output in given.items()} == {
        "error": (1, 1),
        "mean_residual": (1, 128),
        "residual": (1, 295, 128),
    }
    for name, output in given.items():
        np.testing.assert_allclose(output, expected[name], rtol=1e-4, atol=1e-3)


def test_a_segment_shorter_than_a_vector_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"settings\.frames is 64, but a segment has 63: make windows\.segment longer"
    ):
        ae(frames=64)
