"""What a run came to, as its folder tells it: recipe, log, figures, scores, embeddings."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from edge_asd.errors import ConfigError
from edge_asd.score.part import STATISTICS_PARTS, is_embedding
from train.teach.recipe import named
from train.teach.run import CHECKPOINT, CONFIG, LOG, PROVENANCE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

EVALUATION = "evaluation"
"""folder in a run that holds what ``train evaluate`` wrote"""
RESULT, SCORES, EMBEDDINGS = "result.json", "scores.csv", "embeddings.npz"
Z = "z_"
"""what columns of z-scores begin with, in ``scores.csv``"""


class Interval(pydantic.BaseModel, frozen=True):
    """Where a figure lies with 95 % confidence."""

    low: float
    high: float


class Figure(pydantic.BaseModel, frozen=True):
    """A metric, in [0, 1]."""

    value: float
    by_clip: Interval | None = None
    """bootstrap over clips"""
    by_recording: Interval | None = None
    """bootstrap over recordings"""


class Section(pydantic.BaseModel, frozen=True):
    """One machine."""

    key: str = pydantic.Field(pattern=r"^[^/]+/[^/]+/[^/]+$")
    head: str
    judgements: dict[str, dict[str, Figure | None]] = {}
    """of the fused score and of each part, by metric; empty where normals or anomalies are missing"""


class Thresholds(pydantic.BaseModel, frozen=True):
    """Of one head; the alarm's is for the daemon."""

    decision: float


class Bundle(pydantic.BaseModel, frozen=True):
    """What was evaluated."""

    name: str
    method: str
    digest: str = ""
    metrics: dict[str, float] = {}
    """measured at export"""
    parts: dict[str, str] = {}
    """feature and detector of each; evaluations did not always say"""
    members: dict[str, float] = {}
    """of an ensemble, with their weights in its first head; none of other bundles"""
    rule: str = "mean"
    """by which those are fused"""


class Result(pydantic.BaseModel, frozen=True):
    """``result.json``; what else is in it is ignored."""

    bundle: Bundle
    precision: str = "int8"
    protocol: str = "2022"
    """year whose definitions hold"""
    oracle: bool = False
    """whether the configuration was chosen on labels of test clips"""
    omega: dict[str, float] = {}
    overall: dict[str, Figure] = {}
    """as ``omega``, with intervals"""
    thresholds: dict[str, Thresholds] = {}
    """by head"""
    sections: tuple[Section, ...] = pydantic.Field(min_length=1)


class Origin(pydantic.BaseModel, frozen=True):
    """``provenance.json``."""

    commit: str = ""
    data_digest: str = ""
    clips: int = 0


@dataclass(frozen=True, slots=True)
class Making:
    """How the run was made, as far as a reader must know."""

    name: str
    """of the recipe"""
    seed: int
    trained: bool
    traits: Mapping[str, str]
    """every setting but the seed, by its place in the recipe: what may differ between runs of one name"""
    backends: Mapping[str, str]
    """part -> feature and back end"""
    weights: Mapping[str, float]
    """part -> weight in the fusion, where it is not 1"""
    rule: str
    """of the fusion"""


@dataclass(frozen=True, slots=True)
class Scores:
    """The N test clips, each array (N,)."""

    key: NDArray[np.str_]
    file: NDArray[np.str_]
    target: NDArray[np.bool_]
    """of the target domain"""
    label: NDArray[np.str_]
    recording: NDArray[np.str_]
    score: NDArray[np.float64]
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """z-scores by part; NaN where a clip has none"""

    @property
    def anomaly(self) -> NDArray[np.bool_]:
        """(N,) known to be anomalous."""
        return np.asarray(self.label == "anomaly", np.bool_)

    @property
    def normal(self) -> NDArray[np.bool_]:
        """(N,) known to be normal."""
        return np.asarray(self.label == "normal", np.bool_)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Where a network puts N clips."""

    embedding: NDArray[np.float32]
    """(N, D)"""
    key: NDArray[np.str_]
    file: NDArray[np.str_]
    target: NDArray[np.bool_]
    anomaly: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything a report needs of one run; what its folder lacks is None, and ``missing`` says how to get it."""

    name: str
    """as the folder is called"""
    result: Result
    making: Making | None
    origin: Origin | None
    log: tuple[Mapping[str, float], ...]
    """numbers of every epoch"""
    ignorance: float | None
    """loss ``l_rev`` of a classifier that knows nothing"""
    scores: Scores | None
    embeddings: Embeddings | None
    missing: tuple[str, ...]
    """a line for everything that is not there"""


