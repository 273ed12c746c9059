"""What one machine's ear has learned, and which of it counts: a candidate, the active one, the previous one.

In ``STATE/learnt/MACHINE`` lies each as ``NUMBER.learnt`` beside ``slots.json``, which says which is which. That file
is put in its place whole, and after everything it names: whatever happens in between, the notebook is as it was before
or as it is after. What it does not name is swept away by the next change. Number 0 is the bundle's own head, which is
always there. Beside them lies what was heard of a lesson that is not over, and what a daemon was told to teach.
"""

from __future__ import annotations

import fcntl
import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_asd.archive import settle, sync
from edge_asd.errors import EdgeAsdError, UpdateRefused
from edge_asd.learn.memory import Memory
from edge_asd.learn.overlay import read_overlay, write_overlay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_asd.bundle import Bundle
    from edge_asd.learn.fit import Learnt
    from edge_asd.learn.overlay import Note, Overlay

log = logging.getLogger(__name__)

FOLDER = "learnt"
"""within the state folder"""
SLOTS, LOCK, LESSON, ORDER = "slots.json", "lock", "lesson.safetensors", "order.json"
OWN = 0
"""number of the bundle's own head"""


class Slots(BaseModel):
    """Which number has which part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    active: int = Field(default=OWN, ge=0)
    previous: int | None = None
    """what ``undo`` leads to"""
    candidate: int | None = None
    """what waits to be committed"""
    last: int = Field(default=0, ge=0)
    """number of the latest that was ever learned; none is given twice"""

    @property
    def named(self) -> set[int]:
        """Those that must be there."""
        return {number for number in (self.active, self.previous, self.candidate) if number}


class Order(BaseModel):
    """A lesson that a daemon is to hold, also after it was killed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    number: int = Field(gt=0)
    """that its candidate will have; once that was given, the order is carried out"""
    minutes: float = Field(gt=0)
    """of normal sound"""
    add: str | None = None
    """operating point to be added; None: all is learned anew"""
    alarms: bool = False
    """clips of alarms count, too"""
    every: int = Field(default=1, ge=1, exclude_if=lambda every: every == 1)
    """one clip of so many is learned, so that a few minutes may tell of many days"""
    by: str | None = None
    """who wants it"""

    @property
    def what(self) -> tuple[str | None, bool]:
        """Two orders that differ in it are two lessons."""
        return self.add, self.alarms


