"""What the person at the box types to see and take along what was said of alarms: ``edge-asd labels``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from edge_asd.errors import AudioError
from edge_asd.screen import Json, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_asd.judgement import Judgement

State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="The daemon's state_dir; by default that of the service here."),
]
LINES, TABLE, SOUND = "labels.jsonl", "manifest.csv", "test"
"""what an export consists of"""
COLUMNS = ("file", "machine", "section", "attribute", "domain", "split", "label", "recording")
"""of a data set's table"""
SCORED = ("score", "threshold", "health_index", "level_dbfs", "segment_scores", "parts")
"""of an alarm's evidence"""


def labels(
    state: State = None,
    machine: Annotated[str | None, typer.Option(help="Only of this one.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write labels.jsonl there, and what sound there is as a data set for train."),
    ] = None,
    as_json: Json = False,
) -> None:
    """What people said of alarms (`edge-asd label`), the oldest alarm first; needs no running daemon."""
    from edge_asd.config import state_folder  # noqa: PLC0415
    from edge_asd.judgement import judgements  # noqa: PLC0415

    folder = state or state_folder()
    found = judgements(folder, machine)
    if export:
        print(_export(folder, found, export))
        return
    if as_json:
        for each in found:
            print(json.dumps(_line(each)))
        return
    table = Table("alarm", "machine", "raised", "verdict", "score", "fault", "comment", "by")
    for each in found:
        table.add_row(*_row(each))
    if found:
        show(table)
    else:
        print("nothing was said of any alarm; `edge-asd label MACHINE EVENT_ID true|false` does")


def _export(folder: Path, found: Sequence[Judgement], to: Path) -> str:
    """What was written, for people."""
    try:
        (to / SOUND).mkdir(parents=True, exist_ok=True)
        files = {each.alarm_id: _sounds(folder, each, to) for each in found}
        lines = [json.dumps(_line(each) | {"files": files[each.alarm_id]}) + "\n" for each in found]
        (to / LINES).write_text("".join(lines), "utf-8")
        with (to / TABLE).open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            rows.writerows(_entry(each, sound) for each in found for sound in files[each.alarm_id])
    except OSError as error:
        msg = f"cannot be exported to {to}: {error}"
        raise AudioError(msg) from error
    heard = sum(map(bool, files.values()))
    return f"{len(found)} labels in {to / LINES}; of {heard} the clips, as the data set {to}"


def _sounds(folder: Path, judgement: Judgement, to: Path) -> list[str]:
    """The clips of an alarm, each a file of the data set; none where its sound was not kept."""
    import soundfile  # noqa: PLC0415

    from edge_asd.judgement import clips, sound  # noqa: PLC0415

    if sound(folder, judgement.alarm_id) is None:
        return []
    rate, cut = clips(folder, judgement)
    names = [f"{SOUND}/{judgement.machine}_{judgement.alarm_id}_{n}.flac" for n in range(len(cut))]
    for name, clip in zip(names, cut, strict=True):
        soundfile.write(to / name, clip, rate, "PCM_16")
    return names


def _entry(judgement: Judgement, sound: str) -> tuple[str, ...]:
    label = "anomaly" if judgement.verdict else "normal"
    return sound, judgement.machine, "00", judgement.fault or "", "source", "test", label, judgement.alarm_id


def _line(judgement: Judgement) -> dict[str, Any]:
    """What a program is told of one."""
    told = ("machine", "alarm_id", "verdict", "fault", "comment", "by", "labelled")
    evidence = judgement.event.get("evidence") or {}
    return (
        {"schema": "edge_asd.label/1"}
        | {name: getattr(judgement, name) for name in told}
        | {"raised": judgement.event.get("ts"), "model": judgement.event.get("model")}
        | {name: evidence.get(name) for name in SCORED}
    )


def _row(judgement: Judgement) -> tuple[str, ...]:
    score = (judgement.event.get("evidence") or {}).get("score")
    said = (judgement.fault or "", judgement.comment or "", judgement.by or "")
    verdict = "true" if judgement.verdict else "false"
    raised = str(judgement.event.get("ts", ""))
    return (judgement.alarm_id, judgement.machine, raised, verdict, "" if score is None else f"{score:.2f}", *said)
