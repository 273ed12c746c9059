"""Several graphs as one: side by side, with the views that they share computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import inliner

from edge_asd.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Piece:
    """One of them."""

    name: str
    """goes before the names of its outputs, and of everything in it"""
    graph: bytes
    views: Mapping[str, str]
    """what the inputs are called in the whole, by the names they have"""
    outputs: Collection[str]
    """those that are wanted, by the names they have"""


def merged(pieces: Sequence[Piece]) -> bytes:
    """One graph whose outputs are called ``NAME.OUTPUT``; what no wanted output needs is left out.

    Raises:
        BundleError: graphs are of different versions of ONNX.
    """
    whole = onnx.ModelProto(producer_name="edge_asd")
    whole.graph.name = "ensemble"
    for piece in pieces:
        model = inliner.inline_local_functions(onnx.load_from_string(piece.graph))
        _prune(model.graph, piece.outputs)
        _rename(model.graph, f"{piece.name}.", piece.views)
        _version(whole, model, piece.name)
        there = {view.name for view in whole.graph.input}
        whole.graph.input.extend(view for view in model.graph.input if view.name not in there)
        for field in ("node", "initializer", "output", "value_info"):
            getattr(whole.graph, field).extend(getattr(model.graph, field))
    return bytes(whole.SerializeToString())


def inputs(graph: bytes) -> list[str]:
    """Names of the views that a graph looks at."""
    return [view.name for view in onnx.load_from_string(graph).graph.input]


def _prune(graph: onnx.GraphProto, outputs: Collection[str]) -> None:
    """Leave in a graph what these outputs need."""
    needed, nodes = set(outputs), []
    for node in reversed(graph.node):  # in the order in which they are computed
        if needed & set(node.output):
            nodes.append(node)
            needed |= {name for used in _within(node) for name in used.input}
            needed |= {value.name for inner in _graphs(node) for value in inner.output}
    kept = [*reversed(nodes)]
    computed = needed | {name for node in kept for name in node.output}
    _keep(graph, "node", kept)
    _keep(graph, "output", [value for value in graph.output if value.name in outputs])
    _keep(graph, "value_info", [value for value in graph.value_info if value.name in computed])
    for field in ("input", "initializer"):
        _keep(graph, field, [value for value in getattr(graph, field) if value.name in needed])


def _keep(graph: onnx.GraphProto, field: str, values: Sequence[object]) -> None:
    copies = [type(value).FromString(value.SerializeToString()) for value in values]  # type: ignore[attr-defined]
    graph.ClearField(field)
    getattr(graph, field).extend(copies)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Of the branches and bodies of a node."""
    for attribute in node.attribute:
        yield from (attribute.g,) if attribute.HasField("g") else attribute.graphs


def _within(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """A node, and all those in its branches and bodies."""
    yield node
    for inner in _graphs(node):
        for each in inner.node:
            yield from _within(each)


def _rename(graph: onnx.GraphProto, prefix: str, views: Mapping[str, str]) -> None:
    """Put a prefix before every name but those of inputs; names within branches differ from those without."""

    def called(name: str) -> str:
        return views.get(name, prefix + name if name else name)

    for node in graph.node:
        node.name = called(node.name)
        node.input[:] = map(called, node.input)
        node.output[:] = map(called, node.output)
        for inner in _graphs(node):
            _rename(inner, prefix, views)
    for value in (*graph.input, *graph.initializer, *graph.output, *graph.value_info):
        value.name = called(value.name)


def _version(whole: onnx.ModelProto, model: onnx.ModelProto, name: str) -> None:
    """Of the language that the whole is written in: that of all its pieces."""
    whole.ir_version = max(whole.ir_version, model.ir_version)
    known = {opset.domain: opset.version for opset in whole.opset_import}
    for opset in model.opset_import:
        if known.setdefault(opset.domain, opset.version) != opset.version:
            msg = f"the graph of {name} is of ONNX opset {opset.version}, of others {known[opset.domain]}; "
            msg += "export all of them again by this version"
            raise BundleError(msg)
    del whole.opset_import[:]
    whole.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in known.items())
