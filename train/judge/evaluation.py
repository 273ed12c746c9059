"""What was found out about a bundle on recordings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from train.judge.metric import overall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edge_asd.bundle import Bundle
    from edge_asd.score.clip import ClipScore
    from train.corpus.clip import Clip
    from train.judge.metric import Decisions, Figure, Judgement, Protocol

FUSED = "fused"
"""what the fused score is called where parts are called by their names"""


@dataclass(frozen=True, slots=True)
class Scored:
    """A test clip and what the bundle said of it."""

    clip: Clip
    verdict: ClipScore
    anomalous: bool
    """whether the fused score exceeds the decision threshold"""
    embedding: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    """(D,) mean of the unit-length embeddings of its segments; None without a network"""


@dataclass(frozen=True, slots=True)
class Section:
    """Everything found out about one machine."""

    key: str
    """identity of the machine the clips are of"""
    head: str
    """the head that scored them"""
    threshold: float
    """fused score above which the head decides for an anomaly: the official rule, gamma 90 %"""
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
    protocol: Protocol
    oracle: bool
    """whether the configuration was chosen on labels of test clips: then no figure says what to expect of new ones"""
    sections: tuple[Section, ...]
    overall: Mapping[str, Figure]
    """Ω over all sections, of the fused score and of each part"""

    @property
    def omega(self) -> dict[str, float]:
        """The values of it: the official scores."""
        return {name: figure.value for name, figure in self.overall.items()}


def over(sections: Sequence[Section]) -> dict[str, Figure]:
    """Ω over these sections, of the fused score and of each part; empty when none can be scored."""
    by_name: dict[str, dict[str, Judgement]] = {}
    for section in sections:
        for name, judgement in section.judgements.items():
            by_name.setdefault(name, {})[section.key] = judgement
    return {name: overall(judgements) for name, judgements in by_name.items()}
