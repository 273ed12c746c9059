from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.train.method.toy import batch, in_onnx_runtime, outputs, size, task
from train.method.twfr_gmm import Settings, TwfrGmm, build, weights

pytestmark = pytest.mark.train

RANKS = (1.0, 0.98, 0.9, 0.46, 0.0)
"""both ends, and what the paper found for gearbox, slider and valve"""


def twfr(*ranks: float, samples: int = 32_000) -> TwfrGmm:
    return build(task(samples=samples), Settings(ranks=ranks) if ranks else Settings())


def test_ranked_pooling_is_a_weighted_sum_of_sorted_frames() -> None:
    log_mel = batch(2, task()).views["log_mel"]
    given_out = outputs(twfr(*RANKS).embedder, log_mel)
    assert list(given_out) == ["ranked_100", "ranked_098", "ranked_090", "ranked_046", "ranked_000"]
    falling = -np.sort(-log_mel.double().numpy(), axis=2)
    for rank, pooled in zip(RANKS, given_out.values(), strict=True):
        powers = np.array([rank**i for i in range(63)])
        np.testing.assert_allclose(pooled, falling @ (powers / powers.sum()), rtol=1e-5, atol=1e-4)


def test_at_one_end_is_the_mean_at_the_other_the_maximum() -> None:
    log_mel = batch(2, task()).views["log_mel"]
    mean, nearly, maximum = outputs(twfr(1.0, 0.01, 0.0).embedder, log_mel).values()
    np.testing.assert_allclose(mean, log_mel.numpy().mean(axis=2), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(maximum, log_mel.numpy().max(axis=2))
    assert (maximum - nearly).abs().max() < 0.5  # a hundredth of what frames differ by


def test_when_a_frame_was_heard_does_not_matter() -> None:
    log_mel = batch(1, task()).views["log_mel"]
    shuffled = log_mel[:, :, torch.randperm(63)]
    for before, after in zip(twfr().embedder(log_mel), twfr().embedder(shuffled), strict=True):
        torch.testing.assert_close(before, after)


@given(st.integers(0, 100), st.integers(1, 400))
def test_weights_fall_and_sum_to_one(hundredths: int, frames: int) -> None:
    w = weights(hundredths / 100, frames)
    assert w.shape == (frames,)
    assert float(w.sum()) == pytest.approx(1.0, abs=1e-5)
    assert (w.diff() <= 0).all()


def test_about_nineteen_frames_of_ten_seconds_count_at_a_rank_of_nine_tenths() -> None:
    """methods.md §6: 1 / Σ w², a geometric series, (1 + r) / (1 − r) for many frames."""
    assert float(1.0 / weights(0.9, 313).square().sum()) == pytest.approx(19.0, rel=1e-4)
    assert float(1.0 / weights(1.0, 313).square().sum()) == pytest.approx(313.0, rel=1e-4)


def test_nothing_is_learned() -> None:
    method = twfr()
    loss, parts = method.loss(batch(2, task()), 0.5)
    assert size(method) == 0
    assert float(loss) == float(parts["loss"]) == 0.0


@pytest.mark.parametrize("samples", [32_000, 160_000])
def test_a_device_computes_the_same(samples: int) -> None:
    embedder, log_mel = twfr(samples=samples).embedder, batch(1, task(samples=samples)).views["log_mel"]
    expected, given_out = outputs(embedder, log_mel), in_onnx_runtime(embedder, log_mel)
    assert list(given_out) == ["ranked_100", "ranked_090"]
    for name, output in given_out.items():
        assert output.shape == (1, 128)
        np.testing.assert_allclose(output, expected[name], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("ranks", "complaint"),
    [
        ((), "at least 1 item"),
        ((1.1,), "less than or equal to 1"),
        ((-0.1,), "greater than or equal to 0"),
        ((0.9, 0.9), r"ranks are different hundredths, such as 1.0 and 0.98, got \[0.9, 0.9\]"),
        ((0.985,), r"ranks are different hundredths, such as 1.0 and 0.98, got \[0.985\]"),
    ],
)
def test_ranks_that_name_no_output_are_refused(ranks: tuple[float, ...], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Settings(ranks=ranks)
