"""Data sets as they lie on disk: folders with ``train/`` or ``test/`` in them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import pydantic

from edge_asd.capture.file import read_audio
from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

Domain: TypeAlias = Literal["source", "target"]
Split: TypeAlias = Literal["train", "test"]
Label: TypeAlias = Literal["normal", "anomaly", "unknown"]

SPLITS: tuple[Split, ...] = ("train", "test")
AUDIO = frozenset({".wav", ".flac"})
DEPTH = 2
"""how many folders below the one that was named a data set is looked for"""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a data set."""

    path: Path
    key: str
    """machine identity, ``set/machine/section``"""
    attribute: str
    """operating condition, the values of all attributes joined; empty when unknown"""
    domain: Domain
    split: Split
    label: Label
    recording: str
    """id of the recording the clip was cut from; clips that share it are not independent"""
    noise: str = ""
    """id of the noise recording mixed in; empty when none"""


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


# Every piece but the section and the number may be absent: evaluation files are section_00_0000.wav
NAME = re.compile(
    r"section_(?P<section>\d+)(?:_(?P<domain>source|target))?(?:_(?:train|test))?(?:_(?P<label>[A-Za-z]+))?_\d+"
    r"(?:_(?P<attribute>.*))?"
)


def scan(folders: Sequence[Path]) -> list[Clip]:
    """Every clip of the data sets in these folders, sorted by machine, split and file.

    A data set is a folder with ``train/`` or ``test/`` in it, or lies up to two folders below the one named. Its
    ``manifest.csv`` is believed before its ``attributes_*.csv``, and those before file names (DCASE 2022 to 2025).
    With a manifest the set is the folder and the machine a column; otherwise the machine is the folder and the set
    the folder around it.

    Raises:
        ConfigError: a folder is missing or holds no data set, two folders claim the same machine, or a manifest or
            a file name cannot be understood.
    """
    sets = sorted({found for folder in folders for found in _sets(folder.expanduser().resolve())})
    clips = list(chain.from_iterable(map(_clips, sets)))
    if not clips:
        msg = f"no recordings in {_list(folders)}: expected .wav or .flac files in train/ or test/"
        raise ConfigError(msg)
    _refuse_twins(sets, clips)
    return sorted(clips, key=lambda clip: (clip.key, clip.split, clip.path))


def load(clip: Clip, rate: int) -> NDArray[np.float32]:
    """The clip's samples (L,) at ``rate`` hertz.

    Raises:
        AudioError: the file is missing, broken, empty or not mono.
    """
    return read_audio(clip.path, rate)


def _sets(folder: Path) -> list[Path]:
    if not folder.is_dir():
        msg = f"no such folder: {folder}; name a data set or a folder of data sets"
        raise ConfigError(msg)
    found = list(_below(folder, DEPTH))
    if not found:
        msg = f"no data set in {folder}: expected a folder with train/ or test/ in it, at most {DEPTH} folders down"
        raise ConfigError(msg)
    return found


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / mark).exists() for mark in (*SPLITS, "manifest.csv")):
        yield folder
    elif depth:
        for child in folder.iterdir():
            if child.is_dir():
                yield from _below(child, depth - 1)


def _clips(folder: Path) -> Iterator[Clip]:
    return _from_manifest(folder) if (folder / "manifest.csv").is_file() else _from_names(folder)


def _clip(data_set: str, folder: Path, row: Row) -> Clip:
    key = f"{data_set}/{row.machine}/{row.section}"
    recording = row.recording or f"{key}/{row.file}"
    return Clip(folder / row.file, key, row.attribute, row.domain, row.split, row.label, recording, row.noise)


def _row(fields: dict[str, str], where: str) -> Row:
    try:
        return Row.model_validate(fields)
    except pydantic.ValidationError as error:
        what = error.errors()[0]
        column = str(what["loc"][0])
        msg = f"{where}: {column}: {what['msg']}, got {fields.get(column)!r}"
        raise ConfigError(msg) from error


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [{k: v for k, v in line.items() if k is not None and v is not None} for line in csv.DictReader(file)]


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


def _from_names(folder: Path) -> Iterator[Clip]:
    attributes = _attributes(folder)
    for split in SPLITS:
        assumed = {
            "machine": folder.name,
            "split": split,
            "domain": "source",  # evaluation files do not say, and without a label it is never used
            "label": "normal" if split == "train" else "unknown",
        }
        for path in (folder / split).glob("[!.]*"):
            if path.suffix.lower() in AUDIO:
                said = _said(path)
                said["attribute"] = attributes.get(path.name, said["attribute"])
                fields = {**assumed, **said, "file": f"{split}/{path.name}"}
                yield _clip(folder.parent.name, folder, _row(fields, str(path)))


def _attributes(folder: Path) -> dict[str, str]:
    """File name -> its attribute values joined; rows name files with any folders before them, or none."""
    rows = chain.from_iterable(map(_table, sorted(folder.glob("attributes_*.csv"))))
    return {Path(row["file_name"]).name: _joined(_values(row)) for row in rows if "file_name" in row}


def _values(row: dict[str, str]) -> Iterator[str]:
    """The columns d1v, d2v, … of the header ``file_name,d1p,d1v,d2p,d2v,…``."""
    return (value for column, value in row.items() if re.fullmatch(r"d\d+v", column))


def _said(path: Path) -> dict[str, str]:
    """What the name of a DCASE 2022-2025 file says."""
    found = NAME.fullmatch(path.stem)
    if found is None:
        msg = f"{path}: expected a name like section_00_source_train_normal_0000_car_A1{path.suffix}, or a manifest.csv"
        raise ConfigError(msg)
    said = {field: value for field, value in found.groupdict().items() if value}
    return {**said, "attribute": _from_pairs(said.get("attribute", ""))}


def _from_pairs(text: str) -> str:
    """``car_A1_spd_28V`` -> ``A1_28V``; all of it when it is not made of pairs."""
    words = [word for word in text.split("_") if word]
    return _joined(words if len(words) % 2 else words[1::2])


def _joined(values: Iterable[str]) -> str:
    return "_".join(value for value in values if value and value != "noAttribute")


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


def _list(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))


def normals(folders: Sequence[Path]) -> list[Clip]:
    """The clips one may learn from: normal, and meant for training.

    Raises:
        ConfigError: there are none.
    """
    clips = [clip for clip in scan(folders) if clip.split == "train" and clip.label == "normal"]
    if not clips:
        msg = f"no normal training clips under {_list(folders)}; they belong into a folder named train/"
        raise ConfigError(msg)
    return clips


def chosen(clips: Sequence[Clip], patterns: Sequence[str]) -> list[Clip]:
    """The clips of machines whose identity matches one of the patterns, as in ``dev/ToyCar/*``; all without any.

    Raises:
        ConfigError: a pattern matches no machine.
    """
    known = sorted({clip.key for clip in clips})
    for pattern in patterns:
        if not any(fnmatchcase(key, pattern) for key in known):
            msg = f"no machine {pattern!r}; there are {', '.join(known)}"
            raise ConfigError(msg)
    return [clip for clip in clips if not patterns or any(fnmatchcase(clip.key, pattern) for pattern in patterns)]
