"""What one device learned, as a bundle that another can start from; unsigned until somebody vouches for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_asd.bundle import Golden, Manifest, golden_scores, open_bundle, read_contents, write_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from edge_asd.bundle import Bundle, Precision
    from edge_asd.learn.overlay import Overlay

KEPT = ("parameters", "macs", "layers", "float_layers", "int8_ms", "fp32_ms")
"""figures of a bundle that are of its graph, and hold whatever the head"""
GRAPHS: tuple[Precision, ...] = ("int8", "fp32")


def export(bundle: Bundle, overlay: Overlay, number: int, out: Path) -> Manifest:
    """Write the bundle's network with the one head that was learned, once it opens here as it will elsewhere.

    The head keeps its key. Its golden waveform is that of the bundle's own head, as the learned one scores it.

    Raises:
        BundleError: it cannot be read, or is not usable once written.
    """
    key, learned = overlay.note.key, overlay.over(bundle, number)
    golden = bundle.golden[key].waveform
    vectors = {key: Golden(golden, golden_scores(learned.listener(key), golden))}
    files = read_contents(bundle.path).files
    graphs = {name: files[f"backbone.{name}.onnx"] for name in GRAPHS if f"backbone.{name}.onnx" in files}
    manifest = _manifest(learned.manifest, overlay)
    unproven = out.with_name(f".{out.name}.unproven")
    try:
        sealed = write_bundle(unproven, manifest, graphs, {key: overlay.head}, vectors, _card(manifest, overlay))
        open_bundle(unproven).scorer(key)
        unproven.replace(out)
    finally:
        unproven.unlink(missing_ok=True)
    return sealed


def _manifest(own: Manifest, overlay: Overlay) -> Manifest:
    changes = {
        "created": overlay.note.created,
        "heads": {overlay.note.key: overlay.note.card},
        "metrics": {name: value for name, value in own.metrics.items() if name in KEPT},
        "licence": f"{own.licence}; head learned from recordings at the site of {overlay.note.machine}",
    }
    return own.model_copy(update=changes)


def _card(manifest: Manifest, overlay: Overlay) -> str:
    points = ", ".join(f"{name} ({clips} clips)" for name, clips in overlay.note.points.items())
    return (
        f"# {manifest.name} {manifest.version}\n\nThe head was learned on a device, from normal sound of "
        f"{overlay.note.machine}: {points}. Learned over bundle {overlay.note.bundle_sha256}. "
        f"Licence: {manifest.licence}.\n"
    )
