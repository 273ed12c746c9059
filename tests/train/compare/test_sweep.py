from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.progress import Progress

from edge_asd.errors import ConfigError
from tests.train.judge.test_evaluate import machine
from train.compare.crew import cores
from train.compare.sweep import Cell, Crew, Plan, Result, attempt, cells, points, sweep
from train.compare.tally import ALL

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.train

ROOT = Path(__file__).parents[3]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}
HERE = Crew(workers=2)
# a thread each: several that wait for each other are slow on a busy computer
TINY = """
method = "stgram_mfn"
[training]
epochs = 3
crops = 1
batch = 8
[[parts]]
name = "network"
feature = "embedding"
backend = "mahalanobis"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sections of a fan and a pump, a handful of clips each."""
    folder = tmp_path_factory.mktemp("data")
    machine(folder / "set/fan")
    machine(folder / "set/fan", seed=1, section="01")
    machine(folder / "set/pump", seed=2)
    return folder


def swept(plan: Plan, **wish: bool) -> Result:
    return sweep(plan, HERE, Progress(disable=True), **wish)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "train", "sweep", *map(str, arguments)]


def typed(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=100, check=False
    )


def timeless(out: Path) -> list[dict[str, str]]:
    with (out / "table.csv").open(encoding="utf-8", newline="") as file:
        return [{name: said for name, said in row.items() if "seconds" not in name} for row in csv.DictReader(file)]


# Planning -------------------------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_of_its_axes() -> None:
    assert points(["a.b=1,0.3", 'c="x, y",true']) == [
        ("a.b=1", 'c="x, y"'),
        ("a.b=1", "c=true"),
        ("a.b=0.3", 'c="x, y"'),
        ("a.b=0.3", "c=true"),
    ]
    assert points([]) == [()]


@pytest.mark.parametrize("axis", ["settings.alpha", "settings.alpha=", "=1", "a=1,,2", "a=x", "a=[1"])
def test_what_is_no_axis_is_answered_with_how_to_write_one(axis: str) -> None:
    with pytest.raises(ConfigError, match=r"write PLACE=VALUE"):
        points([axis])


def test_every_run_has_a_folder_named_after_what_it_is(data: Path, tmp_path: Path) -> None:
    axes = ("settings.alpha=0.03,0.1", 'preset="edge"')
    plan = Plan(("grhd",), (data,), tmp_path, each="kind", seeds=(0, 3), grid=axes, epochs=2)
    planned = cells(plan)

    assert [cell.folder.name for cell in planned] == [
        f"grhd-set-{kind}-alpha={alpha}-preset=edge-{seed}"
        for alpha in (0.03, 0.1)
        for kind in ("fan", "pump")
        for seed in (0, 3)
    ]
    assert planned[0].keys == ("set/fan/00", "set/fan/01")
    assert (planned[1].recipe.seed, planned[1].recipe.settings["alpha"]) == (3, 0.03)
    assert {cell.recipe.training.epochs for cell in planned if cell.recipe.training} == {2}


@pytest.mark.parametrize(
    ("each", "names"),
    [
        (None, ["statistics-0"]),
        ("kind", ["statistics-set-fan-0", "statistics-set-pump-0"]),
        ("machine", ["statistics-set-fan-00-0", "statistics-set-fan-01-0", "statistics-set-pump-00-0"]),
    ],
)
def test_models_are_for_all_machines_or_each(data: Path, tmp_path: Path, each: Any, names: list[str]) -> None:  # noqa: ANN401 - a Literal
    assert [cell.folder.name for cell in cells(Plan(("statistics",), (data,), tmp_path, each=each))] == names


