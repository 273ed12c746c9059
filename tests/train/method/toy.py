"""A task, batches of noise, and what tests of every method ask of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime
import torch
from torch import Tensor, nn

from edge_asd.signal.view import LogMel
from train.method.task import Batch, Task
from train.pack.graph import to_onnx

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from train.method.task import Method


def task(sections: int = 3, sizes: Sequence[int] = (10,) * 6, samples: int = 32_000) -> Task:
    """Segments at 16 kHz; groups dealt out to the sections in turn."""
    names = tuple(f"toy/machine/{number:02d}" for number in range(sections))
    groups = tuple(f"{names[number % sections]} {number}" for number in range(len(sizes)))
    attributes = tuple((f"{name} speed", 2) for name in names)
    return Task(samples, {"": LogMel()}, names, groups, tuple(sizes), attributes)


def batch(count: int, about: Task, seed: int = 0, outliers: int = 0) -> Batch:
    """Log-mel of about −40 dB, waveform, and soft targets that sum to one; but for outliers, which come last."""
    torch.manual_seed(seed)
    views = {
        "log_mel": 15.0 * torch.randn(count, about.mels, about.frames) - 40.0,
        "waveform": 0.1 * torch.randn(count, about.samples),
    }
    known = torch.arange(count)[:, None] < count - outliers
    section, group = (known * soft(count, len(names)) for names in (about.sections, about.groups))
    condition = 5.0 * torch.randn(count) * known[:, 0]
    attributes = [known * soft(count, values) for _, values in about.attributes]
    return Batch(
        views,
        section,
        group,
        condition,
        torch.cat([torch.zeros(count, 0), *attributes], dim=1),
        soft(count, len(about.augmentations)),
    )


def soft(count: int, classes: int) -> Tensor:
    """Rows that sum to one."""
    rows = torch.rand(count, classes)
    return rows / rows.sum(1, keepdim=True)


def size(*modules: nn.Module) -> int:
    """Numbers that are learned."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def macs(embedder: nn.Module, *views: Tensor) -> int:
    """Multiplications of the convolutions and linear layers, those within attention too."""
    total = 0

    def count(layer: Any, _given: object, out: Any) -> None:  # noqa: ANN401 - any layer, and a tensor or several
        nonlocal total
        if isinstance(layer, nn.MultiheadAttention):  # whose four matrices are no layers that are called
            total += out[0].numel() * 4 * layer.embed_dim
        else:
            total += out.numel() * layer.weight[0].numel()

    kinds = nn.Conv1d | nn.Conv2d | nn.Linear | nn.MultiheadAttention
    layers = [layer for layer in embedder.modules() if isinstance(layer, kinds)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        embedder(*views)
    for hook in hooks:
        hook.remove()
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


def outputs(embedder: Any, *views: Tensor) -> dict[str, Tensor]:  # noqa: ANN401 - a module that is an Embedder
    """By name."""
    with torch.no_grad():
        given = embedder(*views)
    return dict(zip(embedder.outputs, (given,) if isinstance(given, Tensor) else given, strict=True))


def in_onnx_runtime(embedder: Any, log_mel: Tensor) -> dict[str, NDArray[np.float32]]:  # noqa: ANN401 - same
    """What the exported graph gives for one segment (1, M, T), by name."""
    about = task(samples=512 * (log_mel.shape[2] - 1))
    session = onnxruntime.InferenceSession(to_onnx(embedder, about), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, {"log_mel": log_mel.numpy()}), strict=True))


def learn(method: Method, lesson: Batch, steps: int, rate: float = 1e-3) -> list[float]:
    """The losses of some steps with the same batch."""
    network: Any = method
    optimizer = torch.optim.Adam(network.parameters(), rate)
    losses = []
    for step in range(steps):
        torch.manual_seed(1)
        loss, _ = method.loss(lesson, step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
