"""The one file that travels from ``train`` to a device (architecture, decision 4).

``NAME.asd`` is a stored zip: ``manifest.json``, ``heads.safetensors``, ``golden.safetensors``, ``CARD.md`` and,
when there is a network, ``backbone.int8.onnx`` and for diagnosis ``backbone.fp32.onnx``; where somebody vouches for it,
``manifest.sig``. No pickle, no code. Opening it checks every digest, and the signature where that is asked for; asking
it for a head replays that head's golden waveform. What its training clips scored, in ``normals.safetensors``, is for
who fuses bundles into an ensemble; a device learns from it what they are called.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    model_validator,
)
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_asd.archive import read_archive, store
from edge_asd.errors import BundleCorrupt, BundleError, GoldenMismatch, HeadUnknown
from edge_asd.score.backbone import Backbone
from edge_asd.score.calibration import QUANTILES, Calibration
from edge_asd.score.head import Fusion, Head
from edge_asd.score.listener import Listener
from edge_asd.score.part import DETECTORS, STATISTICS, Part, PartSpec
from edge_asd.score.provider import CPU
from edge_asd.signal.segment import Windows
from edge_asd.signal.view import LogMel
from edge_asd.signature import LONGEST, SIGNATURE, read_seal, sign

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge_asd.score.provider import Provider
    from edge_asd.signature import Seal, Trust

    Tensors = Mapping[str, NDArray[np.generic]]

BUILTIN = Path(__file__).parent / "builtin.asd"
"""The bundle in the package: learned from rendered machines only (decision 13)."""
MANIFEST, HEADS, GOLDEN, CARD = "manifest.json", "heads.safetensors", "golden.safetensors", "CARD.md"
NORMALS = "normals.safetensors"
LIMITS: Mapping[str, int] = {MANIFEST: 4 * 2**20, SIGNATURE: LONGEST}
"""bytes of what is read before anybody vouches for it"""
TOLERANCE = 0.1
"""how far a z-score may move between graphs, providers and machines (decision 5)"""
Precision = Literal["int8", "fp32"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SEVERAL_DAYS, SEVERAL_CLIPS = 5, 50
"""a head that knows fewer takes another day for a little strange, all day long (docs/lab.md)"""


class Thresholds(_Table):
    """Where normal ends."""

    decision: float
    """fused score above which the DCASE rule says anomalous: 90 % of a gamma fitted to training scores"""
    alarm: float = Field(gt=0)
    """surprise each of ``on_delay`` clips must reach"""
    on_delay: int = Field(default=3, ge=1)
    """clips in a row the alarm threshold was set for"""
    false_alarms_per_week: float = Field(default=1.0, gt=0)
    """what it was set for, if clips were independent"""

    def alarm_for(self, on_delay: int) -> float:
        """The alarm threshold for another on-delay: surprises of clips in a row add up."""
        return self.alarm * self.on_delay / on_delay


class HeadCard(_Table):
    """One machine the bundle knows."""

    parts: tuple[PartSpec, ...] = Field(min_length=1)
    thresholds: Thresholds
    clips: int = Field(ge=1)
    """normal clips it was fitted on"""
    level_dbfs: tuple[float, float]
    """quietest and loudest of them"""
    days: int = Field(default=1, ge=1, exclude=True)
    """on which they were heard; only what was learned on a device tells, and is not taken elsewhere for it"""
    fusion: Fusion = Field(default=Fusion(), exclude_if=lambda fusion: fusion == Fusion())
    """how the parts become one score; left out where it is the usual way, as bundles did that knew no other"""

    @property
    def knows_days(self) -> bool:
        """How days differ is part of what it takes for normal."""
        return self.days >= SEVERAL_DAYS and self.clips >= SEVERAL_CLIPS

    @field_serializer("fusion", mode="wrap")
    def _without_what_came_later(self, fusion: Fusion, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Of an ensemble alone, so that the digests of other bundles hold."""
        written: dict[str, Any] = dump(fusion)
        return {name: value for name, value in written.items() if name != "members" or value}

    @model_validator(mode="after")
    def _of_one_piece(self) -> HeadCard:
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names) or any("/" in name or not name for name in names):
            msg = f"parts need names that differ and hold no '/', got {names}"
            raise ValueError(msg)
        self.fusion.over(names)
        return self