def load_outcome(folder: Path) -> Outcome:
    """Open a run folder with an evaluation in it, or an evaluation alone.

    Raises:
        ConfigError: it is neither, or a file in it cannot be understood.
    """
    place = _evaluation(folder)
    run = place.parent if (place.parent / CONFIG).exists() else folder
    making, result, log = _making(run / CONFIG), _result(place / RESULT), _log(run / LOG)
    scores, embeddings = _scores(place / SCORES), _embeddings(place / EMBEDDINGS)
    name = place.parent.name if place.name == EVALUATION else f"{place.parent.name}/{place.name}"
    origin = _parsed(run / PROVENANCE, Origin) if (run / PROVENANCE).exists() else None
    again = f"python -m train evaluate {result.bundle.name}.asd --data DIR --out {place}"
    by_fit, fitted = "only train fit writes it", not result.bundle.members  # an ensemble is of several runs
    lacking = {
        f"no {CONFIG}, so recipe, back ends and seed are unknown: evaluate into the run folder": fitted and not making,
        f"no {PROVENANCE}, so commit and training data are unknown: {by_fit}": fitted and not origin,
        f"no {LOG}, so there are no learning curves: {by_fit}": bool(making and making.trained) and not log,
        f"no {SCORES}, so there are no histograms and no ROC: {again}": scores is None,
        f"no {EMBEDDINGS}, so there is no map of them and no probe: {again}": _embeds(result, making)
        and not embeddings,
    }
    missing = tuple(f"{name}: {line}" for line, lacks in lacking.items() if lacks)
    return Outcome(name, result, making, origin, log, _ignorance(run, log), scores, embeddings, missing)


def _embeds(result: Result, making: Making | None) -> bool:
    """Whether it has an embedding that could be looked at."""
    said = making.backends if making else result.bundle.parts
    if not said:
        return "parameters" in result.bundle.metrics
    return any(is_embedding(measured.split(", ")[0]) for measured in said.values())


def _evaluation(folder: Path) -> Path:
    folder = folder.resolve()
    if not folder.is_dir():
        msg = f"no run folder {folder}; make one with: python -m train fit RECIPE --data DIR --out {folder}"
        raise ConfigError(msg)
    for place in (folder, folder / EVALUATION):
        if (place / RESULT).exists():
            return place
    msg = (
        f"nothing is evaluated in {folder}; do: python -m train export {folder} --out {folder.name}.asd, then "
        f"python -m train evaluate {folder.name}.asd --data DIR --out {folder / EVALUATION}"
    )
    raise ConfigError(msg)


# Files ----------------------------------------------------------------------------------------------------------------


def _parsed(path: Path, model: type[Any]) -> Any:  # noqa: ANN401 - what the model makes of it
    try:
        return model.model_validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        msg = f"{path}: {where}: {first['msg'].lower()}; write it anew with: python -m train evaluate or fit"
        raise ConfigError(msg) from error


def _result(path: Path) -> Result:
    result: Result = _parsed(path, Result)
    return result


class _Part(pydantic.BaseModel):
    name: str
    feature: str
    backend: str = ""


class _Fusion(pydantic.BaseModel):
    rule: str = "mean"
    weights: dict[str, float] = {}


