"""Two models hear the same clips: may the one that is on trial speak?

The witness is the model that is trusted. It says which clips are of use: what it finds strange may be a fault, and a
fault must not condemn a model that hears it, too. Of the others a model that is fit for this machine finds few strange;
how few is not asked narrowly, for a site is never quite what a model was calibrated on. Only what is far off counts.

Nothing here says that the new model hears *more* than the old one: that is measured where it is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

CLIPS = 20
"""clips of a machine that the witness finds normal, for a verdict"""
STRANGE_SHARE = 0.25
"""of them over the alarm threshold of the model on trial; one in forty is usual where three in a row raise an alarm"""
SURPRISE_MORE = 2.0
"""mean surprise over that of the witness: the model on trial finds the machine a hundred times less probable"""
LATEST = 5
"""times the clips that are needed: when so many came and too few were normal, nothing can be said"""
ALIKE = 1e-6
"""standard deviations of difference up to which scores are the same"""


class Verdict(StrEnum):
    """On a model on trial."""

    PENDING = "pending"
    FIT = "fit"
    UNFIT = "unfit"
    UNDECIDED = "undecided"
    """the witness finds the machine strange itself, clip after clip"""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one model says of a clip."""

    score: float
    surprise: float
    over: bool
    """its alarm threshold is reached"""


@dataclass(frozen=True, slots=True)
class Trial:
    """The pairs of one machine so far."""

    needed: int = CLIPS
    pairs: int = 0
    normal: int = 0
    """pairs of which the witness says so"""
    over: int = 0
    """of the normal ones, those over the threshold of the model on trial"""
    witness: float = 0.0
    """sum of surprise over the normal ones, as the witness has it"""
    tried: float = 0.0
    """the same of the model on trial"""
    lowest: float = math.inf
    """score of the model on trial over all pairs"""
    highest: float = -math.inf
    failure: str = ""
    """what the model on trial did wrong; one time is enough"""

    @property
    def verdict(self) -> Verdict:
        """As far as can be said."""
        if self.reason:
            return Verdict.UNFIT
        if self.normal >= self.needed:
            return Verdict.FIT
        return Verdict.UNDECIDED if self.pairs >= LATEST * self.needed else Verdict.PENDING

    @property
    def reason(self) -> str:
        """Why it is not fit; empty when nothing speaks against it."""
        if self.failure:
            return self.failure
        if self.over >= max(STRANGE_SHARE * self.needed, 1):
            return f"{self.over} of {self.normal} normal clips are over its alarm threshold"
        if self.normal < self.needed:
            return ""
        tried, witness = self.tried / self.normal, self.witness / self.normal
        if tried > witness + SURPRISE_MORE:
            return f"normal clips surprise it by {tried:.1f} on average, the trusted model by {witness:.1f}"
        if self.highest - self.lowest <= ALIKE:
            return f"it says the same of each of {self.pairs} clips"
        return ""


def compare(trial: Trial, witness: Heard, tried: Heard) -> Trial:
    """Fold in what both say of one clip."""
    normal = not witness.over
    return replace(
        trial,
        pairs=trial.pairs + 1,
        normal=trial.normal + normal,
        over=trial.over + (normal and tried.over),
        witness=trial.witness + normal * witness.surprise,
        tried=trial.tried + normal * tried.surprise,
        lowest=min(trial.lowest, tried.score),
        highest=max(trial.highest, tried.score),
    )


def fail(trial: Trial, reason: str) -> Trial:
    """The model on trial did what no model may: it raised an error, or computes other numbers than it should."""
    return replace(trial, failure=reason)


def together(verdicts: list[Verdict]) -> Verdict:
    """On a model that several machines try: unfit for one is unfit; fit is only what is fit for each."""
    if Verdict.UNFIT in verdicts:
        return Verdict.UNFIT
    if not verdicts or Verdict.PENDING in verdicts:
        return Verdict.PENDING
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.FIT
