"""From a run to a bundle: graph, int8, heads, thresholds, golden vectors; all is fitted with the int8 graph."""

from __future__ import annotations

import io
import tempfile
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from edge_asd.bundle import (
    TOLERANCE,
    Golden,
    HeadCard,
    Manifest,
    Precision,
    Thresholds,
    golden_scores,
    open_bundle,
    write_bundle,
)
from edge_asd.errors import AudioError, BundleError, ConfigError
from edge_asd.score.backbone import Backbone
from edge_asd.score.calibration import alarm_threshold
from edge_asd.score.head import LEAST_CLIPS, fit_head
from edge_asd.score.listener import Listener, evidence
from edge_asd.score.part import NETWORK_PARTS, STATISTICS, STATISTICS_PARTS, Evidence, Normal
from edge_asd.signal.segment import segments
from train.data import load, normals
from train.run import Run, load_run, provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray
    from rich.progress import Progress

    from edge_asd.score.head import Head
    from edge_asd.score.listener import Embed
    from train.data import Clip
    from train.grhd import Embedder

OPSET = 18
CALIBRATION_SEGMENTS = 128
"""ONNX Runtime keeps all activations of all of them in memory: about 2 GB"""
PERCENTILE = 99.99
STEM, BOTTLENECKS = 2, 6
"""layers of the backbone before its bottlenecks, and how many of these there are (train/grhd.py)"""
GOLDEN_S = 2
ON_DELAY = 3
GAMMA_QUANTILE = 0.9
"""the DCASE decision rule: one normal clip in ten lies above (methods.md §5.3)"""


@dataclass(frozen=True, slots=True)
class Fitted:
    """One machine's head, by one graph."""

    head: Head
    scores: NDArray[np.float64]
    """(N,) leave-one-out fused scores of its normal clips"""
    level_dbfs: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Quantised:
    """The graphs of a run, and the heads fitted with the int8 one; no graphs without a network."""

    graphs: Mapping[Precision, bytes]
    fitted: Mapping[str, Fitted]
    moved: float | None
    floating: int


@dataclass(frozen=True, slots=True)
class Report:
    """What an export came to."""

    path: Path
    size: int
    heads: int
    left_out: tuple[str, ...]
    """machines with too few clips for a head"""
    moved: float | None
    """largest move of a training clip's fused score from fp32 to int8; None without a network"""
    floating: int
    """bottlenecks that stayed in float for its sake"""

    def __str__(self) -> str:
        """For the command line."""
        said = f"{self.path}: {self.heads} heads, {self.size / 1e6:.2f} MB"
        if self.moved is not None:
            said += f"; int8 moves a clip's z-score by at most {self.moved:.3f} (allowed {TOLERANCE})"
            said += f", with {self.floating} of {BOTTLENECKS} bottlenecks in float"
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


def export(folder: Path, out: Path, wish: Wish, progress: Progress) -> Report:
    """Write the bundle of a run.

    Raises:
        ConfigError: the run is not finished.
        AudioError: no machine has enough clips.
        BundleError: int8 moves a training clip's score beyond the tolerance.
    """
    run = load_run(folder)
    by_key = _chosen(_by_key(normals(run.data)), wish.heads)
    enough = {key: clips for key, clips in by_key.items() if len(clips) >= LEAST_CLIPS}
    if not enough:
        msg = f"no machine has {LEAST_CLIPS} normal clips: {', '.join(f'{k} {len(c)}' for k, c in by_key.items())}"
        raise AudioError(msg)
    backbone = _backbone(run, enough, progress)
    int8 = backbone.graphs.get("int8")
    golden = {key: _golden(run, int8, fit.head, enough[key]) for key, fit in backbone.fitted.items()}
    manifest = _manifest(run, out.stem, wish, backbone)
    heads = {key: fit.head for key, fit in backbone.fitted.items()}
    carried = {precision: graph for precision, graph in backbone.graphs.items() if wish.fp32 or precision == "int8"}
    write_bundle(out, manifest, carried, heads, golden, _card(run, manifest))
    for key in (bundle := open_bundle(out)).heads:
        bundle.scorer(key)  # as a device will
    left_out = tuple(sorted(set(by_key) - set(enough)))
    return Report(out, out.stat().st_size, len(heads), left_out, backbone.moved, backbone.floating)


# The graph ------------------------------------------------------------------------------------------------------------


