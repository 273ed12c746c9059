"""The network, in ONNX Runtime: views of a segment in, named outputs out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # nothing that hears a workplace calls home; read when it is imported

import onnxruntime as ort

from edge_asd.errors import BundleError
from edge_asd.score.provider import CPU, EXECUTION, known
from edge_asd.signal.view import fft, log_mel, magnitude, mel, phase

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edge_asd.score.provider import Provider
    from edge_asd.signal.view import LogMel

VIEWS: dict[str, Callable[[LogMel, NDArray[np.float32]], NDArray[np.float32]]] = {
    "fft": lambda _, waveforms: fft(waveforms),
    "log_mel": log_mel,
    "magnitude": magnitude,
    "mel": mel,
    "phase": phase,
    "waveform": lambda _, waveforms: waveforms,
}
"""What a graph may ask for by the names of its inputs; ``VIEW.NAME`` is a view through another front end, by name."""


def view(name: str, specs: Mapping[str, LogMel], waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """A view of segments (B, S) by its name, through one of the front ends; the one named "" is the bundle's own."""
    kind, _, through = name.partition(".")
    return VIEWS[kind](specs[through], waveforms)


def installed() -> list[str]:
    """The providers this ONNX Runtime was built with, the most capable first; whether they work is another question."""
    return known(ort.get_available_providers())


class Backbone:
    """One loaded graph. Its threads sleep between segments. Of its outputs it gives those asked for, or all."""

    def __init__(
        self,
        graph: bytes,
        specs: Mapping[str, LogMel],
        threads: int = 1,
        outputs: Collection[str] | None = None,
        provider: Provider = CPU,
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            # its own fallback would print, and hide that another provider computes than was asked for
            chain = provider.chain(installed())
            self._session = ort.InferenceSession(graph, options, providers=chain, enable_fallback=0)
        except Exception as error:  # ONNX Runtime raises what it likes
            msg = f"ONNX Runtime {ort.__version__} cannot load the backbone: {_line(error)}"
            raise BundleError(msg) from error
        if self.provider != provider.name:
            msg = f"ONNX Runtime {ort.__version__} computes with {self.provider} in place of {provider.name}"
            msg += "; its libraries or its device are missing"
            raise BundleError(msg)
        self._specs = specs
        self.views = tuple(node.name for node in self._session.get_inputs())
        """names of what it looks at"""
        asked = {name: name.partition(".") for name in self.views}
        if unknown := [name for name, (kind, _, through) in asked.items() if not (kind in VIEWS and through in specs)]:
            msg = f"backbone asks for views {sorted(unknown)}; this version has {sorted(VIEWS)}"
            msg += f" through front ends {sorted(specs)}"
            raise BundleError(msg)
        given = {node.name: node.shape[-1] for node in self._session.get_outputs()}
        if missing := sorted(set(outputs or ()) - set(given)):
            msg = f"backbone gives {sorted(given)}, not {', '.join(missing)}; export the bundle again"
            raise BundleError(msg)
        self._outputs = [name for name in given if outputs is None or name in outputs]
        self.widths = {name: given[name] if isinstance(given[name], int) else None for name in self._outputs}
        """D of each output that is given; None where the graph does not say"""

    @property
    def provider(self) -> str:
        """Name of the execution provider in force: ``cpu``, ``cuda`` or ``tensorrt``."""
        first = self._session.get_providers()[0]
        return next((name for name, execution in EXECUTION.items() if execution == first), str(first))

    def __call__(self, segment: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """(S,) -> outputs by name, each (D,) or (R, D).

        Raises:
            BundleError: the graph wants segments of another length; the golden waveform finds out.
        """
        if not self._outputs:  # ONNX Runtime would take that for all of them
            return {}
        try:
            return self.look(self.seen(segment))
        except Exception as error:  # same
            msg = f"the backbone cannot look at a segment of {segment.size} samples: {_line(error)}"
            raise BundleError(msg) from error

    def seen(self, segment: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """(S,) -> its views by name, each (1, …)."""
        return {name: view(name, self._specs, segment[None]) for name in self.views}

    def look(self, views: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Views by name -> outputs by name: what the network itself does."""
        found = self._session.run(self._outputs, views)
        return {name: output[0] for name, output in zip(self._outputs, found, strict=True)}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
