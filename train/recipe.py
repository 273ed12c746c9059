"""Recipes: what is learned, and how. One TOML file each in ``train/recipes``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from edge_asd.errors import ConfigError
from edge_asd.signal.segment import Windows
from edge_asd.signal.view import LogMel

RECIPES = Path(__file__).parent / "recipes"
GRHD_IMAGE = 16_000, 128, 63
"""hertz, mels and frames that the network is built for (train/grhd.py)"""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GrhdSettings(_Table):
    """Weights of the losses of GRHD, eq. (6)."""

    alpha: float = Field(default=0.1, ge=0)
    beta: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=1.0, ge=0)
    focal_gamma: float = Field(default=2.0, ge=0)


class Training(_Table):
    """How a network is trained."""

    epochs: int = Field(default=20, ge=1)
    """passes over the data; in each a clip gives one random segment for every segment it is long"""
    batch: int = Field(default=64, ge=2)
    rate: float = Field(default=1e-3, gt=0)
    last_rate: float = Field(default=1e-5, gt=0)
    clip_gradient: float = Field(default=5.0, gt=0)
    targets: int = Field(default=1, ge=0)
    """least number of target-domain segments in a batch"""
    mixup: float = Field(default=0.5, ge=0, le=1)
    """share of segments whose waveform is mixed with another's"""
    gain_db: float = Field(default=2.0, ge=0)
    """largest random gain, either way"""
    holdout: float = Field(default=0.1, ge=0, lt=1)
    """share of recordings that are only classified, never trained on"""
    loss: GrhdSettings = GrhdSettings()


class Recipe(_Table):
    """One way to learn a machine."""

    name: Literal["statistics", "grhd"]
    seed: int = Field(default=0, ge=0)
    windows: Windows = Windows()
    front_end: LogMel = Field(default=LogMel(), validate_default=True)
    training: Training | None = Field(default=None, validate_default=True)
    """None: nothing is trained, heads alone are fitted at export"""

    @field_validator("front_end")
    @classmethod
    def _as_heard(cls, front_end: LogMel, info: ValidationInfo) -> LogMel:
        windows = info.data.get("windows", Windows())
        if front_end.sample_rate != windows.sample_rate:
            msg = f"front_end.sample_rate is {front_end.sample_rate}, windows.sample_rate {windows.sample_rate}"
            raise ValueError(msg)
        image = windows.sample_rate, front_end.n_mels, 1 + windows.segment // front_end.hop
        if info.data.get("name") == "grhd" and image != GRHD_IMAGE:
            wanted = "16000 hertz and segments of 128 mels x 63 frames (segment 32000, hop 512, n_mels 128)"
            msg = f"grhd wants {wanted}, got {image[0]} hertz and {image[1]} x {image[2]}"
            raise ValueError(msg)
        return front_end

    @field_validator("training")
    @classmethod
    def _as_named(cls, training: Training | None, info: ValidationInfo) -> Training | None:
        name = info.data.get("name")
        if name == "statistics" and training is not None:
            msg = "statistics train no network; leave out [training] and --epochs"
            raise ValueError(msg)
        if name == "grhd" and training is None:
            msg = "grhd needs a table [training]; it may be empty"
            raise ValueError(msg)
        return training


def load_recipe(name: str, **changes: Any) -> Recipe:  # noqa: ANN401 - whatever TOML can hold
    """A recipe of the folder, or a TOML file of one's own, with some settings changed.

    Raises:
        ConfigError: no such recipe, or a setting that is unknown or out of range.
    """
    path = RECIPES / f"{name}.toml"
    path = path if path.exists() else Path(name)
    try:
        settings = tomllib.loads(path.read_text())
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        msg = f"no recipe {name!r}; choose one of {known}, or give the path of a TOML file"
        raise ConfigError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is no TOML: {error}"
        raise ConfigError(msg) from error
    training = {key: settings.get("training", {}) | changes.pop(key) for key in ("training",) if key in changes}
    try:
        return Recipe.model_validate(settings | training | changes)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        own = first["type"] == "value_error"  # ours name the value
        said = first["msg"].removeprefix("Value error, ") if own else f"{first['msg'].lower()}, got {first['input']!r}"
        msg = f"{path}: {place}: {said}"
        raise ConfigError(msg) from error
