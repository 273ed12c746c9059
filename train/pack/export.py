"""From a run to a bundle: graph, int8, heads, thresholds, golden vectors; all is fitted with the int8 graph."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.bundle import (
    TOLERANCE,
    Golden,
    Manifest,
    Normals,
    Precision,
    golden_scores,
)
from edge_asd.errors import AudioError, BundleError, ConfigError
from edge_asd.score.backbone import Backbone, view
from edge_asd.score.head import LEAST_CLIPS, Fusion, calibrated, fit_parts
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.part import STATISTICS, STATISTICS_PARTS, Evidence, Normal, PartSpec
from edge_asd.signal.segment import segments
from train.corpus.clip import checked, load, normals
from train.method import catalogue
from train.method.backend import backend
from train.pack.publish import Fitted, head_card, publish, timed
from train.teach.recipe import PartWish
from train.teach.run import Run, load_run, provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.progress import Progress

    from edge_asd.score.detector import Backend
    from edge_asd.score.head import Head
    from edge_asd.score.listener import Embed
    from train.corpus.clip import Clip
    from train.method.task import Task

CALIBRATION_SEGMENTS = 128
"""ONNX Runtime keeps all activations of all of them in memory: about 2 GB"""
GOLDEN_S = 2


@dataclass(frozen=True, slots=True)
class Graphs:
    """The graphs of a run, and the heads fitted with the one that the recipe names; none without a network."""

    graphs: Mapping[Precision, bytes]
    fitted: Mapping[str, Fitted]
    figures: Mapping[str, float]
    """what is known of the graph, by name"""


@dataclass(frozen=True, slots=True)
class Report:
    """What an export came to."""

    path: Path
    size: int
    heads: int
    left_out: tuple[str, ...]
    """machines with too few clips for a head"""
    figures: Mapping[str, float]
    """of the graph: ``int8_moved_z``, the largest move of a training clip's fused score from fp32 to int8, …"""

    def __str__(self) -> str:
        """For the command line."""
        said = f"{self.path}: {self.heads} heads, {self.size / 1e6:.2f} MB"
        if (moved := self.figures.get("int8_moved_z")) is not None:
            said += f"; int8 moves a clip's z-score by at most {moved:.3f} (allowed {TOLERANCE})"
            said += f", with {self.figures['float_layers']:.0f} of {self.figures['layers']:.0f} layers in float"
        if self.left_out:
            said += f"; too few clips for a head: {', '.join(self.left_out)}"
        return said


@dataclass(frozen=True, slots=True)
class Wish:
    """What a bundle is to be."""

    version: str
    licence: str
    heads: tuple[str, ...] = ()
    """machines; all that have clips enough when empty"""
    fp32: bool = True
    """carry the full graph too, for diagnosis"""
    backends: tuple[str, ...] = ()
    """further back ends, ``NAME`` or ``OUTPUT:NAME``, shown beside the recipe's and not fused"""
    data: tuple[Path, ...] = ()
    """data sets whose machines get heads, which the network need not have met; the run's own when empty"""


def export(folder: Path, out: Path, wish: Wish, progress: Progress) -> Report:
    """Write the bundle of a run.

    Raises:
        ConfigError: the run is not finished.
        AudioError: no machine has enough clips.
        BundleError: int8 moves a training clip's score beyond the tolerance.
    """
    run = load_run(folder)
    by_key = _chosen(_by_key(_heard_of(run, wish)), wish.heads)
    enough = {key: clips for key, clips in by_key.items() if len(clips) >= LEAST_CLIPS}
    if not enough:
        msg = f"no machine has {LEAST_CLIPS} normal clips: {', '.join(f'{k} {len(c)}' for k, c in by_key.items())}"
        msg += "; record more"
        raise AudioError(msg)
    backbone = _backbone(run, wish, enough, progress)
    graph = backbone.graphs.get(run.recipe.precision)
    golden = {key: _golden(run, graph, fit.head, enough[key]) for key, fit in backbone.fitted.items()}
    manifest = _manifest(run, out.stem, wish, backbone)
    heads = {key: fit.head for key, fit in backbone.fitted.items()}
    carried = {
        precision: graph
        for precision, graph in backbone.graphs.items()
        if wish.fp32 or precision == run.recipe.precision
    }
    known = {
        key: Normals(fit.z.T.astype(np.float32), _fingerprints(enough[key])) for key, fit in backbone.fitted.items()
    }
    publish(out, manifest, carried, heads, golden, _card(run, wish, manifest), known)
    left_out = tuple(sorted(set(by_key) - set(enough)))
    return Report(out, out.stat().st_size, len(heads), left_out, backbone.figures)


# The graph ------------------------------------------------------------------------------------------------------------


