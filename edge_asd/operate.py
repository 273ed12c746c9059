"""What the person at the box types: what happened here, which alarms stand, and what to do about them."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edge_asd.errors import ConfigError
from edge_asd.screen import Json, show, why

State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="The daemon's state_dir; by default that of the service here."),
]
Machine = Annotated[str, typer.Argument(help="As the config names it.")]
Comment = Annotated[str | None, typer.Option(help="Kept with the event.")]
Off = Annotated[bool, typer.Option("--off", help="End it.")]


class Verdict(StrEnum):
    """On an alarm."""

    TRUE = "true"
    FALSE = "false"


TOLD = ("state", "suppression", "shelved_until", "threshold", "event_id", "verdict", "sound", "file")
"""of a reply, what a person wants to read"""
TOLD_WHY = ("activated", "realarmed")
"""events that say why; of all others the latest clip is beside the point"""
alarm = typer.Typer(no_args_is_help=True, help="See the alarms of this box and act on them.")


def events(
    state: State = None,
    machine: Annotated[str | None, typer.Option(help="Only of this one.")] = None,
    since: Annotated[str | None, typer.Option(metavar="2h|3d|TIME", help="Not older: an age or an ISO time.")] = None,
    last: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """What happened here, from the box's own log; needs no broker and no running daemon."""
    from edge_asd.deliver.store import FILE, read_history  # noqa: PLC0415
    from edge_asd.judgement import verdicts  # noqa: PLC0415

    moment = _moment(since) if since else None
    newest_first = read_history(_folder(state) / FILE, machine=machine, since=moment)
    found = [json.loads(logged.body) for logged in islice(newest_first, last)][::-1]
    if as_json:
        print(*map(json.dumps, found), sep="\n", end="\n" if found else "")
        return
    said = verdicts(_folder(state))
    table = Table("time", "machine", "event", "state", "score", "why", "by", "comment", "event_seq", "id", "verdict")
    for event in found:
        verdict = said.get(event_id := str(event.get("id", "")))
        table.add_row(*_row(event), event_id, "" if verdict is None else str(verdict).lower())
    if found:
        show(table)
    else:
        print("nothing has happened" + (f" at {machine}" if machine else "") + (f" since {since}" if since else ""))


@alarm.command("list")
def list_alarms(state: State = None, as_json: Json = False) -> None:
    """The alarm of each machine, as it stands."""
    from edge_asd.alarm.alarm import Alarm  # noqa: PLC0415
    from edge_asd.deliver.store import FILE, read_states  # noqa: PLC0415

    table = Table("machine", "state", "suppression", "since", "alarm_id")
    for name, text in sorted(read_states(_folder(state) / FILE).items()):
        kept = json.loads(text)
        alarm = Alarm(**kept["alarm"])
        row = {"machine": name, "state": alarm.state, "suppression": alarm.suppression}
        row |= {"since": kept["since"], "alarm_id": kept["raised_by"]}
        if as_json:
            print(json.dumps(row))
        else:
            table.add_row(*map(_cell, row.values()))
    if table.row_count:
        show(table)
    elif not as_json:
        print("no alarm has ever been raised here")


@alarm.command()
def ack(machine: Machine, state: State = None, comment: Comment = None) -> None:
    """Acknowledge: somebody has seen it and sees to it."""
    _ask(state, "ack", machine=machine, comment=comment)


@alarm.command()
def reset(machine: Machine, state: State = None, comment: Comment = None) -> None:
    """Let go of a latched alarm that has returned and is acknowledged."""
    _ask(state, "reset", machine=machine, comment=comment)


@alarm.command()
def shelve(
    machine: Machine,
    minutes: Annotated[float, typer.Option(help="How long.")],
    state: State = None,
    comment: Comment = None,
    one_shot: Annotated[
        bool, typer.Option("--one-shot", help="Ends when the alarm returns, if that is earlier.")
    ] = False,
) -> None:
    """Silence a nuisance for a while; it is judged and logged as before."""
    _ask(state, "shelve", machine=machine, minutes=minutes, comment=comment, one_shot=one_shot)


