"""What a bundle is worth on recordings: the DCASE protocol through the daemon's own scoring code."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge_asd.bundle import open_bundle
from edge_asd.errors import AudioError, ConfigError, HeadUnknown
from train.data import load, scan
from train.file import write_whole
from train.judge import Truth, decide, harmonic_mean, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from edge_asd.bundle import Bundle, Precision
    from edge_asd.score.clip import ClipScore
    from train.data import Clip
    from train.judge import Decisions, Figure, Judgement

FUSED = "fused"
"""what the fused score is called where parts are called by their names"""


@dataclass(frozen=True, slots=True)
class Scored:
    """A test clip and what the bundle said of it."""

    clip: Clip
    verdict: ClipScore
    anomalous: bool
    """whether the fused score exceeds the decision threshold"""


@dataclass(frozen=True, slots=True)
class Section:
    """Everything found out about one machine."""

    key: str
    """identity of the machine the clips are of"""
    head: str
    """the head that scored them"""
    scored: tuple[Scored, ...]
    judgements: Mapping[str, Judgement]
    """of the fused score, then of each part; empty when normals or anomalies are missing"""
    source: Decisions | None
    target: Decisions | None

    @property
    def counts(self) -> str:
        """How many clips of which kind."""
        kinds = [(s.clip.domain, s.clip.label) for s in self.scored]
        normal = " + ".join(str(kinds.count((domain, "normal"))) for domain in ("source", "target"))
        return f"{normal} normal, {sum(label == 'anomaly' for _, label in kinds)} anomalous"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One bundle on some data sets."""

    bundle: Bundle
    sections: tuple[Section, ...]

    @property
    def omega(self) -> dict[str, float]:
        """Official score of the fused score and of each part: harmonic mean of all terms of all sections."""
        terms: dict[str, list[float]] = defaultdict(list)
        for section in self.sections:
            for name, judgement in section.judgements.items():
                terms[name] += judgement.terms
        return {name: harmonic_mean(values) for name, values in terms.items()}


def evaluate(
    path: Path,
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    head: str | None = None,
    machines: Sequence[str] = (),
    precision: Precision | None = None,
    console: Console | None = None,
) -> Evaluation:
    """Score every test clip of the data sets, a file being one clip whatever its length (methods.md §9).

    Args:
        path: the bundle.
        folders: data sets, or folders of them.
        out: where the participant's files and the results are written; None writes nothing.
        head: scores all machines; None takes each machine's own.
        machines: only these, by identity; all that the data has when empty.
        precision: the graph to use; None takes the one the heads belong to.
        console: shows progress; None is silent.

    Raises:
        HeadUnknown: a machine has no head in the bundle.
        ConfigError: there are no test clips.
        AudioError: a recording cannot be read, or its score is no number.
    """
    bundle = open_bundle(path, precision)
    clips = [clip for clip in scan(folders) if clip.split == "test"]
    if not clips:
        msg = f"no test clips in {', '.join(map(str, folders))}: nothing to evaluate"
        raise ConfigError(msg)
    if unknown := set(machines) - {clip.key for clip in clips}:
        msg = f"no test clips of {', '.join(sorted(unknown))}; there are {', '.join(sorted({c.key for c in clips}))}"
        raise ConfigError(msg)
    clips = [clip for clip in clips if not machines or clip.key in machines]
    heads = _heads(bundle, sorted({clip.key for clip in clips}), head)
    scored = _scored(bundle, heads, clips, console)
    evaluation = Evaluation(bundle, tuple(_section(key, heads[key], scored[key]) for key in heads))
    if out is not None:
        _write(out, evaluation)
    return evaluation


