"""HMIC: section and attribute-group structure one above the other, no reversed gradient, scored by group centres.

[H] Lan et al., Hierarchical Metadata Information Constrained Self-Supervised Learning for Anomalous Sound Detection
Under Domain Shift, arXiv:2309.07498, of which only the abstract is to be had (methods.md §1.3): a hierarchical
constraint from section to attribute, and a score by distance to attribute-group centres (AGC). [S1] prints the same
figures for HMIC-AGC as for its own network without reversal (Table II, row 3), so that is what it is here.

    z ─► Conv2D_sec ─► z_sec ─► Head_sec ─► sections
                         └─► Conv2D_att ─► Head_att ─► e ─► attribute groups

The AGC score is a back end, ``centres`` (methods.md §1.4; the formula is ours).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from train.method import grhd
from train.method.task import Table

if TYPE_CHECKING:
    from train.method.task import Task


class Settings(Table):
    """Weights of the two losses, [S1] eq. (6) without its first term."""

    beta: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=1.0, ge=0)
    focal_gamma: float = Field(default=2.0, ge=0)


def build(task: Task, settings: Settings) -> grhd.Grhd:
    """Fresh.

    Raises:
        ConfigError: there is only one attribute group.
    """
    return grhd.build(task, grhd.Settings(classifiers="both", **settings.model_dump()))
