"""The files an evaluation leaves behind: a participant's, the official table, and what a report is made from."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from train.file import write_whole
from train.judge.evaluation import FUSED, over
from train.judge.metric import harmonic_mean, official_ci95

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from train.judge.evaluation import Evaluation, Section
    from train.judge.metric import Figure, Protocol

    Columns = dict[str, float | None]

NAMES: dict[Protocol, str] = {
    "2020": "{kind}_{machine}_id_{section}.csv",
    "2021": "{kind}_{machine}_section_{section}_test.csv",
    "2022": "{kind}_{machine}_section_{section}_test.csv",
}
"""what a participant calls the files of one machine (methods.md §9.2)"""
SCORES, SUMMARY, EMBEDDINGS = "scores.csv", "result.json", "embeddings.npz"


def write_results(out: Path, evaluation: Evaluation) -> None:
    """A folder a data set, for machines of one name in two of them would share their files; the summary last."""
    for data_set, sections in _by_set(evaluation).items():
        for section in sections:
            _write_participant(out / data_set, section, evaluation.protocol)
        _write_csv(out / data_set / "result.csv", _result_rows(evaluation, sections))
    _write_csv(out / SCORES, _clip_rows(evaluation))
    _write_embeddings(out / EMBEDDINGS, evaluation)
    write_whole(out / SUMMARY, json.dumps(_summary(evaluation), indent=1).encode() + b"\n")


def _by_set(evaluation: Evaluation) -> dict[str, list[Section]]:
    sets: dict[str, list[Section]] = defaultdict(list)
    for section in evaluation.sections:
        sets[section.key.split("/")[0]].append(section)
    return sets


# A participant's files ------------------------------------------------------------------------------------------------


def _write_participant(folder: Path, section: Section, protocol: Protocol) -> None:
    _, machine, number = section.key.split("/")
    scores = ([one.clip.path.name, _exact(one.verdict.score)] for one in section.scored)
    decisions = ([one.clip.path.name, str(int(one.anomalous))] for one in section.scored)
    for kind, rows in (("anomaly_score", scores), ("decision_result", decisions)):
        _write_csv(folder / NAMES[protocol].format(kind=kind, machine=machine, section=number), rows)


# The official table ---------------------------------------------------------------------------------------------------


def _result_rows(evaluation: Evaluation, sections: Sequence[Section]) -> Iterator[list[str]]:
    """The official table with more to the right, then its means, then the score of the set."""
    judged = [section for section in sections if section.judgements]
    rows = {section.key: _columns(section) for section in judged}
    names = list(dict.fromkeys(name for section in judged for name in rows[section.key] | _beside(section)))

    def row(machine: str, section: str, columns: Columns) -> list[str]:
        return [machine, section, *(_number(columns.get(name)) for name in names)]

    yield ["machine", "section", *names]
    for section in judged:
        _, machine, number = section.key.split("/")
        yield row(machine, number, rows[section.key] | _beside(section))
    averages = _averages(rows) if evaluation.protocol == "2020" else {}
    for key, columns in averages.items():
        yield row(key.split("/")[1], "average", columns)
    yield row("", "arithmetic mean", _mean(averages or rows, np.mean))
    yield row("", "harmonic mean", _mean(rows, harmonic_mean))
    mark = ", oracle" if evaluation.oracle else ""
    if total := over(sections):
        yield row("", f"official score{mark}", _omegas(total) | _bounds(total[FUSED]))
    if total and evaluation.protocol == "2022":
        yield row("", f"official score ci95{mark}", {f"omega ({FUSED})": _ci95(sections)})


def _averages(rows: Mapping[str, Columns]) -> dict[str, Columns]:
    """``set/machine`` -> arithmetic means over its sections."""
    machines: dict[str, dict[str, Columns]] = defaultdict(dict)
    for key, columns in rows.items():
        machines[key.rpartition("/")[0]][key] = columns
    return {machine: _mean(own, np.mean) for machine, own in machines.items()}


def _mean(rows: Mapping[str, Columns], mean: Callable[[list[float]], float | np.floating]) -> Columns:
    """Of every column, over the rows that have it."""
    present: dict[str, list[float]] = defaultdict(list)
    for columns in rows.values():
        for name, value in columns.items():
            present[name] += [] if value is None else [value]
    return {name: float(mean(values)) if values else None for name, values in present.items()}


def _columns(section: Section) -> Columns:
    fused, decisions = section.judgements[FUSED], (("source", section.source), ("target", section.target))
    columns = {
        "AUC (source)": _value(fused.auc_source),
        "AUC (target)": _value(fused.auc_target),
        "pAUC": fused.pauc.value,
        "pAUC (source)": _value(fused.pauc_source),
        "pAUC (target)": _value(fused.pauc_target),
    }
    for title, field in (("precision", "precision"), ("recall", "recall"), ("F1 score", "f1")):
        columns |= {f"{title} ({domain})": getattr(one, field) if one else None for domain, one in decisions}
    columns |= _omegas({name: judgement.omega for name, judgement in section.judgements.items()})
    return columns | {
        "AUC (all)": fused.auc.value,
        "same-domain AUC (source)": _value(fused.same_source),
        "same-domain AUC (target)": _value(fused.same_target),
        "same-domain pAUC (source)": _value(fused.same_pauc_source),
        "same-domain pAUC (target)": _value(fused.same_pauc_target),
    }


def _beside(section: Section) -> Columns:
    """What no mean makes sense of."""
    return {**_bounds(section.judgements[FUSED].omega), "decision threshold": section.threshold}


def _omegas(figures: Mapping[str, Figure]) -> Columns:
    return {f"omega ({name})": figure.value for name, figure in figures.items()}


def _bounds(omega: Figure) -> Columns:
    """Its intervals of 95 %, by kind."""
    columns: Columns = {}
    for kind, interval in (
        ("bootstrap by clip", omega.by_clip),
        ("bootstrap by recording", omega.by_recording),
        ("jackknife by clip", omega.jackknife_by_clip),
        ("jackknife by recording", omega.jackknife_by_recording),
    ):
        columns[f"omega 2.5 % {kind}"] = interval.low if interval else None
        columns[f"omega 97.5 % {kind}"] = interval.high if interval else None
    return columns


def _ci95(sections: Iterable[Section]) -> float:
    clips = [one for section in sections if section.judgements for one in section.scored if one.clip.label != "unknown"]
    return official_ci95(
        np.array([one.verdict.score for one in clips]), np.array([one.clip.label == "anomaly" for one in clips])
    )


def _value(figure: Figure | None) -> float | None:
    return figure.value if figure else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


# For a report ---------------------------------------------------------------------------------------------------------


def _clip_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    """A line a clip, all there is to know; empty where its head has no such part."""
    clips = [(section, one) for section in evaluation.sections for one in section.scored]
    parts = list(dict.fromkeys(part.name for _, one in clips for part in one.verdict.parts))
    yield [
        *("key", "file", "domain", "label", "recording", "attribute", "score", "decision"),
        *(f"z_{name}" for name in parts),
    ]
    for section, one in clips:
        z = {part.name: _exact(part.z) for part in one.verdict.parts}
        about = one.clip.domain, one.clip.label, one.clip.recording, one.clip.attribute
        said = _exact(one.verdict.score), str(int(one.anomalous))
        yield [section.key, one.clip.path.name, *about, *said, *(z.get(name, "") for name in parts)]


def _write_embeddings(path: Path, evaluation: Evaluation) -> None:
    """Rows are clips, in the order of the scores; no file without a network, and none left of an earlier run."""
    clips = [(section.key, one) for section in evaluation.sections for one in section.scored]
    rows = [one.embedding for _, one in clips if one.embedding is not None]
    if not rows:
        path.unlink(missing_ok=True)
        return
    arrays = {
        "embedding": np.stack(rows),
        "key": np.array([key for key, _ in clips]),
        "file": np.array([one.clip.path.name for _, one in clips]),
        "domain": np.array([one.clip.domain for _, one in clips]),
        "label": np.array([one.clip.label for _, one in clips]),
        "split": np.array([one.clip.split for _, one in clips]),
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:  # np.savez knows no array called file
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    write_whole(path, content.getvalue())


def _summary(evaluation: Evaluation) -> dict[str, object]:
    bundle, heads = evaluation.bundle, evaluation.bundle.manifest.heads
    card = heads[evaluation.sections[0].head]  # of a run all heads have the same parts
    return {
        "bundle": {
            "name": bundle.manifest.name,
            "method": bundle.manifest.method,
            "digest": bundle.digest,
            "precision": bundle.precision,
            "metrics": bundle.manifest.metrics,
            "parts": {part.name: f"{part.feature}, {part.detector}" for part in card.parts},
            "members": {name: card.fusion.weights.get(name, 1.0) for name in card.fusion.members},
            "rule": card.fusion.rule,
        },
        "precision": bundle.precision,
        "protocol": evaluation.protocol,
        "oracle": evaluation.oracle,
        "omega": evaluation.omega,
        "overall": {name: asdict(figure) for name, figure in evaluation.overall.items()},
        "thresholds": {
            head: heads[head].thresholds.model_dump() for head in dict.fromkeys(s.head for s in evaluation.sections)
        },
        "sections": [_section(section) for section in evaluation.sections],
    }


def _section(section: Section) -> dict[str, object]:
    return {
        "key": section.key,
        "head": section.head,
        "clips": len(section.scored),
        "scorable": bool(section.judgements),
        "judgements": {
            name: {metric: asdict(figure) if figure else None for metric, figure in judgement.figures.items()}
            for name, judgement in section.judgements.items()
        },
        "decisions": {
            "source": asdict(section.source) if section.source else None,
            "target": asdict(section.target) if section.target else None,
        },
    }


def _exact(value: float) -> str:
    """Comes back to the last bit."""
    return f"{value:.17g}"


def _write_csv(path: Path, rows: Iterable[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue().encode())
