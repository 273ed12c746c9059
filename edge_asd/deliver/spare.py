"""What memory knows and the file does not, yet: everything for a moment, and while the disk fails, within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from edge_asd.deliver.database import Batch, Dropped
from edge_asd.deliver.message import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_asd.deliver.database import Gone, Row
    from edge_asd.deliver.journal import Logged

ROOM: Mapping[Kind, int] = {Kind.EVENT: 10_000, Kind.SCORE: 2_000}
"""messages kept in memory while they cannot be written; entries of the journal as many as events"""
UNKNOWN = 20_000
"""keys that are remembered as removed while the file cannot be asked whether it has them"""
WAIT_S = 60.0
"""a score that waits longer is written; what a power cut may cost"""


@dataclass(slots=True)
class Spare:
    """A batch that grows until it is written."""

    rows: dict[Kind, dict[int, Row]]
    gone: dict[int, Gone | None] = field(default_factory=dict)
    """removed but still in the file; None: it could not be asked"""
    entries: dict[int, Logged] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    receipts: dict[int, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def precious(self) -> bool:
        """Something must be on the medium before anybody is told."""
        return bool(self.rows[Kind.EVENT] or self.entries or self.states or self.receipts)

    def overdue(self, kind: Kind, now: float) -> bool:
        """Whether what is here of a kind belongs into the file: events at once, others if they stay or are many."""
        oldest = next(iter(self.rows[kind].values()), None)
        if oldest is None:
            return False
        return kind is Kind.EVENT or now - oldest.at >= WAIT_S or len(self.rows[kind]) >= ROOM.get(kind, 0) // 2

    def pop(self, key: int) -> Row | None:
        """Take out what waits under a key, if it is here."""
        return next((row for rows in self.rows.values() if (row := rows.pop(key, None))), None)

    def batch(self, kinds: Iterable[Kind], numbers: Mapping[str, int]) -> Batch:
        """All to be written, of the messages those of some kinds."""
        rows = [row for kind in kinds for row in self.rows[kind].values()]
        return Batch(numbers, self.states, self.receipts, rows, self.entries.values(), self.gone)

    def clear(self, kinds: Iterable[Kind]) -> None:
        """It is written."""
        for kind in kinds:
            self.rows[kind].clear()
        for part in (self.gone, self.entries, self.states, self.receipts):
            part.clear()

    def trim(self) -> list[Dropped]:
        """Let the oldest messages go for which there is no room."""
        return [
            Dropped(kind, "unkept", len(rows.pop(key).message.payload))
            for kind, rows in self.rows.items()
            for key in list(islice(rows, max(0, len(rows) - ROOM.get(kind, 0))))
        ]

    def trim_entries(self) -> int:
        """The same for the journal; how many."""
        surplus = list(islice(self.entries, max(0, len(self.entries) - ROOM[Kind.EVENT])))
        for key in surplus:
            del self.entries[key]
        return len(surplus)

    def trim_gone(self) -> None:
        """Forget the oldest of those that the file could not be asked about; at worst they are sent again."""
        if len(self.gone) > UNKNOWN:
            unknown = [key for key, gone in self.gone.items() if gone is None]
            for key in unknown[: max(0, len(unknown) - UNKNOWN)]:
                del self.gone[key]
