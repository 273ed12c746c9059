"""Recipes: what is learned, how, and how it is scored. One TOML file a method and preset in ``train/recipes``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from edge_asd.errors import ConfigError
from edge_asd.score.part import STATISTICS_PARTS
from edge_asd.signal.segment import Windows
from edge_asd.signal.view import LogMel
from train.method import catalogue
from train.method.task import Table, Task

Augmentation = Literal["identity", "pitch", "stretch", "noise", "fade", "time_mask", "frequency_mask"]
"""what :mod:`train.teach.augmentation` does to segments by name; it loads torch, recipes do not"""
HEARD = frozenset[Augmentation]({"pitch", "stretch", "noise", "fade"})
"""those of the waveform; masks hide a part of its log-mel"""
RECIPES = Path(__file__).parents[1] / "recipes"


class Training(Table):
    """How a network is trained."""

    epochs: int = Field(default=20, ge=1)
    """passes over the data"""
    crops: int = Field(default=0, ge=0)
    """random segments that a clip gives in each; 0 for as many as it is long"""
    least: int = Field(default=0, ge=0)
    """segments that an attribute group gives in each at least: clips of one that gives fewer come several times"""
    batch: int = Field(default=64, ge=2)
    rate: float = Field(default=1e-3, gt=0)
    last_rate: float = Field(default=1e-5, gt=0)
    """where the cosine from ``rate`` ends; the same for a constant one"""
    optimizer: Literal["adam", "adamax"] = "adam"
    epsilon: float = Field(default=1e-8, gt=0)
    """of the optimiser: gradients that are not far above it move little"""
    decay: float = Field(default=0.0, ge=0)
    """of weights, as a gradient (L2)"""
    clip_gradient: float = Field(default=5.0, ge=0)
    """largest norm; 0 for any"""
    targets: int = Field(default=1, ge=0)
    """least number of target-domain segments in a batch, where there are any to train on"""
    outliers: float = Field(default=0.0, ge=0, lt=1)
    """share of a batch that is of none of the machines: background, machines that are not learned"""
    smote: float = Field(default=0.0, ge=0, le=1)
    """target clips to source clips, where there are fewer: virtual ones are made up to it"""
    mixup: float = Field(default=0.5, ge=0, le=1)
    """share of segments whose waveform is mixed with another's"""
    mixup_alpha: float = Field(default=1.0, gt=0)
    """of the beta distribution that shares are drawn from; 1 for any as likely"""
    mixup_within: bool = False
    """mix with the same machine only"""
    augmentations: tuple[Augmentation, ...] = ()
    """of which each segment gets one, for a network to tell which; held-out ones get ``identity``"""
    condition: Literal["richest", "random"] = "richest"
    """which of a machine's attributes is the number of its condition"""
    gain_db: float = Field(default=2.0, ge=0)
    """largest random gain, either way"""
    noise_db: float = Field(default=0.0, ge=0)
    """pink noise at a random distance of at least so many dB below the segment, at most 20 dB more; 0 for none"""
    mask_mels: int = Field(default=0, ge=0)
    """largest number of neighbouring mel bands that are hidden"""
    mask_frames: int = Field(default=0, ge=0)
    """largest number of neighbouring frames that are hidden"""
    holdout: float = Field(default=0.1, ge=0, lt=1)
    """share of recordings that are only looked at, never trained on"""
    cache: bool = False
    """cut segments on a fixed grid, whose log-mel is computed once and kept on disk"""

    @model_validator(mode="after")
    def _cached_is_fixed(self) -> Training:
        if self.cache and (self.mixup or self.noise_db or self.smote):
            msg = (
                f"cache = true keeps log-mels, which mixup ({self.mixup}) and noise_db ({self.noise_db}) would change, "
            )
            msg += f"and of which smote ({self.smote}) makes none"
            raise ValueError(msg)
        if self.cache and (heard := [kind for kind in self.augmentations if kind in HEARD]):
            msg = f"cache = true keeps log-mels, which augmentations {', '.join(heard)} would change"
            raise ValueError(msg)
        if len(set(self.augmentations)) < len(self.augmentations):
            msg = f"augmentations {', '.join(self.augmentations)} name one twice, and nobody could tell them apart"
            raise ValueError(msg)
        return self


class PartWish(Table):
    """One piece of evidence and how it is measured."""

    name: str = Field(min_length=1)
    feature: str = Field(min_length=1)
    """``indicators``, ``spectrum``, or an output of the network"""
    backend: str
    """as :func:`train.method.backend.backend` reads it"""


class FusionWish(Table):
    """How parts become one score."""

    rule: Literal["mean", "min"] = "mean"
    weights: dict[str, float] = Field(default={})
    """1 where a part is not named; with 0 it is shown and not fused"""


