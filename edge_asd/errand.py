"""Slow work beside the daemon's loop: one errand at a time, and what came of it is dealt with in the loop."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LEAVE_S = 2.0
"""that an errand may still take when nobody waits for it any more"""


@dataclass(frozen=True, slots=True)
class Errand:
    """Something slow, and what to do with what came of it."""

    what: str
    """for people"""
    work: Callable[[], Any]
    """in a thread of its own; may raise"""
    then: Callable[[Any], None]
    """in the loop, with what it gave"""
    otherwise: Callable[[Exception], None]
    """in the loop, with what it raised"""


class Errands:
    """Those to be run, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Errand] = deque()
        self._future: Future[Any] | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> str:
        """What is being done; empty when nothing is."""
        return self._waiting[0].what if self._waiting else ""

    def send(self, errand: Errand) -> None:
        """Run it when those before it are back."""
        self._waiting.append(errand)
        self._go()

    def attend(self) -> None:
        """Deal with one that has come back, and send the next."""
        if self._future is None or not self._future.done():
            return
        future, errand = self._future, self._waiting.popleft()
        self._future = None
        error = future.exception()
        if isinstance(error, Exception):
            errand.otherwise(error)
        else:
            errand.then(future.result())
        self._go()

    def close(self) -> None:
        """One that is under way is waited for a little, then left to itself: the process may end around it."""
        while len(self._waiting) > 1:
            self._waiting.pop()
        if self._thread:
            self._thread.join(LEAVE_S)

    def _go(self) -> None:
        if not self._waiting or self._future:
            return
        future, work = Future[Any](), self._waiting[0].work

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - dealt with in the loop
                future.set_exception(error)

        self._future, self._thread = future, threading.Thread(target=run, name="errand", daemon=True)
        self._thread.start()
