"""Takes in what operators say of alarms, and hears again what they speak of, beside the loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edge_asd.errand import Errand, Errands
from edge_asd.judgement import hear, heard, keep, sound

if TYPE_CHECKING:
    from pathlib import Path

    from edge_asd.judgement import Judgement
    from edge_asd.ward import Ward

log = logging.getLogger(__name__)


class Feedback:
    """Runs in the daemon's loop; a network hears the clips again in an errand of its own."""

    def __init__(self, state: Path | None) -> None:
        """Without a state folder what is said is told to others, and forgotten with the process."""
        self._state, self._errands = state, Errands()
        self._said: dict[tuple[str, str], Judgement] = {}

    def keep(self, ward: Ward, judgement: Judgement) -> bool:
        """Keep it; False where the same was said before. What was not heard again yet, or by another bundle, is.

        Raises:
            AudioError: it cannot be written.
        """
        if self._state is None:
            before = self._said.get(key := (judgement.machine, judgement.alarm_id))
            self._said[key] = judgement
            return before is None or not judgement.repeats(before)
        news = keep(self._state, judgement)
        if self.audible(judgement.alarm_id) and not heard(self._state, judgement, ward.digest):
            self._hear(self._state, ward, judgement)
        return news

    def audible(self, alarm_id: str) -> bool:
        """Whether the sound of an alarm was kept: without it there is nothing to learn from."""
        return self._state is not None and sound(self._state, alarm_id) is not None

    def attend(self) -> None:
        """Deal with what was heard again; the daemon calls this every round."""
        self._errands.attend()

    def close(self) -> None:
        """What is being heard is waited for a little."""
        self._errands.close()

    def _hear(self, state: Path, ward: Ward, judgement: Judgement) -> None:
        listener, digest = ward.listener, ward.digest
        said = {"machine": judgement.machine, "alarm_id": judgement.alarm_id}
        self._errands.send(
            Errand(
                f"hear {judgement.alarm_id} again",
                lambda: hear(state, judgement, listener, digest),
                lambda clips: log.info("label.heard", extra=said | {"clips": clips}),
                lambda error: log.warning("label.unheard", extra=said | {"reason": str(error)}),
            )
        )
