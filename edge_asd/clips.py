"""What the person at the box types to listen to what was kept: ``edge-asd clips``."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from edge_asd.errors import AudioError
from edge_asd.screen import Json, show, why

if TYPE_CHECKING:
    from collections.abc import Mapping

State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="The daemon's state_dir; by default that of the service here."),
]
Named = Annotated[str, typer.Argument(metavar="CLIP", help="As `edge-asd clips list` shows it, or an event's id.")]
Several = Annotated[list[str], typer.Argument(metavar="CLIP…", help="As `edge-asd clips list` shows them, or ids.")]

PLAYERS = ("paplay", "aplay")
clips = typer.Typer(no_args_is_help=True, help="Listen to the sound of alarms, where the config lets it be kept.")


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording that was kept."""

    name: str
    """``MACHINE/TIME``"""
    files: tuple[Path, ...]
    """of which some may be missing"""

    @property
    def sound(self) -> Path | None:
        """The FLAC file."""
        return next((file for file in self.files if file.suffix == ".flac"), None)

    @property
    def sidecar(self) -> Path | None:
        """The JSON file."""
        return next((file for file in self.files if file.suffix == ".json"), None)

    @property
    def about(self) -> dict[str, Any]:
        """What is known of it; nothing where that cannot be read."""
        try:
            return dict(json.loads(self.sidecar.read_text("utf-8"))) if self.sidecar else {}
        except (OSError, ValueError):
            return {}


@clips.command("list")
def list_clips(
    state: State = None,
    machine: Annotated[str | None, typer.Option(help="Only of this one.")] = None,
    as_json: Json = False,
) -> None:
    """What was kept, the oldest first."""
    from edge_asd.config import state_folder  # noqa: PLC0415
    from edge_asd.judgement import verdicts  # noqa: PLC0415

    found = [clip for clip in _kept(state) if machine in {None, clip.name.partition("/")[0]}]
    said = verdicts(state or state_folder())
    if as_json:
        for clip in found:
            known = {"clip": clip.name, "file": str(clip.sound)} | clip.about
            print(json.dumps(known | {"verdict": said.get(str(clip.about.get("event_id")))}))
        return
    table = Table("clip", "began", "seconds", "kB", "score", "why", "verdict", "event")
    for clip in found:
        table.add_row(*_row(clip, said))
    if found:
        show(table)
    else:
        print("no sound was kept; [evidence] enabled = true keeps that of alarms, where no speech is heard")


@clips.command()
def play(clip: Named, state: State = None) -> None:
    """Play one on this computer."""
    import soundfile  # noqa: PLC0415

    sound = _sound(_one(clip, state))
    player = next(filter(None, map(shutil.which, PLAYERS)), None)
    if player is None:
        msg = f"neither {' nor '.join(PLAYERS)} is here to play {sound}; `edge-asd clips export` it to where one is"
        raise AudioError(msg)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "clip.wav"  # aplay reads no FLAC, and would play it as noise
        soundfile.write(wav, *soundfile.read(sound, dtype="int16"))
        if subprocess.run([player, str(wav)], check=False).returncode:
            msg = f"{player} could not play it; `edge-asd clips export` copies {sound} to where it can be heard"
            raise AudioError(msg)


@clips.command()
def export(
    clip: Several,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Made if it is not there.")],
    state: State = None,
) -> None:
    """Copy some, with what is known of them."""
    chosen = [_one(name, state) for name in clip]
    try:
        to.mkdir(parents=True, exist_ok=True)
        for each in chosen:
            for file in filter(None, (each.sound, each.sidecar)):
                print(shutil.copyfile(file, to / f"{file.parent.name}-{file.name}"))
    except OSError as error:
        msg = f"cannot be copied to {to}: {error}"
        raise AudioError(msg) from error


@clips.command()
def delete(
    clip: Annotated[list[str] | None, typer.Argument(metavar="CLIP…", help="As for export.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    state: State = None,
) -> None:
    """Delete some for good, or all."""
    if bool(clip) is everything:
        msg = "say which clips to delete, or --all"
        raise AudioError(msg)
    chosen = list(_kept(state)) if everything else [_one(name, state) for name in clip or ()]
    try:
        for each in chosen:
            for file in each.files:
                file.unlink(missing_ok=True)
            print(f"deleted {each.name}")
    except OSError as error:
        msg = f"cannot be deleted: {error}"
        raise AudioError(msg) from error


def _kept(state: Path | None) -> list[Clip]:
    from edge_asd.config import state_folder  # noqa: PLC0415
    from edge_asd.observe.evidence import FOLDER, recordings  # noqa: PLC0415

    found = recordings((state or state_folder()) / FOLDER)
    return [Clip(name, tuple(files)) for name, files in found.items()]


def _one(name: str, state: Path | None) -> Clip:
    kept = _kept(state)
    found = next((clip for clip in kept if name == clip.name or name == clip.about.get("event_id")), None)
    if found is None:
        msg = f"no clip {name!r} was kept among {len(kept)}; `edge-asd clips list` shows them"
        raise AudioError(msg)
    return found


def _sound(clip: Clip) -> Path:
    if clip.sound is None:
        msg = f"the sound of {clip.name} is not there any more; `edge-asd clips delete {clip.name}` tidies up"
        raise AudioError(msg)
    return clip.sound


def _row(clip: Clip, verdicts: Mapping[str, bool]) -> tuple[str, ...]:
    about = clip.about
    evidence = about.get("evidence") or {}
    size = clip.sound.stat().st_size / 1e3 if clip.sound else 0.0
    seconds, score = about.get("seconds"), evidence.get("score")
    return (
        clip.name,
        str(about.get("began", "")),
        "" if seconds is None else f"{seconds:.0f}",
        f"{size:.0f}",
        "" if score is None else f"{score:.2f}",
        why(evidence),
        {True: "true", False: "false", None: ""}[verdicts.get(str(about.get("event_id")))],
        str(about.get("event_id") or "asked for"),
    )
