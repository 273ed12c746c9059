from __future__ import annotations

import numpy as np
import pytest

from tests.train.method.toy import batch, in_onnx_runtime, outputs, size, task
from train.method.imp_freq import ImpFreq, Settings, build

pytestmark = pytest.mark.train


def imp_freq(**settings: bool) -> ImpFreq:
    return build(task(), Settings(**settings))


def test_bands_are_the_mean_over_time() -> None:
    log_mel = batch(2, task()).views["log_mel"]
    given = outputs(imp_freq().embedder, log_mel)
    assert list(given) == ["bands"]
    np.testing.assert_allclose(given["bands"], log_mel.numpy().mean(axis=2), rtol=1e-5)


def test_and_if_asked_for_the_maximum_over_time() -> None:
    log_mel = batch(2, task()).views["log_mel"]
    mean, maximum = outputs(imp_freq(maximum=True).embedder, log_mel).values()
    np.testing.assert_allclose(mean, log_mel.numpy().mean(axis=2), rtol=1e-5)
    np.testing.assert_array_equal(maximum, log_mel.numpy().max(axis=2))


def test_nothing_is_learned() -> None:
    loss, parts = imp_freq().loss(batch(2, task()), 0.5)
    assert size(imp_freq()) == 0
    assert float(loss) == float(parts["loss"]) == 0.0


@pytest.mark.parametrize("names", [["bands"], ["bands", "bands_maximum"]])
def test_a_device_computes_the_same(names: list[str]) -> None:
    embedder, log_mel = imp_freq(maximum=len(names) > 1).embedder, batch(1, task()).views["log_mel"]
    expected, given = outputs(embedder, log_mel), in_onnx_runtime(embedder, log_mel)
    assert list(given) == names
    for name, output in given.items():
        np.testing.assert_allclose(output, expected[name], rtol=1e-5)
