"""The seam between the training loop and the methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from edge_asd.errors import ConfigError
from edge_asd.score.backbone import view
from edge_asd.signal.view import LogMel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn


class Table(BaseModel):
    """Settings from a recipe: unknown ones are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Task:
    """What there is to learn: the shape of what is heard, and its classes."""

    samples: int
    """of a segment"""
    front_ends: Mapping[str, LogMel]
    """by name; the recipe's own has none"""
    sections: tuple[str, ...] = ()
    """machine identities, ``set/machine/section``"""
    groups: tuple[str, ...] = ()
    """attribute groups: a machine identity, a blank, an operating condition"""
    sizes: tuple[int, ...] = ()
    """training clips of each group"""
    attributes: tuple[tuple[str, int], ...] = ()
    """of each machine, those of two values or more: a name, and how many"""
    augmentations: tuple[str, ...] = ()
    """what may be done to a segment, where a network is to tell it"""
    outliers: bool = False
    """whether there is sound of none of the machines too"""

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Task:
        """From what ``dataclasses.asdict`` made of it."""
        return cls(**{**state, "front_ends": {name: LogMel(**spec) for name, spec in state["front_ends"].items()}})

    @property
    def own_front_end(self) -> LogMel:
        """The recipe's."""
        return self.front_ends[""]

    @property
    def mels(self) -> int:
        """Bands of its log-mel."""
        return self.own_front_end.n_mels

    @property
    def frames(self) -> int:
        """Of a segment's log-mel."""
        return self.shape("log_mel")[-1]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a view of one segment.

        Raises:
            ConfigError: it is through a front end that the recipe does not describe.
        """
        if (through := name.partition(".")[2]) not in self.front_ends:
            msg = f"the method looks through a front end {through!r}: give the recipe a table [front_ends.{through}]"
            raise ConfigError(msg)
        return view(name, self.front_ends, np.zeros((1, self.samples), np.float32)).shape[1:]

    def own(self, output: str, key: str) -> tuple[bool, ...]:
        """Which columns of a logit output belong to one machine; none for other outputs."""
        if output in {"section_logit", "target_logit"}:
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
    """by the names that the embedder takes, as ``log_mel`` (B, M, T) in dB"""
    section: Tensor
    """(B, sections), rows sum to one; to zero where the sound is of none of the machines"""
    group: Tensor
    """(B, groups), the same"""
    condition: Tensor
    """(B,) the operating condition as a number, one step of it being 5 (methods.md §2.4); 0 where it has none"""
    attributes: Tensor
    """(B, all values of all attributes), a row of a block for each attribute; zeros where one is unknown"""
    augmentation: Tensor
    """(B, augmentations), what was done to the segment, one-hot"""


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


class Generator(Method, Protocol):
    """A method that draws what it takes a machine to look like."""

    def generate(self, group: Tensor, seed: int) -> Tensor:
        """Log-mels of attribute groups, one-hot (B, groups), in dB (B, M, T); the same for the same seed."""
        ...