class Recipe(Table):
    """One way to learn a machine."""

    method: catalogue.Name
    variant: str = Field(default="", pattern="^[a-z0-9_]*$")
    """which of several recipes of the method; none for the one that goes by the method's name alone"""
    preset: Literal["edge", "paper"] = "edge"
    seed: int = Field(default=0, ge=0)
    precision: Literal["int8", "fp32"] = "int8"
    """of the graph that heads are fitted with"""
    windows: Windows = Windows()
    front_end: LogMel = Field(default=LogMel(), validate_default=True)
    front_ends: dict[str, LogMel] = Field(default={})
    """further ones, by the names that the method asks for"""
    domain_groups: bool = False
    """an operating condition that is heard in both domains is two attribute groups"""
    pseudo_groups: int = Field(default=0, ge=0)
    """clusters that stand for attribute groups where a machine has no attributes; 0 for none"""
    training: Training | None = None
    """None: nothing is trained, heads alone are fitted at export"""
    settings: dict[str, Any] = Field(default={})
    """the method's own"""
    statistics: bool = True
    """also score what needs no training: :data:`edge_asd.score.part.STATISTICS_PARTS`"""
    parts: tuple[PartWish, ...] = ()
    """of the network's outputs"""
    fusion: FusionWish = FusionWish()

    @property
    def name(self) -> str:
        """What files and people call it."""
        return named(self.method, self.variant, self.preset)

    @property
    def specs(self) -> dict[str, LogMel]:
        """All front ends by name; the first, the recipe's own, is ""."""
        return {"": self.front_end, **self.front_ends}

    def task(self, **classes: Any) -> Task:  # noqa: ANN401 - fields of Task
        """What a network is built for."""
        return Task(self.windows.segment, self.specs, **classes)

    @field_validator("front_end", "front_ends")
    @classmethod
    def _one_rate(cls, given: LogMel | dict[str, LogMel], info: Any) -> LogMel | dict[str, LogMel]:  # noqa: ANN401 - pydantic's
        windows = info.data.get("windows", Windows())
        for spec in given.values() if isinstance(given, dict) else (given,):
            if spec.sample_rate != windows.sample_rate:
                msg = f"front_end.sample_rate is {spec.sample_rate}, windows.sample_rate {windows.sample_rate}"
                raise ValueError(msg)
        return given

    @model_validator(mode="after")
    def _fitting(self) -> Recipe:
        if not (self.statistics or self.parts):
            msg = "nothing is scored: say statistics = true or name parts"
            raise ValueError(msg)
        self._scorable()
        if self.method == catalogue.NETWORKLESS:
            if self.training is not None or self.settings:
                msg = f"{self.method} train no network; leave out [training], [settings] and --epochs"
                raise ValueError(msg)
            return self
        self._own_settings()
        if catalogue.trained(self.method) != (self.training is not None):
            wanted = "needs a table [training]; it may be empty" if self.training is None else "has nothing to train"
            msg = f"{self.method} {wanted}"
            raise ValueError(msg)
        return self

    def _scorable(self) -> None:
        """What export would find out after hours of training."""
        names = [part.name for part in self.parts]
        if self.statistics:
            names += [spec.name for spec in STATISTICS_PARTS]
        if unknown := sorted(set(self.fusion.weights) - set(names)):
            msg = f"fusion.weights names {', '.join(unknown)}; the parts are {', '.join(names)}"
            raise ValueError(msg)
        if self.parts:
            from train.method.backend import backend  # noqa: PLC0415 - scikit-learn, and most commands need none

            for part in self.parts:
                try:
                    backend(part.backend)
                except ConfigError as error:
                    raise ValueError(str(error)) from error

    def _own_settings(self) -> None:
        try:
            catalogue.settings(self.method, self.settings)
        except ValidationError as error:
            place, said = _complaint(error)
            msg = f"settings.{place}: {said}" if place else said
            raise ValueError(msg) from error


def named(method: str, variant: str, preset: str) -> str:
    """What a recipe is called: METHOD, METHOD-VARIANT, METHOD-paper or METHOD-VARIANT-paper."""
    return "-".join(filter(None, (method, variant, "" if preset == "edge" else preset)))


def load_recipe(name: str, **changes: Any) -> Recipe:  # noqa: ANN401 - whatever TOML can hold
    """A recipe of the folder, or a TOML file of one's own, with some settings changed; tables are merged.

    Raises:
        ConfigError: no such recipe, or a setting that is unknown or out of range.
    """
    path = RECIPES / f"{name}.toml"
    path = path if path.exists() else Path(name)
    try:
        written = tomllib.loads(path.read_text())
    except OSError as error:
        msg = f"no recipe {name!r}; choose one of {', '.join(recipes())}, or give the path of a TOML file"
        raise ConfigError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is no TOML: {error}"
        raise ConfigError(msg) from error
    try:
        return Recipe.model_validate(_merged(written, changes))
    except ValidationError as error:
        place, said = _complaint(error)
        msg = f"{path}: {place}: {said}" if place else f"{path}: {said}"
        raise ConfigError(msg) from error


def recipes() -> list[str]:
    """Names of the recipes of the folder."""
    return sorted(file.stem for file in RECIPES.glob("*.toml"))


def changed(assignments: list[str]) -> dict[str, Any]:
    """``["settings.alpha=0.3", "seed=1"]`` -> nested tables, values as TOML reads them.

    Raises:
        ConfigError: one is no ``place=value``.
    """
    tables: dict[str, Any] = {}
    for text in assignments:
        try:
            tables = _merged(tables, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            msg = f"cannot understand {text!r}: write PLACE=VALUE as in a recipe, strings in quotes ({error})"
            raise ConfigError(msg) from error
    return tables


def _merged(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(before[key], after[key]) for key in before.keys() & after.keys() if _tables(before, after, key)
    }
    return before | after | both


def _tables(before: dict[str, Any], after: dict[str, Any], key: str) -> bool:
    return isinstance(before[key], dict) and isinstance(after[key], dict)


def _complaint(error: ValidationError) -> tuple[str, str]:
    """Where the first mistake is, and what is wrong there."""
    first = error.errors()[0]
    own = first["type"] == "value_error"  # ours name the value
    said = first["msg"].removeprefix("Value error, ") if own else f"{first['msg'].lower()}, got {first['input']!r}"
    return ".".join(map(str, first["loc"])), said
