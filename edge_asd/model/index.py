"""What is on the shelf, as ``shelf.json`` says it: which model of a name is current, and which may be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_asd.errors import BundleError, BundleOutdated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_asd.bundle import Bundle

Role = Literal["current", "previous", "candidate"]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(_Table):
    """What is known of a file on the shelf without opening it."""

    version: str
    created: datetime
    signer: str | None


class Slot(_Table):
    """The models of one name, by digest."""

    current: Digest
    previous: Digest | None = None
    candidate: Digest | None = None
    pinned: datetime | None = None
    """nothing older is made current; when the current one was created that it was pinned at"""
    models: dict[Digest, Model] = Field(max_length=3)

    @model_validator(mode="after")
    def _of_one_piece(self) -> Slot:
        if len({*self.roles.values()}) != len(self.roles) or {*self.roles.values()} != set(self.models):
            msg = f"current, previous and candidate must be the models {', '.join(self.models)}"
            raise ValueError(msg)
        return self

    @property
    def roles(self) -> dict[Role, str]:
        """Digest by role, of those that are filled."""
        filled: dict[Role, str] = {"current": self.current}
        if self.previous:
            filled["previous"] = self.previous
        if self.candidate:
            filled["candidate"] = self.candidate
        return filled

    def arranged(self, models: Mapping[str, Model], current: str, previous: str | None, candidate: str | None) -> Slot:
        """With these in their roles; what has none is let go."""
        kept = {digest: models[digest] for digest in (current, previous, candidate) if digest}
        return Slot(current=current, previous=previous, candidate=candidate, pinned=self.pinned, models=kept)


class Index(_Table):
    """What ``shelf.json`` holds."""

    schema_: Literal["edge_asd.shelf/1"] = Field(default="edge_asd.shelf/1", alias="schema")
    slots: dict[str, Slot] = {}

    def holding(self, name: str, slot: Slot) -> Index:
        """With this slot in place of the one of its name."""
        return Index(slots={**self.slots, name: slot})

    @property
    def files(self) -> set[str]:
        """Names of all files that must be there."""
        return {file_of(digest) for slot in self.slots.values() for digest in slot.models}


def with_bundle(slot: Slot | None, bundle: Bundle) -> Slot:
    """A name's models and one more."""
    created = moment(bundle.manifest.created, bundle.path)
    known = {bundle.digest: Model(version=bundle.manifest.version, created=created, signer=bundle.signer)}
    if slot is None:
        return Slot(current=bundle.digest, models=known)
    waits = slot.candidate if bundle.digest in {slot.current, slot.previous} else bundle.digest
    return slot.arranged(slot.models | known, slot.current, slot.previous, waits)


def refuse_older(slot: Slot, created: datetime, path: Path) -> None:
    """BundleOutdated for what a pinned name does not let in."""
    if slot.pinned:
        refuse_before(slot.models[slot.current].created, created, path)


def refuse_before(pinned: datetime | None, created: datetime, path: Path) -> None:
    """BundleOutdated for what was created before a name was pinned."""
    if pinned and created < pinned:
        msg = (
            f"{path}: was created {created.isoformat()}, and its name is pinned: nothing from before "
            f"{pinned.isoformat()} is used; edge-asd model unpin lets it in"
        )
        raise BundleOutdated(msg)


def moment(created: str, path: Path) -> datetime:
    """When a manifest says that the bundle was made; without a zone, UTC."""
    try:
        time = datetime.fromisoformat(created)
    except ValueError as error:
        msg = f"{path}: was created {created!r}, which is no ISO time; export it again"
        raise BundleError(msg) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def file_of(digest: str) -> str:
    """What a model's file is called."""
    return f"{digest[:16]}.asd"
