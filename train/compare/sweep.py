"""Recipes x values x machines x seeds, each a run folder of its own that can be gone on with; one table of them all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import tomllib
import traceback
from collections import defaultdict
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from glob import escape
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import Progress

from edge_asd.bundle import open_bundle
from edge_asd.errors import ConfigError, EdgeAsdError
from edge_asd.score.head import LEAST_CLIPS
from train.compare import tally
from train.compare.crew import cores, locally, on_ray
from train.compare.tally import Mark, Outcome
from train.corpus.clip import chosen, normals, trials
from train.judge.evaluate import evaluate
from train.teach.recipe import Recipe, changed, load_recipe
from train.teach.run import LOG, Run, create, data_digest, write_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rich.progress import TaskID

    from train.corpus.clip import Clip

BUNDLE, EVALUATION, SAID, LOCK = "bundle.asd", "evaluation", "said.txt", ".lock"
ORACLE = "oracle.json"
LICENCE = "not for distribution: see its data"
WIDTH = 160
"""columns of what is kept in a file"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be compared."""

    recipes: tuple[str, ...]
    data: tuple[Path, ...]
    out: Path
    test: tuple[Path, ...] = ()
    """where the test clips are; with the others when empty"""
    machines: tuple[str, ...] = ()
    """patterns; all when empty"""
    each: Literal["machine", "kind"] | None = None
    """a model for each identity, or for each ``set/machine``; None for one over all"""
    seeds: tuple[int, ...] = (0,)
    changes: tuple[str, ...] = ()
    """``PLACE=VALUE``, in every run"""
    grid: tuple[str, ...] = ()
    """``PLACE=VALUE,VALUE,…``, every combination of them"""
    epochs: int | None = None
    """of those that train; None for the recipe's own"""
    outliers: tuple[Path, ...] = ()
    """sound of no machine, for the recipes that learn of it"""


@dataclass(frozen=True, slots=True)
class Crew:
    """Who does the runs."""

    workers: int | None = None
    """processes; one for each core when None"""
    ray: str | None = None
    """address of a Ray cluster, instead of processes of this machine"""
    gpus: float = 1.0
    """of a run, where the cluster has any"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a sweep."""

    folder: Path
    label: str
    """what the recipe was called"""
    recipe: Recipe
    values: tuple[str, ...]
    data: tuple[Path, ...]
    test: tuple[Path, ...]
    machines: tuple[str, ...]
    """patterns"""
    keys: tuple[str, ...]
    """identities"""
    outliers: tuple[Path, ...] = ()
    """folders; none for a recipe that has no use for them"""


@dataclass(frozen=True, slots=True)
class Result:
    """The table, and what is not in it."""

    rows: tuple[tally.Row, ...]
    failed: tuple[Outcome, ...]


def sweep(plan: Plan, crew: Crew, progress: Progress, *, oracle: bool = False) -> Result:
    """Do what is not done yet, and write ``table.md`` and ``table.csv``; with an oracle ``oracle.json`` too.

    Raises:
        ConfigError: the plan cannot be carried out, or there is no cluster. What goes wrong in a run is in the result.
    """
    if oracle and not plan.grid:
        msg = "--oracle chooses among values; name some with --grid PLACE=VALUE,VALUE"
        raise ConfigError(msg)
    planned = cells(plan)
    errors = _done(planned, crew, progress)
    outcomes = [outcome(cell, errors[cell.folder]) for cell in planned]
    extra = list[Outcome]()
    (plan.out / ORACLE).unlink(missing_ok=True)  # one beside a table without such rows would belong to another
    if oracle:
        choices = tally.oracle(outcomes)
        write_json(plan.out / ORACLE, tally.choices_json(choices))
        extra = tally.as_oracle(outcomes, choices)
    result = Result(tuple(tally.rows([*outcomes, *extra])), tuple(one for one in outcomes if one.error))
    tally.write(plan.out, result.rows, result.failed)
    if missing := sorted({key for one in outcomes if not one.error for key in set(one.keys) - set(one.marks)}):
        why = f"each needs {LEAST_CLIPS} normal clips to train on, and normal and anomalous ones to test with"
        progress.console.print(f"not in the table: {', '.join(missing)}; {why}", markup=False, highlight=False)
    return result


def show(result: Result, console: Console) -> None:
    """Print the table; as Markdown when piped."""
    if console.is_terminal:
        console.print(*tally.for_terminal(result.rows, result.failed))
    else:
        print(tally.markdown(result.rows, result.failed), end="", file=console.file)


# Planning -------------------------------------------------------------------------------------------------------------


