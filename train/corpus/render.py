"""Rendered machines as a data set in the layout of DCASE 2022–2025 Task 2 (methods.md §9.3)."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import signal
import zlib
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import soundfile
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_asd.errors import ConfigError
from edge_asd.render.bearing import Bearing
from edge_asd.render.fan import Fan
from edge_asd.render.gearbox import Gearbox
from edge_asd.render.machine import Condition
from edge_asd.render.motor import CARRIERS, Motor
from edge_asd.render.performance import MACHINES, machine, render_clip
from edge_asd.render.pump import Pump
from edge_asd.render.room import Background, Microphone, Room
from edge_asd.render.slider import STROKES, Slider
from edge_asd.render.valve import Valve
from train.file import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from edge_asd.render.machine import Machine

T = TypeVar("T")
"""what is to be rendered, whatever says so"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to render. A clip depends on the seed and its own name, not on how many others there are.

    Raises:
        ConfigError: a value is out of range, or a machine has none of the faults asked for.
    """

    machines: tuple[str, ...] = tuple(MACHINES)
    sections: int = 1
    """individuals of each machine, sections 00, 01, …"""
    source_train: int = 990
    """normal clips a section, source domain"""
    target_train: int = 10
    """normal clips a section, target domain"""
    test: int = 50
    """normal test clips a section and domain, and as many anomalies"""
    seconds: float = 10.0
    """length of a clip"""
    rate: int = 16_000
    """hertz"""
    seed: int = 0
    faults: tuple[str, ...] = ()
    """faults to render, in turn; empty: all that a machine knows"""
    severity: tuple[float, float] = (0.3, 0.9)
    """anomalies are equally likely anywhere in between"""

    def __post_init__(self) -> None:
        low, high = self.severity
        counts = (self.source_train, self.target_train, self.test, self.seed)
        if not (0 < low <= high <= 1 and self.seconds * self.rate >= 1 and self.sections >= 1 and min(counts) >= 0):
            msg = f"need 0 < severity <= 1, low before high, a length, a section and no negative number, got {self}"
            raise ConfigError(msg)
        for kind in self.machines:
            self.faults_of(kind)

    def faults_of(self, kind: str) -> tuple[str, ...]:
        """The faults this kind of machine is rendered with."""
        known = machine(kind).faults
        chosen = tuple(fault for fault in known if fault in self.faults or not self.faults)
        if not chosen:
            msg = f"a {kind} has none of the faults {', '.join(self.faults)}, choose from {', '.join(known)}"
            raise ConfigError(msg)
        return chosen


@dataclass(frozen=True, slots=True)
class Take:
    """One clip to be rendered."""

    kind: str
    section: int
    domain: Literal["source", "target"]
    split: Literal["train", "test"]
    label: Literal["normal", "anomaly"]
    index: int


@dataclass(frozen=True, slots=True)
class Scene:
    """One take with everything decided that can be heard."""

    name: str
    """path below the data set, as in ``file_name`` of the attribute table"""
    attributes: dict[str, str]
    machine: Machine
    room: Room
    condition: Condition
    seed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """The operating conditions of one domain; one of each is drawn for a clip."""

    speeds: tuple[float, ...]
    """relative to nominal"""
    loads: tuple[float, ...]
    patterns: tuple[int, ...]
    """what else a machine is set to, by number: a valve's pattern, a bearing's microphone, a slider's stroke"""
    rooms: dict[str, Room]
    """by the name of what is heard in the background"""
    microphones: dict[str, Microphone]
    """by the number of their place; for the machines in :data:`PLACED`, the others keep that of the room"""


_NEAR, _FAR = Microphone(), Microphone(distance=1.4, gain=2.0, low_cut=90.0, high_cut=5500.0)
_QUIET, _BUSY = Background(), Background(level=-47.0, slope=-3.0, hum=-62.0, unrest=1.2)

DOMAINS = {
    "source": Domain(
        speeds=(0.93, 1.0, 1.07),
        loads=(0.4, 0.5, 0.6),
        patterns=(0, 1, 2),
        rooms={"A": Room(_NEAR, _QUIET), "B": Room(_NEAR, replace(_QUIET, level=-51.0, slope=-5.0))},
        microphones={"1": _NEAR, "2": replace(_NEAR, distance=1.15)},
    ),
    "target": Domain(
        speeds=(0.85, 1.15),
        loads=(0.3, 0.7),
        patterns=(3, 4),
        rooms={"C": Room(_FAR, _BUSY), "D": Room(_NEAR, replace(_BUSY, slope=-5.5))},
        microphones={"3": replace(_NEAR, distance=0.85), "4": _FAR},
    ),
}
"""domain -> its conditions: another speed, load, background and microphone, as in MIMII DG"""

