"""Is what was learned whole whatever happens? ``python -m tests.soak.learn --kills 500``.

A process is given orders, keeps what it hears, proposes, commits, undoes and discards without end. It is killed at a
moment by lot, again and again. Each time the notebook must say what it said before the change that was cut off or what
it would have said after it, each head it names must be read over its bundle, what was heard must be none or whole, an
order must be none or one that is not carried out, and the next change must leave nothing that has no part.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asd.bundle import open_bundle
from edge_asd.errors import EdgeAsdError
from edge_asd.learn.fit import Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.learn.notebook import LESSON, ORDER, Notebook, Order, Slots
from edge_asd.learn.overlay import Note, read_overlay
from edge_asd.score.listener import evidence
from tests.example import MACHINE, SECOND, bundle, front_end, noise
from tests.soak.kill import Outcome, killed

if TYPE_CHECKING:
    from edge_asd.bundle import Bundle
    from edge_asd.learn.fit import Learnt

LONGEST_S = 0.1
"""from the first change to the kill: a few changes"""
CLIPS = 6
MINUTES = 7.0
"""that are ordered"""


def change(notebook: Notebook, toy: Bundle, seed: int) -> None:
    """Without end; how it stands before each change is said."""
    lots, learnt = random.Random(seed), _learnt(toy)
    note = Note(machine="press", bundle_sha256=toy.digest, key=MACHINE, created="now", card=learnt.card, points={})
    print("ready", flush=True)
    while True:
        slots = notebook.slots()
        print(f"begin {slots.model_dump_json()}", flush=True)
        able = [name for name, can in (("commit", slots.candidate), ("undo", slots.previous is not None)) if can]
        match lots.choice(["propose", "propose", "hear", "order", "drop_order", "discard", *able]):
            case "propose":
                notebook.propose(note, learnt)
            case "hear":
                notebook.keep_heard(learnt.memory, toy.digest, MACHINE)
            case "order":
                notebook.keep_order(Order(number=slots.last + 1, minutes=MINUTES))
            case name:
                getattr(notebook, name)()


def endure(kills: int, folder: Path, seed: int = 0) -> Outcome:
    """Kill it so often."""
    outcome, lots = Outcome(), random.Random(seed)
    toy, notebook = open_bundle(bundle(folder / "toy.asd")), Notebook(folder / "press")
    for number in range(kills):
        said = _killed(folder, seed + number, lots.uniform(0, LONGEST_S))
        outcome.count(said, _strays(notebook), _wrong(notebook, toy, said))
    return outcome


def _killed(folder: Path, seed: int, after_s: float) -> list[Slots]:
    """How it stood before each change, as far as it came."""
    lines = killed("tests.soak.learn", ["--change", str(folder), "--seed", str(seed)], after_s)
    return [Slots.model_validate_json(line.removeprefix("begin ")) for line in lines if line.endswith("}")]


def _wrong(notebook: Notebook, toy: Bundle, said: list[Slots]) -> list[str]:
    """Everything that should not be."""
    try:
        found, heard = notebook.slots(), notebook.heard(toy.digest, MACHINE)
        for number in found.named:
            read_overlay(notebook.path(number), toy)
        whole = not (notebook.folder / LESSON).exists() or len(heard) == CLIPS
        notebook.keep_heard(heard, toy.digest, MACHINE)
    except EdgeAsdError as error:
        return [str(error)]
    order = notebook.order()
    wrong = [] if order is None or (order.minutes == MINUTES and order.number == found.last + 1) else [f"order {order}"]
    wrong += [] if whole else [f"of {CLIPS} clips that were heard {len(heard)} are there"]
    wrong += [] if notebook.slots() == found else [f"hearing changed {found} to {notebook.slots()}"]
    wrong += [] if _strays(notebook) == "nothing" else [f"left behind: {_strays(notebook)}"]
    if said and not _follows(found, said[-1]):
        wrong.append(f"from {said[-1]} no single change leads to {found}")
    return wrong


def _follows(found: Slots, before: Slots) -> bool:
    """Whether it is as before, or as after one change."""
    number = before.last + 1
    changes = [
        {},
        {"candidate": number, "last": number},
        {"candidate": None},
        {"active": before.candidate, "previous": before.active, "candidate": None},
        {"active": before.previous, "previous": before.active},
    ]
    return any(found == before.model_copy(update=each) for each in changes)


def _strays(notebook: Notebook) -> str:
    """Kinds of files that have no part."""
    known = {"slots.json", "lock", LESSON, ORDER, *(f"{number}.learnt" for number in notebook.slots().named)}
    strays = {path.name for path in notebook.folder.glob("*")} - known
    return ", ".join(sorted(name.lstrip("0123456789.") for name in strays)) or "nothing"


def _learnt(toy: Bundle) -> Learnt:
    told = Memory()
    for seed in range(CLIPS):
        told = told.with_clip(evidence(SECOND, front_end(SECOND), None, noise(seed, SECOND.clip)), FIRST)
    return learn(toy.heads[MACHINE], told, Goal(1.0))


def main() -> None:
    """As a command, with the counts printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--change", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.change:
        change(Notebook(asked.change / "press"), open_bundle(asked.change / "toy.asd"), asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        outcome = endure(asked.kills, Path(folder), asked.seed)
    print(outcome)
    sys.exit(0 if outcome.well else 1)


if __name__ == "__main__":
    main()
