"""What an embedding gives away: a map for the eye (t-SNE), and a linear probe so that the eye is not the only judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5
PERPLEXITY = 30.0
RATE = 10.0
"""least learning rate of t-SNE: its usual 50 throws single points far out of small maps (divergence 0.63 in place of
0.20 with 40 points in three dimensions, 0.94 in place of 0.47 with 160, alike with 800)"""
LEAST = 5
"""points that a map makes sense of"""


@dataclass(frozen=True, slots=True)
class Probe:
    """How often a linear classifier is right about clips that it has not seen, all classes counting alike."""

    accuracy: float
    """balanced, in [0, 1]"""
    chance: float
    """of one that knows nothing"""


def probe(
    embedding: NDArray[np.float32], classes: NDArray[np.str_], recording: NDArray[np.str_], seed: int = 0
) -> Probe | None:
    """Cross-validated logistic regression; None where it cannot be held to account.

    Args:
        embedding: (N, D).
        classes: (N,) what it should tell.
        recording: (N,) clips of one recording stay on one side of every fold.
        seed: of the folds.
    """
    names = np.unique(classes)
    folds = min([FOLDS, *(np.unique(recording[classes == name]).size for name in names)])
    if names.size < 2 or folds < 2:
        return None
    said = classes.copy()
    chosen = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(embedding, classes, recording)
    for known, asked in chosen:
        if np.unique(classes[known]).size < names.size:
            return None  # one recording holds a whole class
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        said[asked] = model.fit(embedding[known], classes[known]).predict(embedding[asked])
    return Probe(float(balanced_accuracy_score(classes, said)), 1 / names.size)


def averaged(probes: list[Probe]) -> Probe | None:
    """Mean of several; None of none."""
    if not probes:
        return None
    return Probe(float(np.mean([p.accuracy for p in probes])), float(np.mean([p.chance for p in probes])))


def place(embedding: NDArray[np.float32], axes: int, seed: int = 0) -> NDArray[np.float32]:
    """(N, D) -> (N, axes): neighbours stay neighbours (t-SNE, van der Maaten and Hinton, 2008).

    Raises:
        ValueError: fewer than LEAST points.
    """
    if len(embedding) < LEAST:
        msg = f"a map needs at least {LEAST} points, got {len(embedding)}"
        raise ValueError(msg)
    spread = embedding.shape[1] >= axes and bool(np.ptp(embedding, axis=0).any())  # or principal axes there are none
    start, nearest = "pca" if spread else "random", min(PERPLEXITY, (len(embedding) - 1) / 3)
    rate = max(len(embedding) / 48, RATE)
    tsne = TSNE(axes, perplexity=nearest, init=start, learning_rate=rate, random_state=seed)
    placed: NDArray[np.float32] = tsne.fit_transform(np.asarray(embedding, np.float32))
    return placed
