"""Data sets as they lie on disk: folders with ``train/`` or ``test/`` in them, or of one machine's recordings."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import TYPE_CHECKING, Literal, TypeAlias

import pydantic

from edge_asd.capture.file import audio_format, read_audio
from edge_asd.errors import AudioError, ConfigError
from train.corpus.name import EXAMPLE, NONE, joined, looks_like_dcase, read_name
from train.corpus.truth import load_truth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from rich.progress import Progress

    from train.corpus.truth import Truth

Domain: TypeAlias = Literal["source", "target"]
Split: TypeAlias = Literal["train", "test", "supplemental"]
Label: TypeAlias = Literal["normal", "anomaly", "unknown"]
Role: TypeAlias = Literal["", "machine", "noise"]

FOLDERS: dict[str, tuple[Split, Domain | None]] = {
    "train": ("train", None),
    "test": ("test", None),
    "source_test": ("test", "source"),  # 2021; before or after they were copied into test/
    "target_test": ("test", "target"),
    "supplemental": ("supplemental", None),
}
"""folder of a machine -> what is in it, and its domain where the folder says so"""
AUDIO = frozenset({".wav", ".flac"})
DEPTH = 2
"""how many folders below the one that was named a data set is looked for"""
NAMED = 5
"""how many files a message names"""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a data set."""

    path: Path
    key: str
    """machine identity, ``set/machine/section``"""
    attribute: str
    """operating condition, names and values of all attributes joined; empty when unknown"""
    domain: Domain
    split: Split
    label: Label
    recording: str
    """id of the recording the clip was cut from; clips that share it are not independent"""
    noise: str = ""
    """id of the noise recording mixed in; empty when none"""
    role: Role = ""
    """what a supplemental clip holds: the machine without its surroundings, or those without it"""
    channel: int | None = None
    """counted from 1; the one to take of a recording that has several"""


class Row(pydantic.BaseModel, frozen=True):
    """One line of a ``manifest.csv``, or what a file name says; further columns are ignored."""

    file: str
    machine: str = pydantic.Field(pattern=r"^[^/]+$")
    section: str = pydantic.Field(pattern=r"^[^/]+$")
    attribute: str = ""
    domain: Domain
    split: Split
    label: Label
    recording: str = ""
    noise: str = ""
    role: Role = ""


def scan(folders: Sequence[Path], *, truth: Path | None = None, channel: int | None = None) -> list[Clip]:
    """Every clip of the data sets in these folders, sorted by machine, split and file.

    A data set is a folder with ``train/`` or ``test/`` in it, or lies up to two folders below the one named. Its
    ``manifest.csv`` is believed before its ``attributes_*.csv``, and those before file names (DCASE 2020 to 2025).
    With a manifest the set is the folder and the machine a column; otherwise the machine is the folder and the set
    the folder around it. A folder that only holds recordings is one machine, and all of them are normal.

    Args:
        folders: data sets, folders of data sets, or of one machine's normal recordings.
        truth: an official evaluator's folder, which labels the test clips whose names do not.
        channel: counted from 1; the one to take of every recording that has several.

    Raises:
        ConfigError: a folder is missing or holds no data set, two folders claim the same machine, or a manifest, a
            file name or the ground truth cannot be understood.
    """
    answers = load_truth(truth.expanduser()) if truth else None
    sets = sorted({found for folder in folders for found in _sets(folder.expanduser().resolve())})
    clips = [
        clip if channel is None else replace(clip, channel=channel) for home in sets for clip in _clips(home, answers)
    ]
    if not clips:
        msg = f"no recordings in {_list(folders)}: expected .wav or .flac files in train/ or test/"
        raise ConfigError(msg)
    _refuse_twins(sets, clips)
    if answers:
        _refuse_strangers(answers, clips)
    return sorted(clips, key=lambda clip: (clip.key, clip.split, clip.path))


def normals(folders: Sequence[Path], *, channel: int | None = None) -> list[Clip]:
    """The clips one may learn from: normal, and meant for training.

    Raises:
        ConfigError: there are none.
    """
    clips = [clip for clip in scan(folders, channel=channel) if _to_learn(clip)]
    if not clips:
        msg = f"no normal training clips under {_list(folders)}; they belong into a folder named train/"
        raise ConfigError(msg)
    return clips


