"""Several bundles as one, which a device runs like any other.

Nothing is heard again. Bundles carry what their training clips scored, each left out; by those numbers every member is
standardised and the whole fused and calibrated, on the clips that all members know. The statistics of a clip are the
same in every bundle and would count once a member, so they are taken from one of them, as a member of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from typing import TYPE_CHECKING, get_args

import numpy as np

from edge_asd.bundle import (
    Golden,
    Manifest,
    Precision,
    golden_scores,
)
from edge_asd.errors import ConfigError
from edge_asd.score.backbone import Backbone
from edge_asd.score.detector import FLOOR
from edge_asd.score.head import LEAST_CLIPS, Fusion, Member, calibrated
from edge_asd.score.listener import Listener
from edge_asd.score.part import STATISTICS
from train.pack.merge import Piece, inputs, merged
from train.pack.plan import contributors
from train.pack.publish import Fitted, head_card, publish, timed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_asd.score.head import Head
    from edge_asd.score.listener import Embed
    from edge_asd.score.part import Part
    from edge_asd.signal.segment import Windows
    from edge_asd.signal.view import LogMel
    from train.pack.plan import Contributor, Plan

SHARED = "statistics"
"""member that the statistics of the clip make, whichever bundle they are from"""
BARE = frozenset({"fft", "waveform"})
"""views that are the same through every front end"""


@dataclass(frozen=True, slots=True)
class Share:
    """What one bundle adds to a head of the ensemble, under one name."""

    name: str
    member: Contributor
    columns: Sequence[int]
    """of the bundle's parts"""

    def standard(self, key: str) -> Member:
        """As the bundle fuses them, standardised by what that gave for its training clips."""
        head = self.member.bundle.heads[key]
        names = [head.names[column] for column in self.columns]
        plain = Member(head.fusion.rule, {name: w for name, w in head.fusion.weights.items() if name in names})
        scores = plain.fuse(names, self.z(key).astype(np.float64))
        return replace(plain, centre=float(scores.mean()), spread=max(float(scores.std()), FLOOR))

    def z(self, key: str) -> NDArray[np.float32]:
        """(P, N) what training clips scored, each left out."""
        return self.member.normals[key].z.T[list(self.columns)]

    def parts(self, key: str) -> list[Part]:
        """By the names they have in the ensemble."""
        return [_called(self.name, self.member.bundle.heads[key].parts[column]) for column in self.columns]


@dataclass(frozen=True, slots=True)
class Report:
    """What an ensemble came to."""

    path: Path
    manifest: Manifest
    left_out: tuple[str, ...]
    """machines that not every member knows"""

    def __str__(self) -> str:
        """For the command line."""
        heads, metrics = self.manifest.heads, self.manifest.metrics
        fusion = next(iter(heads.values())).fusion
        clips = ", ".join(f"{key} on {card.clips} clips" for key, card in heads.items())
        said = f"{self.path}: {fusion.rule} of {', '.join(fusion.members)}; {clips}\n"
        said += f"{self.path.stat().st_size / 1e6:.2f} MB"
        if self.manifest.backbone:
            said += f", {metrics['parameters']:,.0f} parameters; a segment {metrics['macs']:,.0f} MACs, "
            graphs = [graph for graph in get_args(Precision) if f"{graph}_ms" in metrics]
            said += " or ".join(f"{metrics[f'{graph}_ms']:.1f} ms in {graph}" for graph in graphs) + " on one core"
        said += f"; {metrics['memory_mb']:.0f} MB in a process that does nothing else"
        return f"{said}; not known to all: {', '.join(self.left_out)}" if self.left_out else said


