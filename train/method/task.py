"""The seam between the training loop and the methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict

from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


class Table(BaseModel):
    """Settings from a recipe: unknown ones are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Task:
    """What there is to learn: the shape of what is heard, and its classes."""

    samples: int
    """of a segment"""
    mels: int
    frames: int
    """of a segment's log-mel"""
    n_fft: int
    hop: int
    sections: tuple[str, ...]
    """machine identities, ``set/machine/section``"""
    groups: tuple[str, ...]
    """attribute groups: a machine identity, a blank, an operating condition"""
    sizes: tuple[int, ...]
    """training clips of each group"""

    def own(self, output: str, key: str) -> tuple[bool, ...]:
        """Which columns of a logit output belong to one machine; all False for other outputs."""
        if output == "section_logit":
            return tuple(section == key for section in self.sections)
        return tuple(group.startswith(f"{key} ") for group in self.groups) if output == "group_logit" else ()


def refuse_one_section(task: Task) -> None:
    """Of one class the loss is 0 from the start: the weights would stay what chance made them, and nobody be told.

    Raises:
        ConfigError: there are no two machine identities.
    """
    if len(task.sections) < 2:
        one = ", ".join(task.sections)
        msg = f"the method learns to tell machine identities apart, and there is one, {one}: train on several together"
        raise ConfigError(msg)


def refuse_one_group(task: Task) -> None:
    """The same for attribute groups.

    Raises:
        ConfigError: there are no two.
    """
    if len(task.groups) < 2:
        one = ", ".join(task.groups)
        msg = (
            f"the method learns to tell attribute groups apart, and there is one, {one}: train on several machines or "
            "operating conditions together, set pseudo_groups where there are no attributes, or choose ae or dg_mix"
        )
        raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments and what they are; targets are soft where segments were mixed."""

    views: dict[str, Tensor]
    """``log_mel`` (B, M, T) in dB and, for methods that ask for it, ``waveform`` (B, S)"""
    section: Tensor
    """(B, sections), rows sum to one"""
    group: Tensor
    """(B, groups), rows sum to one"""


class Embedder(Protocol):
    """The part of a network that a device runs; an ``nn.Module``."""

    views: tuple[str, ...]
    """what it takes, in this order: names of :data:`edge_asd.score.backbone.VIEWS`"""
    outputs: tuple[str, ...]
    """names of what it gives, in this order; alone when there is one"""

    def __call__(self, *views: Tensor) -> Tensor | Sequence[Tensor]:
        """Each output is (B, D), or (B, R, D) where a segment gives R rows."""
        ...


class Method(Protocol):
    """A network in training; an ``nn.Module``."""

    embedder: nn.Module
    """an :class:`Embedder`"""

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, and what it is made of, by name; ``accuracy`` where classes are named.

        Args:
            batch: of training segments, or in evaluation mode of held-out ones.
            progress: share of the training done, in [0, 1].
        """
        ...