class _Recipe(pydantic.BaseModel):
    """Read leniently: a recipe of an older version is still worth a row."""

    method: str
    variant: str = ""
    preset: str = "edge"
    seed: int = 0
    training: dict[str, Any] | None = None
    statistics: bool = False
    parts: tuple[_Part, ...] = ()
    fusion: _Fusion = _Fusion()


class _Config(pydantic.BaseModel):
    recipe: _Recipe


def _making(path: Path) -> Making | None:
    if not path.exists():
        return None
    recipe = _parsed(path, _Config).recipe
    traits = dict(_flat(json.loads(path.read_bytes())["recipe"]))
    return Making(
        name=named(recipe.method, recipe.variant, recipe.preset),
        seed=recipe.seed,
        trained=recipe.training is not None,
        traits={place: said for place, said in traits.items() if place != "seed"},
        backends={spec.name: f"{spec.feature}, {spec.detector}" for spec in STATISTICS_PARTS if recipe.statistics}
        | {part.name: ", ".join(filter(None, (part.feature, part.backend))) for part in recipe.parts},
        weights=recipe.fusion.weights,
        rule=recipe.fusion.rule,
    )


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """``{"a": {"b": 1}}`` -> ``[("a.b", "1")]``."""
    found: list[tuple[str, str]] = []
    for name, value in table.items():
        place = f"{prefix}{name}"
        found += _flat(value, f"{place}.") if isinstance(value, dict) else [(place, json.dumps(value))]
    return found


def _log(path: Path) -> tuple[Mapping[str, float], ...]:
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        epochs = [json.loads(line) for line in lines]
    except ValueError as error:
        msg = f"{path}: line is no JSON ({error}); go on with the run by the command that began it"
        raise ConfigError(msg) from error
    return tuple({name: float(v) for name, v in epoch.items() if isinstance(v, int | float)} for epoch in epochs)


def _scores(path: Path) -> Scores | None:
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        text = {name: np.array([row[name] for row in rows]) for name in ("key", "file", "domain", "label", "recording")}
        score = np.array([float(row["score"]) for row in rows])
        columns = [name for name in rows[0] if name.startswith(Z)] if rows else []
        parts = {name.removeprefix(Z): np.array([float(row[name] or "nan") for row in rows]) for name in columns}
    except (KeyError, ValueError) as error:
        msg = f"{path}: no scores of clips ({error}); write it anew with: python -m train evaluate"
        raise ConfigError(msg) from error
    return Scores(text["key"], text["file"], text["domain"] == "target", text["label"], text["recording"], score, parts)


def _embeddings(path: Path) -> Embeddings | None:
    """Of test clips."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("embedding", "key", "file", "domain", "label", "split")}
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        msg = f"{path}: no embeddings of clips ({error}); write it anew with: python -m train evaluate"
        raise ConfigError(msg) from error
    test = (found["split"] == "test") & (found["label"] != "unknown")
    one = {name: array[test] for name, array in found.items()}
    return Embeddings(one["embedding"], one["key"], one["file"], one["domain"] == "target", one["label"] == "anomaly")


def _ignorance(run: Path, log: tuple[Mapping[str, float], ...]) -> float | None:
    """From the sizes of the attribute groups in the checkpoint."""
    if not (any("l_rev" in epoch for epoch in log) and (run / CHECKPOINT).exists()):
        return None
    import torch  # noqa: PLC0415 - only these runs need it

    from train.method.grhd import Settings, class_weights, ignorance  # noqa: PLC0415

    given = json.loads((run / CONFIG).read_bytes())["recipe"].get("settings", {})
    sizes = torch.load(run / CHECKPOINT, weights_only=True, map_location="cpu", mmap=True)["task"]["sizes"]
    gamma = given.get("focal_gamma", Settings.model_fields["focal_gamma"].default)
    return ignorance(class_weights(sizes), sizes, gamma)
