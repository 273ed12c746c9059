"""A graph with several outputs, for tests of what is made of them."""

from __future__ import annotations

import numpy as np

ROWS, WIDTH = 10, 4


def several(scale: float = 1.0) -> bytes:
    """Of 40 samples, scaled: ``residual`` (1, 10, 4), ``embedding`` its sum over rows, ``error`` its mean square."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - not in the test group

    constants = {
        "zero": np.array([0]),
        "end": np.array([ROWS * WIDTH]),
        "one": np.array([1]),
        "shape": np.array([1, ROWS, WIDTH]),
        "scale": np.array([scale], np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["waveform", "zero", "end", "one"], ["begin"]),
        helper.make_node("Mul", ["begin", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["residual"]),
        helper.make_node("ReduceSum", ["residual", "one"], ["embedding"], keepdims=0),
        helper.make_node("Mul", ["scaled", "scaled"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["error"], axes=[1], keepdims=1),
    ]
    shapes = {"embedding": [1, WIDTH], "error": [1, 1], "residual": [1, ROWS, WIDTH]}
    body = helper.make_graph(
        nodes,
        "several",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, [1, None])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