@alarm.command()
def unshelve(machine: Machine, state: State = None, comment: Comment = None) -> None:
    """End shelving now."""
    _ask(state, "unshelve", machine=machine, comment=comment)


@alarm.command()
def suppress(machine: Machine, state: State = None, off: Off = False, comment: Comment = None) -> None:
    """Suppressed by design: the machine is off, or cannot be judged in this mode."""
    _ask(state, "suppress", machine=machine, on=not off, comment=comment)


@alarm.command("out-of-service")
def out_of_service(machine: Machine, state: State = None, off: Off = False, comment: Comment = None) -> None:
    """Taken out of service for maintenance; no time limit."""
    _ask(state, "out_of_service", machine=machine, on=not off, comment=comment)


@alarm.command()
def threshold(
    machine: Machine,
    value: Annotated[float | None, typer.Argument(help="Surprise; without it, as configured.")] = None,
    state: State = None,
    comment: Comment = None,
) -> None:
    """Judge by another threshold from now on, also after a restart."""
    _ask(state, "threshold", machine=machine, value=value, comment=comment)


@alarm.command()
def label(
    machine: Machine,
    event_id: Annotated[str, typer.Argument(help="As `edge-asd events --json` shows it.")],
    state: State = None,
    fault: Annotated[str | None, typer.Option(help="What was found.")] = None,
    false_alarm: Annotated[bool, typer.Option("--false-alarm", help="Nothing was wrong.")] = False,
) -> None:
    """Say whether an alarm was right."""
    _ask(state, "label", machine=machine, event_id=event_id, verdict=not false_alarm, fault=fault)


def judge(
    machine: Machine,
    event_id: Annotated[str, typer.Argument(metavar="EVENT_ID", help="As `edge-asd events` shows it.")],
    verdict: Annotated[Verdict, typer.Argument(help="true: the machine had something; false: a false alarm.")],
    state: State = None,
    fault: Annotated[str | None, typer.Option(help="What was found.")] = None,
    note: Annotated[str | None, typer.Option(help="Kept with it.")] = None,
) -> None:
    """Say whether an alarm was right: what is learned from it, and what is measured by it, follows from that."""
    body = {"machine": machine, "event_id": event_id, "verdict": verdict is Verdict.TRUE}
    _ask(state, "label", **body, fault=fault, comment=note)


def _ask(state: Path | None, verb: str, **body: object) -> None:
    from edge_asd.deliver.control import ask  # noqa: PLC0415

    reply = ask(_folder(state), verb, body)
    if reply["status"] != "ok":
        print(f"error: {reply['error']}", file=sys.stderr)
        raise typer.Exit(1)
    told = {name: value for name, value in (reply["data"] or {}).items() if name in TOLD and value is not None}
    print("done: " + ", ".join(f"{name} {_cell(value)}" for name, value in told.items()))
    if told.get("sound") is False:
        print(
            "no sound of it was kept, so nothing can be learned from it; [evidence] enabled = true keeps that of alarms"
        )


def _folder(state: Path | None) -> Path:
    from edge_asd.config import state_folder  # noqa: PLC0415

    return state or state_folder()


def _moment(text: str) -> datetime:
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    if age := re.fullmatch(r"([0-9.]+)([smhd])", text):
        return datetime.now(UTC) - timedelta(**{units[age[2]]: float(age[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        msg = f"--since wants an age such as 30m, 2h or 3d, or a time such as 2026-11-20T17:30, got {text!r}"
        raise ConfigError(msg) from error


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    condition, evidence = event.get("alarm") or {}, event.get("evidence") or {}
    state = condition.get("state")
    if (suppression := condition.get("suppression", "none")) != "none":
        state = f"{state}, {suppression}"
    cells = (event.get("ts"), event.get("machine"), event.get("event"), state, evidence.get("score"))
    reason = why(evidence) if event.get("event") in TOLD_WHY else ""
    return tuple(map(_cell, (*cells, reason, event.get("by"), event.get("comment"), event.get("event_seq"))))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
