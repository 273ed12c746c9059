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

    from edge_asd.config import MachineSettings
    from edge_asd.ward import Mind

log = logging.getLogger("edge_asd")

AGAIN_S = 60.0
"""between two tries"""


Found = tuple[str, "Mind | BundleError"]


@dataclass(slots=True)
class Muster:
    """Opens the bundles of all machines; those that it could not open, again and again."""

    machines: Mapping[str, MachineSettings]
    together: Callable[[str, Collection[str]], Mapping[str, Mind]]
    """what judges all machines that share a bundle, or the one before it; raises BundleError if one cannot be judged"""
    alone: Callable[[str], Mind]
    """what judges one machine; raises BundleError"""
    monotonic: Callable[[], float]
    absent: dict[str, str] = field(default_factory=dict)
    """machines that cannot be judged, and why"""
    trying: threading.Thread | None = None
    """in which those absent are tried, or were"""
    _due: float = math.inf
    _found: SimpleQueue[Found] = field(default_factory=SimpleQueue)

    def first(self) -> dict[str, Mind]:
        """Those that can be judged from the start.

        Raises:
            BundleError: not a single one can.
        """
        found = self._all()
        present = {name: one for name in self.machines if not isinstance(one := found[name], BundleError)}
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

    def late(self) -> list[tuple[str, Mind]]:
        """Those that have become able to be judged since the last call; a new try begins when it is due."""
        come = []
        for name, one in self._drained():
            if isinstance(one, BundleError):
                self.refuse(name, str(one))
            else:
                come.append((name, one))
                self.absent.pop(name, None)
        if self.monotonic() >= self._due and not (self.trying and self.trying.is_alive()):
            self._due = math.inf
            self.trying = threading.Thread(target=self._try, args=(tuple(self.absent),), name="muster", daemon=True)
            self.trying.start()
        return come

    def _try(self, names: Collection[str]) -> None:
        for name in names:
            self._found.put((name, self._alone(name)))

    def _all(self) -> dict[str, Mind | BundleError]:
        """Each bundle is opened once for all its machines; where one of them cannot be judged, each by itself."""
        found: dict[str, Mind | BundleError] = {}
        for bundle in dict.fromkeys(machine.bundle for machine in self.machines.values()):
            mine = [name for name, machine in self.machines.items() if machine.bundle == bundle]
            try:
                found |= self.together(bundle, mine)
            except BundleError as error:
                found |= {mine[0]: error} if len(mine) == 1 else {name: self._alone(name) for name in mine}
        return found

    def _alone(self, name: str) -> Mind | BundleError:
        try:
            return self.alone(name)
        except BundleError as error:
            return error

    def _drained(self) -> Iterator[Found]:
        while True:
            try:
                yield self._found.get_nowait()
            except Empty:
                return