def ensemble(plan: Plan, bundles: Sequence[str], out: Path, *, version: str = "1", licence: str = "") -> Report:
    """Write the ensemble of these bundles.

    Args:
        plan: which are fused, and how.
        bundles: paths, ``NAME=PATH`` where one has neither a member's name nor its method.
        out: the bundle to write.
        version: of it.
        licence: what may be done with it; what may be done with its members when empty.

    Raises:
        ConfigError: bundles are not those of the plan, or do not go together.
        BundleError: one cannot be opened, does not say what its training clips scored, or holds another kind of graph.
    """
    members = contributors(plan, bundles)
    whole = Assembly(plan, members)
    fitted, graphs = {key: whole.head(key) for key in whole.keys}, whole.graphs()
    precision: Precision = "int8" if "int8" in graphs or not graphs else "fp32"
    embed = Backbone(graphs[precision], whole.specs) if graphs else None
    golden = {key: whole.golden(key, fit.head, embed) for key, fit in fitted.items()}
    manifest = Manifest(
        name=out.stem,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=plan.name,
        precision=precision,
        licence=licence or "; ".join(dict.fromkeys(member.manifest.licence for member in members)),
        windows=whole.windows,
        front_end=whole.specs[""],
        front_ends={name: spec for name, spec in whole.specs.items() if name},
        backbone=bool(graphs),
        heads={key: head_card(fit, whole.windows) for key, fit in fitted.items()},
        metrics=whole.figures() | timed(graphs, whole.windows, whole.specs),
    )
    heads = {key: fit.head for key, fit in fitted.items()}
    sealed = publish(out, manifest, graphs, heads, golden, _card(plan, members, manifest))
    left_out = {key for member in members for key in member.bundle.heads} - set(whole.keys)
    return Report(out, sealed, tuple(sorted(left_out)))


# Making one of them ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assembly:
    """Members that go together."""

    plan: Plan
    members: Sequence[Contributor]

    @property
    def keys(self) -> list[str]:
        """Machines that all members know."""
        return [key for key in self.members[0].bundle.heads if all(key in each.bundle.heads for each in self.members)]

    @property
    def windows(self) -> Windows:
        """The same in all."""
        return self.members[0].manifest.windows

    @property
    def networks(self) -> list[Contributor]:
        """Members that have one."""
        return [member for member in self.members if member.graphs]

    @property
    def source(self) -> Contributor | None:
        """Whose statistics are taken: of a member that has nothing else, or of the first that fuses them."""
        key = self.keys[0]
        having = (member for member in self.members if member.counted(key, statistics=True))
        return min(having, key=lambda member: bool(member.counted(key, statistics=False)), default=None)

    # The graph

    @property
    def specs(self) -> dict[str, LogMel]:
        """Front ends by name; "" is that of the statistics or else the first member's, others are their members'."""
        found = {(self.source or self.members[0]).manifest.front_end: ""}
        for member in self.networks:
            for through in _fronts(member).values():
                found.setdefault(member.manifest.specs[through], f"{member.name}.{through}".rstrip("."))
        return {name: spec for spec, name in found.items()}

    def graphs(self) -> dict[Precision, bytes]:
        """That which heads belong to, and the full one where all members have theirs; none without a network."""
        if not self.networks:
            return {}
        own: dict[str, Precision] = {member.name: member.manifest.precision for member in self.networks}
        found: dict[Precision, bytes] = {"int8" if "int8" in own.values() else "fp32": self._merged(own)}
        if "fp32" not in found and all("fp32" in member.graphs for member in self.networks):
            found["fp32"] = self._merged(dict.fromkeys(own, "fp32"))
        return found

    def _merged(self, precisions: Mapping[str, Precision]) -> bytes:
        names = {spec: name for name, spec in self.specs.items()}
        pieces = []
        for member in self.networks:
            graph, heads = member.graphs[precisions[member.name]], member.bundle.heads
            views = {view: view for view in inputs(graph)}
            for view, through in _fronts(member).items():
                views[view] = f"{view.partition('.')[0]}.{names[member.manifest.specs[through]]}".rstrip(".")
            looked_at = {heads[k].parts[n].spec.feature for k in self.keys for n in member.counted(k, statistics=False)}
            pieces.append(Piece(member.name, graph, views, looked_at))
        return merged(pieces)

    def figures(self) -> dict[str, float]:
        """What is known of the networks: sums over the bundles'."""
        names = ("parameters", "macs") if self.networks else ()
        return {name: sum(member.manifest.metrics.get(name, 0.0) for member in self.networks) for name in names}

    # The heads

    def head(self, key: str) -> Fitted:
        """Of one machine: of the parts that members fuse, by the clips that all of them know."""
        rows, shares = self._rows(key), self._shares(key)
        parts = tuple(part for share in shares for part in share.parts(key))
        z = np.concatenate([share.z(key)[:, rows[share.member.name]] for share in shares]).astype(np.float64)
        members = self._standard(key, shares)
        try:
            fusion = Fusion(self.plan.rule, self._weights(key, list(members)) | self.plan.weights, members)
            fusion.over([part.spec.name for part in parts])
        except ValueError as error:
            msg = f"{self.plan.name}: {error}"
            raise ConfigError(msg) from error
        quietest, loudest = zip(*(each.manifest.heads[key].level_dbfs for each in self.members), strict=True)
        return Fitted(*calibrated(parts, z, fusion), z, (max(quietest), min(loudest)))

    def golden(self, key: str, head: Head, embed: Embed | None) -> Golden:
        """What the ensemble says of the first member's waveform."""
        waveform = self.members[0].bundle.golden[key].waveform
        return Golden(waveform, golden_scores(Listener(self.windows, self.specs[""], head, 1.0, embed), waveform))

    def _shares(self, key: str) -> list[Share]:
        """Statistics first, as in every bundle."""
        statistics = self.source.counted(key, statistics=True) if self.source else ()
        shares = [Share(SHARED, self.source, tuple(statistics))] if self.source else []
        for member in self.members:
            if columns := tuple(member.counted(key, statistics=False)):
                if member.name == SHARED:
                    msg = f"{member.bundle.path} has a network, and {SHARED} is what statistics are called; "
                    msg += f"call it otherwise: NAME={member.bundle.path}"
                    raise ConfigError(msg)
                shares.append(Share(member.name, member, columns))
            elif member is not self.source:
                msg = f"{member.bundle.path} has nothing but statistics, which are taken from "
                msg += f"{self.source.bundle.path if self.source else 'no other'}; leave it out"
                raise ConfigError(msg)
        return shares

    def _standard(self, key: str, shares: Sequence[Share]) -> dict[str, Member]:
        """By name. In a mean, statistics keep the scale that they have beside the network of their own bundle."""
        members = {share.name: share.standard(key) for share in shares}
        if self.source and self.plan.rule == "mean":
            spread = members[self.source.name].spread if self.source.name in members else 1.0
            members[SHARED] = replace(members[SHARED], spread=spread)
        return members

    def _weights(self, key: str, names: Sequence[str]) -> dict[str, float]:
        """1, but statistics weigh beside all networks what they weigh beside that of their bundle, or beside one."""
        weights = {name: self.plan.weights.get(name, 1.0) for name in names if name != SHARED}
        if self.source is None:
            return weights
        own, network = (sum(self.source.counted(key, statistics=which).values()) for which in (True, False))
        return weights | {SHARED: own / (network or 1.0) * sum(weights.values()) if weights else 1.0}

    def _rows(self, key: str) -> dict[str, NDArray[np.intp]]:
        """Which clips of each member all of them know, in one order."""
        known = [np.ascontiguousarray(member.normals[key].clip).view(np.uint64)[:, 0] for member in self.members]
        common = reduce(np.intersect1d, known)
        if len(common) < LEAST_CLIPS:
            counts = ", ".join(f"{member.name} {len(own)}" for member, own in zip(self.members, known, strict=True))
            msg = f"{key}: members share {len(common)} training clips ({counts}), a head needs {LEAST_CLIPS}; "
            msg += "fit them on the same recordings"
            raise ConfigError(msg)
        firsts = (np.intersect1d(own, common, return_indices=True)[1] for own in known)
        return dict(zip([member.name for member in self.members], firsts, strict=True))


