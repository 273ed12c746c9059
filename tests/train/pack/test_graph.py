"""From a network to the graph that a device runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edge_asd.signal.view import LogMel
from tests.train.method.toy import macs as counted
from tests.train.method.toy import outputs, task
from train.method import catalogue
from train.pack.graph import WEIGHTED, layers, macs, plain_graph, quantised, slim, to_onnx

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.method.task import Task

pytestmark = pytest.mark.train
NETWORKS = sorted(set(catalogue.NAMES) - {catalogue.NETWORKLESS})
TASK = replace(task(3, [9, 9, 9, 9]), front_ends={"": LogMel(), "image": LogMel()})


def embedder(name: Any, about: Task = TASK) -> Any:  # noqa: ANN401 - an Embedder that is a Module
    torch.manual_seed(0)
    return catalogue.build(name, about, {}).embedder.eval()


@pytest.fixture(scope="module")
def network() -> tuple[Any, bytes]:
    """GRHD's, which has every kind of layer."""
    made = embedder("grhd")
    return made, to_onnx(made, TASK)


def views(names: tuple[str, ...], seed: int, about: Task = TASK) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    log_mel = (10 * rng.standard_normal((1, about.mels, about.frames)) - 40).astype(np.float32)
    waveform = (0.05 * rng.standard_normal((1, about.samples))).astype(np.float32)
    known = {"log_mel": log_mel, "waveform": waveform}
    others = {name: rng.random((1, *about.shape(name)), np.float32) for name in names if name not in known}
    return {name: (known | others)[name] for name in names}


def ran(graph: bytes, inputs: dict[str, NDArray[np.float32]], outputs: tuple[str, ...]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    given: list[NDArray[np.float32]] = session.run(list(outputs), inputs)
    return given


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_of_every_method_computes_what_torch_computes_and_costs_what_torch_counts(name: str) -> None:
    made = embedder(name)
    graph, inputs = to_onnx(made, TASK), views(made.views, 0)
    shown = [torch.from_numpy(view) for view in inputs.values()]
    expected = outputs(made, *shown)
    given = ran(graph, inputs, made.outputs)
    for output, wanted in zip(given, expected.values(), strict=True):
        np.testing.assert_allclose(output, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    ranking = {"twfr_gmm": len(made.outputs) * TASK.mels * TASK.frames}  # a weighted sum for each r, no layer
    assert macs(graph) == pytest.approx(counted(made, *shown) or ranking.get(name, 0), rel=1e-3)


def test_int8_points_where_fp32_points_and_is_less_than_half_as_large(network: tuple[Any, bytes]) -> None:
    made, graph = network
    small = quantised(graph, [views(made.views, seed) for seed in range(1, 9)])
    full, short = (ran(one, views(made.views, 0), ("embedding",))[0].ravel() for one in (graph, small))
    assert full @ short / np.linalg.norm(full) / np.linalg.norm(short) > 0.97
    assert len(small) < 0.55 * len(graph)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in onnx.load_from_string(small).graph.node}


def test_only_dense_image_convolutions_between_the_first_and_the_last_are_quantised(network: tuple[Any, bytes]) -> None:
    """Two of each of six bottlenecks, Conv2D_sec, Conv2D_att, and the head's first (train/method/grhd.py)."""
    plain = plain_graph(network[1])
    nodes = {node.name: node for node in onnx.load_from_string(plain).graph.node}
    weights = [nodes[name].input[1] for name in layers(plain)]
    inner = [f"backbone.{stage}.layers.{layer}" for stage in range(2, 8) for layer in (0, 2)]
    assert [weight.split(".0.weight")[0] for weight in weights] == [*inner, "section", "attribute", "head.0"]


def test_every_way_into_a_network_begins_in_float_and_squeeze_excite_stays_so() -> None:
    """Each of three branches has its first convolution and its last product, and 38 small matrices between."""
    plain = plain_graph(to_onnx(embedder("subcluster"), TASK))
    weights = {weight.name: weight.dims for weight in onnx.load_from_string(plain).graph.initializer}
    weighted = [node for node in onnx.load_from_string(plain).graph.node if node.op_type in WEIGHTED]
    named = {node.name: node.input[1] for node in weighted}
    float_ones = [weights[named[node.name]] for node in weighted if node.name not in layers(plain)]
    assert sorted(map(len, float_ones)) == [2] * (3 + 38) + [3] + [4] * 2
    assert sum(math.prod(dims) <= 128 * 8 for dims in float_ones) == 38 + 2  # two of the convolutions are small as well


@pytest.mark.parametrize(
    ("name", "count"), [("ae", 8), ("dg_mix", 13), ("imp_freq", 0), ("stgram_mfn", 13), ("twfr_gmm", 0)]
)
def test_every_method_has_its_inner_layers_in_int8(name: str, count: int) -> None:
    """Ten layers of the auto-encoder less the first and the last; twelve of bottlenecks and one of the head."""
    assert len(layers(plain_graph(to_onnx(embedder(name), TASK)))) == count


def test_what_shall_stay_in_float_does_from_the_input_on(network: tuple[Any, bytes]) -> None:
    made, graph = network
    calibration = [views(made.views, seed) for seed in range(1, 3)]
    order = layers(plain_graph(graph))
    for floating in (4, len(order)):
        small = onnx.load_from_string(quantised(graph, calibration, floating))
        given = {output: node for node in small.graph.node for output in node.output}
        int8 = [n.name for n in small.graph.node if n.op_type == "Conv" and given[n.input[0]].op_type[:2] == "De"]
        assert [name for name in order if name in int8] == order[floating:]


def test_slimming_changes_no_output_beyond_half_precision(network: tuple[Any, bytes]) -> None:
    made, graph = network
    slimmed = slim(onnx.load_from_string(graph)).SerializeToString()
    before, after = (ran(one, views(made.views, 3), ("embedding",))[0] for one in (graph, slimmed))
    assert len(slimmed) < 0.6 * len(graph)
    np.testing.assert_allclose(after, before, atol=5e-3 * np.abs(before).max())