def test_only_the_machines_named_are_used(data: Path, tmp_path: Path) -> None:
    plan = Plan(("statistics",), (data,), tmp_path, machines=("set/*/00",), each="kind")

    assert [cell.keys for cell in cells(plan)] == [("set/fan/00",), ("set/pump/00",)]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seeds": (0, 0)}, "several runs would be called statistics-0"),
        ({"grid": ("settings.alpha=0.1",)}, "statistics train no network"),
        ({"recipes": ("nobody",)}, "no recipe 'nobody'"),
        ({"machines": ("x/*",)}, r"no machine 'x/\*'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_anything_is_done(
    data: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        swept(replace(Plan(("statistics",), (data,), tmp_path / "out"), **change))
    assert not (tmp_path / "out").exists()


def test_an_oracle_needs_something_to_choose_from(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--grid PLACE=VALUE,VALUE"):
        swept(Plan(("statistics",), (data,), tmp_path / "out"), oracle=True)


@pytest.mark.parametrize(
    ("flags", "both"),
    [
        (("--each-kind", "--each-machine"), "--each-machine and --each-kind"),
        (("--seed", 1, "--seeds", 2), "--seed and"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags: tuple[object, ...], both: str) -> None:
    answer = typed("statistics", "--data", "nowhere", "--out", "out", *flags)

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith(f"error: {both}")


# Doing ----------------------------------------------------------------------------------------------------------------


def statistics(data: Path, out: Path) -> Plan:
    return Plan(("statistics",), (data,), out, machines=("set/fan/*",), each="machine")


def test_the_table_holds_what_the_evaluations_found_and_nothing_is_done_twice(data: Path, tmp_path: Path) -> None:
    plan = statistics(data, tmp_path)
    result = swept(plan)

    for section in ("00", "01"):
        written = json.loads((tmp_path / f"statistics-set-fan-{section}-0/evaluation/result.json").read_text())
        for row in result.rows:
            if row.machine == f"set/fan/{section}":
                (about,) = written["sections"]
                assert row.figures["omega"] is not None
                assert row.figures["omega"].mean == about["judgements"][row.score]["omega"]["value"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/**/*.*") if path.suffix in {".asd", ".json"}}
    assert swept(plan) == result
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_one_model_over_all_has_the_omega_that_its_evaluation_has(data: Path, tmp_path: Path) -> None:
    result = swept(Plan(("statistics",), (data,), tmp_path))

    written = json.loads((tmp_path / "statistics-0/evaluation/result.json").read_text())
    over_all = {row.score: row.figures["omega"] for row in result.rows if row.machine == ALL}
    assert {name: spread.mean for name, spread in over_all.items() if spread} == pytest.approx(written["omega"])


def test_an_oracle_adds_rows_and_says_what_it_chose(data: Path, tmp_path: Path) -> None:
    plan = Plan(("statistics",), (data,), tmp_path, machines=("set/*/00",), grid=("front_end.n_mels=64,128",))
    seen = swept(plan, oracle=True)
    chosen = json.loads((tmp_path / "oracle.json").read_text())["statistics"]
    fixed = swept(plan)
    assert not (tmp_path / "oracle.json").exists()

    assert seen.rows[: len(fixed.rows)] == fixed.rows
    assert list(chosen) == ["set/fan", "set/pump"]
    for kind, choice in chosen.items():
        omegas = {
            row.values: row.figures["omega"].mean
            for row in seen.rows
            if (row.machine, row.score) == (f"{kind}/00", "fused") and row.figures["omega"]
        }
        assert omegas["oracle"] == omegas[f"front_end.n_mels={choice['values']['front_end.n_mels']}"]
        assert omegas["oracle"] == choice["omega"] == max(omegas.values())


def alone(data: Path, out: Path, *test: Path) -> Cell:
    return cells(replace(statistics(data, out), machines=("set/pump/00",), test=test))[0]


def test_other_test_clips_are_judged_anew_with_the_same_bundle(data: Path, tmp_path: Path) -> None:
    machine(tmp_path / "other/set/pump", seed=9)
    cell = alone(data, tmp_path / "out")
    results = []
    for test in ((), (tmp_path / "other",)):
        assert attempt(alone(data, tmp_path / "out", *test)) == ""
        results.append(json.loads((cell.folder / "evaluation/result.json").read_text()))

    assert results[0]["bundle"] == results[1]["bundle"]
    assert results[0]["omega"] != results[1]["omega"]


def test_machines_without_test_clips_are_an_error_of_their_run(data: Path, tmp_path: Path) -> None:
    machine(tmp_path / "other/set/slider", seed=9)

    assert "no test clips of set/pump/00 in " in attempt(alone(data, tmp_path / "out", tmp_path / "other"))


def test_a_run_that_fails_stops_no_other_and_is_in_the_table(data: Path, tmp_path: Path) -> None:
    """One folder holds a run with other settings."""
    attempt(replace(alone(data, tmp_path), folder=tmp_path / "statistics-set-fan-00-0"))
    answer = typed("statistics", "--data", data, "--out", tmp_path, "--machine", "set/fan/*", "--each-machine")

    assert answer.returncode == 1
    assert answer.stdout == (tmp_path / "table.md").read_text()
    assert "| statistics |  | set/fan/01 | fused | 1 |" in answer.stdout
    assert "| statistics-set-fan-00-0 | " in answer.stdout
    assert "holds a run with other settings or data" in answer.stdout
    assert "| all |" not in answer.stdout
    assert "Traceback" not in answer.stderr


def test_a_mistake_of_ours_is_one_line_and_its_traceback_is_kept(data: Path, tmp_path: Path) -> None:
    cell = alone(data, tmp_path)
    assert attempt(cell) == ""
    (cell.folder / "evaluation/asked.json").write_text("{")

    assert attempt(cell).startswith("JSONDecodeError: ")
    assert "Traceback" in (cell.folder / "traceback.txt").read_text()


def test_two_sweeps_do_not_work_on_one_run(data: Path, tmp_path: Path) -> None:
    cell = alone(data, tmp_path)
    assert attempt(cell) == ""
    busy = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    holder = [sys.executable, "-c", busy, str(cell.folder / ".lock")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        other.stdout.readline()
        said = attempt(cell)
        other.communicate("\n")

    assert said == f"{cell.folder} is being worked on by another process; wait for it, or end it"


@pytest.mark.timeout(300)
def test_a_sweep_that_was_stopped_ends_where_an_unbroken_one_does(
    data: Path, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    recipe, broken, unbroken = tmp_path / "tiny.toml", tmp_path / "broken", tmp_path / "unbroken"
    recipe.write_text(TINY)
    wish = (recipe, "statistics", "--data", data, "--machine", "set/pump/*", "--workers", str(cores()), "--out")
    log = broken / "tiny-0/log.jsonl"
    with subprocess.Popen(
        command(*wish, broken), cwd=ROOT, env=ALONE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        # an epoch is logged just before it is saved: the second line says that the first one was
        eventually(lambda: log.exists() and log.read_text().count("\n") > 1, 60, "two epochs")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert said.endswith("stopped; the same command goes on from the last whole epochs\n")
    assert "Traceback" not in said
    assert not (broken / "table.csv").exists()
    assert not list(broken.rglob("*.part"))

    for out in (broken, unbroken):
        answer = typed(*wish, out)
        assert answer.returncode == 0, answer.stdout
    assert timeless(broken) == timeless(unbroken)
    trained = [row for row in timeless(broken) if (row["recipe"], row["score"]) == ("tiny", "network")]
    assert [row["machine"] for row in trained] == ["set/pump/00", "all"]
    assert all(float(row["parameters"]) > 1e5 and float(row["macs"]) > 1e6 for row in trained)


def test_a_ray_cluster_finds_what_this_machine_finds(data: Path, tmp_path: Path) -> None:
    wish = ("statistics", "--data", data, "--machine", "set/fan/*", "--each-machine", "--workers", "2", "--out")
    here, there = typed(*wish, tmp_path / "here"), typed(*wish, tmp_path / "there", "--ray", "local")

    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert here.stdout == there.stdout
    assert timeless(tmp_path / "here") == timeless(tmp_path / "there")
    assert "Traceback" not in there.stderr


def test_without_ray_one_line_says_how_to_install_it(data: Path, tmp_path: Path) -> None:
    arguments = ["train", "sweep", "statistics", "--data", str(data), "--out", str(tmp_path), "--ray", "local"]
    lacking = f"import sys; sys.modules['ray'] = None; sys.argv = {arguments}; from train.__main__ import main; main()"
    answer = subprocess.run(
        [sys.executable, "-c", lacking], cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=60, check=False
    )

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "error: --ray needs Ray, which is not installed; install it with: uv sync --group cluster\n"