def _fronts(member: Contributor) -> dict[str, str]:
    """View -> front end, by their names in the bundle; without views that are the same through all."""
    views = (view.partition(".") for view in inputs(member.graphs[member.manifest.precision]))
    return {f"{kind}{dot}{through}": through for kind, dot, through in views if kind not in BARE}


def _called(member: str, part: Part) -> Part:
    """A part by the names that it and its feature have in an ensemble."""
    spec = part.spec
    feature = spec.feature if spec.feature in STATISTICS else f"{member}.{spec.feature}"
    return replace(part, spec=replace(spec, name=f"{member}.{spec.name}", feature=feature))


def _card(plan: Plan, members: Sequence[Contributor], manifest: Manifest) -> str:
    """For people."""
    made_of = "\n".join(
        f"- {each.name}: {each.manifest.name} {each.manifest.version}, {each.manifest.method}, {each.bundle.digest}"
        for each in members
    )
    heads = "\n".join(f"- `{key}`: {card.clips} normal clips" for key, card in manifest.heads.items())
    return (
        f"# {manifest.name} {manifest.version}\n\nEnsemble, {plan.rule} of members standardised on training normals. "
        f"Licence: {manifest.licence}.\n\nMade of:\n\n{made_of}\n\nFitted on normal sound only:\n\n{heads}\n"
    )
