from __future__ import annotations

import pytest

from edge_asd.errors import ConfigError
from edge_asd.render.machine import Condition


@pytest.mark.parametrize(
    "setting",
    [
        {"speed": 0.0},
        {"speed": float("nan")},
        {"load": 1.1},
        {"severity": 0.5},
        {"fault": "leak"},
        {"fault": "leak", "severity": 1.5},
        {"fault": "leak", "severity": float("nan")},
    ],
)
def test_a_condition_that_cannot_be_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="need a s"):
        Condition(**setting)  # type: ignore[arg-type]


def test_only_the_present_fault_has_a_degree() -> None:
    condition = Condition(fault="leak", severity=0.4)
    assert (condition.degree("leak"), condition.degree("sticking"), Condition().degree("leak")) == (0.4, 0.0, 0.0)
