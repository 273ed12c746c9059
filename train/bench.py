"""The exported graphs against the network they came from, in the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from edge_asd.bench import Timing, backbones, one_core, turns
from edge_asd.bundle import open_bundle
from edge_asd.signal.view import log_mel
from train.fit import load_network
from train.run import load_run

if TYPE_CHECKING:
    from pathlib import Path


def bench(folder: Path, bundle: Path, rounds: int) -> list[Timing]:
    """A 2-s segment on one core, views included: ONNX Runtime int8 and fp32, torch eager fp32, in turn."""
    (embedder, _), manifest = load_network(load_run(folder)), open_bundle(bundle).manifest
    segment = (0.05 * np.random.default_rng(0).standard_normal(manifest.windows.segment)).astype(np.float32)

    def eager() -> None:
        with torch.inference_mode():
            embedder(torch.from_numpy(log_mel(manifest.front_end, segment[None])), torch.from_numpy(segment[None]))

    torch.set_num_threads(1)
    with one_core():
        stages = backbones(bundle, segment) | {"torch eager fp32, a segment": eager}
        return turns(stages, rounds, "torch eager fp32, a segment")
