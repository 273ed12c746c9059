"""What an ensemble is to be made of: a recipe, and the bundles that go together."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field, ValidationError

from edge_asd.bundle import Manifest, Precision, open_bundle, read_bundle, read_normals
from edge_asd.errors import ConfigError
from edge_asd.score.part import STATISTICS
from train.method.task import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edge_asd.bundle import Bundle, Normals

RECIPES = Path(__file__).parents[1] / "recipes" / "ensemble"
NAME = r"[\w-]+"


class Plan(Table):
    """Which bundles are fused, and how."""

    name: str = Field(pattern=f"^{NAME}$")
    rule: Literal["mean", "min"] = "mean"
    members: tuple[str, ...] = ()
    """names that bundles are given, or that they have, or else of their methods; empty for all bundles there are"""
    weights: dict[str, float] = Field(default={})
    """by member, 1 where none is given. Statistics weigh beside all networks together what they weigh beside its own in
    the bundle that they are from; with 0 they are only shown"""


@dataclass(frozen=True, slots=True)
class Contributor:
    """An opened bundle, and what it is called in the ensemble."""

    name: str
    bundle: Bundle
    graphs: Mapping[Precision, bytes]
    normals: Mapping[str, Normals]

    @property
    def manifest(self) -> Manifest:
        """Of the bundle."""
        return self.bundle.manifest

    def counted(self, key: str, *, statistics: bool) -> dict[int, float]:
        """Column -> weight of the parts of a head that are fused there, and are statistics or are not."""
        head = self.bundle.heads[key]
        weighed = enumerate(zip(head.parts, head.fusion.over(head.names), strict=True))
        return {n: float(w) for n, (part, w) in weighed if w and (part.spec.feature in STATISTICS) == statistics}


# Recipes --------------------------------------------------------------------------------------------------------------


def load_plan(recipe: str | None, **changes: Any) -> Plan:  # noqa: ANN401 - whatever TOML can hold
    """A recipe of the folder, a TOML file of one's own, or none; with changes, of which None is none.

    Raises:
        ConfigError: no such recipe, or a setting that is unknown or out of range.
    """
    written, given = (
        _toml(recipe) if recipe else {},
        {name: value for name, value in changes.items() if value is not None},
    )
    weights = {**written.get("weights", {}), **given.get("weights", {})}
    try:
        return Plan.model_validate(written | given | {"weights": weights})
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{recipe}: " if recipe else ""
        msg = f"{where}{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}, got {first['input']!r}"
        raise ConfigError(msg) from error


def weights_of(assignments: Iterable[str]) -> dict[str, float]:
    """``["ae=0.5"]`` -> ``{"ae": 0.5}``.

    Raises:
        ConfigError: one is no ``NAME=NUMBER``.
    """
    try:
        return {name: float(weight) for name, _, weight in (text.partition("=") for text in assignments)}
    except ValueError as error:
        msg = f"cannot understand a weight ({error}); write NAME=NUMBER, as in ae=0.5"
        raise ConfigError(msg) from error


def recipes() -> list[str]:
    """Names of the recipes of the folder."""
    return sorted(file.stem for file in RECIPES.glob("*.toml"))


def _toml(recipe: str) -> dict[str, Any]:
    path = RECIPES / f"{recipe}.toml"
    path = path if path.exists() else Path(recipe)
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        msg = (
            f"no recipe {recipe!r} of an ensemble; choose one of {', '.join(recipes())}, give the path of a TOML file, "
        )
        msg += "or leave it out and name bundles alone, which end in .asd"
        raise ConfigError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is no TOML: {error}"
        raise ConfigError(msg) from error


# Bundles --------------------------------------------------------------------------------------------------------------


def contributors(plan: Plan, given: Sequence[str]) -> list[Contributor]:
    """The bundles of a plan, in its order.

    Args:
        plan: names them.
        given: paths, ``NAME=PATH`` where a bundle has neither a member's name nor its method.

    Raises:
        ConfigError: bundles are not those of the plan, or do not go together.
        BundleError: one cannot be opened, or does not say what its training clips scored.
    """
    opened = [_opened(text, plan) for text in given]
    _refuse_twins(opened)
    known = {member.name: member for member in opened}
    wanted = plan.members or tuple(known)
    if set(wanted) != set(known) or not wanted:
        missing, strange = (", ".join(sorted(names)) for names in (set(wanted) - set(known), set(known) - set(wanted)))
        said = [f"no bundle for {missing}"] * bool(missing) + [f"no member for bundle {strange}"] * bool(strange)
        msg = f"{plan.name} is made of {', '.join(wanted) or 'nothing'}: {'; '.join(said) or 'no bundles'}; name one "
        msg += "bundle for each member, NAME=PATH where neither its name nor its method is the member's"
        raise ConfigError(msg)
    members = [known[name] for name in wanted]
    _refuse_unlike(members)
    return members


def _opened(given: str, plan: Plan) -> Contributor:
    """From ``PATH`` or ``NAME=PATH``."""
    named = re.fullmatch(f"({NAME})=(.+)", given)
    path = Path(named[2] if named else given)
    bundle = open_bundle(path)
    if any(card.fusion.members for card in bundle.manifest.heads.values()):
        msg = f"{path} is an ensemble itself; name the bundles that it was made of"
        raise ConfigError(msg)
    files = read_bundle(path)[1]
    graphs = {graph: files[name] for graph in get_args(Precision) if (name := f"backbone.{graph}.onnx") in files}
    own = bundle.manifest.name if bundle.manifest.name in plan.members else bundle.manifest.method
    return Contributor(named[1] if named else own, bundle, graphs, read_normals(path))


def _refuse_twins(opened: Sequence[Contributor]) -> None:
    """Of one name."""
    for number, member in enumerate(opened):
        if twin := next((one for one in opened[:number] if one.name == member.name), None):
            msg = f"{twin.bundle.path} and {member.bundle.path} are both called {member.name}; "
            msg += f"call one otherwise: NAME={member.bundle.path}"
            raise ConfigError(msg)


def _refuse_unlike(members: Sequence[Contributor]) -> None:
    """Windows are one for the whole bundle, and a head needs all members."""
    first = members[0]
    for member in members:
        if member.manifest.windows != first.manifest.windows:
            msg = f"{first.bundle.path} hears in {first.manifest.windows}, {member.bundle.path} in "
            msg += f"{member.manifest.windows}; members need the same windows: fit them by the same preset"
            raise ConfigError(msg)
    if not any(all(key in member.bundle.heads for member in members) for key in first.bundle.heads):
        known = "; ".join(f"{member.bundle.path}: {', '.join(member.bundle.heads)}" for member in members)
        msg = f"no machine is known to all members ({known}); export them for the same machines"
        raise ConfigError(msg)