def _backbone(run: Run, machines: Mapping[str, Sequence[Clip]], progress: Progress) -> Quantised:
    """As much in int8 as the tolerance allows: noise of early layers passes through all the others."""
    if run.recipe.training is None:
        return Quantised({}, _fit_heads(run, None, machines, progress), None, 0)
    from train.fit import load_embedder  # noqa: PLC0415 - a bundle without a network needs no torch

    full = to_onnx(load_embedder(run))
    calibration = list(_calibration(run, [clip for clips in machines.values() for clip in clips]))
    by_fp32 = _fit_heads(run, full, machines, progress)
    moves: dict[str, float] = {}
    for floating in range(0, BOTTLENECKS + 1, 2):
        small = quantised(full, calibration, floating)
        fitted = _fit_heads(run, small, machines, progress)
        moves = {key: float(np.abs(fitted[key].scores - by_fp32[key].scores).max()) for key in machines}
        progress.console.print(
            f"{floating} bottlenecks in float: int8 moves z-scores by up to {max(moves.values()):.3f}"
        )
        if max(moves.values()) <= TOLERANCE:
            return Quantised({"fp32": full, "int8": small}, fitted, max(moves.values()), floating)
    far = ", ".join(f"{key} {move:.3f}" for key, move in moves.items() if move > TOLERANCE)
    msg = f"int8 moves training clips' z-scores by up to {far}; allowed is {TOLERANCE}: train longer or on more clips"
    raise BundleError(msg)


