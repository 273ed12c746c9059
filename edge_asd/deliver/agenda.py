"""What is sent next: the order of everything a node says. No network here, and no clock.

State comes first, since it is small and the truth; then what happens now; then, slowly, what happened while the broker
was away. Within a kind what is live keeps its order, and so does what is replayed: over any number of reconnections the
first arrivals of both are in the order of their keys.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_asd.deliver.message import Kind

if TYPE_CHECKING:
    from edge_asd.deliver.message import Message
    from edge_asd.deliver.outbox import Entry, Outbox

WINDOW = 20
"""messages on their way at once; no more are read from the outbox at a time, either"""
ONCE = 100
"""messages of use now or never that wait for their turn"""
LOOK_AGAIN_S = 10.0
"""between two looks at an outbox that says it holds something but did not give it"""


@dataclass(frozen=True, slots=True)
class Sending:
    """A message that was chosen."""

    message: Message
    key: int | None = None
    """its place in the outbox, if it came from there"""


@dataclass(slots=True)
class _Stream:
    """One kind in the outbox between two keys, oldest first, read a page at a time."""

    kind: Kind
    after: int
    """everything up to this key was read"""
    until: int | None
    """the last key; None: as far as the outbox goes"""
    page: deque[Entry] = field(default_factory=deque)

    def end(self, outbox: Outbox) -> int:
        return outbox.newest if self.until is None else self.until

    def exhausted(self, outbox: Outbox) -> bool:
        return not self.page and self.after >= self.end(outbox)

    def take(self, outbox: Outbox) -> Entry | None:
        end = self.end(outbox)
        if not self.page and self.after < end:
            self.page.extend(outbox.waiting(self.kind, self.after, end, WINDOW))
            self.after = self.page[-1].key if len(self.page) == WINDOW else end
        return self.page.popleft() if self.page else None


class Agenda:
    """Belongs to the thread that sends; only ``say`` may be called from others, and never waits for the outbox."""

    def __init__(self, outbox: Outbox, replay_rate: float) -> None:
        """Nothing is chosen before ``begin``.

        Args:
            outbox: where what must arrive waits.
            replay_rate: messages a second at most of what was put before the connection.
        """
        self._outbox, self._pause = outbox, 1 / replay_rate
        self._lock = threading.Lock()  # guards these four; never held while the outbox is asked
        self._connected = False
        self._states: dict[str, Message] = {}
        self._unsaid: dict[str, None] = {}  # topics whose state the broker does not have, in order
        self._once: deque[Message] = deque()
        self._flight: dict[int, tuple[Sending, float]] = {}
        self._done: list[int] = []  # keys that the outbox may forget
        self._window, self._replay_at, self._look_at = WINDOW, 0.0, 0.0
        self._live: tuple[_Stream, ...] = ()
        self._backlog: tuple[_Stream, ...] = ()

    def say(self, message: Message) -> str | None:
        """State replaces what was said before and is said anew on every connection; the rest now or never.

        State with an empty payload removes the topic, and is forgotten when the broker has done so.

        Returns:
            Why it is dropped; None: it is not.

        Raises:
            ValueError: it belongs in the outbox.
        """
        if message.kind.queued:
            msg = f"{message.kind} on {message.topic} must arrive: put it into the outbox, then wake the publisher"
            raise ValueError(msg)
        with self._lock:
            if not _fleeting(message):
                self._states[message.topic] = message
                self._unsaid[message.topic] = None
                return None
            if not self._connected or len(self._once) >= ONCE:
                return "full" if self._connected else "away"
            self._once.append(message)
            return None

    def begin(self, window: int = WINDOW) -> None:
        """A connection is there: all state is to be said, and what waits in the outbox is late from here on."""
        self._window = min(window, WINDOW)
        self._open()
        with self._lock:
            self._connected = True
            # "online" comes last: whoever reads it finds everything else true
            last = sorted(self._states, key=lambda topic: self._states[topic].kind is Kind.STATUS)
            self._unsaid = dict.fromkeys(last)

    def end(self) -> list[Message]:
        """The connection is gone; what was to be said now or never, and is lost."""
        with self._lock:
            self._connected = False
            lost = [*self._once]
            self._once.clear()
        flying = [sending.message for sending, _ in self._flight.values()]
        self._flight.clear()
        self._live = self._backlog = ()
        return lost + [message for message in flying if _fleeting(message)]

    def choose(self, now: float) -> Sending | None:
        """What to send next; it must then be ``sent`` or ``drop``ped. None: the window is full, or nothing may go yet.

        Args:
            now: monotonic seconds.
        """
        if not self._connected or len(self._flight) >= self._window:
            return None
        events, scores = self._live
        late_events, late_scores = self._backlog
        chosen = (
            self._unsaid_state()
            or self._next(events)
            or self._now_or_never()
            or self._replay(late_events, now)
            or self._next(scores)
            or self._replay(late_scores, now)
        )
        if not chosen and now >= self._look_at and self.idle and len(self._outbox):
            self._look_at = now + LOOK_AGAIN_S
            self._open()  # it could not give everything when it was asked, as on a failing disk
        return chosen

    def sent(self, sending: Sending, mid: int, now: float) -> None:
        """It is on its way, by this number."""
        self._flight[mid] = sending, now

    def confirm(self, mid: int) -> Message | None:
        """The broker has spoken about it; None: we have given it up before."""
        sending, _ = self._flight.pop(mid, (None, 0.0))
        return self.drop(sending) if sending else None

    def drop(self, sending: Sending) -> Message:
        """Nothing more is to be done about it."""
        message = sending.message
        if sending.key is not None:
            self._done.append(sending.key)
        elif not message.payload:
            self._forget(message)
        return message

    def settle(self) -> None:
        """Let the outbox forget what is done, all at once: it may have to write."""
        if self._done:
            self._outbox.remove(self._done)
            self._done = []

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is on its way."""
        busy = self._flight or self._done or self._unsaid or self._once
        return not busy and all(stream.exhausted(self._outbox) for stream in (*self._live, *self._backlog))

    @property
    def oldest(self) -> float | None:
        """When the message was sent that waits longest for its confirmation; monotonic seconds."""
        return next((at for _, at in self._flight.values()), None)

    @property
    def replay_at(self) -> float | None:
        """When the next late message may go, monotonic seconds; None: none waits, or the window is full."""
        full = len(self._flight) >= self._window
        waits = not full and any(not stream.exhausted(self._outbox) for stream in self._backlog)
        return self._replay_at if waits else None

    def _open(self) -> None:
        newest = self._outbox.newest
        self._backlog = tuple(_Stream(kind, -1, newest) for kind in (Kind.EVENT, Kind.SCORE))
        self._live = tuple(_Stream(kind, newest, None) for kind in (Kind.EVENT, Kind.SCORE))

    def _unsaid_state(self) -> Sending | None:
        with self._lock:
            if not self._unsaid:
                return None
            topic = next(iter(self._unsaid))
            del self._unsaid[topic]
            return Sending(self._states[topic])

    def _now_or_never(self) -> Sending | None:
        with self._lock:
            return Sending(self._once.popleft()) if self._once else None

    def _next(self, stream: _Stream) -> Sending | None:
        entry = stream.take(self._outbox)
        return Sending(entry.message, entry.key) if entry else None

    def _replay(self, stream: _Stream, now: float) -> Sending | None:
        if now < self._replay_at or not (entry := stream.take(self._outbox)):
            return None
        self._replay_at = now + self._pause
        try:
            return Sending(entry.message.late(), entry.key)
        except (ValueError, TypeError):  # a damaged row must not hold up those behind it
            return Sending(entry.message, entry.key)

    def _forget(self, removal: Message) -> None:
        with self._lock:
            if self._states.get(removal.topic) is removal:
                del self._states[removal.topic]
                self._unsaid.pop(removal.topic, None)


def _fleeting(message: Message) -> bool:
    """Of use now or never. So is what is retained with QoS 0: it comes again soon, and said anew it would be stale."""
    return not message.kind.queued and not (message.kind.retained and message.kind.qos)