def _backbone(run: Run, wish: Wish, machines: Mapping[str, Sequence[Clip]], progress: Progress) -> Graphs:
    """The graph that the recipe wants heads to be fitted with, and what is known of it."""
    if run.recipe.method == catalogue.NETWORKLESS:
        fitting = Fitting(run, None, wish, machines, progress)
        return Graphs({}, fitting.heads(None, every=True), {})
    # a bundle without a network needs no torch
    from train.pack.graph import macs, to_onnx  # noqa: PLC0415
    from train.teach.fit import load_network  # noqa: PLC0415

    embedder, task = load_network(run)
    full = to_onnx(embedder, task)
    figures = {
        "parameters": float(sum(weight.numel() for weight in embedder.parameters())),
        "macs": float(macs(full)),
    }
    fitting = Fitting(run, task, wish, machines, progress)
    graphs: dict[Precision, bytes] = {"fp32": full}
    if run.recipe.precision == "int8":
        graphs["int8"], moved = _quantised(fitting, full)
        figures |= moved
    return Graphs(
        graphs,
        fitting.heads(graphs[run.recipe.precision], every=True),
        figures | timed(graphs, run.recipe.windows, run.recipe.specs),
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """A quantised graph, and how far it moves a training clip's fused score."""

    floating: int
    """layers left in float, from the input on"""
    graph: bytes
    moves: Mapping[str, float]
    """by machine"""

    @property
    def holds(self) -> bool:
        """Whether it keeps to the tolerance."""
        return max(self.moves.values()) <= TOLERANCE


def _quantised(fitting: Fitting, full: bytes) -> tuple[bytes, dict[str, float]]:
    """As much in int8 as the tolerance allows: noise of early layers passes through all the others."""
    from train.pack.graph import layers, plain_graph, quantised  # noqa: PLC0415 - see above

    clips = [clip for clips in fitting.machines.values() for clip in clips]
    by_fp32 = fitting.heads(full)
    calibration, count = list(_calibration(fitting.run, full, clips)), len(layers(plain_graph(full)))

    def attempt(floating: int) -> Trial:
        graph = quantised(full, calibration, floating)
        fitted = fitting.heads(graph)
        moves = {key: float(np.abs(one.scores - by_fp32[key].scores).max()) for key, one in fitted.items()}
        said = f"{floating} of {count} layers in float: int8 moves z-scores by up to {max(moves.values()):.3f}"
        fitting.progress.console.print(said)
        return Trial(floating, graph, moves)

    best = attempt(0)
    if not best.holds:
        low, best = 0, attempt(count)
        while best.floating - low > 1:  # the more in float, the smaller the move, nearly always
            tried = attempt((low + best.floating) // 2)
            low, best = (low, tried) if tried.holds else (tried.floating, best)
    if not best.holds:
        far = ", ".join(f"{key} {move:.3f}" for key, move in best.moves.items() if move > TOLERANCE)
        msg = (
            f"int8 moves training clips' z-scores by up to {far}; allowed is {TOLERANCE}: train longer or on more clips"
        )
        raise BundleError(msg)
    moved = max(best.moves.values())
    return best.graph, {"int8_moved_z": moved, "layers": count, "float_layers": best.floating}


def _calibration(run: Run, graph: bytes, clips: Sequence[Clip]) -> Iterable[dict[str, NDArray[np.float32]]]:
    """Views of training segments, drawn evenly over clips."""
    rng, recipe, views = np.random.default_rng(run.recipe.seed), run.recipe, Backbone(graph, run.recipe.specs).views
    for number in rng.permutation(len(clips))[:CALIBRATION_SEGMENTS]:
        segment = rng.choice(segments(recipe.windows, load(clips[number], recipe.windows.sample_rate)))[None]
        yield {name: view(name, recipe.specs, segment) for name in views}


# The heads ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fitting:
    """What heads are fitted of, whatever the graph."""

    run: Run
    task: Task | None
    """what the network was built for; None without one"""
    wish: Wish
    machines: Mapping[str, Sequence[Clip]]
    progress: Progress

    def heads(self, graph: bytes | None, *, every: bool = False) -> dict[str, Fitted]:
        """A head for every machine, by this graph; without the parts that are shown only unless every one is wanted."""
        wanted = {part.feature for part in self._wishes(every=every)}  # other outputs would fill the memory unheard
        embed = Backbone(graph, self.run.recipe.specs, outputs=wanted - STATISTICS) if graph else None
        shown = self.progress.track(self.machines.items(), total=len(self.machines), description="fitting heads")
        return {key: self._head(key, [_normal(self.run, embed, clip) for clip in clips], every) for key, clips in shown}

    def _head(self, key: str, heard: Sequence[Normal], every: bool) -> Fitted:  # noqa: FBT001 - private, said once
        levels, parts = [normal.evidence.statistics.level for normal in heard], self._parts(key, every)
        wish = self.run.recipe.fusion
        weights = wish.weights | {part.name: 0.0 for part in self._further()}
        there = {spec.name for spec in parts}
        fusion = Fusion(wish.rule, {name: weight for name, weight in weights.items() if every or name in there})
        fitted, z = fit_parts(parts, heard, fusion)
        return Fitted(*calibrated(fitted, z, fusion), z, (min(levels), max(levels)))

    def _parts(self, key: str, every: bool) -> dict[PartSpec, Backend]:  # noqa: FBT001 - same
        parts = dict(STATISTICS_PARTS) if self.run.recipe.statistics else {}
        for part in self._wishes(every=every):
            own = np.flatnonzero(self.task.own(part.feature, key)) if self.task else ()
            learner = backend(part.backend, tuple(map(int, own)))
            parts[PartSpec(part.name, part.feature, learner.detector)] = learner
        return parts

    def _wishes(self, *, every: bool) -> tuple[PartWish, ...]:
        recipe = self.run.recipe
        fused = tuple(part for part in recipe.parts if recipe.fusion.weights.get(part.name, 1.0))
        return recipe.parts + self._further() if every else fused

    def _further(self) -> tuple[PartWish, ...]:
        """Back ends that were asked for beside the recipe's, on the output named or else its first part's."""
        if self.wish.backends and not self.run.recipe.parts:
            msg = f"{self.run.recipe.name} has no network for {', '.join(self.wish.backends)}; leave out --backend"
            raise ConfigError(msg)
        asked = [(feature, name) for feature, _, name in (text.rpartition(":") for text in self.wish.backends)]
        return tuple(
            PartWish(
                name=f"{feature or self.run.recipe.parts[0].name}.{name}",
                feature=feature or self.run.recipe.parts[0].feature,
                backend=name,
            )
            for feature, name in asked
        )


def _normal(run: Run, embed: Embed | None, clip: Clip) -> Normal:
    return Normal(_evidence(run, embed, clip), clip.recording, clip.domain == "target", clip.attribute)


def _evidence(run: Run, embed: Embed | None, clip: Clip) -> Evidence:
    windows = run.recipe.windows
    return evidence(windows, run.recipe.front_end, embed, load(clip, windows.sample_rate))


# The bundle -----------------------------------------------------------------------------------------------------------


def _fingerprints(clips: Sequence[Clip]) -> NDArray[np.uint8]:
    """(N, 8) by which a clip is known to other runs: of its file, and of the channel where one was chosen."""
    contents = (clip.path.read_bytes() + (f" {clip.channel}" if clip.channel else "").encode() for clip in clips)
    return np.array([list(hashlib.sha256(content).digest()[:8]) for content in contents], np.uint8)


def _golden(run: Run, graph: bytes | None, head: Head, clips: Sequence[Clip]) -> Golden:
    """A training clip, turned round by half its length and under faint noise, so that no bank holds it."""
    windows, rng = run.recipe.windows, np.random.default_rng(0)
    samples = np.resize(load(clips[0], windows.sample_rate), GOLDEN_S * windows.sample_rate)
    turned = np.roll(samples, samples.size // 2) + rng.normal(0.0, 0.003 * samples.std(), samples.size)
    waveform = np.clip(np.round(turned * 32_768), -32_768, 32_767).astype(np.int16)
    embed = Backbone(graph, run.recipe.specs) if graph else None
    return Golden(waveform, golden_scores(Listener(windows, run.recipe.front_end, head, 1.0, embed), waveform))


def _manifest(run: Run, name: str, wish: Wish, backbone: Graphs) -> Manifest:
    return Manifest(
        name=name,
        version=wish.version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=run.recipe.name,
        precision=run.recipe.precision if backbone.graphs else "int8",
        licence=wish.licence,
        windows=run.recipe.windows,
        front_end=run.recipe.front_end,
        front_ends=run.recipe.front_ends,
        backbone=bool(backbone.graphs),
        heads={key: head_card(fit, run.recipe.windows) for key, fit in backbone.fitted.items()},
        metrics=dict(backbone.figures),
    )


def _card(run: Run, wish: Wish, manifest: Manifest) -> str:
    """For people."""
    origin = provenance(run.folder)
    met = f"The network was trained on other machines, {origin['clips']} clips; the heads:\n\n" if wish.data else ""
    machines = "\n".join(
        f"- `{key}`: {card.clips} normal clips, {card.level_dbfs[0]:.1f} to {card.level_dbfs[1]:.1f} dBFS"
        for key, card in manifest.heads.items()
    )
    return (
        f"# {manifest.name} {manifest.version}\n\nMethod: {manifest.method}, seed {run.recipe.seed}. "
        f"Licence: {manifest.licence}.\n\n{met}Fitted on normal sound only:\n\n{machines}\n\n"
        f"Code: {origin['commit']}. Data: {origin['data_digest']}.\n"
    )


def _heard_of(run: Run, wish: Wish) -> list[Clip]:
    """The normal clips that heads are fitted with, each read once."""
    if not wish.data:
        return run.clips()
    return checked(normals(wish.data, channel=run.channel), skip_broken=run.skip_broken)


def _chosen(machines: dict[str, list[Clip]], heads: Sequence[str]) -> dict[str, list[Clip]]:
    if unknown := set(heads) - set(machines):
        msg = f"no machine {', '.join(sorted(unknown))}; there are {', '.join(machines)}"
        raise ConfigError(msg)
    return {key: clips for key, clips in machines.items() if not heads or key in heads}


def _by_key(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        found.setdefault(clip.key, []).append(clip)
    return found
