"""What a bundle is worth on recordings: the DCASE protocol through the daemon's own scoring code."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from edge_asd.bundle import open_bundle
from edge_asd.errors import AudioError, HeadUnknown
from edge_asd.score.part import is_embedding
from train.corpus.clip import load
from train.judge.evaluation import FUSED, Evaluation, Scored, Section, over
from train.judge.metric import Truth, decide, judge
from train.judge.result import write_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from edge_asd.bundle import Bundle, Precision
    from edge_asd.score.listener import Embed, Listener
    from train.corpus.clip import Clip
    from train.judge.metric import Protocol

FLOOR = 1e-12
"""shortest an embedding is taken to be"""


def evaluate(  # noqa: PLR0913 - what to judge, on what, and how it is to be read
    path: Path,
    clips: Sequence[Clip],
    out: Path | None = None,
    *,
    head: str | None = None,
    precision: Precision | None = None,
    protocol: Protocol = "2022",
    oracle: bool = False,
    console: Console | None = None,
) -> Evaluation:
    """Score test clips, a file being one clip whatever its length (methods.md §9).

    Args:
        path: the bundle.
        clips: from :func:`train.corpus.clip.trials`.
        out: where the participant's files and the results are written; None writes nothing.
        head: scores all machines; None takes each machine's own.
        precision: the graph to use; None takes the one the heads belong to.
        protocol: the year whose metrics and file names hold.
        oracle: the bundle's configuration was chosen on labels of test clips; the results say so.
        console: shows progress; None is silent.

    Raises:
        HeadUnknown: a machine has no head in the bundle.
        AudioError: a recording cannot be read, or its score is no number.
    """
    bundle = open_bundle(path, precision)
    heads = _heads(bundle, sorted({clip.key for clip in clips}), head)
    scored = _scored(bundle, heads, clips, console)
    sections = tuple(_section(bundle, key, heads[key], scored[key], protocol) for key in heads)
    evaluation = Evaluation(bundle, protocol, oracle, sections, over(sections))
    if out is not None:
        write_results(out, evaluation)
    return evaluation


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
    ears = {name: _Ear.of(bundle.scorer(name)) for name in set(heads.values())}
    scored: dict[str, list[Scored]] = {key: [] for key in heads}
    for clip in track(clips, "scoring", console=console, disable=console is None):
        name = heads[clip.key]
        verdict = ears[name].listener.score(load(clip, bundle.manifest.windows.sample_rate))
        if not all(map(math.isfinite, (verdict.score, *(part.z for part in verdict.parts)))):
            msg = f"{clip.path}: score is no number: {verdict}"
            raise AudioError(msg)
        anomalous = verdict.score > bundle.manifest.heads[name].thresholds.decision
        scored[clip.key].append(Scored(clip, verdict, anomalous, ears[name].embedding()))
    return scored


@dataclass(slots=True)
class _Ear:
    """A listener, and where its network, or each of an ensemble, put the segments of the clip it has scored."""

    listener: Listener
    embeddings: list[NDArray[np.float32]] = field(default_factory=list)

    @classmethod
    def of(cls, listener: Listener) -> _Ear:
        ear = cls(listener)
        if listener.embed is not None:
            ear.listener = replace(listener, embed=ear.overhearing(listener.embed))
        return ear

    def overhearing(self, embed: Embed) -> Embed:
        def heard(segment: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
            given = embed(segment)
            if unit := [_unit(output) for name, output in given.items() if is_embedding(name)]:
                self.embeddings.append(np.concatenate(unit))
            return given

        return heard

    def embedding(self) -> NDArray[np.float32] | None:
        """(D,) mean of the unit-length embeddings since the last call, members' end to end; None without any."""
        if not self.embeddings:
            return None
        rows, self.embeddings = np.stack(self.embeddings), []  # (B, D)
        return np.asarray(rows.mean(axis=0), np.float32)


def _unit(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(embedding / max(float(np.linalg.norm(embedding)), FLOOR), np.float32)


# Judging --------------------------------------------------------------------------------------------------------------


def _section(bundle: Bundle, key: str, head: str, scored: Sequence[Scored], protocol: Protocol) -> Section:
    known = [one for one in scored if one.clip.label != "unknown"]
    truth = Truth(
        anomaly=np.array([one.clip.label == "anomaly" for one in known], bool),
        target=np.array([one.clip.domain == "target" for one in known], bool),
        recording=[one.clip.recording for one in known],
    )
    found = Section(key, head, bundle.manifest.heads[head].thresholds.decision, tuple(scored), {}, None, None)
    if not truth.scorable(protocol):
        return found
    seed = zlib.crc32(key.encode())  # sections are drawn again independently, their parts and Ω alike
    columns = {name: np.array(scores) for name, scores in _scores(known).items()}
    decisions = np.array([one.anomalous for one in known])
    return replace(
        found,
        judgements={name: judge(scores, truth, protocol=protocol, seed=seed) for name, scores in columns.items()},
        source=decide(decisions, truth, target=False),
        target=decide(decisions, truth, target=True),
    )


def _scores(scored: Sequence[Scored]) -> dict[str, list[float]]:
    """Name -> a score a clip, the fused one first."""
    columns = {FUSED: [one.verdict.score for one in scored]}
    for one in scored:
        for part in one.verdict.parts:
            columns.setdefault(part.name, []).append(part.z)
    return columns