def strangers(
    folders: Sequence[Path], machines: Sequence[str], outliers: Sequence[Path], *, channel: int | None = None
) -> list[Clip]:
    """Sound that is of none of the machines that are learned.

    Training clips of the other machines of the data sets, supplemental clips of what surrounds a machine, and whatever
    there is to train on in the folders of outliers; but none of a noise that is mixed into a clip of the data sets,
    where it would be known again.

    Args:
        folders: data sets.
        machines: patterns of the machines that are learned; all when empty.
        outliers: further data sets, or folders of recordings.
        channel: as in :func:`scan`.
    """
    known = scan(folders, channel=channel)
    learned = {clip.key for clip in chosen(known, machines)}
    own = [clip for clip in known if clip.role == "noise" or (_to_learn(clip) and clip.key not in learned)]
    further = scan(outliers, channel=channel) if outliers else []
    heard = {clip.noise for clip in known if clip.noise}
    used = {clip.path for clip in known}
    return own + [
        clip
        for clip in further
        if (_to_learn(clip) or clip.role == "noise") and clip.noise not in heard and clip.path not in used
    ]


def trials(
    folders: Sequence[Path], *, machines: Sequence[str] = (), truth: Path | None = None, channel: int | None = None
) -> list[Clip]:
    """The clips to be judged, of machines whose identity matches one of the patterns.

    Raises:
        ConfigError: there are none, or a pattern matches no machine.
    """
    clips = [clip for clip in scan(folders, truth=truth, channel=channel) if clip.split == "test"]
    if not clips:
        msg = f"no test clips in {_list(folders)}: nothing to evaluate"
        raise ConfigError(msg)
    return chosen(clips, machines)


def load(clip: Clip, rate: int) -> NDArray[np.float32]:
    """The clip's samples (L,) at ``rate`` hertz.

    Raises:
        AudioError: the file is missing, broken, empty, or has several channels of which none was chosen.
    """
    several = clip.channel is not None and audio_format(clip.path).channels > 1
    return read_audio(clip.path, rate, channel=clip.channel if several else None)


def chosen(clips: Sequence[Clip], patterns: Sequence[str]) -> list[Clip]:
    """The clips of machines whose identity matches one of the patterns, as in ``dev/ToyCar/*``; all without any.

    Raises:
        ConfigError: a pattern matches no machine.
    """
    known = sorted({clip.key for clip in clips})
    for pattern in patterns:
        if not any(fnmatchcase(key, pattern) for key in known):
            msg = f"no machine {pattern!r}; there are {_list(known)}"
            raise ConfigError(msg)
    return [clip for clip in clips if not patterns or any(fnmatchcase(clip.key, pattern) for pattern in patterns)]


def checked(clips: Sequence[Clip], *, skip_broken: bool = False, progress: Progress | None = None) -> list[Clip]:
    """The clips that can be read, each having been read once: before hours are spent on the others.

    Args:
        clips: of any split.
        skip_broken: leave out what cannot be read, and say so on standard error.
        progress: shows how far it is.

    Raises:
        AudioError: recordings cannot be read, and were not to be left out; or none can.
        ConfigError: a recording has several channels, and none of them was chosen.
    """
    shown = progress.track(clips, description="checking clips") if progress else clips
    broken = {clip.path: reason for clip in shown if (reason := _broken(clip))}
    count = f"{len(broken)} of {len(clips)} recordings cannot be read"
    if broken and (len(broken) == len(clips) or not skip_broken):
        more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        msg = f"{count}: {'; '.join([*broken.values()][:NAMED])}{more}; mend them, or leave them out with --skip-broken"
        raise AudioError(msg)
    if broken:
        print(f"{count} and are left out:", *broken.values(), sep="\n  ", file=sys.stderr)
    return [clip for clip in clips if clip.path not in broken]


def _to_learn(clip: Clip) -> bool:
    return clip.split == "train" and clip.label == "normal"


def _broken(clip: Clip) -> str:
    """Why the clip cannot be read; empty when it can."""
    try:
        form = audio_format(clip.path)
        if form.channels > 1 and not 1 <= (clip.channel or 0) <= form.channels:
            msg = f"{clip.path} has {form.channels} channels: pick one of them with --channel 1 to {form.channels}"
            raise ConfigError(msg)
        load(clip, form.rate)
    except AudioError as error:
        return str(error)
    return ""


