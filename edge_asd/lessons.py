"""What one types to have the device learn its machine: ``edge-asd learn MACHINE``."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from edge_asd.errors import ConfigError, UpdateRefused
from edge_asd.screen import Json  # noqa: TC001 - typer looks at it

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_asd.attendance import Progress as Tell
    from edge_asd.config import Config
    from edge_asd.deliver.payload import Proposal
    from edge_asd.learn.notebook import Notebook, Slots

ConfigFile = Annotated[Path, typer.Option("--config", help="TOML file; see deploy/edge-asd.toml.")]
Machine = Annotated[str, typer.Argument(help="As the config names it.")]
INTERRUPTED = 130
"""what a shell reports of Ctrl-C"""
TAKEN_UP = "a running daemon takes that up within 10 s, between two clips"
KEPT = "stopped; what was heard is kept, and the same command goes on"
SUMS = ", so that what is a little strange for long raises the alarm, too"
LOOK_S = 1.0
"""between two looks how far the daemon is"""
RESTART_S = 60.0
"""that a daemon may take to come back; a lesson of it goes on then"""


class Action(StrEnum):
    """What becomes of what was learned."""

    LISTEN = "listen"
    STATUS = "status"
    COMMIT = "commit"
    UNDO = "undo"
    DISCARD = "discard"


def learn(
    machine: Machine,
    config: ConfigFile,
    action: Annotated[
        Action,
        typer.Argument(
            help="status: how it stands; commit: use it; undo: use what was before; discard: forget what waits."
        ),
    ] = Action.LISTEN,
    minutes: Annotated[float, typer.Option(min=0.5, max=240, help="Of normal sound.")] = 30,
    over: Annotated[
        float,
        typer.Option(metavar="HOURS", min=0, max=1000, help="Take them from so many hours, a clip now and then."),
    ] = 0,
    add: Annotated[str | None, typer.Option(metavar="NAME", help="Add an operating point to what is learned.")] = None,
    alarms: Annotated[
        bool, typer.Option("--alarms", help="Learn what is an alarm by now, too: the machine is well, and sounds so.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Commit what was learned; ask nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Listen to a machine that runs normally, and learn it: a head of its own over the bundle's.

    The sound is not kept, only its features. Ctrl-C keeps what was heard, and the same command goes on. A running
    daemon learns from what it hears anyway, and goes on without this command; else the source is opened here.
    Whoever learns for some minutes knows that hour: --over 168 takes them from a week, and does not wait for it.
    """
    from edge_asd.observe.log import start_logging  # noqa: PLC0415

    start_logging("error")
    if action is not Action.LISTEN:
        _act(config, machine, action, as_json=as_json)
        return
    if over:
        lesson = _spread(config, machine, {"minutes": minutes, "over_hours": over, "add": add, "alarms": alarms})
        _tell_lesson(machine, lesson, as_json=as_json)
        return
    proposal = _listened(config, machine, minutes, {"add": add, "alarms": alarms})
    print(proposal.model_dump_json() if as_json else _said(proposal))
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


def _act(config: Path, machine: str, action: Action, *, as_json: bool) -> None:
    """Do it, and tell how things stand."""
    if action is Action.STATUS and (state := _taught(config, machine)):
        _tell_lesson(machine, _order(state, machine, "status"), as_json=as_json)
        return
    slots = _changed(config, machine, action)
    if as_json:
        print(json.dumps({"machine": machine} | slots.model_dump()))
    else:
        taken_up = "" if action is Action.STATUS else f"; {TAKEN_UP}"
        print(f"{machine}: {_in_use(slots.active, slots.candidate)}{taken_up}")


def _changed(config: Path, machine: str, action: Action) -> Slots:
    notebook = _notebook(config, machine)
    match action:
        case Action.COMMIT:
            return notebook.commit()
        case Action.UNDO:
            return notebook.undo()
        case Action.STATUS:
            return notebook.slots()
        case _:
            if state := _taught(config, machine):  # it would write down again what is to be forgotten
                _order(state, machine, "abort")
            return notebook.discard()


def _taught(config: Path, machine: str) -> Path | None:
    """The state folder of a daemon that runs, and may be teaching."""
    from edge_asd.deliver.control import answers  # noqa: PLC0415

    state = _notebook(config, machine).folder.parents[1]
    return state if answers(state) else None


def _spread(config: Path, machine: str, what: dict[str, Any]) -> dict[str, Any]:
    """Have the daemon learn a clip now and then; how that stands.

    Raises:
        ConfigError: no daemon runs.
        UpdateRefused: it does not do that.
    """
    state = _taught(config, machine)
    if state is None:
        msg = f"--over {what['over_hours']:g}: no daemon runs that could listen so long; start it: edge-asd run"
        raise ConfigError(msg)
    return _order(state, machine, "start", **what)


# Listening ------------------------------------------------------------------------------------------------------------


