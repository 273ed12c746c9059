"""What one types to change the models of this computer: ``edge-asd model``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from edge_asd.errors import ConfigError, UpdateRefused
from edge_asd.screen import Json, show

if TYPE_CHECKING:
    from edge_asd.model.shelf import Installed, Shelf

ConfigFile = Annotated[Path, typer.Option("--config", help="The daemon's TOML file: its state_dir, its trust.")]
Digest = Annotated[str | None, typer.Argument(help="Its first digits; the candidate by default.")]
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
    """What is installed, and, when the daemon runs, what is on trial and what both models say of the same clips."""
    found, stand = _shelf(config).list(), _order(config, "list") or {"trials": []}
    if as_json:
        rows = [json.dumps(row) for row in (*map(_row, found), *stand["trials"])]
        print(*rows, sep="\n", end="\n" if rows else "")
        return
    table = Table("name", "version", "created", "digest", "signed by", "role", "pinned")
    for model in found:
        table.add_row(*(str(value) for value in (_row(model) | {"digest": model.digest[:16]}).values()))
    if found:
        show(table)
    else:
        print("no model is installed; edge-asd model install FILE")
    if stand["trials"]:
        show(_trials(stand))


@models.command()
def shadow(name: Name, config: ConfigFile, digest: Digest = None, as_json: Json = False) -> None:
    """Let another of the same name hear along in the running daemon; `edge-asd model list` shows both scores."""
    stand = _order(config, "shadow", name=name, digest=digest)
    if stand is None:
        msg = f"no daemon runs with {config}, so nothing can be heard along; start it, or activate the model"
        raise ConfigError(msg)
    _tell_stand(stand, as_json=as_json)


@models.command()
def activate(
    name: Name,
    config: ConfigFile,
    digest: Digest = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Without hearing along first, whatever was found then.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Use another of the same name; a running daemon lets it hear along first, and switches when it is fit."""
    if stand := _order(config, "activate", name=name, digest=digest, at_once=at_once):
        _tell_stand(stand, as_json=as_json)
        return
    _tell(_shelf(config).activate(name, digest), as_json=as_json)


@models.command()
def rollback(name: Name, config: ConfigFile, as_json: Json = False) -> None:
    """Use the one that was in use before; a running daemon switches between two clips."""
    if stand := _order(config, "rollback", name=name):
        _tell_stand(stand, as_json=as_json)
        return
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
    return shelf(settings.state_dir, settings.trust.trust(), settings.engine.engine(settings.state_dir).open)


def _order(config: Path, action: str, **fields: object) -> dict[str, Any] | None:
    """How things stand once the running daemon has begun; None when none runs.

    Raises:
        UpdateRefused: it does not do that.
    """
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.deliver.control import answers, ask  # noqa: PLC0415

    state = load_config(config).state_dir
    if state is None or not answers(state):
        return None
    reply = ask(state, "model", {"action": action} | {n: value for n, value in fields.items() if value is not None})
    if reply["status"] != "ok":
        raise UpdateRefused(reply["error"])
    stand: dict[str, Any] = reply["data"]
    return stand


def _tell_stand(stand: dict[str, Any], *, as_json: bool) -> None:
    """What has begun."""
    if as_json:
        print(json.dumps(stand))
        return
    if stand["trials"]:
        show(_trials(stand))
    print(f"{stand['busy'] or 'done'}; edge-asd model list shows what comes of it")


def _trials(stand: dict[str, Any]) -> Table:
    table = Table("name", "digest", "stage", "clips", "speaks / hears along", "reason")
    for trial in stand["trials"]:
        pairs = (f"{name} {pair['speaks']:.2f} / {pair['hears_along']:.2f}" for name, pair in trial["scores"].items())
        clips = f"{trial['clips']} of {trial['clips_needed']}"
        row = (trial["name"], trial["digest"][:16], trial["stage"], clips, ", ".join(pairs), trial["reason"] or "")
        table.add_row(*row)
    return table


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
