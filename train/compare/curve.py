"""How good a head is by how little it was learned from, with heads fitted by the device's own code.

Two questions, each asked of several draws of clips. How does Ω grow with the normal clips of one lesson? And what do a
handful of clips of the target domain bring, added to a lesson on the source domain (``edge-asd learn``, ``--add``)?
Beside the bundle stand its parts that need no network, fused alike, and, where a recipe is named, its network trained
on those very clips from the start.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from edge_asd.bundle import open_bundle
from edge_asd.errors import ConfigError
from edge_asd.learn.fit import Goal, learn
from edge_asd.learn.memory import FIRST, Memory
from edge_asd.score.backbone import view
from edge_asd.score.head import LEAST_CLIPS, fit_head
from edge_asd.score.listener import evidence
from edge_asd.score.part import STATISTICS, Normal, PartSpec
from train.compare.plot import Line, growth, png
from train.corpus.clip import chosen, load, scan
from train.judge.metric import Truth, harmonic_mean, judge
from train.method.backend import backend

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from edge_asd.bundle import Bundle
    from edge_asd.score.detector import Backend
    from edge_asd.score.head import Head
    from edge_asd.score.listener import Embed
    from edge_asd.score.part import Evidence
    from train.corpus.clip import Clip
    from train.teach.recipe import Recipe

Question: TypeAlias = Literal["clips", "added"]
Scores: TypeAlias = "Mapping[str, NDArray[np.float64]]"
"""of the test clips, by the name of the system"""
Lesson: TypeAlias = "Sequence[tuple[Clip, str]]"
"""normal clips, and the operating point each is said to be of"""
Contender: TypeAlias = Callable[["Machine", "Lesson"], "Scores"]

CLIPS, ADDED = (3, 5, 10, 20, 30), (0, 1, 3, 10)
SECOND = "added"
"""operating point of the target domain"""
ALL = "all machines"
FULL = 30
"""clips of which a recipe's epochs take as many steps as a network is taught here, however few its clips are"""
FIGURES: Mapping[Question, str] = {"clips": "Ω", "added": "target AUC"}
TITLES: Mapping[Question, str] = {
    "clips": "Ω by normal clips learned in one lesson",
    "added": "target AUC by clips of the target domain added to all of the source domain",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What may be learned of a machine, and what it is tried on."""

    key: str
    normals: tuple[Clip, ...]
    tests: tuple[Clip, ...]
    truth: Truth

    def pool(self, question: Question) -> list[Clip]:
        """What is drawn from."""
        return [clip for clip in self.normals if question == "clips" or clip.domain == "target"]

    def lesson(self, question: Question, drawn: Iterable[Clip]) -> Lesson:
        """Drawn clips as the device hears them: in one go, or added to all of the source domain."""
        if question == "clips":
            return [(clip, FIRST) for clip in drawn]
        return [(clip, FIRST) for clip in self.normals if clip.domain == "source"] + [(clip, SECOND) for clip in drawn]

    def figure(self, question: Question, scores: NDArray[np.float64]) -> tuple[float, ...]:
        """What the harmonic mean is taken of: the terms of Ω, or the target's AUC."""
        found = judge(scores, self.truth, resamples=1)
        return tuple(found.terms) if question == "clips" or not found.auc_target else (found.auc_target.value,)


@dataclass(frozen=True, slots=True)
class Point:
    """One system, taught by so many clips."""

    question: Question
    system: str
    machine: str
    """its key, or :data:`ALL`"""
    count: int
    """clips asked for; where it is all machines, those that have fewer count with all they have"""
    machines: int
    draws: int
    mean: float
    """in %"""
    deviation: float
    """between draws; 0 where there is only one way to draw"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked."""

    clips: tuple[int, ...] = CLIPS
    added: tuple[int, ...] = ADDED
    draws: int = 5
    peer: str | None = None
    """recipe of a network that is trained on the clips drawn"""
    peer_draws: int = 2
    seed: int = 0

    def counts(self, question: Question) -> tuple[int, ...]:
        """Clips to draw."""
        return self.clips if question == "clips" else self.added


def curve(
    path: Path,
    folders: Sequence[Path],
    patterns: Sequence[str],
    plan: Plan,
    progress: Progress,
    head: str | None = None,
) -> list[Point]:
    """Learn and judge, again and again.

    Args:
        path: of the bundle.
        folders: data sets with training and test clips.
        patterns: of machines; all that can be judged when empty.
        plan: what is asked.
        progress: told how far it is.
        head: of the bundle, whose parts are learned anew; its first by default.

    Raises:
        ConfigError: no machine has both clips to learn and clips to judge, or the peer trains nothing.
        AudioError: a recording cannot be read.
        BundleError: the bundle has no part that a device can learn.
    """
    there = machines(folders, patterns)
    contenders: list[tuple[Contender, int]] = [(Device.of(path, head), plan.draws)]
    if plan.peer is not None:
        contenders.append((Peer.of(plan.peer), plan.peer_draws))
    found: list[Point] = []
    for question in FIGURES:
        for contender, draws in contenders:
            found += _asked(question, contender, there, replace(plan, draws=draws), progress)
    return found


def machines(folders: Sequence[Path], patterns: Sequence[str]) -> list[Machine]:
    """Those that can be learned and judged.

    Raises:
        ConfigError: there are none.
    """
    by_key: dict[str, list[Clip]] = {}
    for clip in chosen(scan(folders), patterns):
        by_key.setdefault(clip.key, []).append(clip)
    there = [_machine(key, clips) for key, clips in by_key.items()]
    found = [one for one in there if len(one.normals) >= LEAST_CLIPS and one.truth.scorable("2022")]
    if not found:
        msg = f"none of {', '.join(by_key)} has {LEAST_CLIPS} normal training clips and test clips of both kinds"
        msg += "; name other data sets or machines"
        raise ConfigError(msg)
    return found


def _machine(key: str, clips: Sequence[Clip]) -> Machine:
    tests = [clip for clip in clips if clip.split == "test" and clip.label != "unknown"]
    truth = Truth(
        anomaly=np.array([clip.label == "anomaly" for clip in tests], bool),
        target=np.array([clip.domain == "target" for clip in tests], bool),
        recording=[clip.recording for clip in tests],
    )
    normals = [clip for clip in clips if clip.split == "train" and clip.label == "normal"]
    return Machine(key, tuple(normals), tuple(tests), truth)


# Asking ---------------------------------------------------------------------------------------------------------------


def _asked(
    question: Question, contender: Contender, there: Sequence[Machine], plan: Plan, progress: Progress
) -> list[Point]:
    """Every count, of every machine that has to do with the question, and of all of them together."""
    meant = [one for one in there if question == "clips" or one.truth.target[~one.truth.anomaly].any()]
    terms: dict[tuple[str, str, int], list[tuple[float, ...]]] = {}
    for one in progress.track(meant, description=FIGURES[question]):
        for count in sorted({min(count, len(one.pool(question))) for count in plan.counts(question)}):
            for scores in drawn(question, contender, one, count, plan):
                for system, values in scores.items():
                    terms.setdefault((system, one.key, count), []).append(one.figure(question, values))
    systems = dict.fromkeys(system for system, _, _ in terms)
    return [
        point
        for system in systems
        for count in plan.counts(question)
        for point in _points(
            question, system, count, {one.key: _of(terms, system, one, question, count) for one in meant}
        )
    ]


def _of(
    terms: Mapping[tuple[str, str, int], list[tuple[float, ...]]],
    system: str,
    one: Machine,
    question: Question,
    count: int,
) -> tuple[bool, list[tuple[float, ...]]]:
    """Whether a machine has as many clips as that, and its terms, draw by draw, with these or with all it has."""
    have = len(one.pool(question))
    return count <= have, terms.get((system, one.key, min(count, have)), [])


def drawn(question: Question, contender: Contender, one: Machine, count: int, plan: Plan) -> Iterable[Scores]:
    """Scores by every draw; nothing where there are too few clips for a head."""
    pool = one.pool(question)
    for draw in range(plan.draws if 0 < count < len(pool) else 1):
        order = np.random.default_rng([plan.seed, draw]).permutation(len(pool))  # a larger draw has the smaller in it
        lesson = one.lesson(question, [pool[number] for number in sorted(order[:count])])
        if len(lesson) >= LEAST_CLIPS:
            yield contender(one, lesson)


def _points(
    question: Question, system: str, count: int, by_machine: Mapping[str, tuple[bool, list[tuple[float, ...]]]]
) -> Iterable[Point]:
    """Of each machine that has so many clips, and of all together where all can be judged."""
    for key, (enough, draws) in by_machine.items():
        if enough and draws:
            yield _point(question, system, key, count, 1, [harmonic_mean(terms) for terms in draws])
    every = [draws for _, draws in by_machine.values()]
    if every and all(every):
        most = max(map(len, every))
        joint = [[term for draws in every for term in draws[draw % len(draws)]] for draw in range(most)]
        yield _point(question, system, ALL, count, len(every), [harmonic_mean(terms) for terms in joint])


def _point(question: Question, system: str, key: str, count: int, several: int, values: Sequence[float]) -> Point:
    percent = 100 * np.array(values)
    deviation = float(percent.std(ddof=1)) if percent.size > 1 else 0.0
    return Point(question, system, key, count, several, percent.size, float(percent.mean()), deviation)


# Who is asked ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    """A bundle, taught as ``edge-asd learn`` does; a recording is heard once, whatever for."""

    bundle: Bundle
    key: str
    heads: Mapping[str, Head]
    """whose parts are learned anew, by the name of the system"""
    heard: dict[tuple[Path, int | None], Evidence] = field(default_factory=dict)
    """by the recording, and how many samples of it"""
    lengths: dict[str, int] = field(default_factory=dict)
    """of what is learned of a machine"""

    @classmethod
    def of(cls, path: Path, head: str | None) -> Device:
        """The whole of it, and what it is without its network."""
        bundle = open_bundle(path)
        key = bundle.key(head or next(iter(bundle.heads)))
        bundle.scorer(key)  # its golden waveform
        base = bundle.heads[key]
        plain = tuple(part for part in base.parts if part.spec.feature in STATISTICS)
        heads = {bundle.manifest.name: base}
        if plain and len(plain) < len(base.parts):
            fusion = replace(base.fusion, weights={}, members={})
            heads["statistics"] = replace(base, parts=plain, fusion=fusion)
        return cls(bundle, key, heads)

    def __call__(self, one: Machine, lesson: Lesson) -> Scores:
        """Fused scores of the test clips."""
        memory = Memory()
        for clip, point in lesson:
            memory = memory.with_clip(self._evidence(clip, self._length(one)), point)
        tests = [self._evidence(clip) for clip in one.tests]
        goal = Goal(self.bundle.manifest.windows.clip / self.bundle.manifest.windows.sample_rate)
        taught = {name: learn(base, memory, goal).head for name, base in self.heads.items()}
        return {name: np.array([head.judge(test).score for test in tests]) for name, head in taught.items()}

    def _length(self, one: Machine) -> int:
        """Samples of the shortest recording that can be learned: clips of a lesson are of one length."""
        if one.key not in self.lengths:
            rate = self.bundle.manifest.windows.sample_rate
            self.lengths[one.key] = min(load(clip, rate).size for clip in one.normals)
        return self.lengths[one.key]

    def _evidence(self, clip: Clip, length: int | None = None) -> Evidence:
        """Of a whole recording, or of its beginning."""
        if (clip.path, length) not in self.heard:
            listener = self.bundle.listener(self.key)
            samples = load(clip, listener.windows.sample_rate)[:length]
            self.heard[clip.path, length] = evidence(listener.windows, listener.spec, listener.embed, samples)
        return self.heard[clip.path, length]


@dataclass(frozen=True, slots=True)
class Peer:
    """A network that is trained on nothing but the clips drawn; each of its parts is a system, and nothing is fused."""

    recipe: Recipe

    @classmethod
    def of(cls, name: str) -> Peer:
        """Without clips held out: there are few enough.

        Raises:
            ConfigError: the recipe trains no network.
        """
        from train.teach.recipe import load_recipe  # noqa: PLC0415 - as torch, which it brings along

        recipe = load_recipe(name)
        if recipe.training is None:
            msg = f"{recipe.name} trains no network; choose a recipe that does"
            raise ConfigError(msg)
        return cls(recipe.model_copy(update={"training": recipe.training.model_copy(update={"holdout": 0.0})}))

    def __call__(self, one: Machine, lesson: Lesson) -> Scores:
        """Scores of the test clips by every part."""
        embed = self._trained([clip for clip, _ in lesson])
        normals = [Normal(self._evidence(embed, clip), clip.recording, point != FIRST, point) for clip, point in lesson]
        head, _ = fit_head(self._parts(), normals)
        judged = [head.judge(self._evidence(embed, clip)).parts for clip in one.tests]
        columns = zip(*judged, strict=True)  # parts come in one order
        return {f"{self.recipe.name}: {part[0].name}": np.array([clip.z for clip in part]) for part in columns}

    def _trained(self, clips: Sequence[Clip]) -> Embed:
        """By as many steps as :data:`FULL` clips would get, in float: a training machine runs it, not a device."""
        from train.teach.fit import fit, load_network, look  # noqa: PLC0415 - as above
        from train.teach.run import Run  # noqa: PLC0415

        with TemporaryDirectory() as folder, Progress(console=Console(quiet=True), disable=True) as silent:
            run = Run(Path(folder), self._lengthened(len(clips)), ())
            fit(run, clips, (), silent)
            network: Any = load_network(run)[0]
        specs = self.recipe.specs
        return lambda segment: look(network, {name: view(name, specs, segment[None]) for name in network.views})

    def _lengthened(self, count: int) -> Recipe:
        training = self.recipe.training
        if training is None or count >= FULL:
            return self.recipe
        longer = training.model_copy(update={"epochs": math.ceil(training.epochs * FULL / count)})
        return self.recipe.model_copy(update={"training": longer})

    def _evidence(self, embed: Embed, clip: Clip) -> Evidence:
        windows = self.recipe.windows
        return evidence(windows, self.recipe.front_end, embed, load(clip, windows.sample_rate))

    def _parts(self) -> dict[PartSpec, Backend]:
        learners = {part: backend(part.backend) for part in self.recipe.parts}
        return {PartSpec(part.name, part.feature, one.detector): one for part, one in learners.items()}


# Told -----------------------------------------------------------------------------------------------------------------


def as_csv(points: Sequence[Point]) -> bytes:
    """A line a point, every digit."""
    content = io.StringIO()
    table = csv.DictWriter(content, list(Point.__dataclass_fields__), lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(point) for point in points)
    return content.getvalue().encode()


def drawing(points: Sequence[Point]) -> bytes:
    """A picture of what holds of all machines together, PNG."""
    lines = [
        Line(TITLES[question], "normal clips", f"{FIGURES[question]} (%)", by_system)
        for question in FIGURES
        if (by_system := _lines([p for p in points if p.question == question and p.machine == ALL]))
    ]
    return png(growth(lines))


def show(points: Sequence[Point], console: Console | None = None) -> None:
    """Print a table a question; plain text when piped."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=160)
    for question, title in TITLES.items():
        if own := [point for point in points if point.question == question]:
            console.print(f"{title}; %, mean ± deviation of draws", highlight=False)
            console.print(_table(own, plain=not console.is_terminal), "")


def _table(points: Sequence[Point], *, plain: bool) -> Table:
    table = Table(box=None if plain else box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("")
    counts = sorted({point.count for point in points})
    for count in counts:
        table.add_column(str(count), justify="right", no_wrap=True)
    for machine in dict.fromkeys([ALL, *(point.machine for point in points)]):
        for system in dict.fromkeys(point.system for point in points):
            row = {p.count: p for p in points if (p.machine, p.system) == (machine, system)}
            table.add_row(machine, system, *(_cell(row.get(count)) for count in counts))
    return table


def _cell(point: Point | None) -> str:
    if point is None:
        return "–"
    return f"{point.mean:.1f}" + (f" ± {point.deviation:.1f}" if point.draws > 1 else "")


def _lines(points: Sequence[Point]) -> dict[str, tuple[list[int], list[float], list[float]]]:
    found: dict[str, tuple[list[int], list[float], list[float]]] = {}
    for point in points:
        counts, means, deviations = found.setdefault(point.system, ([], [], []))
        counts.append(point.count)
        means.append(point.mean)
        deviations.append(point.deviation)
    return found
