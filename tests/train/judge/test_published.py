from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

import pytest

from train.judge.metric import harmonic_mean
from train.judge.published import COLUMNS, PEERS, ROWS

if TYPE_CHECKING:
    from train.judge.published import Column, Row

PRINTED = 0.01
"""a unit of the last digit: cells are rounded, and so is their mean"""

totalled = pytest.mark.parametrize("row", [row for row in ROWS if row.total], ids=lambda row: row.system)


@totalled
def test_a_printed_total_is_the_harmonic_mean_of_its_three(row: Row) -> None:
    assert harmonic_mean(astuple(row.total)) == pytest.approx(row.omega, abs=PRINTED)


@totalled
def test_the_printed_pauc_is_the_harmonic_mean_over_machines(row: Row) -> None:
    pauc = harmonic_mean([machine.pauc for machine in row.machines.values()])
    assert pauc == pytest.approx(row.total.pauc, abs=PRINTED)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.system)
def test_the_published_score_is_the_harmonic_mean_of_all_cells(column: Column) -> None:
    cells = [value for machine in column.machines.values() for value in astuple(machine)]
    assert len(cells) == 21
    assert harmonic_mean(cells) == pytest.approx(column.omega, abs=PRINTED)


def test_only_one_row_has_no_totals() -> None:
    assert [row.system for row in ROWS if row.total is None] == ["Imp-Freq"]


def test_every_system_was_judged_on_the_same_seven_machines() -> None:
    assert {len(row.machines) for row in (*ROWS, *COLUMNS)} == {7}
    assert len({frozenset(row.machines) for row in (*ROWS, *COLUMNS)}) == 1


def test_what_was_measured_lies_within_its_interval() -> None:
    for measured in (one for sets in PEERS.values() for one in sets.values()):
        low, high = measured.interval or (0, 100)
        assert low <= measured.least <= measured.most <= high
        assert all(0 <= seed <= 100 for seed in measured.seeds)


def test_the_mean_of_two_seeds_is_what_is_reported_of_them() -> None:
    one = PEERS["FFT and STFT branches, sub-cluster AdaCos, FeatEx, kNN"]["motor_eol"]
    assert sum(one.seeds) / 2 == pytest.approx(one.most, abs=0.5)
