from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edge_asd.errors import BundleError
from edge_asd.score.backbone import Backbone, view
from edge_asd.signal.view import LogMel
from tests.network import ROWS, WIDTH, several

SEGMENT = (0.1 * np.random.default_rng(0).standard_normal(4_000)).astype(np.float32)
SPEC = LogMel(n_fft=256, hop=128, n_mels=12)
SPECS = {"": SPEC, "fine": LogMel(n_fft=512, hop=128, n_mels=24)}
RANKS = {"log_mel": 3, "log_mel.fine": 3, "magnitude": 3, "mel": 3, "phase": 3, "fft": 2, "waveform": 2}


def graph(*views: str, samples: int | None = None) -> bytes:
    """Sums each view over its last axes and puts the sums side by side: (1, number of views)."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - not in the test group

    ranks = {name: RANKS.get(name, 2) for name in views}
    inputs = [
        helper.make_tensor_value_info(v, TensorProto.FLOAT, [*[None] * (rank - 1), samples])
        for v, rank in ranks.items()
    ]
    axes = [helper.make_tensor(f"axes_{v}", TensorProto.INT64, [r - 1], range(1, r)) for v, r in ranks.items()]
    nodes = [helper.make_node("ReduceSum", [v, f"axes_{v}"], [f"flat_{v}"], keepdims=0) for v in views]
    shape = helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1])
    nodes += [helper.make_node("Reshape", [f"flat_{v}", "column"], [f"sum_{v}"]) for v in views]
    nodes.append(helper.make_node("Concat", [f"sum_{v}" for v in views], ["embedding"], axis=1))
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [None, len(views)])
    body = helper.make_graph(nodes, "sums", inputs, [output], [*axes, shape])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest.mark.train
@pytest.mark.parametrize(
    "views",
    [["log_mel"], ["waveform"], ["magnitude"], ["mel"], ["phase"], ["fft"], ["waveform", "log_mel", "log_mel.fine"]],
    ids=str,
)
def test_a_graph_is_given_the_views_it_names(views: list[str]) -> None:
    embedding = Backbone(graph(*views), SPECS)(SEGMENT)["embedding"]
    expected = [view(name, SPECS, SEGMENT[None]).astype(float).sum() for name in views]

    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, expected, rtol=1e-3)


@pytest.mark.train
@pytest.mark.parametrize("asked", ["scalogram", "log_mel.coarse"])
def test_a_view_that_this_version_does_not_know_is_named_with_those_it_does(asked: str) -> None:
    known = r"\['fft', 'log_mel', 'magnitude', 'mel', 'phase', 'waveform'\] through front ends \['', 'fine'\]"
    with pytest.raises(BundleError, match=rf"asks for views \['{asked}'\]; this version has {known}"):
        Backbone(graph(asked, "waveform"), SPECS)


@pytest.mark.train
def test_a_segment_of_another_length_than_the_graph_wants_is_a_broken_bundle() -> None:
    fixed = Backbone(graph("waveform", samples=4_000), SPECS)
    assert fixed(SEGMENT)["embedding"].shape == (fixed.widths["embedding"],) == (1,)
    with pytest.raises(BundleError, match=r"cannot look at a segment of 3999 samples: .*4000[^\n]*$"):
        fixed(SEGMENT[1:])


@pytest.mark.train
def test_it_computes_on_the_processor() -> None:
    assert Backbone(graph("waveform"), SPECS).provider == "cpu"


@pytest.mark.train
def test_the_same_segment_gives_the_same_embedding() -> None:
    one, other = Backbone(graph("log_mel"), SPECS), Backbone(graph("log_mel"), SPECS, threads=2)

    assert one(SEGMENT)["embedding"].tolist() == one(SEGMENT)["embedding"].tolist()
    np.testing.assert_allclose(one(SEGMENT)["embedding"], other(SEGMENT)["embedding"], rtol=1e-5)


@pytest.mark.train
def test_every_output_of_a_graph_is_given_by_its_name_without_a_batch() -> None:
    backbone = Backbone(several(), SPECS)
    outputs, begin = backbone(SEGMENT), SEGMENT[: ROWS * WIDTH].reshape(ROWS, WIDTH)

    assert backbone.widths == {"embedding": WIDTH, "error": 1, "residual": WIDTH}
    np.testing.assert_array_equal(outputs["residual"], begin)
    np.testing.assert_allclose(outputs["embedding"], begin.sum(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["error"], [np.square(begin).mean()], rtol=1e-5)


@pytest.mark.train
@pytest.mark.parametrize("wanted", [set(), {"error"}, {"residual", "embedding"}], ids=str)
def test_only_the_outputs_asked_for_are_given(wanted: set[str]) -> None:
    backbone = Backbone(several(), SPECS, outputs=wanted)
    some, all_of_them = backbone(SEGMENT), Backbone(several(), SPECS)(SEGMENT)

    assert set(some) == set(backbone.widths) == wanted
    for name, output in some.items():
        np.testing.assert_array_equal(output, all_of_them[name])


@pytest.mark.train
def test_an_output_that_a_graph_does_not_have_is_told_with_those_it_has() -> None:
    said = r"backbone gives \['embedding', 'error', 'residual'\], not latent, mask; export the bundle again"
    with pytest.raises(BundleError, match=said):
        Backbone(several(), SPECS, outputs=["mask", "error", "latent"])


@pytest.mark.parametrize("broken", [b"", b"no graph at all", bytes(1000)], ids=["empty", "text", "zeros"])
def test_a_broken_graph_is_a_broken_bundle(broken: bytes) -> None:
    with pytest.raises(BundleError, match=r"ONNX Runtime \d+\.\d+\S* cannot load the backbone: "):
        Backbone(broken, SPECS)


def test_onnx_runtime_is_told_not_to_call_home_before_it_is_loaded() -> None:
    """It reads the variable once, on import, and otherwise starts a thread that reports on the machine."""
    look = "import os, edge_asd.score.backbone; print(os.environ['ORT_DISABLE_TELEMETRY'])"

    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert done.stdout == "1\n"