class Manifest(_Table):
    """What a bundle says of itself."""

    schema_: Literal["edge_asd.bundle/1"] = Field(default="edge_asd.bundle/1", alias="schema")
    name: str
    version: str
    created: str
    method: str
    licence: str
    """what may be done with it, and why"""
    windows: Windows
    front_end: LogMel
    front_ends: dict[str, LogMel] = Field(default={}, exclude_if=lambda others: not others)
    """further ones, through which the network looks, by name"""
    backbone: bool
    """whether there is a network"""
    precision: Precision = Field(default="int8", exclude_if=lambda precision: precision == "int8")
    """of the graph that heads, golden vectors and thresholds belong to; left out where it is the usual one"""
    heads: dict[str, HeadCard] = Field(min_length=1)
    """by machine identity, ``set/machine/section``"""
    metrics: dict[str, float] = {}
    """measured at export, by name"""
    files: dict[str, str] = {}
    """SHA-256 of every other file"""

    @field_serializer("front_end", mode="wrap")
    def _without_what_came_later(self, front_end: LogMel, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A field that bundles did not have is not written at its default, so that their digests hold."""
        written: dict[str, Any] = dump(front_end)
        return {name: value for name, value in written.items() if (name, value) != ("scale", "htk")}

    @property
    def specs(self) -> dict[str, LogMel]:
        """All front ends by name; the bundle's own is ""."""
        return {"": self.front_end, **self.front_ends}

    @model_validator(mode="after")
    def _of_one_piece(self) -> Manifest:
        for spec in self.specs.values():
            if spec.sample_rate != self.windows.sample_rate:
                msg = f"windows are at {self.windows.sample_rate} hertz, a front end at {spec.sample_rate}"
                raise ValueError(msg)
        for key, card in self.heads.items():
            if not self.backbone and any(part.feature not in STATISTICS for part in card.parts):
                msg = f"head {key} listens to a network, and there is none"
                raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class Golden:
    """What one head said of one waveform where the bundle was exported."""

    waveform: NDArray[np.int16]
    """(L,)"""
    z: NDArray[np.float64]
    """fused score, then each part's"""


@dataclass(frozen=True, slots=True)
class Normals:
    """What the N normal clips that one head was fitted on scored, each left out."""

    z: NDArray[np.float32]
    """(N, P), a column a part, in the card's order"""
    clip: NDArray[np.uint8]
    """(N, 8) the first bytes of the SHA-256 of each clip's file"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: digests hold, manifest read, network loaded."""

    path: Path
    digest: str
    """SHA-256 of the manifest, which holds all others"""
    manifest: Manifest
    backbone: Backbone | None
    precision: Precision
    heads: Mapping[str, Head]
    golden: Mapping[str, Golden]
    signer: str | None = None
    """id of the trusted key that signed it; None where nobody did, or nobody asked"""

    def key(self, name: str | None) -> str:
        """The head meant by a name; None will do when there is only one.

        Raises:
            HeadUnknown: no such head, or several to choose from.
        """
        if name in self.heads:
            return str(name)
        if name is None and len(self.heads) == 1:
            return next(iter(self.heads))
        wanted = "no head was named" if name is None else f"no head {name!r}"
        msg = f"{self.path}: {wanted}; choose one of {', '.join(self.heads)}"
        raise HeadUnknown(msg)

    def scorer(self, name: str | None = None) -> Listener:
        """A listener for one machine, its golden waveform replayed.

        Raises:
            HeadUnknown: no such head, or several to choose from.
            GoldenMismatch: this machine computes other numbers than the one that exported.
        """
        key = self.key(name)
        listener = self.listener(key)
        self._replay(key, listener)
        return listener

    def prove(self) -> None:
        """Replay every head's golden waveform.

        Raises:
            GoldenMismatch: this machine computes other numbers than the one that exported.
        """
        for key in self.heads:
            self.scorer(key)

    def listener(self, key: str) -> Listener:
        """A listener that has not been put to the test."""
        alarm = self.manifest.heads[key].thresholds.alarm
        return Listener(self.manifest.windows, self.manifest.front_end, self.heads[key], alarm, self.backbone)

    def _replay(self, key: str, listener: Listener) -> None:
        golden = self.golden[key]
        z = golden_scores(listener, golden.waveform)
        moved = np.abs(z - golden.z)
        # a score far from normal is known only as well as its size allows
        diagnosis = (
            self.backbone is not None and self.precision != self.manifest.precision
        )  # another graph gives other numbers
        if not diagnosis and not (moved <= TOLERANCE + 0.01 * np.abs(golden.z)).all():
            msg = (
                f"{self.path}: head {key!r} scores its golden waveform {np.round(z, 3).tolist()} here, "
                f"{np.round(golden.z, 3).tolist()} where it was exported (tolerance {TOLERANCE}); "
                "export it again or report this machine's processor"
            )
            raise GoldenMismatch(msg)


def golden_scores(listener: Listener, waveform: NDArray[np.int16]) -> NDArray[np.float64]:
    """Fused score and part scores of a golden waveform."""
    verdict = listener.score((waveform / 32_768).astype(np.float32))
    return np.array([verdict.score, *(part.z for part in verdict.parts)])


@dataclass(frozen=True, slots=True)
class Contents:
    """What lies in a bundle: digests hold, nothing is unpacked."""

    manifest: Manifest
    files: dict[str, bytes]
    """all others by name, without the signature"""
    signer: str | None
    """id of the trusted key that signed it; None where nobody did, or nobody asked"""


class Opens(Protocol):
    """Opens and verifies a bundle: :func:`open_bundle`, or an engine that finds out what best computes it here."""

    def __call__(self, path: Path, *, trust: Trust | None = None) -> Bundle:
        """Raises what :func:`open_bundle` raises."""


def open_bundle(
    path: Path,
    precision: Precision | None = None,
    trust: Trust | None = None,
    provider: Provider = CPU,
    threads: int = 1,
) -> Bundle:
    """Open and verify a bundle, with the graph its heads belong to or, for diagnosis, another.

    Who trusts somebody has the signature looked at before anything else in it; a person's own file needs none.

    Raises:
        BundleError: it is missing, no bundle, or of another schema.
        BundleCorrupt: a file is not what the manifest says.
        BundleUntrusted: nobody who is trusted signed it.
    """
    found = read_contents(path, trust)
    manifest, files = found.manifest, found.files
    precision = precision or manifest.precision
    graph = files.get(f"backbone.{precision}.onnx")
    if manifest.backbone and graph is None:
        msg = f"{path}: holds no {precision} backbone; it has {sorted(n for n in files if n.endswith('.onnx'))}"
        raise BundleError(msg)
    outputs = {part.feature for card in manifest.heads.values() for part in card.parts} - STATISTICS
    backbone = Backbone(graph, manifest.specs, threads, outputs, provider) if graph is not None else None
    widths = feature_widths(manifest, backbone)
    try:
        tensors, golden = _tensors(files[HEADS]), _tensors(files[GOLDEN])
        normals = _tensors(files[NORMALS]) if NORMALS in files else {}
        heads = {
            key: unpack_head(key, card, tensors, widths, _unpack_clips(key, card, normals))
            for key, card in manifest.heads.items()
        }
        goldens = {key: _unpack_golden(key, card, golden) for key, card in manifest.heads.items()}
    except (KeyError, SafetensorError, ValueError) as error:
        msg = f"{path}: heads or golden vectors cannot be used ({error}); export the bundle again"
        raise BundleError(msg) from error
    return Bundle(path, manifest_digest(manifest), manifest, backbone, precision, heads, goldens, found.signer)


def read_contents(path: Path, trust: Trust | None = None) -> Contents:
    """What lies in a bundle, verified but not opened; raises what :func:`open_bundle` does."""
    return _contents(path, _read(path), trust)


def read_bundle(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest of a bundle and its other files by name, verified; raises what :func:`open_bundle` does."""
    found = read_contents(path)
    return found.manifest, found.files


def read_seal_of(path: Path) -> Seal | None:
    """The signature in a bundle, unproven; None without one."""
    seal = _read(path).get(SIGNATURE)
    return None if seal is None else read_seal(path, seal)


def sign_bundle(path: Path, private: Path, out: Path) -> None:
    """Write a bundle again with the signature of a private key in place of any before.

    Raises:
        BundleError: it is none, or damaged: nobody should vouch for it.
        ConfigError: the private key cannot be used.
    """
    files = _read(path)
    _contents(path, files, None)
    store(out, files | {SIGNATURE: sign(files[MANIFEST], private)})


def read_normals(path: Path) -> dict[str, Normals]:
    """By head.

    Raises:
        BundleError: it is missing, no bundle, of another schema, or holds none or what is none.
        BundleCorrupt: a file is not what the manifest says.
    """
    manifest, files = read_bundle(path)
    if NORMALS not in files:
        msg = f"{path}: does not say what its training clips scored, as bundles did not always; export it again"
        raise BundleError(msg)
    try:
        tensors = _tensors(files[NORMALS])
        return {key: _unpack_normals(key, card, tensors) for key, card in manifest.heads.items()}
    except (KeyError, SafetensorError, ValueError) as error:
        msg = f"{path}: {NORMALS} cannot be used ({error}); export the bundle again"
        raise BundleError(msg) from error


def write_bundle(
    path: Path,
    manifest: Manifest,
    graphs: Mapping[Precision, bytes],
    heads: Mapping[str, Head],
    golden: Mapping[str, Golden],
    card: str,
    normals: Mapping[str, Normals] | None = None,
) -> Manifest:
    """Write a bundle whole or not at all; the manifest comes back with its digests."""
    tensors = {name: array for key, head in heads.items() for name, array in pack_head(key, head).items()}
    vectors = {f"{k}/{n}": v for k, g in golden.items() for n, v in (("waveform", g.waveform), ("z", g.z))}
    files = {HEADS: save(tensors), GOLDEN: save(vectors), CARD: card.encode()}
    files |= {f"backbone.{precision}.onnx": graph for precision, graph in graphs.items()}
    if normals:
        known = {f"{k}/{n}": v for k, own in normals.items() for n, v in (("z", own.z), ("clip", own.clip))}
        files[NORMALS] = save({name: np.ascontiguousarray(value) for name, value in known.items()})
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    sealed = manifest.model_copy(update={"files": digests})
    files[MANIFEST] = (json.dumps(sealed.model_dump(mode="json", by_alias=True), indent=1) + "\n").encode()
    store(path, files)
    return sealed


def feature_widths(manifest: Manifest, backbone: Backbone | None) -> dict[str, int | None]:
    """How long the vectors are that parts look at, by feature; None where the graph leaves it open."""
    return {"indicators": 3, "spectrum": 2 * manifest.front_end.n_mels, **(backbone.widths if backbone else {})}


def manifest_digest(manifest: Manifest) -> str:
    """What a bundle is known by."""
    return hashlib.sha256(manifest.model_dump_json(by_alias=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, bytes]:
    try:
        return read_archive(path, LIMITS)
    except FileNotFoundError as error:
        msg = f"no bundle at {path}; export one with: python -m train export RUN --out {path}"
        raise BundleError(msg) from error


def _contents(path: Path, read: Mapping[str, bytes], trust: Trust | None) -> Contents:
    files = dict(read)
    text, seal = files.pop(MANIFEST, b""), files.pop(SIGNATURE, None)
    signer = trust.signer(path, text, seal) if trust else None
    manifest = _manifest(path, text)
    _verify(path, manifest, files)
    return Contents(manifest, files, signer)


def _manifest(path: Path, text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or MANIFEST
        msg = f"{path}: manifest not understood at {place}: {first['msg'].lower()}; was it exported by another version?"
        raise BundleError(msg) from error


def _verify(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    if extra := set(files) ^ set(manifest.files):
        msg = f"{path}: files and manifest disagree about {', '.join(sorted(extra))}; copy the bundle here again"
        raise BundleCorrupt(msg)
    for name, expected in manifest.files.items():
        if (found := hashlib.sha256(files[name]).hexdigest()) != expected:
            msg = f"{path}: {name} has digest {found[:12]}…, the manifest says {expected[:12]}…; copy it here again"
            raise BundleCorrupt(msg)


def _tensors(content: bytes) -> dict[str, NDArray[Any]]:
    """Loaded; ValueError where one holds NaN or infinity."""
    tensors: dict[str, NDArray[Any]] = load(content)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            msg = f"{name} holds NaN or infinity"
            raise ValueError(msg)
    return tensors


def pack_head(key: str, head: Head) -> dict[str, NDArray[np.generic]]:
    """A head as named tensors."""
    c = head.calibration
    packed: dict[str, NDArray[np.generic]] = {
        f"{key}/body": c.body,
        f"{key}/tail": np.array([c.excess, c.excesses]),
    }
    for part in head.parts:
        prefix = f"{key}/{part.spec.name}"
        arrays = {name: getattr(part.detector, name) for name in part.detector.AXES}
        arrays |= {"feature_mean": part.mean, "feature_deviation": part.deviation}
        arrays["centre"] = np.array([part.centre, part.spread])
        packed |= {f"{prefix}/{name}": np.ascontiguousarray(value) for name, value in arrays.items()}
    return packed


def _unpack_golden(key: str, card: HeadCard, tensors: Tensors) -> Golden:
    waveform = _sized(tensors, f"{key}/waveform", "L", {})
    return Golden(waveform.astype(np.int16), _sized(tensors, f"{key}/z", "Z", {"Z": 1 + len(card.parts)}))


def _unpack_normals(key: str, card: HeadCard, tensors: Tensors) -> Normals:
    sizes = {"N": card.clips, "P": len(card.parts), "8": 8}
    z, clip = _sized(tensors, f"{key}/z", "NP", sizes), _sized(tensors, f"{key}/clip", "N8", sizes)
    return Normals(z.astype(np.float32), clip.astype(np.uint8))


def _unpack_clips(key: str, card: HeadCard, tensors: Tensors) -> tuple[str, ...]:
    """What the training clips are called, where the bundle says."""
    return tuple(bytes(clip).hex() for clip in _unpack_normals(key, card, tensors).clip) if tensors else ()


def unpack_head(
    key: str, card: HeadCard, tensors: Tensors, widths: Mapping[str, int | None], clips: tuple[str, ...] = ()
) -> Head:
    """Named tensors as a head; KeyError or ValueError where they are none that the card describes."""
    excess, excesses = _sized(tensors, f"{key}/tail", "T", {"T": 2}).astype(float)
    body = _sized(tensors, f"{key}/body", "Q", {"Q": QUANTILES.size}).astype(np.float64)
    parts = (_unpack_part(f"{key}/{spec.name}", spec, tensors, widths[spec.feature]) for spec in card.parts)
    return Head(tuple(parts), Calibration(body, float(excess), int(excesses)), card.fusion, clips)


def _unpack_part(prefix: str, spec: PartSpec, tensors: Tensors, width: int | None) -> Part:
    sizes = {"D": width} if width else {}

    def array(name: str, axes: str) -> NDArray[np.float32]:
        return _sized(tensors, f"{prefix}/{name}", axes, sizes).astype(np.float32)

    centre, spread = _sized(tensors, f"{prefix}/centre", "P", {"P": 2}).astype(float)
    mean, deviation = array("feature_mean", "D"), array("feature_deviation", "D")
    kind = DETECTORS[spec.detector]
    detector = kind(**{name: array(name, axes) for name, axes in kind.AXES.items()})
    return Part(spec, mean, deviation, detector, float(centre), float(spread))


def _sized(tensors: Tensors, name: str, axes: str, sizes: dict[str, int]) -> NDArray[Any]:
    """A tensor whose axes are as long as those of the same letter before them; ValueError where one is not."""
    tensor = tensors[name]
    lengths = zip(axes, tensor.shape, strict=False)
    if tensor.ndim != len(axes) or not all(0 < length == sizes.setdefault(axis, length) for axis, length in lengths):
        wanted = ", ".join(str(sizes.get(axis, axis)) for axis in axes)
        msg = f"{name} has the shape {tensor.shape}, not ({wanted})"
        raise ValueError(msg)
    return tensor