def cells(plan: Plan) -> list[Cell]:
    """Every run, in the order of the table.

    Raises:
        ConfigError: a recipe, a value, a machine or a data set is not what it should be, or two runs share a name.
    """
    clips = chosen(normals(plan.data), plan.machines)
    out, data = plan.out.resolve(), tuple(path.resolve() for path in plan.data)
    test = tuple(path.resolve() for path in plan.test) or data
    outliers = tuple(path.resolve() for path in plan.outliers)
    planned = []
    for name, point, (part, machines, keys) in product(plan.recipes, points(plan.grid), _parts(plan, clips)):
        for seed in plan.seeds:
            label = Path(name).stem if name.endswith(".toml") else name
            folder = out / "-".join(filter(None, (label, part, *map(_short, point), str(seed))))
            recipe = _recipe(plan, name, point, seed)
            others = outliers if recipe.training and recipe.training.outliers else ()
            planned.append(Cell(folder, label, recipe, point, data, test, machines, keys, others))
    if twins := {cell.folder.name for cell in planned if sum(c.folder == cell.folder for c in planned) > 1}:
        msg = f"several runs would be called {', '.join(sorted(twins))}; name each recipe, seed and value once"
        raise ConfigError(msg)
    return planned


def points(grid: Sequence[str]) -> list[tuple[str, ...]]:
    """``["a=1,2", "b.c=3,4"]`` -> ``("a=1", "b.c=3")``, ``("a=1", "b.c=4")``, …; one that is empty without a grid.

    Raises:
        ConfigError: an axis is no ``PLACE=VALUE,VALUE``.
    """
    return list(product(*map(_axis, grid)))


def _axis(text: str) -> list[str]:
    place, _, values = text.partition("=")
    try:
        listed = tomllib.loads(f"values = [{values}]")["values"]
        assignments = [f"{place.strip()}={json.dumps(value)}" for value in listed]
        changed(assignments)
    except (tomllib.TOMLDecodeError, TypeError) as error:
        msg = f"cannot understand {text!r}: write PLACE=VALUE,VALUE as in a recipe, strings in quotes ({error})"
        raise ConfigError(msg) from error
    if not assignments:
        msg = f"{text!r} has no values; write PLACE=VALUE,VALUE"
        raise ConfigError(msg)
    return assignments


def _short(assignment: str) -> str:
    """``settings.alpha=0.1`` -> ``alpha=0.1``, fit for the name of a folder."""
    place, _, value = assignment.partition("=")
    written = re.sub(r"[^\w.+-]+", "_", value.strip('"'))
    return f"{place.rsplit('.', 1)[-1]}={written}"


def _recipe(plan: Plan, name: str, point: Sequence[str], seed: int) -> Recipe:
    changes = changed([*plan.changes, *point, f"seed={seed}"])
    recipe = load_recipe(name, **changes)
    if plan.epochs is None or recipe.training is None:
        return recipe
    return load_recipe(name, **changed([*plan.changes, *point, f"seed={seed}", f"training.epochs={plan.epochs}"]))


