"""What was learned, as a file: a head over one head of one bundle (architecture, decision 4).

An archive as a bundle is one: ``learnt.json``, ``head.safetensors``, and ``heard.safetensors``, the features of the
clips in the bank, to which an operating point can be added later. It belongs to the bundle of one digest; over another
it is nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_asd.archive import read_archive, store
from edge_asd.bundle import HeadCard, feature_widths, pack_head, unpack_head
from edge_asd.errors import BundleCorrupt, BundleError
from edge_asd.learn.memory import Memory

if TYPE_CHECKING:
    from pathlib import Path

    from edge_asd.bundle import Bundle
    from edge_asd.learn.fit import Learnt
    from edge_asd.score.head import Head

NOTE, HEAD, HEARD = "learnt.json", "head.safetensors", "heard.safetensors"
WITHIN = "learnt"
"""what the head is called in its file"""


class Note(BaseModel):
    """What an overlay says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_: Literal["edge_asd.learnt/1"] = Field(default="edge_asd.learnt/1", alias="schema")
    machine: str
    bundle_sha256: str
    """the digest of the bundle that it lies over"""
    key: str
    """the head in whose place it is"""
    created: str
    """RFC 3339"""
    card: HeadCard
    points: dict[str, int]
    """clips in the bank by operating point"""
    files: dict[str, str] = {}
    """SHA-256 of every other file"""


@dataclass(frozen=True, slots=True)
class Overlay:
    """One that was read."""

    note: Note
    head: Head
    memory: Memory

    def over(self, bundle: Bundle, number: int) -> Bundle:
        """The bundle with this head in the place of its own, whose golden vectors it keeps: prove it before.

        Its version tells the number, as SemVer writes what was built of a version: ``1.2.3+learnt.4``.
        """
        key, own = self.note.key, bundle.manifest
        version = f"{own.version}{'.' if '+' in own.version else '+'}learnt.{number}"
        manifest = own.model_copy(update={"version": version, "heads": {**own.heads, key: self.note.card}})
        return replace(bundle, manifest=manifest, heads={**bundle.heads, key: self.head})


def write_overlay(path: Path, note: Note, learnt: Learnt) -> None:
    """Whole or not at all."""
    head, heard = (
        {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        for tensors in (pack_head(WITHIN, learnt.head), learnt.memory.tensors())
    )
    files = {HEAD: save(head), HEARD: save(heard)}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    sealed = note.model_copy(update={"files": digests})
    store(path, files | {NOTE: sealed.model_dump_json(by_alias=True).encode()})


def read_note(path: Path) -> Note:
    """What it says of itself; raises what :func:`read_overlay` does, but for what only the bundle can show."""
    return _files(path)[0]


def read_overlay(path: Path, bundle: Bundle) -> Overlay:
    """Over the bundle that it was learned with.

    Raises:
        BundleError: there is none, it lies over another bundle, or cannot be understood.
        BundleCorrupt: a byte of it is not what it was.
    """
    note, files = _files(path)
    if note.bundle_sha256 != bundle.digest:
        msg = (
            f"{path}: was learned over bundle {note.bundle_sha256[:16]}, this one is {bundle.digest[:16]}; learn again"
        )
        raise BundleError(msg)
    widths = feature_widths(bundle.manifest, bundle.backbone)
    try:
        memory = Memory.of(load(files[HEARD]))
        head = unpack_head(WITHIN, note.card, load(files[HEAD]), widths, memory.names())
        card = note.card.model_copy(update={"days": memory.days})
        return Overlay(note.model_copy(update={"card": card}), head, memory)
    except (KeyError, ValueError, SafetensorError) as error:
        msg = f"{path}: cannot be used ({error}); undo it: edge-asd learn {note.machine} undo"
        raise BundleError(msg) from error


def _files(path: Path) -> tuple[Note, dict[str, bytes]]:
    try:
        files = read_archive(path, {})
        note = Note.model_validate_json(files.pop(NOTE, b""))
    except FileNotFoundError as error:
        msg = f"{path}: is gone; learn again"
        raise BundleError(msg) from error
    except ValidationError as error:
        msg = f"{path}: {NOTE} not understood ({error.errors()[0]['msg'].lower()}); learn again"
        raise BundleError(msg) from error
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if found != note.files:
        msg = f"{path}: its files are not those it was written with; undo it: edge-asd learn {note.machine} undo"
        raise BundleCorrupt(msg)
    return note, files
