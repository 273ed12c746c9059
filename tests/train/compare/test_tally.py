from __future__ import annotations

import csv
import io
from statistics import mean, stdev
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import hmean

from train.compare.tally import (
    ALL,
    Mark,
    Outcome,
    Row,
    as_oracle,
    choices_json,
    for_terminal,
    joint,
    markdown,
    oracle,
    rows,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.train

FAN, PUMP = "set/fan/00", "set/pump/00"
TERM = st.floats(0.01, 1.0)


def mark(source: float, target: float, pauc: float) -> Mark:
    return Mark(source, target, pauc, float(hmean([source, target, pauc])))


def ran(values: str = "", seed: int = 0, recipe: str = "r", error: str = "", **machines: float) -> Outcome:
    """A run whose three figures are the same on a machine, so that its Ω is too."""
    marks = {
        f"set/{name}/00": {"fused": mark(*[one] * 3), "part": mark(*[one / 2] * 3)} for name, one in machines.items()
    }
    point = tuple(values.split()) if values else ()
    return Outcome(
        "-".join((recipe, *point, str(seed))),
        recipe,
        point,
        tuple(marks),
        seed,
        {} if error else marks,
        10.0,
        20.0,
        3.0,
        error,
    )


def found(among: Sequence[Row], machine: str, score: str = "fused", values: str = "") -> Row | None:
    matching = [row for row in among if (row.machine, row.score, row.values) == (machine, score, values)]
    assert len(matching) <= 1
    return matching[0] if matching else None


def omega(among: Sequence[Row], machine: str, values: str = "") -> float:
    row = found(among, machine, values=values)
    assert row is not None
    assert row.figures["omega"] is not None
    return row.figures["omega"].mean


@given(st.lists(st.tuples(TERM, TERM, TERM), min_size=1, max_size=6))
def test_omega_over_machines_is_the_harmonic_mean_of_all_their_terms(terms: list[tuple[float, float, float]]) -> None:
    over = joint(mark(*three) for three in terms)

    assert over.omega == pytest.approx(hmean([term for three in terms for term in three]))
    assert over.source == pytest.approx(hmean([source for source, _, _ in terms]))


def test_a_domain_without_clips_is_no_term() -> None:
    over = joint([Mark(0.8, None, 0.6, 0.0), Mark(0.5, 0.4, 0.7, 0.0)])

    assert over.omega == pytest.approx(hmean([0.8, 0.6, 0.5, 0.4, 0.7]))
    assert over.target == pytest.approx(0.4)


def test_figures_are_mean_and_standard_deviation_over_seeds() -> None:
    table = rows([ran(seed=seed, fan=one, pump=0.5) for seed, one in enumerate((0.6, 0.8, 0.9))])

    row = found(table, FAN)
    assert row is not None
    spread = row.figures["target"]
    assert spread is not None
    assert (row.seeds, spread.mean) == (3, pytest.approx(mean((0.6, 0.8, 0.9))))
    assert spread.deviation == pytest.approx(stdev((0.6, 0.8, 0.9)))
    assert omega(table, ALL) == pytest.approx(mean(hmean([one, 0.5]) for one in (0.6, 0.8, 0.9)))


def test_one_seed_has_no_deviation() -> None:
    row = found(rows([ran(fan=0.7)]), FAN)

    assert row is not None
    assert row.figures["omega"] is not None
    assert row.figures["omega"].deviation is None


def test_models_for_each_kind_make_one_figure_over_all_and_their_training_adds_up() -> None:
    table = rows([ran(fan=0.6), ran(pump=0.9)])

    assert omega(table, ALL) == pytest.approx(hmean([0.6, 0.9]))
    whole, fan = found(table, ALL), found(table, FAN)
    assert whole is not None
    assert fan is not None
    assert whole.seconds is not None
    assert fan.seconds is not None
    assert (whole.seconds.mean, fan.seconds.mean) == (6.0, 3.0)
    assert (whole.parameters, whole.macs) == (10.0, 20.0)


def test_a_seed_with_a_failed_run_counts_for_its_machines_but_not_over_all() -> None:
    runs = [ran(fan=0.6), ran(pump=0.9), ran(seed=1, fan=0.7), ran(seed=1, pump=0.9, error="broken")]
    table = rows(runs)

    assert omega(table, FAN) == pytest.approx(0.65)
    assert omega(table, PUMP) == pytest.approx(0.9)
    row = found(table, ALL)
    assert row is not None
    assert row.seeds == 1
    assert omega(table, ALL) == pytest.approx(hmean([0.6, 0.9]))


# The oracle -----------------------------------------------------------------------------------------------------------


GRID = (
    ran("a=1", fan=0.9, pump=0.5),
    ran("a=1", seed=1, fan=0.7, pump=0.5),
    ran("a=2", fan=0.75, pump=0.6),
    ran("a=2", seed=1, fan=0.75, pump=0.8),
)


def test_the_oracle_takes_the_best_mean_for_each_kind_of_machine() -> None:
    assert choices_json(oracle(GRID)) == {
        "r": {
            "set/fan": {"values": {"a": 1}, "omega": pytest.approx(0.8)},
            "set/pump": {"values": {"a": 2}, "omega": pytest.approx(0.7)},
        }
    }


def test_oracle_rows_stand_beside_the_fixed_ones_and_mix_what_was_chosen() -> None:
    fixed = rows(GRID)
    table = rows([*GRID, *as_oracle(GRID, oracle(GRID))])

    assert table[: len(fixed)] == fixed
    assert {row.values for row in table[len(fixed) :]} == {"oracle"}
    assert omega(table, FAN, "oracle") == pytest.approx(0.8)
    assert omega(table, PUMP, "oracle") == pytest.approx(0.7)
    assert omega(table, ALL, "oracle") == pytest.approx(mean([hmean([0.9, 0.6]), hmean([0.7, 0.8])]))


def test_sections_of_a_kind_are_chosen_for_together() -> None:
    """The first section alone would choose a=1, the second a=2; by all their terms it is a=2."""
    runs = [
        Outcome(
            "x",
            "r",
            (point,),
            (FAN, "set/fan/01"),
            0,
            {FAN: {"fused": mark(*[a] * 3)}, "set/fan/01": {"fused": mark(*[b] * 3)}},
        )
        for point, a, b in (("a=1", 0.9, 0.3), ("a=2", 0.7, 0.6))
    ]
    (choice,) = oracle(runs)

    assert (choice.machines, choice.values) == ("set/fan", ("a=2",))
    assert choice.omega == pytest.approx(hmean([0.7, 0.6]))


@given(st.lists(TERM, min_size=1, max_size=5), st.lists(TERM, min_size=1, max_size=5))
def test_no_fixed_values_beat_the_oracle(fan: list[float], pump: list[float]) -> None:
    runs = [ran(f"a={n}", fan=f, pump=p) for n, (f, p) in enumerate(zip(fan, pump, strict=False))]
    table = rows([*runs, *as_oracle(runs, oracle(runs))])

    for machine in (FAN, PUMP, ALL):
        best = max(omega(table, machine, run.values[0]) for run in runs)
        assert omega(table, machine, "oracle") >= best - 1e-12


def test_values_of_a_failed_run_are_not_chosen() -> None:
    runs = [*GRID[:1], ran("a=1", seed=1, fan=0.7, pump=0.5, error="broken"), *GRID[2:]]

    assert {choice.values for choice in oracle(runs)} == {("a=2",)}


def test_where_one_kind_has_no_choice_there_is_no_oracle_over_all() -> None:
    runs = [ran("a=1", fan=0.9), ran("a=2", fan=0.8)]
    runs += [ran("a=1", pump=0.9, error="broken"), ran("a=2", pump=0.8, error="broken")]
    table = rows([*runs, *as_oracle(runs, oracle(runs))])

    assert omega(table, FAN, "oracle") == pytest.approx(0.9)
    assert found(table, ALL, values="oracle") is None
    assert [choice.machines for choice in oracle(runs)] == ["set/fan"]


# Tables ---------------------------------------------------------------------------------------------------------------


def test_the_tables_say_what_the_rows_say(tmp_path: Path) -> None:
    failed = ran("a=3", fan=0.1, error="the loss is nan | inf")
    table = rows([*GRID, failed])
    write(tmp_path, table, [failed])

    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        *good, bad = csv.DictReader(file)
    assert [(row["values"], row["machine"], row["score"]) for row in good] == [
        (row.values, row.machine, row.score) for row in table
    ]
    assert (float(good[0]["omega"]), float(good[0]["omega_sd"])) == pytest.approx((0.8, stdev((0.9, 0.7))))
    assert (bad["values"], bad["omega"], bad["error"]) == ("a=3", "", "r-a=3-0: the loss is nan | inf")
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text == markdown(table, [failed])
    assert "| r | a=1 | set/fan/00 | fused | 2 | 80.00 ± 14.14 |" in text
    assert r"| r-a=3-0 | the loss is nan \| inf |" in text
    assert "oracle" not in text


def test_tables_with_an_oracle_say_that_it_saw_the_labels() -> None:
    assert "labels of the test clips" in markdown(rows([*GRID, *as_oracle(GRID, oracle(GRID))]), [])


def test_a_narrow_terminal_shows_every_name_and_figure() -> None:
    table = rows([ran(seed=seed, fan=0.6 + seed / 10, pump=0.5) for seed in range(2)])
    terminal = Console(width=80, force_terminal=True, file=io.StringIO(), color_system=None)
    terminal.print(*for_terminal(table, [ran("a=1", error="[nan]")]))

    said = set(cast("io.StringIO", terminal.file).getvalue().split())
    assert {FAN, PUMP, ALL, "fused", "part", "65.00", "7.07", "r-a=1-0", "[nan]"} <= said