def _parts(plan: Plan, clips: Sequence[Clip]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """What a model is fitted on: its name, patterns and identities."""
    keys = sorted({clip.key for clip in clips})
    if plan.each is None:
        return [("", plan.machines, tuple(keys))]
    parts: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        parts[key if plan.each == "machine" else key.rsplit("/", 1)[0]].append(key)
    return [(name.replace("/", "-"), tuple(map(escape, own)), tuple(own)) for name, own in parts.items()]


# Doing ----------------------------------------------------------------------------------------------------------------


def _done(planned: Sequence[Cell], crew: Crew, progress: Progress) -> dict[Path, str]:
    """Folder -> what went wrong in it, or nothing."""
    bar = Bar(planned, progress)
    if crew.ray is None:
        workers = min(crew.workers or cores(), len(planned))
        ends = locally(attempt, planned, workers, bar.look)
    else:
        ends = on_ray(attempt, planned, crew.ray, bar.look, workers=crew.workers, gpus=crew.gpus)
    with closing(ends) as ended:
        for cell, error in ended:
            bar.ended(cell, error)
    return bar.errors


class Bar:
    """How far a sweep is."""

    def __init__(self, planned: Sequence[Cell], progress: Progress) -> None:
        self.errors: dict[Path, str] = {}
        self._left = {cell.folder: cell for cell in planned}
        self._progress = progress
        self._task: TaskID = progress.add_task("runs", total=len(planned))

    def ended(self, cell: Cell, error: str) -> None:
        """One run more."""
        del self._left[cell.folder]
        self.errors[cell.folder] = error
        self._progress.console.print(f"{cell.folder.name}: {error or 'done'}", markup=False, highlight=False)
        self._progress.update(self._task, advance=1)

    def look(self) -> None:
        """Say where the run is that wrote into its log last."""
        logs = [folder / LOG for folder in self._left if (folder / LOG).exists()]
        if logs and not self._progress.disable:
            log = max(logs, key=lambda path: path.stat().st_mtime)
            epoch = log.read_bytes().count(b"\n")
            self._progress.update(self._task, description=f"runs ({log.parent.name}: epoch {epoch} done)")


def attempt(cell: Cell) -> str:
    """Do what is left of a run; in one line what went wrong."""
    try:
        do(cell)
    except EdgeAsdError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in one run, the others go on
        if cell.folder.is_dir():
            (cell.folder / "traceback.txt").write_text(traceback.format_exc())
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def do(cell: Cell) -> None:
    """Fit, export, evaluate; each unless it is done. What they say is kept in the run's folder.

    Raises:
        EdgeAsdError: as the single commands.
    """
    run = Run(cell.folder, cell.recipe, cell.data, cell.machines, outliers=cell.outliers)
    clips, others = run.clips(), run.strangers()
    run = create(run, [*clips, *others])
    with _alone(run), (run.folder / SAID).open("a") as said, redirect_stdout(said), redirect_stderr(said):
        console = Console(file=said, width=WIDTH)
        _tests(cell, cell.keys)  # before hours are spent on what cannot be judged
        bundle = run.folder / BUNDLE
        if not bundle.exists():
            _make(run, clips, others, bundle, Progress(console=console, disable=True))
        _judge(cell, bundle)


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    with (run.folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"{run.folder} is being worked on by another process; wait for it, or end it"
            raise ConfigError(msg) from error
        yield


def _make(run: Run, clips: Sequence[Clip], outliers: Sequence[Clip], bundle: Path, progress: Progress) -> None:
    from train.pack.export import Wish, export  # noqa: PLC0415 - scipy, and for a network torch

    if run.recipe.training:
        from train.teach.fit import fit  # noqa: PLC0415 - torch

        fit(run, clips, outliers, progress)
    export(run.folder, bundle, Wish("1", LICENCE, fp32=False), progress)


def _judge(cell: Cell, bundle: Path) -> None:
    """On the machines that the bundle has heads for; again when bundle or clips are others than before."""
    opened = open_bundle(bundle)
    clips = _tests(cell, opened.heads)
    out = cell.folder / EVALUATION
    labels = hashlib.sha256(" ".join(clip.label for clip in clips).encode()).hexdigest()
    asked = {"bundle": opened.digest, "clips": data_digest(clips), "labels": labels}
    if _read(out / "asked.json") == asked:
        return
    shutil.rmtree(out, ignore_errors=True)
    evaluate(bundle, clips, out)
    write_json(out / "asked.json", asked)


def _tests(cell: Cell, keys: Collection[str]) -> list[Clip]:
    clips = [clip for clip in trials(cell.test) if clip.key in keys]
    if not clips:
        msg = f"no test clips of {', '.join(keys)} in {', '.join(map(str, cell.test))}; give others with --test"
        raise ConfigError(msg)
    return clips


# What came of it ------------------------------------------------------------------------------------------------------


def outcome(cell: Cell, error: str) -> Outcome:
    """What a run's folder says."""
    run = Outcome(cell.folder.name, cell.label, cell.values, cell.keys, cell.recipe.seed, {}, error=error)
    if error:
        return run
    known = open_bundle(cell.folder / BUNDLE).manifest.metrics
    return replace(
        run,
        marks=marks(_read(cell.folder / EVALUATION / "result.json")),
        parameters=known.get("parameters"),
        macs=known.get("macs"),
        seconds=_seconds(cell.folder / LOG),
    )


def marks(result: Any) -> dict[str, dict[str, Mark]]:  # noqa: ANN401 - JSON
    """From an evaluation's ``result.json``."""
    return {
        section["key"]: {name: _mark(judgement) for name, judgement in section["judgements"].items()}
        for section in result["sections"]
        if section["judgements"]
    }


def _mark(judgement: dict[str, dict[str, float] | None]) -> Mark:
    figures = (judgement[name] for name in ("auc_source", "auc_target", "pauc", "omega"))
    return Mark(*(figure["value"] if figure else None for figure in figures))


def _seconds(log: Path) -> float | None:
    if not log.exists():
        return None
    return sum(float(json.loads(line).get("seconds", 0.0)) for line in log.read_text().splitlines())


def _read(path: Path) -> Any:  # noqa: ANN401 - JSON
    """None where there is nothing."""
    return json.loads(path.read_text()) if path.exists() else None