# Where data sets are --------------------------------------------------------------------------------------------------


def _sets(folder: Path) -> list[Path]:
    if not folder.is_dir():
        msg = f"no such folder: {folder}; name a data set or a folder of data sets"
        raise ConfigError(msg)
    found = list(_below(folder, DEPTH))
    if found:
        return found
    if _recordings(folder):
        _refuse_pieces(folder)
        return [folder]
    seen = next((path.parent for path in chain(folder.glob("*/*"), folder.glob("*/*/*")) if _is_audio(path)), None)
    msg = f"no data set in {folder}: expected a folder with train/ or test/ in it, at most {DEPTH} folders down, "
    msg += "or one machine's normal recordings" + (f"; there are recordings in {seen}" if seen else "")
    raise ConfigError(msg)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / mark).exists() for mark in (*FOLDERS, "manifest.csv")):
        yield folder
    elif depth:
        for child in folder.iterdir():
            if child.is_dir():
                yield from _below(child, depth - 1)


def _recordings(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if _is_audio(path))


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO and not path.name.startswith(".")


def _refuse_pieces(folder: Path) -> None:
    """A folder of recordings is taken for a machine's normal sound only if nothing suggests something else."""
    named = next((path.name for path in _recordings(folder) if looks_like_dcase(path.stem)), None)
    if named or folder.name in FOLDERS or any(folder.glob("attributes_*.csv")):
        what = f"{named} is named as in DCASE" if named else "it looks like a piece of a DCASE data set"
        msg = f"{folder}: {what}, but is in no train/ or test/: move the recordings into {folder / 'train'}"
        msg += f", or name {folder.parent} where {folder.name}/ is, or should be called, one of the two"
        raise ConfigError(msg)
    if inner := next((path.parent for path in folder.glob("*/*") if _is_audio(path)), None):
        msg = f"{folder} holds recordings and {inner.name}/ more of them: name one folder of normal recordings"
        raise ConfigError(msg)


def _clips(folder: Path, truth: Truth | None) -> Iterator[Clip]:
    if (folder / "manifest.csv").is_file():
        return _from_manifest(folder)
    if any((folder / name).exists() for name in FOLDERS):
        return _from_names(folder, truth)
    return _from_recordings(folder)


def _clip(data_set: str, folder: Path, row: Row) -> Clip:
    key = f"{data_set}/{row.machine}/{row.section}"
    recording = row.recording or f"{key}/{row.file}"
    split: Split = "supplemental" if row.role else row.split
    label: Label = "unknown" if split == "supplemental" else row.label  # neither to learn normal from nor to test with
    return Clip(folder / row.file, key, row.attribute, row.domain, split, label, recording, row.noise, row.role)


def _row(fields: Mapping[str, str], where: str) -> Row:
    try:
        return Row.model_validate(fields)
    except pydantic.ValidationError as error:
        what = error.errors()[0]
        column = str(what["loc"][0])
        msg = f"{where}: {column}: {what['msg']}, got {fields.get(column)!r}"
        raise ConfigError(msg) from error


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [{k: v for k, v in line.items() if k is not None and v is not None} for line in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} is no table: {error}; save it as CSV in UTF-8"
        raise ConfigError(msg) from error


# A set with a manifest ------------------------------------------------------------------------------------------------


def _from_manifest(folder: Path) -> Iterator[Clip]:
    for line, fields in enumerate(_table(folder / "manifest.csv"), start=2):
        where = f"{folder / 'manifest.csv'} line {line}"
        clip = _clip(folder.name, folder, _row(fields, where))
        if not clip.path.is_file():
            msg = f"{where}: no such file: {fields['file']!r}; fetch the data set again or remove the line"
            raise ConfigError(msg)
        yield clip


# A set without --------------------------------------------------------------------------------------------------------


