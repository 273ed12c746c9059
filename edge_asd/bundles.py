"""What one types to vouch for a bundle, and to look into one: ``edge-asd bundle``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from edge_asd.errors import ConfigError
from edge_asd.screen import Json, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_asd.signature import Trust

File = Annotated[Path, typer.Argument(metavar="FILE", help="NAME.asd.")]
bundles = typer.Typer(no_args_is_help=True, help="Sign bundles, and look into them.")


@bundles.command()
def keygen(
    private: Annotated[Path, typer.Argument(metavar="KEY", help="To be kept away from devices; KEY.pub goes there.")],
    comment: Annotated[str, typer.Option(help="Whose it is; kept with the public key.")] = "",
) -> None:
    """Make a pair of keys."""
    from edge_asd.signature import make_keys  # noqa: PLC0415

    made = make_keys(private, comment)
    print(f"key {made.id}: sign with {private}, and name {private}.pub in the trust.keys of every device")


@bundles.command()
def sign(
    file: File,
    key: Annotated[Path, typer.Option(metavar="KEY", help="A private key, as keygen makes it.")],
    out: Annotated[Path | None, typer.Option(help="Another file; by default the bundle itself.")] = None,
) -> None:
    """Vouch for a bundle; a signature that it had goes."""
    from edge_asd.bundle import sign_bundle  # noqa: PLC0415

    sign_bundle(file, key, out or file)
    print(f"signed {out or file}")


@bundles.command()
def verify(
    file: File,
    key: Annotated[list[Path] | None, typer.Option(metavar="KEY.pub", help="Whose signature will do.")] = None,
    config: Annotated[Path | None, typer.Option(help="Take those that its trust.keys names.")] = None,
) -> None:
    """Say whether a device could use it: digests, signature, and the golden test of each head on this computer."""
    from edge_asd.bundle import open_bundle  # noqa: PLC0415

    bundle = open_bundle(file, trust=_trust(key, config))
    print(f"ok    digests: {bundle.manifest.name} {bundle.manifest.version}, {bundle.digest[:16]}")
    print(
        f"ok    signature: {f'of key {bundle.signer}' if bundle.signer else 'none, which trust.allow_unsigned allows'}"
    )
    for head in bundle.heads:
        bundle.scorer(head)
        print(f"ok    golden test: {head}", flush=True)


@bundles.command("show")
def show_bundle(file: File, as_json: Json = False) -> None:
    """What it says of itself; who signed it is what it claims."""
    from edge_asd.bundle import CARD, manifest_digest, read_contents, read_seal_of  # noqa: PLC0415

    contents = read_contents(file)
    manifest, seal = contents.manifest, read_seal_of(file)
    about = {"digest": manifest_digest(manifest), "size": file.stat().st_size, "signed_by": seal.key if seal else None}
    if as_json:
        print(json.dumps(about | {"manifest": manifest.model_dump(mode="json", by_alias=True)}))
        return
    table = Table("what", "is")
    said = {name: getattr(manifest, name) for name in ("name", "version", "created", "method", "licence")}
    for name, value in (said | about | manifest.metrics).items():
        table.add_row(name, "nobody" if value is None else str(value))
    for key, card in manifest.heads.items():
        at = card.thresholds
        table.add_row(
            key, f"{card.clips} clips, {len(card.parts)} parts, alarm {at.alarm:.2f}, decision {at.decision:.2f}"
        )
    show(table)
    print(f"\n{contents.files[CARD].decode(errors='replace')}", end="")


@bundles.command()
def diff(old: File, new: File, as_json: Json = False) -> None:
    """What the second says otherwise than the first. The exit code is 1 when anything."""
    from edge_asd.bundle import read_contents  # noqa: PLC0415

    ours, theirs = (dict(_said(read_contents(file).manifest.model_dump(mode="json"))) for file in (old, new))
    changed = {what: (ours.get(what), theirs.get(what)) for what in {**ours, **theirs}}
    changed = {what: values for what, values in changed.items() if values[0] != values[1]}
    table = Table("what", str(old), str(new))
    for what, values in changed.items():
        if as_json:
            print(json.dumps({"what": what, "old": values[0], "new": values[1]}))
        table.add_row(what, *("" if value is None else str(value) for value in values))
    if not as_json:
        show(table) if changed else print("they say the same")
    raise typer.Exit(1 if changed else 0)


def _trust(keys: list[Path] | None, config: Path | None) -> Trust:
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.signature import Trust, read_key  # noqa: PLC0415

    if bool(keys) is (config is not None):
        msg = "say whose signature will do: --key KEY.pub, once or more, or --config FILE"
        raise ConfigError(msg)
    return load_config(config).trust.trust() if config else Trust.of(map(read_key, keys or ()))


def _said(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - whatever JSON may hold
    """Each leaf of a document and where it is."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _said(inner, f"{place}.{name}".lstrip("."))
    else:
        yield place, json.dumps(value) if isinstance(value, list | dict) else value
