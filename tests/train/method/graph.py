"""What tests of every method ask: a task, a batch of it, how large a network is, what it computes elsewhere."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import onnxruntime
import torch
from torch import Tensor, nn

from train.method.task import Batch, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from train.method.task import Method

OPSET = 18


def task(sections: int = 3, samples: int = 32_000) -> Task:
    """Machine identities with two operating conditions each, heard at 16 kHz."""
    names = tuple(f"toy/machine/{number:02d}" for number in range(sections))
    groups = tuple(f"{name} {speed}" for name in names for speed in ("slow", "fast"))
    return Task(samples, 128, 1 + samples // 512, 1_024, 512, names, groups, (10,) * len(groups))


def batch(asked: Task, count: int, seed: int = 0) -> Batch:
    """Noise of about −40 dB, and soft targets."""
    torch.manual_seed(seed)
    log_mel = 15.0 * torch.randn(count, asked.mels, asked.frames) - 40.0
    section, group = (torch.rand(count, len(classes)) for classes in (asked.sections, asked.groups))
    return Batch({"log_mel": log_mel}, section / section.sum(1, keepdim=True), group / group.sum(1, keepdim=True))


def size(network: nn.Module) -> int:
    """Numbers that are learned."""
    return sum(parameter.numel() for parameter in network.parameters())


def macs(embedder: nn.Module, log_mel: Tensor) -> int:
    """Multiplications of the convolutions and linear layers."""
    total = 0

    def count(layer: Any, _given: object, out: Tensor) -> None:  # noqa: ANN401 - any layer with a weight
        nonlocal total
        total += out.numel() * layer.weight[0].numel()

    for layer in embedder.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        embedder(log_mel)
    return total


def lived(network: nn.Module, seed: int = 0) -> nn.Module:
    """In evaluation mode, with batch norms that have seen something."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return network.eval()


def outputs(embedder: Any, log_mel: Tensor) -> dict[str, Tensor]:  # noqa: ANN401 - a module that is an Embedder
    """By name."""
    with torch.no_grad():
        given = embedder(log_mel)
    return dict(zip(embedder.outputs, given if isinstance(given, tuple) else (given,), strict=True))


def in_onnx_runtime(embedder: Any, log_mel: Tensor) -> dict[str, NDArray[np.float32]]:  # noqa: ANN401 - same
    """What the exported graph gives for one segment (1, M, T), by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        program = torch.onnx.export(
            embedder,
            (torch.zeros_like(log_mel),),
            input_names=list(embedder.views),
            output_names=list(embedder.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, {"log_mel": log_mel.numpy()}), strict=True))


def learn(method: Method, lesson: Batch, steps: int, rate: float = 1e-3) -> list[float]:
    """The losses of some steps with the same batch."""
    network: Any = method
    optimiser = torch.optim.Adam(network.parameters(), rate)
    losses = []
    for step in range(steps):
        loss, parts = method.loss(lesson, step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(parts["loss"].detach()))
    return losses