def _listened(config: Path, machine: str, minutes: float, what: dict[str, Any]) -> Proposal:
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.deliver.control import answers  # noqa: PLC0415

    settings = load_config(config)
    there = settings.state_dir is not None and answers(settings.state_dir)
    try:
        with _watched(minutes) as progress:
            if there:
                return _followed(settings, machine, minutes, what, progress)
            return _attended(settings, machine, minutes, what, progress)
    except KeyboardInterrupt:
        print(KEPT, file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _attended(config: Config, machine: str, minutes: float, what: dict[str, Any], progress: Tell) -> Proposal:
    """By this process."""
    from edge_asd.attendance import attend  # noqa: PLC0415

    return attend(config, machine, minutes, **what, progress=progress)


def _followed(config: Config, machine: str, minutes: float, what: dict[str, Any], progress: Tell) -> Proposal:
    """By the daemon that runs; this one looks on.

    Raises:
        UpdateRefused: it does not teach that, or somebody stopped it.
        ConfigError: it went, and did not come back.
    """
    from edge_asd.deliver.payload import Proposal  # noqa: PLC0415
    from edge_asd.lesson import state_of  # noqa: PLC0415

    state = state_of(config, machine)
    try:
        lesson = _order(state, machine, "start", minutes=minutes, **what)
        while lesson["stage"] in {"beginning", "listening", "fitting"}:
            progress(lesson["minutes"], _heard(lesson))
            time.sleep(LOOK_S)
            lesson = _again(state, machine)
    except KeyboardInterrupt:
        with suppress(UpdateRefused):  # it has heard enough, and is about to be done
            _order(state, machine, "pause")
        raise
    if lesson["proposal"] is None:
        msg = f"{machine}: the lesson is {lesson['stage']}: {lesson['reason'] or KEPT.partition('; ')[2]}"
        raise UpdateRefused(msg)
    return Proposal.model_validate(lesson["proposal"])


def _heard(lesson: dict[str, Any]) -> str:
    reason = lesson["reason"]
    return f"{lesson['said']} ({reason})" if reason else str(lesson["said"])


def _again(state: Path, machine: str) -> dict[str, Any]:
    """How far it is; a daemon that is started anew is waited for."""
    deadline = time.monotonic() + RESTART_S
    while True:
        try:
            return _order(state, machine, "status")
        except ConfigError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)


def _order(state: Path, machine: str, action: str, **fields: object) -> dict[str, Any]:
    """How the lesson stands then.

    Raises:
        UpdateRefused: the daemon does not do that.
        ConfigError: no daemon runs, or this user may not command it.
    """
    from edge_asd.deliver.control import ask  # noqa: PLC0415

    reply = ask(state, "calibrate", {"machine": machine, "action": action, **fields})
    if reply["status"] != "ok":
        raise UpdateRefused(reply["error"])
    stands: dict[str, Any] = reply["data"]
    return stands


@contextmanager
def _watched(minutes: float) -> Iterator[Tell]:
    """A bar with the coverage on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("learning", total=minutes)

        def tell(so_far: float, said: str) -> None:
            bar.update(task, completed=so_far, description=said)

        yield tell


def _said(proposal: Proposal) -> str:
    from edge_asd.bundle import SEVERAL_CLIPS, SEVERAL_DAYS  # noqa: PLC0415
    from edge_asd.lesson import ALARMS_ADVICE, coverage  # noqa: PLC0415

    points = ", ".join(f"{name} ({clips} clips)" for name, clips in proposal.points.items())
    aim = f"for {proposal.false_alarms_per_week:g} false alarm a week at {proposal.on_delay} clips in a row"
    lines = [
        coverage(proposal.minutes, proposal.wanted_minutes, proposal.points_found),
        f"bank: {points}",
        f"alarm threshold {proposal.threshold:.2f}, {aim}; {proposal.over} of {proposal.clips} clips are over it",
    ]
    several = proposal.days >= SEVERAL_DAYS and proposal.clips >= SEVERAL_CLIPS
    lines += [f"of {proposal.days} days{SUMS if several else ''}"] if proposal.days > 1 else []
    lines += [f"{proposal.repeated} clips were heard before, and do not count"] if proposal.repeated else []
    lines += [f"{proposal.clipped} clips were at full scale, and do not count"] if proposal.clipped else []
    lines += [f"{proposal.strange} clips are an alarm, and do not count; {ALARMS_ADVICE}"] if proposal.strange else []
    lines += [f"left out, for only training can fit it: {name}" for name in proposal.left_out]
    lines += (
        [f"{proposal.clips} clips are few, and more alarms will be false than that; learn longer"]
        if proposal.few
        else []
    )
    lines += [f"false alarms are not learned: {proposal.refused}"] if proposal.refused else []
    return "\n".join(lines)


def _tell_lesson(machine: str, lesson: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(lesson))
    else:
        print(f"{machine}: {_in_use(lesson['active'], lesson['candidate'])}; {lesson['stage']}: {_heard(lesson)}")


def _in_use(active: int, candidate: int | None) -> str:
    waits = f"candidate {candidate}" if candidate else "no candidate"
    return f"learned head {active} is in use, {waits}" if active else f"the bundle's own head is in use, {waits}"
