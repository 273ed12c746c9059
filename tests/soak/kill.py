"""A process that changes something without end, killed at a moment by lot; and what was found after many such kills."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


@dataclass
class Outcome:
    """What was found after the kills."""

    kills: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    """what lay there that has no part when it was killed"""
    changes: int = 0
    """that were said to be done"""
    wrong: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether all was always whole, and the kills met changes at work."""
        return not self.wrong and self.changes >= self.kills and self.moments.total() > self.moments["nothing"]

    def count(self, said: Sequence[object], strays: str, wrong: Iterable[str]) -> None:
        """One more kill: how it stood before each change, what lay about, and everything that should not be."""
        self.wrong += [f"after kill {self.kills}: {what}" for what in wrong]
        self.kills += 1
        self.changes += max(len(said) - 1, 0)
        self.moments[strays] += 1


def killed(
    module: str,
    options: Sequence[str],
    after_s: float,
    last: Callable[[subprocess.Popen[str]], object] = lambda _: None,
) -> list[str]:
    """Run a module until so long after it said ready; the lines that it said from then on.

    Args:
        module: of these tests, run as a command.
        options: of the command.
        after_s: seconds.
        last: done with the process right before it is killed.

    Raises:
        AssertionError: it does not begin.
    """
    with subprocess.Popen([sys.executable, "-m", module, *options], stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            msg = "it does not begin"
            raise AssertionError(msg)
        time.sleep(after_s)
        last(process)
        process.kill()
        return process.stdout.read().splitlines()
