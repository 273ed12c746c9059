"""Labels and domains of evaluation clips, as the official evaluators distribute them (methods.md §9.2)."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from edge_asd.errors import ConfigError
from train.corpus.name import read_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Answers: TypeAlias = Mapping[tuple[str, str], Mapping[str, bool]]

LABELS, DOMAINS, LIST = "ground_truth_data", "ground_truth_domain", "eval_data_list.csv"
FILE = re.compile(r"ground_truth_(?P<machine>.+)_(?:section|id)_(?P<section>\d+)(?:_(?:source|target))?_test\.csv")
# Not eval_data_list_2022.csv of the official baseline: 608 of its labels are wrong (methods.md §9.4)
EXPECTED = (
    f"{LABELS}/ground_truth_MACHINE_section_00_test.csv and {DOMAINS}/ of the official evaluator, or 2020's {LIST}"
)


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of the test clips of some machines."""

    folder: Path
    anomalous: Answers
    """(machine, section) -> file name -> whether it is an anomaly"""
    target: Answers
    """the same, whether it is of the target domain; sections are missing where nobody says"""

    def fields(self, machine: str, section: str, file: str) -> dict[str, str]:
        """Label, and domain where it is known; empty for a machine that is not in here.

        Raises:
            ConfigError: the machine is, the file is not.
        """
        here = machine, section
        if here not in self.anomalous:
            return {}
        answers = {"label": ("normal", "anomaly")[self._answer(self.anomalous, here, file)]}
        if here in self.target:
            answers["domain"] = ("source", "target")[self._answer(self.target, here, file)]
        return answers

    def _answer(self, answers: Answers, here: tuple[str, str], file: str) -> bool:
        if file not in answers[here]:
            msg = f"{self.folder} knows {len(answers[here])} clips of {' '.join(here)}, but not {file}: another year's?"
            raise ConfigError(msg)
        return answers[here][file]


def load_truth(folder: Path) -> Truth:
    """Read an evaluator's folder, or the ``ground_truth_data`` in it.

    Raises:
        ConfigError: it is none, or a line makes no sense.
    """
    home = folder.parent if folder.name == LABELS else folder
    labels, domains = _tables(home / LABELS), _tables(home / DOMAINS)
    if not labels and (home / LIST).is_file():
        labels = _listed(home / LIST)
    if not labels:
        msg = f"no ground truth in {folder}: expected {EXPECTED}"
        raise ConfigError(msg)
    return Truth(folder, labels, domains)


def _tables(folder: Path) -> Answers:
    found: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for path in sorted(folder.glob("*.csv")):
        if name := FILE.fullmatch(path.name):
            found[name["machine"], name["section"]].update(_rows(path))
    return dict(found)


def _rows(path: Path) -> Iterator[tuple[str, bool]]:
    for number, row in enumerate(_lines(path), start=1):
        if len(row) != 2 or row[1].strip() not in {"0", "1"}:
            msg = f"{path} line {number}: expected a file name and 0 or 1, got {','.join(row)!r}"
            raise ConfigError(msg)
        yield row[0].strip(), row[1].strip() == "1"


def _listed(path: Path) -> Answers:
    """2020's: a line with the machine's name, then ``id_05_00000000.wav,normal_id_05_00000000.wav`` of each clip."""
    found: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    machine = ""
    for number, row in enumerate(_lines(path), start=1):
        machine = row[0].strip() if len(row) == 1 else machine
        if len(row) > 1:
            said = read_name(row[1].strip().rsplit(".", 1)[0])
            if not machine or said is None or said.get("label") not in {"normal", "anomaly"}:
                msg = f"{path} line {number}: expected id_05_00000000.wav,normal_id_05_00000000.wav, got {row!r}"
                raise ConfigError(msg)
            found[machine, said["section"]][row[0].strip()] = said["label"] == "anomaly"
    return dict(found)


def _lines(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path} is no table: {error}; fetch it again from the evaluator"
        raise ConfigError(msg) from error
