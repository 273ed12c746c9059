"""Machines without end: many individuals, each in a few states of its own, heard from anywhere against anything.

What a network learns here is to tell states of one machine apart whatever the room, the microphone and the neighbours:
another speed, another load, another pattern, or wear that was there from the start. Wear is a fault of the renderer's
(:attr:`Machine.faults`) that is this individual's normal, so that the network hears what faults do and is never told
what is normal for whom.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from edge_asd.errors import ConfigError
from edge_asd.render.machine import Condition
from edge_asd.render.performance import MACHINES, machine, render_clip
from edge_asd.render.room import Background, Microphone, Room
from train.file import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.progress import Progress

PATTERNED = {"valve": "pattern", "slider": "stroke", "motor": "carrier", "bearing": "location"}
"""kinds whose individuals can be set to one of five patterns, and the name of that setting"""


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many of what. A clip depends on the seed and its own place, not on how many others there are."""

    kinds: tuple[str, ...] = tuple(MACHINES)
    individuals: int = 40
    """of each kind"""
    states: int = 4
    """of each individual; every other one worn"""
    clips: int = 12
    """of each state"""
    seconds: float = 6.0
    first: int = 1_000
    """number of the first individual: those that data sets are rendered of are never met"""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """One way in which one individual runs."""

    kind: str
    number: int
    which: int
    pattern: int
    condition: Condition

    @property
    def folder(self) -> str:
        """Where its clips lie."""
        return f"train/{self.kind}/{self.number}/{self.which}"


def states(crowd: Crowd) -> Iterator[State]:
    """All states of all individuals."""
    for kind in crowd.kinds:
        faults = machine(kind).faults
        for number in range(crowd.first, crowd.first + crowd.individuals):
            for which in range(crowd.states):
                rng = np.random.default_rng([crowd.seed, sorted(MACHINES).index(kind), number, which])
                worn = which % 2 == 1
                yield State(
                    kind,
                    number,
                    which,
                    int(rng.integers(5)),
                    Condition(
                        float(rng.uniform(0.75, 1.25)),
                        float(rng.uniform(0.2, 0.9)),
                        str(rng.choice(faults)) if worn else None,
                        float(rng.uniform(0.2, 0.8)) if worn else 0.0,
                    ),
                )


def heard(crowd: Crowd, state: State, index: int, rate: int = 16_000) -> NDArray[np.float32]:
    """One clip (L,) of a state: somewhere, by some microphone, with or without a neighbour."""
    seed = [crowd.seed, sorted(MACHINES).index(state.kind), state.number, state.which, index]
    rng = np.random.default_rng([*seed, 1])
    samples = round(crowd.seconds * rate)
    wobble = Condition(
        float(np.clip(state.condition.speed * rng.normal(1, 0.004), 0.5, 1.5)),
        float(np.clip(state.condition.load + rng.normal(0, 0.02), 0, 1)),
        state.condition.fault,
        state.condition.severity,
    )
    room = _room(rng)
    sound = render_clip(_individual(state), room, wobble, samples, [*seed, 2], rate).astype(np.float64)
    if rng.random() < 0.6:
        sound = sound + _neighbour(crowd, rng, samples, [*seed, 3], rate, sound.std())
    return np.asarray(np.clip(sound, -0.99, 0.99), np.float32)


def _individual(state: State):
    if state.kind in PATTERNED:
        return MACHINES[state.kind](state.number, **{PATTERNED[state.kind]: state.pattern})
    return MACHINES[state.kind](state.number)


def _room(rng: np.random.Generator) -> Room:
    microphone = Microphone(
        distance=float(np.exp(rng.uniform(np.log(0.4), np.log(3.0)))),
        gain=float(rng.uniform(-6, 14)),
        low_cut=float(np.exp(rng.uniform(np.log(20), np.log(200)))),
        high_cut=float(np.exp(rng.uniform(np.log(3500), np.log(12000)))),
    )
    background = Background(
        level=float(rng.uniform(-64, -38)),
        slope=float(rng.uniform(-6.5, -0.5)),
        hum=float(rng.uniform(-80, -58)),
        mains=float(rng.choice([50.0, 60.0])),
        unrest=float(rng.uniform(0.3, 2.5)),
    )
    return Room(
        microphone,
        background,
        reverberation=float(rng.uniform(0.08, 0.7)),
        critical_distance=float(rng.uniform(0.8, 3.0)),
        number=int(rng.integers(2**31)),
    )


def _neighbour(crowd, rng, samples, seed, rate, level):
    """Another machine beside it, up to 10 dB louder."""
    kind = str(rng.choice(crowd.kinds))
    other = MACHINES[kind](int(rng.integers(10**6, 2 * 10**6)))
    condition = Condition(float(rng.uniform(0.75, 1.25)), float(rng.uniform(0.2, 0.9)))
    sound = render_clip(other, _room(rng), condition, samples, seed, rate).astype(np.float64)
    return sound * (level / max(sound.std(), 1e-9)) * 10 ** (rng.uniform(-20, 10) / 20)


def write_crowd(out: Path, crowd: Crowd, *, workers: int = 1, progress: Progress) -> int:
    """Render the crowd into a folder with a manifest; gives the number of clips."""
    if out.exists() and any(out.iterdir()):
        msg = f"{out} is not empty, name a folder that is new or empty, or remove it"
        raise ConfigError(msg)
    all_states = list(states(crowd))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for _ in progress.track(pool.map(partial(_write, out, crowd), all_states, chunksize=4), total=len(all_states)):
            pass
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "machine", "section", "attribute", "domain", "split", "label", "recording"])
    for state in all_states:
        for index in range(crowd.clips):
            name = f"{state.folder}/{index:03d}.wav"
            writer.writerow([name, state.kind, state.number, f"state_{state.which}", "source", "train", "normal", name])
    write_whole(out / "manifest.csv", text.getvalue().encode())
    write_whole(out / "crowd.json", (json.dumps(asdict(crowd), indent=1) + "\n").encode())
    return len(all_states) * crowd.clips


def _write(out: Path, crowd: Crowd, state: State) -> None:
    folder = out / state.folder
    folder.mkdir(parents=True)
    for index in range(crowd.clips):
        wav = io.BytesIO()
        soundfile.write(wav, np.rint(heard(crowd, state, index) * 32767).astype(np.int16), 16_000, "PCM_16", format="WAV")
        write_whole(folder / f"{index:03d}.wav", wav.getvalue())