def show(evaluation: Evaluation, console: Console | None = None) -> None:
    """Print a table a machine; plain text and no wider or narrower than it needs when piped."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=160)
    for section in evaluation.sections:
        if section.judgements:
            console.print(_table(section, plain=not console.is_terminal), "")
        else:
            console.print(f"{section.key}: {section.counts}: not scorable, needs both\n", highlight=False)
    for name, omega in evaluation.omega.items():
        console.print(f"Ω over all machines, {name}: {100 * omega:.2f}", highlight=False)


# Scoring --------------------------------------------------------------------------------------------------------------


def _heads(bundle: Bundle, keys: Sequence[str], head: str | None) -> dict[str, str]:
    """Machine -> the head that scores it."""
    if head is not None:
        return dict.fromkeys(keys, bundle.key(head))
    if missing := [key for key in keys if key not in bundle.heads]:
        msg = (
            f"{bundle.path} has no head for {', '.join(missing)}; it has {', '.join(bundle.heads)}; "
            "name the machines wanted with --machine, or one head for all of them with --head"
        )
        raise HeadUnknown(msg)
    return {key: key for key in keys}


def _scored(
    bundle: Bundle, heads: Mapping[str, str], clips: Sequence[Clip], console: Console | None
) -> dict[str, list[Scored]]:
    scorers = {name: bundle.scorer(name) for name in set(heads.values())}
    scored: dict[str, list[Scored]] = {key: [] for key in heads}
    for clip in track(clips, "scoring", console=console, disable=console is None):
        name = heads[clip.key]
        verdict = scorers[name].score(load(clip, bundle.manifest.windows.sample_rate))
        if not all(map(math.isfinite, (verdict.score, *(part.z for part in verdict.parts)))):
            msg = f"{clip.path}: score is no number: {verdict}"
            raise AudioError(msg)
        anomalous = verdict.score > bundle.manifest.heads[name].thresholds.decision
        scored[clip.key].append(Scored(clip, verdict, anomalous))
    return scored


def _section(key: str, head: str, scored: Sequence[Scored]) -> Section:
    known = [one for one in scored if one.clip.label != "unknown"]
    truth = Truth(
        anomaly=np.array([one.clip.label == "anomaly" for one in known], bool),
        target=np.array([one.clip.domain == "target" for one in known], bool),
        recording=[one.clip.recording for one in known],
    )
    if not truth.scorable:
        return Section(key, head, tuple(scored), {}, None, None)
    decisions = np.array([one.anomalous for one in known])
    return Section(
        key,
        head,
        tuple(scored),
        {name: judge(np.array(scores), truth) for name, scores in _scores(known).items()},
        decide(decisions, truth, target=False),
        decide(decisions, truth, target=True),
    )


def _scores(scored: Sequence[Scored]) -> dict[str, list[float]]:
    """Name -> a score a clip, the fused one first."""
    columns = {FUSED: [one.verdict.score for one in scored]}
    for one in scored:
        for part in one.verdict.parts:
            columns.setdefault(part.name, []).append(part.z)
    return columns


# Printing -------------------------------------------------------------------------------------------------------------


def _table(section: Section, *, plain: bool) -> Table:
    table = Table(
        title=f"{section.key}  ({section.counts})",
        title_justify="left",
        box=None if plain else box.SIMPLE_HEAD,
        padding=(0, 2, 0, 0) if plain else (0, 1),
    )
    table.add_column("%", min_width=10)
    for column in ("source", "target", "pAUC", "Ω", "by clip", "by rec.", "same-domain"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, judgement in section.judgements.items():
        table.add_row(name, *_cells(judgement), style="bold" if name == FUSED else None)
    return table


def _cells(judgement: Judgement) -> Iterator[str]:
    yield from map(_percent, (judgement.auc_source, judgement.auc_target, judgement.pauc, judgement.omega))
    for interval in (judgement.omega.by_clip, judgement.omega.by_recording):
        yield f"{100 * interval.low:.0f}–{100 * interval.high:.0f}"
    yield f"{_percent(judgement.same_source)} / {_percent(judgement.same_target)}"


def _percent(figure: Figure | None) -> str:
    return "–" if figure is None else f"{100 * figure.value:.1f}"


# Writing --------------------------------------------------------------------------------------------------------------


def _write(out: Path, evaluation: Evaluation) -> None:
    """A folder a data set, for machines of one name in two of them would share their files; the summary last."""
    sets: dict[str, list[Section]] = defaultdict(list)
    for section in evaluation.sections:
        data_set, machine, number = section.key.split("/")
        sets[data_set].append(section)
        for kind, rows in (("anomaly_score", _score_rows(section)), ("decision_result", _decision_rows(section))):
            _write_csv(out / data_set / f"{kind}_{machine}_section_{number}_test.csv", rows)
    for data_set, sections in sets.items():
        _write_csv(out / data_set / "result.csv", _result_rows(sections))
    write_whole(out / "result.json", json.dumps(_summary(evaluation), indent=1).encode() + b"\n")


def _score_rows(section: Section) -> Iterator[list[str]]:
    return ([one.clip.path.name, f"{one.verdict.score:.17g}"] for one in section.scored)


def _decision_rows(section: Section) -> Iterator[list[str]]:
    return ([one.clip.path.name, str(int(one.anomalous))] for one in section.scored)


def _result_rows(sections: Sequence[Section]) -> Iterator[list[str]]:
    """The official table with Ω, its intervals and same-domain AUC to the right, then its two means."""
    rows = [(section, _columns(section)) for section in sections if section.judgements]
    names = list(dict.fromkeys(name for _, columns in rows for name in columns))
    yield ["machine", "section", *names]
    for section, columns in rows:
        yield [*section.key.split("/")[1:], *(_number(columns.get(name)) for name in names)]
    for mean, of in (("arithmetic mean", np.mean), ("harmonic mean", harmonic_mean)):
        present = ([value for _, columns in rows if (value := columns.get(name)) is not None] for name in names)
        yield ["", mean, *(_number(float(of(values)) if values else None) for values in present)]


def _columns(section: Section) -> dict[str, float | None]:
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
    for interval, title in ((fused.omega.by_clip, "clip"), (fused.omega.by_recording, "recording")):
        columns |= {f"omega 2.5 % by {title}": interval.low, f"omega 97.5 % by {title}": interval.high}
    columns |= {f"omega ({name})": judgement.omega.value for name, judgement in section.judgements.items()}
    same = {"source": fused.same_source, "target": fused.same_target}
    return columns | {f"same-domain AUC ({domain})": _value(figure) for domain, figure in same.items()}


def _value(figure: Figure | None) -> float | None:
    return figure.value if figure else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def _summary(evaluation: Evaluation) -> dict[str, object]:
    bundle = evaluation.bundle
    return {
        "bundle": {"name": bundle.manifest.name, "method": bundle.manifest.method, "digest": bundle.digest},
        "precision": bundle.precision,
        "omega": evaluation.omega,
        "sections": [
            {
                "key": section.key,
                "head": section.head,
                "clips": len(section.scored),
                "scorable": bool(section.judgements),
                "judgements": {name: asdict(judgement) for name, judgement in section.judgements.items()},
                "decisions": {
                    "source": asdict(section.source) if section.source else None,
                    "target": asdict(section.target) if section.target else None,
                },
            }
            for section in evaluation.sections
        ],
    }


def _write_csv(path: Path, rows: Iterable[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue().encode())