PLACED = frozenset({"pump", "gearbox"})
"""machines whose microphone hangs in a place of its own, whatever the background"""


def takes(plan: Plan) -> Iterator[Take]:
    """Every clip of the data set, in the order of its files."""
    for kind in plan.machines:
        for section in range(plan.sections):
            yield from (Take(kind, section, "source", "train", "normal", i) for i in range(plan.source_train))
            yield from (Take(kind, section, "target", "train", "normal", i) for i in range(plan.target_train))
            for domain in ("source", "target"):
                yield from (Take(kind, section, domain, "test", "normal", i) for i in range(plan.test))
                yield from (Take(kind, section, domain, "test", "anomaly", i) for i in range(plan.test))


def scene(plan: Plan, take: Take) -> Scene:
    """Decide on the condition of one take; the same plan and take always give the same scene."""
    where = f"{take.kind}/{take.section}/{take.domain}/{take.split}/{take.label}"
    seed = (plan.seed, zlib.crc32(where.encode()), take.index)
    rng, domain = np.random.default_rng(seed), DOMAINS[take.domain]
    speed, load = float(rng.choice(domain.speeds)), float(rng.choice(domain.loads))
    noise, pattern = str(rng.choice(list(domain.rooms))), int(rng.choice(domain.patterns))
    condition = Condition(speed, load, *_fault(plan, take, rng))
    attributes, built = _SETUPS[take.kind](take.section, condition, pattern)
    attributes["noise"] = noise
    room = replace(domain.rooms[noise], number=take.section)
    if take.kind in PLACED:
        attributes["mic"] = str(rng.choice(list(domain.microphones)))
        room = replace(room, microphone=domain.microphones[attributes["mic"]])
    return Scene(_name(take, attributes), attributes, built, room, condition, (*seed, 1))


def write_dataset(out: Path, plan: Plan, *, workers: int = 1, console: Console | None = None) -> int:
    """Render the plan into a folder; gives the number of clips.

    Each file appears whole or not at all. The attribute tables come last: a folder that has them is complete. Beside
    them, ``faults_NN.csv`` says what was wrong in each anomaly and how badly, and ``plan.json`` what was asked for.

    Args:
        out: a new or empty folder.
        plan: what to render.
        workers: processes that render.
        console: shows progress; None is silent.

    Raises:
        ConfigError: the folder holds something already.
    """
    empty(out)
    scenes = [(take, scene(plan, take)) for take in takes(plan)]
    for folder in {(out / drawn.name).parent for _, drawn in scenes}:
        folder.mkdir(parents=True, exist_ok=True)
    with _progress(console) as progress:
        bar = progress.add_task("rendering", total=len(scenes))
        for _ in rendered(partial(_write_clip, out, plan), [drawn for _, drawn in scenes], workers):
            progress.advance(bar)
    _write_tables(out, scenes)
    write_whole(out / "plan.json", (json.dumps(asdict(plan), indent=1) + "\n").encode())
    return len(scenes)


