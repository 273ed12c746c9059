"""What one types to change the models of this computer: ``edge-asd model``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from edge_asd.screen import Json, show

if TYPE_CHECKING:
    from edge_asd.model.shelf import Installed, Shelf

ConfigFile = Annotated[Path, typer.Option("--config", help="The daemon's TOML file: its state_dir, its trust.")]
Name = Annotated[str, typer.Argument(help="As `edge-asd model list` shows it.")]
models = typer.Typer(no_args_is_help=True, help='Install models for machines with bundle = "installed:NAME".')


@models.command()
def install(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="NAME.asd.")], config: ConfigFile, as_json: Json = False
) -> None:
    """Prove a bundle on this computer and keep it; the first of its name is in use at once."""
    _tell(_shelf(config).install(file), as_json=as_json)


@models.command("list")
def list_models(config: ConfigFile, as_json: Json = False) -> None:
    """What is installed."""
    found = _shelf(config).list()
    if as_json:
        print(*(json.dumps(_row(model)) for model in found), sep="\n", end="\n" if found else "")
        return
    table = Table("name", "version", "created", "digest", "signed by", "role", "pinned")
    for model in found:
        table.add_row(*(str(value) for value in (_row(model) | {"digest": model.digest[:16]}).values()))
    if found:
        show(table)
    else:
        print("no model is installed; edge-asd model install FILE")


@models.command()
def activate(
    name: Name,
    config: ConfigFile,
    digest: Annotated[str | None, typer.Argument(help="Its first digits; the candidate by default.")] = None,
    as_json: Json = False,
) -> None:
    """Use another of the same name."""
    _tell(_shelf(config).activate(name, digest), as_json=as_json)


@models.command()
def rollback(name: Name, config: ConfigFile, as_json: Json = False) -> None:
    """Use the one that was in use before."""
    _tell(_shelf(config).rollback(name), as_json=as_json)


@models.command()
def pin(name: Name, config: ConfigFile, as_json: Json = False) -> None:
    """Use nothing any more that is older than the current one."""
    _tell(_shelf(config).pin(name), as_json=as_json)


@models.command()
def unpin(name: Name, config: ConfigFile, as_json: Json = False) -> None:
    """Let older ones in again."""
    _tell(_shelf(config).unpin(name), as_json=as_json)


@models.command()
def prune(config: ConfigFile) -> None:
    """Delete candidates that nobody activated."""
    for model in (gone := _shelf(config).prune()):
        print(f"deleted {model.name} {model.version}, {model.digest[:16]}")
    if not gone:
        print("nothing to delete")


def _shelf(config: Path) -> Shelf:
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.model.opening import shelf  # noqa: PLC0415

    settings = load_config(config)
    return shelf(settings.state_dir, settings.trust.trust())


def _tell(model: Installed, *, as_json: bool) -> None:
    pinned = ", pinned" if model.pinned else ""
    said = f"{model.name} {model.version}, {model.digest[:16]}: {model.role}{pinned}"
    print(json.dumps(_row(model)) if as_json else said)


def _row(model: Installed) -> dict[str, str | bool]:
    return {
        "name": model.name,
        "version": model.version,
        "created": model.created,
        "digest": model.digest,
        "signer": model.signer or "nobody",
        "role": model.role,
        "pinned": model.pinned,
    }
