"""What one types to have the device learn its machine: ``edge-asd learn MACHINE``."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from edge_asd.errors import ConfigError
from edge_asd.screen import Json  # noqa: TC001 - typer looks at it

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_asd.learn.memory import Memory
    from edge_asd.learn.notebook import Notebook, Slots
    from edge_asd.lesson import Proposal

ConfigFile = Annotated[Path, typer.Option("--config", help="TOML file; see deploy/edge-asd.toml.")]
Machine = Annotated[str, typer.Argument(help="As the config names it.")]
INTERRUPTED = 130
"""what a shell reports of Ctrl-C"""
TAKEN_UP = "a running daemon takes that up within 10 s, between two clips"


class Action(StrEnum):
    """What becomes of what was learned."""

    LISTEN = "listen"
    COMMIT = "commit"
    UNDO = "undo"
    DISCARD = "discard"


def learn(
    machine: Machine,
    config: ConfigFile,
    action: Annotated[
        Action, typer.Argument(help="commit: use it; undo: use what was before; discard: forget what waits.")
    ] = Action.LISTEN,
    minutes: Annotated[float, typer.Option(min=0.5, max=240, help="Of normal sound.")] = 30,
    add: Annotated[str | None, typer.Option(metavar="NAME", help="Add an operating point to what is learned.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Commit what was learned; ask nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Listen to a machine that runs normally, and learn it: a head of its own over the bundle's.

    The sound is not kept, only its features. Ctrl-C keeps what was heard, and the same command goes on.
    """
    from edge_asd.observe.log import start_logging  # noqa: PLC0415

    start_logging("error")
    if action is not Action.LISTEN:
        _tell_slots(machine, _changed(_notebook(config, machine), action), as_json=as_json)
        return
    proposal = _listened(config, machine, minutes, add)
    print(json.dumps(asdict(proposal)) if as_json else _said(proposal))
    print(f"kept as candidate {proposal.number}: edge-asd learn {machine} commit", file=sys.stderr)
    if yes or (not as_json and typer.confirm("use it from now on?", err=True)):
        _notebook(config, machine).commit()
        print(f"committed {machine} {proposal.number}; {TAKEN_UP}", file=sys.stderr)


def export_learnt(
    machine: Machine, config: ConfigFile, out: Annotated[Path, typer.Option(metavar="FILE.asd", help="To write.")]
) -> None:
    """Write what was learned of a machine as a bundle, unsigned, that another device can start from."""
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.learn.export import export  # noqa: PLC0415
    from edge_asd.model.opening import open_model  # noqa: PLC0415

    settings, notebook = load_config(config), _notebook(config, machine)
    bundle = open_model(settings.machines[machine].bundle, settings.state_dir, settings.trust.trust())
    found = notebook.active(bundle)
    if found is None:
        msg = f"{machine}: nothing that was learned is in use; first: edge-asd learn {machine}"
        raise ConfigError(msg)
    number, overlay = found
    manifest = export(bundle, overlay, number, out)
    print(f"{out}: {manifest.name} {manifest.version}, unsigned; vouch for it: edge-asd bundle sign {out}")


def _notebook(config: Path, machine: str) -> Notebook:
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.learn.notebook import Notebook  # noqa: PLC0415
    from edge_asd.lesson import state_of  # noqa: PLC0415

    return Notebook.of(state_of(load_config(config), machine), machine)


def _changed(notebook: Notebook, action: Action) -> Slots:
    match action:
        case Action.COMMIT:
            return notebook.commit()
        case Action.UNDO:
            return notebook.undo()
        case _:
            return notebook.discard()


def _listened(config: Path, machine: str, minutes: float, add: str | None) -> Proposal:
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.lesson import attend  # noqa: PLC0415

    settings = load_config(config)
    try:
        with _watched(minutes) as progress:
            return attend(settings, machine, minutes, add, progress=progress)
    except KeyboardInterrupt:
        print("stopped; what was heard is kept, and the same command goes on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _watched(minutes: float) -> Iterator[Callable[[Memory, float], None]]:
    """A bar with the coverage on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("learning", total=minutes)

        def tell(heard: Memory, clip_s: float) -> None:
            so_far = len(heard) * clip_s / 60
            said = f"{so_far:.0f} of {minutes:g} minutes, operating points: {heard.found_points()}"
            bar.update(task, completed=so_far, description=said)

        yield tell


def _said(proposal: Proposal) -> str:
    points = ", ".join(f"{name} ({clips} clips)" for name, clips in proposal.points.items())
    aim = f"for {proposal.false_alarms_per_week:g} false alarm a week at {proposal.on_delay} clips in a row"
    lines = [
        f"{proposal.minutes:.1f} of {proposal.wanted_minutes:g} minutes, operating points: {proposal.points_found}",
        f"bank: {points}",
        f"alarm threshold {proposal.threshold:.2f}, {aim}; {proposal.over} of {proposal.clips} clips are over it",
    ]
    lines += [f"{proposal.repeated} clips were heard before, and do not count"] if proposal.repeated else []
    lines += [f"left out, for only training can fit it: {name}" for name in proposal.left_out]
    lines += [f"false alarms are not learned: {proposal.refused}"] if proposal.refused else []
    return "\n".join(lines)


def _tell_slots(machine: str, slots: Slots, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"machine": machine} | slots.model_dump()))
        return
    candidate = f"candidate {slots.candidate}" if slots.candidate else "no candidate"
    in_use = f"learned head {slots.active}" if slots.active else "the bundle's own head"
    print(f"{machine}: {in_use} is in use, {candidate}; {TAKEN_UP}")