@dataclass(frozen=True, slots=True)
class Notebook:
    """Any process may read and change it at any time; changes wait for each other."""

    folder: Path
    """``STATE/learnt/MACHINE``; made with the first change"""

    @classmethod
    def of(cls, state: Path, machine: str) -> Notebook:
        """Of one machine."""
        return cls(state / FOLDER / machine)

    # What there is

    def slots(self) -> Slots:
        """As they are.

        Raises:
            UpdateRefused: that cannot be read.
        """
        try:
            return Slots.model_validate_json((self.folder / SLOTS).read_bytes())
        except FileNotFoundError:
            return Slots()
        except (OSError, ValidationError) as error:
            msg = f"{self.folder / SLOTS}: cannot be read ({error}); delete {self.folder} and learn again"
            raise UpdateRefused(msg) from error

    def path(self, number: int) -> Path:
        """Of the file of that number."""
        return self.folder / f"{number}.learnt"

    def active(self, bundle: Bundle) -> tuple[int, Overlay] | None:
        """The one that counts, over this bundle; None where the bundle's own head does.

        Raises:
            UpdateRefused: which one cannot be read.
            BundleError: it lies over another bundle, or is damaged.
        """
        number = self.slots().active
        return (number, read_overlay(self.path(number), bundle)) if number else None

    def candidate(self, bundle: Bundle) -> tuple[int, Overlay] | None:
        """The one that waits to be committed, over this bundle; raises what :meth:`active` does."""
        number = self.slots().candidate
        return (number, read_overlay(self.path(number), bundle)) if number else None

    # What changes it

    def propose(self, note: Note, learnt: Learnt) -> Slots:
        """Keep it as the candidate, in place of any before; the lesson is over."""
        with self._change() as slots:
            number = slots.last + 1
            write_overlay(self.path(number), note, learnt)
            changed = self._write(slots.model_copy(update={"candidate": number, "last": number}))
            self._drop(LESSON, ORDER)
            return changed

    def commit(self) -> Slots:
        """The candidate counts from now on.

        Raises:
            UpdateRefused: there is none.
        """
        with self._change() as slots:
            if slots.candidate is None:
                msg = f"{self.folder.name}: nothing waits to be committed; first: edge-asd learn {self.folder.name}"
                raise UpdateRefused(msg)
            arranged = {"active": slots.candidate, "previous": slots.active, "candidate": None}
            return self._write(slots.model_copy(update=arranged))

    def undo(self) -> Slots:
        """Active and previous change places; the one that is active now comes back when asked again.

        Raises:
            UpdateRefused: there is no previous one.
        """
        with self._change() as slots:
            if slots.previous is None:
                msg = f"{self.folder.name}: nothing was ever committed, so there is nothing to go back to"
                raise UpdateRefused(msg)
            return self._write(slots.model_copy(update={"active": slots.previous, "previous": slots.active}))

    def discard(self) -> Slots:
        """Forget the candidate, and the lesson that is not over."""
        with self._change() as slots:
            self._drop(ORDER, LESSON)
            return self._write(slots.model_copy(update={"candidate": None}))

    # A lesson that is not over

    def heard(self, digest: str, key: str) -> Memory:
        """What was heard of it; nothing where another bundle or head listened."""
        with suppress(FileNotFoundError, SafetensorError, ValueError, KeyError):
            content = load((self.folder / LESSON).read_bytes())
            if bytes(content.pop("listener")) == _listener(digest, key):
                return Memory.of(content)
        return Memory()

    def keep_heard(self, memory: Memory, digest: str, key: str) -> None:
        """For the same command to go on with; of nothing there is no lesson."""
        with self._change():
            if not len(memory):
                self._drop(LESSON)
                return
            listener = np.frombuffer(_listener(digest, key), np.uint8)
            content = {name: np.ascontiguousarray(value) for name, value in memory.tensors().items()}
            self._settle(LESSON, save({**content, "listener": listener.copy()}))

    def order(self) -> Order | None:
        """What a daemon is to teach; None: nothing, it is done already, or nobody can read it.

        Raises:
            UpdateRefused: what was learned so far cannot be read.
        """
        try:
            order = Order.model_validate_json((self.folder / ORDER).read_bytes())
        except (OSError, ValidationError):
            return None
        return order if order.number > self.slots().last else None

    def keep_order(self, order: Order) -> None:
        """In place of any before."""
        with self._change():
            self._settle(ORDER, (order.model_dump_json(indent=1) + "\n").encode())

    def drop_order(self) -> None:
        """Nobody is to teach any more; what was heard is kept."""
        with self._change():
            self._drop(ORDER)

    # How it is kept

    @contextmanager
    def _change(self) -> Iterator[Slots]:
        """The slots as they are, while nobody else changes them; before and after, what they do not name is swept."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sync(self.folder.parent)
            with (self.folder / LOCK).open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._sweep()
                yield self.slots()
                self._sweep()
        except OSError as error:
            msg = f"{self.folder}: cannot be changed ({error}); is there room, and may this user write there?"
            raise UpdateRefused(msg) from error

    def _sweep(self) -> None:
        kept = {SLOTS, LOCK, LESSON, ORDER, *(self.path(number).name for number in self.slots().named)}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()

    def _drop(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def _write(self, slots: Slots) -> Slots:
        self._settle(SLOTS, (slots.model_dump_json(indent=1) + "\n").encode())
        return slots

    def _settle(self, name: str, content: bytes) -> None:
        partial = self.folder / f"{name}.partial"
        partial.write_bytes(content)
        settle(partial, self.folder / name)


def overlaid(state: Path | None, machine: str, bundle: Bundle, key: str) -> Bundle:
    """The bundle with what was learned of a machine and committed, in the place of one head.

    As it is where nothing was. Where that cannot be used, over another bundle or damaged, too: it is logged, for a
    machine that is judged by the bundle's own head is better off than one that is not heard.
    """
    if state is None:
        return bundle
    try:
        found = Notebook.of(state, machine).active(bundle)
    except EdgeAsdError as error:
        log.warning("learnt.ignored", extra={"machine": machine, "reason": str(error)})
        return bundle
    if found and found[1].note.key != key:
        reason = f"it is in the place of head {found[1].note.key}, and {key} is configured; learn again"
        log.warning("learnt.ignored", extra={"machine": machine, "reason": reason})
        return bundle
    return found[1].over(bundle, found[0]) if found else bundle


def _listener(digest: str, key: str) -> bytes:
    return f"{digest} {key}".encode()
