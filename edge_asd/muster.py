"""Who can be judged: each machine with what it is judged by, and those whose bundle cannot be opened yet.

One bundle that is broken or not there must not silence the other machines. Its machine is announced as absent and is
tried again, in a thread: what takes its time there must not make capture wait.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from edge_asd.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from edge_asd.bundle import Bundle
    from edge_asd.config import MachineSettings
    from edge_asd.score.listener import Listener

log = logging.getLogger("edge_asd")

AGAIN_S = 60.0
"""between two tries"""


@dataclass(frozen=True, slots=True)
class Present:
    """What a machine is judged by; its golden waveform was replayed."""

    bundle: Bundle
    listener: Listener


Found = tuple[str, Present | BundleError]


@dataclass(slots=True)
class Muster:
    """Opens the bundles of all machines; those that it could not open, again and again."""

    machines: Mapping[str, MachineSettings]
    open: Callable[[str], Bundle]
    """by the name in the settings; raises BundleError"""
    monotonic: Callable[[], float]
    absent: dict[str, str] = field(default_factory=dict)
    """machines that cannot be judged, and why"""
    trying: threading.Thread | None = None
    """in which those absent are tried, or were"""
    _due: float = math.inf
    _found: SimpleQueue[Found] = field(default_factory=SimpleQueue)

    def first(self) -> dict[str, Present]:
        """Those that can be judged from the start.

        Raises:
            BundleError: not a single one can.
        """
        found = dict(self._look(self.machines))
        present = {name: one for name, one in found.items() if isinstance(one, Present)}
        refused = {name: one for name, one in found.items() if isinstance(one, BundleError)}
        if not present:
            raise next(iter(refused.values()))
        for name, error in refused.items():
            self.refuse(name, str(error))
        return present

    def refuse(self, name: str, reason: str) -> None:
        """A machine cannot be judged; said once, and again when the reason is another."""
        if self.absent.get(name) != reason:
            log.error("machine.absent", extra={"machine": name, "reason": reason})
        self.absent[name] = reason
        self._due = min(self._due, self.monotonic() + AGAIN_S)

    def late(self) -> list[tuple[str, Present]]:
        """Those that have become able to be judged since the last call; a new try begins when it is due."""
        come = []
        for name, one in self._drained():
            if isinstance(one, Present):
                come.append((name, one))
                self.absent.pop(name, None)
            else:
                self.refuse(name, str(one))
        if self.monotonic() >= self._due and not (self.trying and self.trying.is_alive()):
            self._due = math.inf
            self.trying = threading.Thread(target=self._try, args=(tuple(self.absent),), name="muster", daemon=True)
            self.trying.start()
        return come

    def _try(self, names: Collection[str]) -> None:
        for one in self._look(names):
            self._found.put(one)

    def _look(self, names: Collection[str]) -> Iterator[Found]:
        """Each bundle is opened once, for all its machines."""
        bundles: dict[str, Bundle | BundleError] = {}
        for name in names:
            wanted = self.machines[name]
            if wanted.bundle not in bundles:
                bundles[wanted.bundle] = self._opened(wanted.bundle)
            yield name, _judged(bundles[wanted.bundle], wanted.head)

    def _opened(self, bundle: str) -> Bundle | BundleError:
        try:
            return self.open(bundle)
        except BundleError as error:
            return error

    def _drained(self) -> Iterator[Found]:
        while True:
            try:
                yield self._found.get_nowait()
            except Empty:
                return


def _judged(bundle: Bundle | BundleError, head: str | None) -> Present | BundleError:
    if isinstance(bundle, BundleError):
        return bundle
    try:
        return Present(bundle, bundle.scorer(head))
    except BundleError as error:
        return error