def _from_names(folder: Path, truth: Truth | None) -> Iterator[Clip]:
    attributes, seen = _attributes(folder), set[tuple[str, str]]()
    for name, (split, domain) in FOLDERS.items():
        for path in _recordings(folder / name):
            if (split, path.name) in seen:
                continue  # 2021's baseline copies source_test/ and target_test/ into test/
            seen.add((split, path.name))
            said = _said(path, split)
            said["attribute"] = attributes.get(path.stem, said["attribute"])
            if domain:
                said.setdefault("domain", domain)
            known = _answered(truth, folder.name, said, path) if split == "test" else said
            assumed = {
                "machine": folder.name,
                "file": f"{name}/{path.name}",
                "split": split,
                "domain": "source",  # evaluation files do not say, and without a label it is never used
                "label": "normal" if split == "train" else "unknown",
            }
            yield _clip(_set_of(folder), folder, _row({**assumed, **known}, str(path)))


def _set_of(folder: Path) -> str:
    return folder.parent.name or "root"


def _attributes(folder: Path) -> dict[str, str]:
    """Name without extension -> its attributes joined; rows name files with any folders before them, or none."""
    found = {}
    for path in sorted(folder.glob("attributes_*.csv")):
        for row in _table(path):
            if "file_name" not in row:
                msg = f"{path}: expected the header file_name,d1p,d1v,d2p,d2v, got {','.join(row)}"
                raise ConfigError(msg)
            name = row["file_name"].strip().rsplit("/", 1)[-1]
            found[re.sub(r"\.(wav|flac)$", "", name, flags=re.IGNORECASE)] = joined(_pairs(row))
    return found


def _pairs(row: Mapping[str, str]) -> Iterator[str]:
    """Names and values of the attributes that have one, of the columns ``file_name,d1p,d1v,d2p,d2v,…``."""
    fields = {column.strip(): value.strip() for column, value in row.items()}
    for column, value in fields.items():
        if re.fullmatch(r"d\d+v", column) and value not in {"", NONE}:
            yield from (fields.get(f"{column[:-1]}p", ""), value)


def _said(path: Path, split: Split) -> dict[str, str]:
    said = read_name(path.stem)
    if said is None:
        msg = f"{path}: expected a name like {EXAMPLE}{path.suffix}, or a manifest.csv"
        raise ConfigError(msg)
    if split == "supplemental" and "role" not in said:
        msg = (
            f"{path}: expected a name like section_00_machine_0001_{path.suffix} or section_00_noise_0001_{path.suffix}"
        )
        raise ConfigError(msg)
    return said


def _answered(truth: Truth | None, machine: str, said: dict[str, str], path: Path) -> dict[str, str]:
    """What the name says, and what the ground truth knows where the name gives no label."""
    if truth is None or "label" in said or "role" in said:
        return said
    answers = {**said, **truth.fields(machine, said["section"], path.name)}
    if "label" in answers and "domain" not in answers:
        msg = f"{truth.folder} labels {path}, but neither gives its domain: add the evaluator's ground_truth_domain/"
        raise ConfigError(msg)
    return answers


# Recordings alone -----------------------------------------------------------------------------------------------------


def _from_recordings(folder: Path) -> Iterator[Clip]:
    assumed = {"machine": folder.name, "section": "00", "domain": "source", "split": "train", "label": "normal"}
    for path in _recordings(folder):
        yield _clip(_set_of(folder), folder, _row({**assumed, "file": path.name}, str(path)))


# What can be wrong with several sets ----------------------------------------------------------------------------------


def _refuse_twins(sets: Sequence[Path], clips: Sequence[Clip]) -> None:
    """Machines of one name in two places would be one machine to everything that follows."""
    homes: dict[str, set[Path]] = {}
    for clip in clips:
        home = next(folder for folder in sets if clip.path.is_relative_to(folder))
        homes.setdefault(clip.key, set()).add(home)
    for key, places in homes.items():
        if len(places) > 1:
            msg = f"{_list(sorted(places))} both hold {key}: rename one data set's folder, or name one of them"
            raise ConfigError(msg)


def _refuse_strangers(truth: Truth, clips: Sequence[Clip]) -> None:
    """Ground truth of none of the machines is another year's."""
    here = {" ".join(clip.key.split("/")[1:]) for clip in clips if clip.split == "test"}
    known = {" ".join(section) for section in truth.anomalous}
    if not here & known:
        wanted = f"the test clips are of {_list(sorted(here))}" if here else "there are no test clips"
        msg = f"{truth.folder} is about {_list(sorted(known))}, but {wanted}; name the ground truth of this data"
        raise ConfigError(msg)


def _list(things: Iterable[object]) -> str:
    return ", ".join(map(str, things))