def empty(out: Path) -> None:
    """Something is to be rendered into it.

    Raises:
        ConfigError: it is there, and no empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = f"{out} is not empty, name a folder that is new or empty, or remove it"
        raise ConfigError(msg)


def _fault(plan: Plan, take: Take, rng: np.random.Generator) -> tuple[str | None, float]:
    if take.label == "normal":
        return None, 0.0
    faults = plan.faults_of(take.kind)
    return faults[take.index % len(faults)], float(rng.uniform(*plan.severity))


def _fan(section: int, condition: Condition, _pattern: int) -> tuple[dict[str, str], Machine]:
    fan = Fan.identity(section)
    rpm, load = round(60 * fan.shaft * condition.speed), round(100 * condition.load)
    return {"rpm": str(rpm), "load": str(load)}, fan


def _valve(section: int, condition: Condition, pattern: int) -> tuple[dict[str, str], Machine]:
    rate, load = round(100 * condition.speed), round(100 * condition.load)
    attributes = {"pat": f"{pattern:02d}", "rate": str(rate), "load": str(load)}
    return attributes, Valve.identity(section, pattern)


def _pump(section: int, condition: Condition, _pattern: int) -> tuple[dict[str, str], Machine]:
    pump = Pump.identity(section)
    return {"rpm": str(round(60 * pump.shaft * condition.speed)), "flow": str(round(100 * condition.load))}, pump


def _gearbox(section: int, condition: Condition, _pattern: int) -> tuple[dict[str, str], Machine]:
    """The voltage of the motor that drives it, and the grams that it lifts, as in MIMII DG."""
    volt, weight = round(24 * condition.speed), round(500 * condition.load)
    return {"volt": f"{volt}V", "wt": str(weight)}, Gearbox.identity(section)


def _bearing(section: int, condition: Condition, pattern: int) -> tuple[dict[str, str], Machine]:
    bearing = Bearing.identity(section, location=pattern)
    rpm, load = round(60 * bearing.shaft * condition.speed), round(100 * condition.load)
    return {"vel": str(rpm), "loc": "ABCDE"[pattern], "load": str(load)}, bearing


def _slider(section: int, condition: Condition, pattern: int) -> tuple[dict[str, str], Machine]:
    slider = Slider.identity(section, stroke=pattern)
    velocity, acceleration = round(1000 * slider.velocity * condition.speed), round(1000 * STROKES[pattern][1])
    return {"vel": str(velocity), "ac": str(acceleration), "load": str(round(100 * condition.load))}, slider


def _motor(section: int, condition: Condition, pattern: int) -> tuple[dict[str, str], Machine]:
    motor = Motor.identity(section, carrier=pattern)
    hertz, load = round(motor.line * condition.speed), round(100 * condition.load)
    return {"line": str(hertz), "pwm": str(round(CARRIERS[pattern])), "load": str(load)}, motor


_SETUPS: dict[str, Callable[[int, Condition, int], tuple[dict[str, str], Machine]]] = {
    "fan": _fan,
    "valve": _valve,
    "pump": _pump,
    "gearbox": _gearbox,
    "bearing": _bearing,
    "slider": _slider,
    "motor": _motor,
}
"""kind of machine -> attributes and individual, by section, condition and pattern"""


def _name(take: Take, attributes: dict[str, str]) -> str:
    stem = f"section_{take.section:02d}_{take.domain}_{take.split}_{take.label}_{take.index:04d}"
    pairs = "".join(f"_{key}_{value}" for key, value in attributes.items())
    return f"{take.kind}/{take.split}/{stem}{pairs}.wav"


def _write_clip(out: Path, plan: Plan, drawn: Scene) -> None:
    samples = round(plan.seconds * plan.rate)
    sound = render_clip(drawn.machine, drawn.room, drawn.condition, samples, drawn.seed, plan.rate)
    write_sound(out / drawn.name, sound, plan.rate)


def write_sound(path: Path, sound: NDArray[np.float32], rate: int) -> None:
    """A WAV file of 16 bits, whole or not at all, of samples (L,) in [-1, 1]."""
    wav = io.BytesIO()
    soundfile.write(wav, np.rint(sound * 32767).astype(np.int16), rate, "PCM_16", format="WAV")
    write_whole(path, wav.getvalue())


def rendered(write: Callable[[T], None], scenes: Sequence[T], workers: int) -> Iterator[None]:
    """Write every scene, here or in other processes; an interruption lets started clips finish and drops the rest."""
    if workers <= 1:
        yield from map(write, scenes)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn)
    try:
        with _deaf_to_interrupts():  # map starts the workers, and they inherit it: Ctrl-C is for us to act on
            written = pool.map(write, scenes, chunksize=4)
        yield from written
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _progress(console: Console | None) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=console is None)


def _write_tables(out: Path, scenes: list[tuple[Take, Scene]]) -> None:
    for kind, section in sorted({(take.kind, take.section) for take, _ in scenes}):
        drawn = [s for take, s in scenes if (take.kind, take.section) == (kind, section)]
        keys = [f"d{i}{part}" for i in range(1, len(drawn[0].attributes) + 1) for part in "pv"]
        rows = ([s.name, *(text for pair in s.attributes.items() for text in pair)] for s in drawn)
        faults = ([s.name, s.condition.fault, f"{s.condition.severity:.3f}"] for s in drawn if s.condition.fault)
        write_table(out / kind / f"faults_{section:02d}.csv", ["file_name", "fault", "severity"], faults)
        write_table(out / kind / f"attributes_{section:02d}.csv", ["file_name", *keys], rows)


def write_table(path: Path, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    """A CSV file, whole or not at all; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