def to_onnx(embedder: Embedder) -> bytes:
    """The attribute path as a graph of fixed shapes, batch 1; batch norms are folded."""
    import torch  # noqa: PLC0415 - see above

    from train.grhd import BANDS, FRAMES  # noqa: PLC0415

    views = (torch.zeros(1, BANDS, FRAMES), torch.zeros(1, 32_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        program = torch.onnx.export(
            embedder,
            views,
            input_names=["log_mel", "waveform"],
            output_names=["embedding"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        msg = "torch gave no graph"
        raise BundleError(msg)
    return bytes(program.model_proto.SerializeToString())


def quantised(graph: bytes, calibration: Iterable[Mapping[str, NDArray[np.float32]]], floating: int = 0) -> bytes:
    """Static QDQ int8: S8S8, weights per channel, symmetric, so that one file serves CPU and TensorRT (decision 5).

    The dense convolutions are quantised, but for those of the first ``floating`` bottlenecks. What always stays in
    float moves scores most and costs least (docs/lab.md): TgramNet, since eight bits of a raw waveform end 42 dB below
    full scale; the first convolution; the depthwise ones; the last. Activations are clipped at a percentile, not at
    their extremes. Weights keep seven bits, because AVX2 without VNNI saturates on eight (device.md §6.3).
    """
    import onnx  # noqa: PLC0415 - see above
    from onnxruntime import quantization  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        rows = iter(calibration)

        def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
            return next(self.rows, None)

    # ONNX Runtime tells standard output of every step
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        full, plain, small = (Path(folder) / f"{name}.onnx" for name in ("full", "plain", "small"))
        full.write_bytes(graph)
        quant_pre_process(full, plain, skip_symbolic_shape=True)
        quantization.quantize_static(
            plain,
            small,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_floating(onnx.load(plain), floating),
            extra_options={"ActivationSymmetric": True, "CalibPercentile": PERCENTILE},
        )
        return bytes(slim(onnx.load(small)).SerializeToString())


def _floating(model: onnx.ModelProto, bottlenecks: int) -> list[str]:
    """Convolutions that stay in float: TgramNet's, the first, the depthwise, the last, those of early bottlenecks."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    images = [node for node in convolutions if not node.input[1].startswith("tgram.")]
    grouped = [node for node in images if any(a.name == "group" and a.i > 1 for a in node.attribute)]
    tgram = [node for node in convolutions if node not in images]
    stages = tuple(f"backbone.{STEM + number}." for number in range(bottlenecks))
    early = [node for node in images if node.input[1].startswith(stages)] if stages else []
    return [node.name for node in (*tgram, images[0], *grouped, images[-1], *early)]


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in fewer bytes: large float weights stored in half precision and cast when loaded, no notes."""
    import onnx  # noqa: PLC0415 - see above
    from onnx import helper, numpy_helper  # noqa: PLC0415

    for node in model.graph.node:
        del node.metadata_props[:]
    for weight in [
        w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT and len(w.raw_data) > 4096
    ]:
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}.half")
        cast = helper.make_node("Cast", [half.name], [weight.name], to=onnx.TensorProto.FLOAT)
        model.graph.initializer.append(half)
        model.graph.initializer.remove(weight)
        model.graph.node.insert(0, cast)
    return model


def _calibration(run: Run, clips: Sequence[Clip]) -> Iterable[dict[str, NDArray[np.float32]]]:
    """Views of training segments, drawn evenly over clips."""
    from edge_asd.score.backbone import VIEWS  # noqa: PLC0415

    rng, recipe = np.random.default_rng(run.recipe.seed), run.recipe
    for number in rng.permutation(len(clips))[:CALIBRATION_SEGMENTS]:
        segment = rng.choice(segments(recipe.windows, load(clips[number], recipe.windows.sample_rate)))[None]
        yield {name: VIEWS[name](recipe.front_end, segment) for name in ("log_mel", "waveform")}


# The heads ------------------------------------------------------------------------------------------------------------


def _fit_heads(
    run: Run, graph: bytes | None, machines: Mapping[str, Sequence[Clip]], progress: Progress
) -> dict[str, Fitted]:
    parts = {**STATISTICS_PARTS, **(NETWORK_PARTS if graph else {})}
    heard_of = {spec.feature for spec in parts} - STATISTICS  # others would fill the memory unheard
    embed = Backbone(graph, run.recipe.front_end, outputs=heard_of) if graph else None
    fitted = {}
    for key, clips in progress.track(machines.items(), total=len(machines), description="fitting heads"):
        heard = [_normal(run, embed, clip) for clip in clips]
        levels = [normal.evidence.statistics.level for normal in heard]
        fitted[key] = Fitted(*fit_head(parts, heard), (min(levels), max(levels)))
    return fitted


def _normal(run: Run, embed: Embed | None, clip: Clip) -> Normal:
    return Normal(_evidence(run, embed, clip), clip.recording, clip.domain == "target", clip.attribute)


def _evidence(run: Run, embed: Embed | None, clip: Clip) -> Evidence:
    windows = run.recipe.windows
    return evidence(windows, run.recipe.front_end, embed, load(clip, windows.sample_rate))


def decision_threshold(scores: NDArray[np.float64]) -> float:
    """The 90 % point of a gamma fitted to training scores; of the scores themselves where none can be fitted."""
    floor = scores.min() - scores.std()  # fused scores may be negative, a gamma may not
    try:
        shape, _, scale = stats.gamma.fit(scores - floor, floc=0)
        return float(floor + stats.gamma.ppf(GAMMA_QUANTILE, shape, scale=scale))
    except (stats.FitError, ValueError):
        return float(np.quantile(scores, GAMMA_QUANTILE))


# The bundle -----------------------------------------------------------------------------------------------------------


def _golden(run: Run, graph: bytes | None, head: Head, clips: Sequence[Clip]) -> Golden:
    """A training clip, turned round by half its length and under faint noise, so that no bank holds it."""
    windows, rng = run.recipe.windows, np.random.default_rng(0)
    samples = np.resize(load(clips[0], windows.sample_rate), GOLDEN_S * windows.sample_rate)
    turned = np.roll(samples, samples.size // 2) + rng.normal(0.0, 0.003 * samples.std(), samples.size)
    waveform = np.clip(np.round(turned * 32_768), -32_768, 32_767).astype(np.int16)
    embed = Backbone(graph, run.recipe.front_end) if graph else None
    return Golden(waveform, golden_scores(Listener(windows, run.recipe.front_end, head, 1.0, embed), waveform))


def _manifest(run: Run, name: str, wish: Wish, backbone: Quantised) -> Manifest:
    alarm = alarm_threshold(run.recipe.windows.clip / run.recipe.windows.sample_rate, ON_DELAY)
    cards = {
        key: HeadCard(
            parts=tuple(part.spec for part in fit.head.parts),
            fusion=fit.head.fusion,
            thresholds=Thresholds(decision=decision_threshold(fit.scores), alarm=alarm, on_delay=ON_DELAY),
            clips=len(fit.scores),
            level_dbfs=fit.level_dbfs,
        )
        for key, fit in backbone.fitted.items()
    }
    moved = {} if backbone.moved is None else {"int8_moved_z": backbone.moved, "float_bottlenecks": backbone.floating}
    return Manifest(
        name=name,
        version=wish.version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=run.recipe.name,
        licence=wish.licence,
        windows=run.recipe.windows,
        front_end=run.recipe.front_end,
        backbone=bool(backbone.graphs),
        heads=cards,
        metrics=moved,
    )


def _card(run: Run, manifest: Manifest) -> str:
    """For people."""
    origin = provenance(run.folder)
    machines = "\n".join(
        f"- `{key}`: {card.clips} normal clips, {card.level_dbfs[0]:.1f} to {card.level_dbfs[1]:.1f} dBFS"
        for key, card in manifest.heads.items()
    )
    return (
        f"# {manifest.name} {manifest.version}\n\nMethod: {manifest.method}, seed {run.recipe.seed}. "
        f"Licence: {manifest.licence}.\n\nFitted on normal sound only:\n\n{machines}\n\n"
        f"Code: {origin['commit']}. Data: {origin['data_digest']}.\n"
    )


def _chosen(machines: dict[str, list[Clip]], heads: Sequence[str]) -> dict[str, list[Clip]]:
    if unknown := set(heads) - set(machines):
        msg = f"no machine {', '.join(sorted(unknown))}; the run knows {', '.join(machines)}"
        raise ConfigError(msg)
    return {key: clips for key, clips in machines.items() if not heads or key in heads}


def _by_key(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        found.setdefault(clip.key, []).append(clip)
    return found
