"""A network as an ONNX graph: exported, quantised, slimmed, counted."""

from __future__ import annotations

import io
import logging
import math
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper, shape_inference
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from edge_asd.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from train.method.task import Task

OPSET = 18
PERCENTILE = 99.99
LARGE = 4096
"""bytes of a weight from which storing it in half precision pays"""
WEIGHTED = ("Conv", "Gemm", "MatMul")


def to_onnx(embedder: Any, task: Task) -> bytes:  # noqa: ANN401 - an Embedder that is a Module
    """An embedder as a graph of fixed shapes, batch 1; batch norms are folded.

    Raises:
        BundleError: torch gives no graph.
    """
    views = tuple(torch.zeros(1, *task.shape(name)) for name in embedder.views)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        program = torch.onnx.export(
            embedder,
            views,
            input_names=list(embedder.views),
            output_names=list(embedder.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        msg = "torch gave no graph"
        raise BundleError(msg)
    return bytes(program.model_proto.SerializeToString())


def quantised(graph: bytes, calibration: Iterable[Mapping[str, NDArray[np.float32]]], floating: int = 0) -> bytes:
    """Static QDQ int8: S8S8, weights per channel, symmetric, so that one file serves CPU and TensorRT (decision 5).

    The layers of :func:`layers` are quantised, but for the first ``floating`` of them. What always stays in float moves
    scores most and costs least (docs/lab.md). Activations are clipped at a percentile, not at their extremes. Weights
    keep seven bits, because AVX2 without VNNI saturates on eight (device.md §6.3).
    """

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        rows = iter(calibration)

        def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
            return next(self.rows, None)

    plain = plain_graph(graph)
    kept = set(layers(plain)[floating:])
    weighted = [node.name for node in onnx.load_from_string(plain).graph.node if node.op_type in WEIGHTED]
    if not kept:
        return bytes(slim(onnx.load_from_string(plain)).SerializeToString())
    # ONNX Runtime tells standard output of every step
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        full, small = (Path(folder) / f"{name}.onnx" for name in ("full", "small"))
        full.write_bytes(plain)
        quantization.quantize_static(
            full,
            small,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            op_types_to_quantize=list(WEIGHTED),
            nodes_to_exclude=[name for name in weighted if name not in kept],
            extra_options={"ActivationSymmetric": True, "CalibPercentile": PERCENTILE},
        )
        return bytes(slim(onnx.load(small)).SerializeToString())


def plain_graph(graph: bytes) -> bytes:
    """The same graph as the quantiser wants it: shapes inferred, constants folded."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        full, plain = (Path(folder) / f"{name}.onnx" for name in ("full", "plain"))
        full.write_bytes(graph)
        quant_pre_process(full, plain, skip_symbolic_shape=True)
        return plain.read_bytes()


def layers(plain: bytes) -> list[str]:
    """Names of the nodes that int8 pays for, from the input to the output.

    Dense convolutions and products with a weight matrix. Not the first of each way in, which sees the view itself, nor
    those that make an output; nor what hears nothing but a waveform, since eight bits of it end 42 dB below full scale;
    nor depthwise convolutions, nor matrices so small that nothing is won, as those of squeeze-excite.
    """
    model = onnx.load_from_string(plain)
    sizes = {weight.name: math.prod(weight.dims) for weight in model.graph.initializer}
    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in sizes]
    images = [node for node in weighted if node.name not in _of_waveforms(model)]
    spared = {node.name for node in images[:1]} | _first(model) | _last(model)
    small = {node.name for node in images if node.op_type != "Conv" and 4 * sizes[node.input[1]] <= LARGE}
    return [node.name for node in images if node.name not in spared | small and not _depthwise(node)]


def _first(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes with weights that no other comes before."""
    weights, behind, found = {weight.name for weight in model.graph.initializer}, set[str](), set[str]()
    for node in model.graph.node:  # in the order in which they are computed
        weighs = node.op_type in WEIGHTED and node.input[1] in weights
        later = not behind.isdisjoint(node.input)
        if weighs and not later:
            found.add(node.name)
        if weighs or later:
            behind.update(node.output)
    return found


def _of_waveforms(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that see a waveform and nothing else."""
    seen = {view.name: {view.name} for view in model.graph.input}
    for node in model.graph.node:  # in the order in which they are computed
        views = set().union(*(seen.get(value, set()) for value in node.input))
        seen |= dict.fromkeys(node.output, views)
    return {node.name for node in model.graph.node if seen[node.output[0]] == {"waveform"}}


def _depthwise(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


def _last(model: onnx.ModelProto) -> set[str]:
    """Names of the weighted nodes from which an output comes with no other between."""
    makers = {output: node for node in model.graph.node for output in node.output}
    found, seen, waiting = set[str](), set[str](), [output.name for output in model.graph.output]
    while waiting:
        value = waiting.pop()
        node = makers.get(value)
        if node is None or value in seen:
            continue
        seen.add(value)
        if node.op_type in WEIGHTED:
            found.add(node.name)
        else:
            waiting += node.input
    return found


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in fewer bytes: large float weights stored in half precision and cast when loaded, no notes."""
    for node in model.graph.node:
        del node.metadata_props[:]
    for weight in [
        w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT and len(w.raw_data) > LARGE
    ]:
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}.half")
        cast = helper.make_node("Cast", [half.name], [weight.name], to=onnx.TensorProto.FLOAT)
        model.graph.initializer.append(half)
        model.graph.initializer.remove(weight)
        model.graph.node.insert(0, cast)
    return model


def macs(graph: bytes) -> int:
    """Multiplications and additions of one segment, in convolutions and products with a weight matrix."""
    model = shape_inference.infer_shapes(onnx.load_from_string(graph))
    sizes = {w.name: tuple(w.dims) for w in model.graph.initializer}
    values = (*model.graph.value_info, *model.graph.output)
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    return sum(_macs(node, sizes, shapes) for node in model.graph.node if node.op_type in WEIGHTED)


def _macs(node: onnx.NodeProto, sizes: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]]) -> int:
    weight = sizes.get(node.input[1])
    if weight is None:
        return 0
    outputs = math.prod(shapes[node.output[0]])
    if node.op_type == "Conv":
        return outputs * math.prod(weight[1:])
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return outputs * (weight[1] if transposed else weight[0])
