"""A run folder: everything one needs to know about a model's making, and to go on with it."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_asd.errors import ConfigError
from train.corpus.clip import checked, chosen, normals, strangers
from train.file import PART, append, write_whole
from train.teach.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from train.corpus.clip import Clip

ROOT = Path(__file__).parents[2]
CONFIG, PROVENANCE, LOG, CHECKPOINT = "config.json", "provenance.json", "log.jsonl", "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Run:
    """One fit."""

    folder: Path
    recipe: Recipe
    data: tuple[Path, ...]
    """folders it was fitted on"""
    machines: tuple[str, ...] = ()
    """patterns of the machines in them that it was fitted on, as in ``dev/ToyCar/*``; all when empty"""
    channel: int | None = None
    """the one taken of recordings that have several, counted from 1"""
    skip_broken: bool = False
    """leave out recordings that cannot be read"""
    outliers: tuple[Path, ...] = ()
    """folders of sound that is none of the machines', to tell them from"""

    @property
    def checkpoint(self) -> Path:
        """State of the network and its optimiser after the last whole epoch."""
        return self.folder / CHECKPOINT

    def clips(self, progress: Progress | None = None) -> list[Clip]:
        """What it learns from, each read once.

        Raises:
            AudioError: a recording cannot be read, and is not to be left out.
            ConfigError: there are none, or a pattern matches no machine.
        """
        clips = chosen(normals(self.data, channel=self.channel), self.machines)
        return checked(clips, skip_broken=self.skip_broken, progress=progress)

    def strangers(self, progress: Progress | None = None) -> list[Clip]:
        """Sound of none of its machines, where the recipe wants to tell them from it: each read once.

        Raises:
            AudioError: a recording cannot be read, and is not to be left out.
            ConfigError: outliers were named, and the recipe has no use for them.
        """
        training = self.recipe.training
        if training is None or not training.outliers:
            if self.outliers:
                msg = f"{self.recipe.name} learns of no outliers; leave out --outliers, or --set training.outliers=0.5"
                raise ConfigError(msg)
            return []
        found = strangers(self.data, self.machines, self.outliers, channel=self.channel)
        return checked(found, skip_broken=self.skip_broken, progress=progress) if found else []

    def log(self, **line: float | str) -> None:
        """One more line in the run's log."""
        append(self.folder / LOG, json.dumps(line))

    def forget(self, epochs: int) -> None:
        """Keep the log's lines of so many epochs: a run that was cut off may have logged one that it did not save."""
        if (path := self.folder / LOG).exists():
            write_whole(path, b"".join(path.read_bytes().splitlines(keepends=True)[:epochs]))


def create(run: Run, clips: Sequence[Clip]) -> Run:
    """Begin a run on these clips, outliers among them, or go on with the same one.

    Raises:
        ConfigError: the folder holds another run, or something else.
    """
    folder, run = run.folder, replace(run, data=_resolved(run.data), outliers=_resolved(run.outliers))
    digest = data_digest(clips)
    if _begun(folder):
        _check_same(run, digest)
        return run
    folder.mkdir(parents=True, exist_ok=True)
    provenance = {
        "commit": commit(),
        "data_digest": digest,
        "clips": len(clips),
        "lock": hashlib.sha256((ROOT / "uv.lock").read_bytes()).hexdigest(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("edge-asd", "numpy", "onnxruntime", "torch")},
    }
    write_json(folder / PROVENANCE, provenance)
    write_json(folder / CONFIG, _config(run))
    return run


def load_run(folder: Path) -> Run:
    """Open a run folder.

    Raises:
        ConfigError: it is none.
    """
    try:
        config = json.loads((folder / CONFIG).read_text())
        recipe, data = Recipe.model_validate(config["recipe"]), tuple(Path(path) for path in config["data"])
        machines, channel, skip = tuple(config["machines"]), config["channel"], bool(config["skip_broken"])
        outliers = tuple(Path(path) for path in config.get("outliers", ()))  # runs did not always have any
    except (OSError, ValueError, KeyError, TypeError) as error:  # pydantic's errors are ValueErrors
        reason = " ".join(str(error).split())
        msg = (
            f"{folder} is no run folder ({reason}); make one with: python -m train fit RECIPE --data DIR --out {folder}"
        )
        raise ConfigError(msg) from error
    return Run(folder, recipe, data, machines, channel, skip, outliers)


def provenance(folder: Path) -> dict[str, Any]:
    """Where a run came from.

    Raises:
        ConfigError: it does not say.
    """
    try:
        found: dict[str, Any] = json.loads((folder / PROVENANCE).read_text())
    except (OSError, ValueError) as error:
        msg = f"{folder / PROVENANCE} cannot be read ({error}), so nobody knows the run's data; give another --out"
        raise ConfigError(msg) from error
    return found


def data_digest(clips: Sequence[Clip]) -> str:
    """SHA-256 over all that is said of every clip, and its content."""
    digest = hashlib.sha256()
    for clip in clips:
        content = hashlib.sha256(clip.path.read_bytes()).hexdigest()
        said = (clip.key, clip.attribute, clip.domain, clip.recording, clip.path.name, clip.channel)
        digest.update(f"{said} {content}\n".encode())
    return digest.hexdigest()


def commit() -> str:
    """The checkout's commit, with ``+`` when it has uncommitted changes."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_json(path: Path, content: object) -> None:
    """Whole or not at all."""
    write_whole(path, json.dumps(content, indent=1).encode() + b"\n")


def _resolved(paths: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(path.resolve() for path in paths)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _config(run: Run) -> dict[str, Any]:
    """What makes it the same run."""
    return {
        "recipe": run.recipe.model_dump(mode="json"),
        "data": [str(path) for path in run.data],
        "machines": list(run.machines),
        "channel": run.channel,
        "skip_broken": run.skip_broken,
        "outliers": [str(path) for path in run.outliers],
    }


def _begun(folder: Path) -> bool:
    """Whether a run is there, or something else; not where one was cut off before its config, the last of its files."""
    if folder.exists() and not folder.is_dir():
        msg = f"--out {folder} is a file; name a folder that is new or empty, or a run's to go on with"
        raise ConfigError(msg)
    return folder.exists() and any(not (e.name == PROVENANCE or e.name.endswith(PART)) for e in folder.iterdir())


def _check_same(run: Run, digest: str) -> None:
    folder = run.folder
    if _config(load_run(folder)) != _config(run) or provenance(folder).get("data_digest") != digest:
        msg = f"{folder} holds a run with other settings or data; give another --out, or the same settings to go on"
        raise ConfigError(msg)
