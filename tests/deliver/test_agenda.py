from __future__ import annotations

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_asd.deliver.agenda import ONCE, WINDOW, Agenda, Sending
from edge_asd.deliver.message import Kind, Message, Status
from edge_asd.deliver.topic import Topics
from tests.deliver.shelf import Shelf

TOPICS = Topics("node-1")
ONLINE = TOPICS.status(Status.ONLINE)


def state(topic: str, text: str) -> Message:
    return Message(topic, text.encode(), Kind.ALARM)


def chosen(agenda: Agenda, now: float = 0.0) -> list[Sending]:
    """All that may go at this moment, confirmed at once."""
    found: list[Sending] = []
    while sending := agenda.choose(now):
        agenda.sent(sending, len(found) + 1, now)
        agenda.confirm(len(found) + 1)
        found.append(sending)
    agenda.settle()
    return found


def keys(sendings: list[Sending]) -> list[int | None]:
    return [sending.key for sending in sendings]


def late(message: Message) -> bool:
    return bool(json.loads(message.payload)["late"])


def test_state_goes_first_and_online_is_its_last_word() -> None:
    agenda = Agenda(shelf := Shelf(), 20.0)
    for message in (ONLINE, state("a", "1"), state("b", "1"), state("a", "2")):
        agenda.say(message)
    agenda.begin()
    shelf.put(Kind.EVENT)

    said = [sending.message for sending in chosen(agenda)]
    assert said[:3] == [state("a", "2"), state("b", "1"), ONLINE]
    assert said[3].kind is Kind.EVENT


def test_live_events_overtake_what_waited_and_scores_come_after_events() -> None:
    shelf = Shelf()
    old_score, old_event = shelf.put(Kind.SCORE), shelf.put(Kind.EVENT)
    agenda = Agenda(shelf, replay_rate=1.0)
    agenda.begin()
    score, event = shelf.put(Kind.SCORE), shelf.put(Kind.EVENT)
    agenda.say(reply := Message("reply", b"{}", Kind.REPLY))

    first = chosen(agenda)
    assert keys(first) == [event, None, old_event, score]
    assert first[1].message is reply
    assert [late(sending.message) for sending in (first[0], first[2], first[3])] == [False, True, False]
    assert chosen(agenda, 0.99) == []  # the backlog is held back, and says until when
    assert agenda.replay_at == 1.0
    assert keys(chosen(agenda, 1.0)) == [old_score]
    assert agenda.replay_at is None
    assert agenda.idle


def test_a_backlog_leaves_at_its_rate_a_page_at_a_time_while_live_events_pass() -> None:
    shelf = Shelf()
    for _ in range(500):
        shelf.put(Kind.EVENT)
    agenda = Agenda(shelf, replay_rate=16.0)
    agenda.begin()
    sent: list[list[Sending]] = []
    for tick in range(640):  # ten seconds in 64ths
        live = shelf.put(Kind.EVENT) if tick % 64 == 31 else None
        sent.append(chosen(agenda, tick / 64))
        assert live is None or live in keys(sent[-1])

    assert [sending.key for now in sent for sending in now if late(sending.message)] == list(range(160))
    assert all(sum(late(sending.message) for sending in now) <= 1 for now in sent)  # no bursts
    assert shelf.largest <= WINDOW
    assert shelf.asked < 40  # pages, not one question a message


def test_no_more_than_the_window_is_on_its_way() -> None:
    agenda = Agenda(shelf := Shelf(), 20.0)
    agenda.begin(window=3)
    for _ in range(5):
        shelf.put(Kind.EVENT)
    for mid in range(3):
        sending = agenda.choose(0.0)
        assert sending
        agenda.sent(sending, mid, float(mid))

    assert agenda.choose(0.0) is None
    assert agenda.replay_at is None
    assert agenda.oldest == 0.0
    agenda.confirm(0)
    assert agenda.oldest == 1.0
    assert agenda.choose(0.0) == Sending(shelf.entries[3], 3)


def test_a_broker_may_ask_for_a_smaller_window_not_for_a_larger_one() -> None:
    agenda = Agenda(shelf := Shelf(), 20.0)
    agenda.begin(window=65_535)
    for mid in range(WINDOW + 5):
        shelf.put(Kind.EVENT)
        if sending := agenda.choose(0.0):
            agenda.sent(sending, mid, 0.0)

    assert len(agenda.end()) == 0
    agenda.begin()
    assert agenda.choose(0.0) == Sending(shelf.entries[0].late(), 0)  # unconfirmed: again, and from the first


@pytest.mark.parametrize("kind", [Kind.REPLY, Kind.LEVEL, Kind.HEALTH])
def test_what_is_of_use_now_or_never_is_not_kept(kind: Kind) -> None:
    agenda = Agenda(Shelf(), 20.0)
    assert agenda.say(Message("x", b"1", kind)) == "away"
    agenda.begin()
    assert [agenda.say(Message("x", str(n).encode(), kind)) for n in range(ONCE + 1)] == [None] * ONCE + ["full"]
    first = agenda.choose(0.0)
    assert first
    agenda.sent(first, 1, 0.0)

    assert {message.payload for message in agenda.end()} == {str(n).encode() for n in range(ONCE)}
    agenda.begin()
    assert agenda.choose(0.0) is None


def test_an_empty_payload_removes_a_topic_and_is_then_forgotten() -> None:
    agenda = Agenda(Shelf(), 20.0)
    agenda.say(Message("config", b"{}", Kind.DISCOVERY))
    agenda.begin()
    chosen(agenda)
    agenda.say(removal := Message("config", b"", Kind.DISCOVERY))
    agenda.end()
    agenda.begin()
    assert [sending.message for sending in chosen(agenda)] == [removal]  # not yet confirmed: again

    agenda.end()
    agenda.begin()
    assert chosen(agenda) == []


def test_what_the_outbox_could_not_give_when_asked_is_asked_for_again() -> None:
    agenda = Agenda(shelf := Shelf(), 20.0)
    agenda.begin()
    shelf.put(Kind.EVENT)
    shelf.broken = True
    assert chosen(agenda, 0.0) == chosen(agenda, 1.0) == []
    shelf.broken = False
    shelf.put(Kind.EVENT)
    assert keys(chosen(agenda, 2.0)) == [1]

    assert chosen(agenda, 9.0) == []
    assert chosen(agenda, 10.0) == []  # looks again
    assert keys(chosen(agenda, 10.1)) == [0]
    assert len(shelf) == 0


@pytest.mark.parametrize("payload", [b"{", b"\xff", b"[]"])
def test_a_damaged_payload_does_not_hold_up_those_behind_it(payload: bytes) -> None:
    shelf = Shelf()
    for _ in range(2):
        shelf.put(Kind.EVENT)
    shelf.entries[0] = Message("x", payload, Kind.EVENT)
    agenda = Agenda(shelf, 20.0)
    agenda.begin()

    assert keys(chosen(agenda, 0.0) + chosen(agenda, 1.0)) == [0, 1]


def test_a_topic_that_came_back_before_its_removal_was_confirmed_stays() -> None:
    agenda = Agenda(Shelf(), 20.0)
    agenda.begin()
    agenda.say(Message("config", b"", Kind.DISCOVERY))
    removal = agenda.choose(0.0)
    assert removal
    agenda.sent(removal, 1, 0.0)
    agenda.say(back := Message("config", b"{}", Kind.DISCOVERY))
    agenda.confirm(1)

    assert [sending.message for sending in chosen(agenda)] == [back]


@pytest.mark.parametrize("kind", [Kind.EVENT, Kind.SCORE])
def test_what_must_arrive_is_sent_to_the_outbox(kind: Kind) -> None:
    with pytest.raises(ValueError, match=f"{kind} on a/topic must arrive: put it into the outbox"):
        Agenda(Shelf(), 20.0).say(Message("a/topic", b"{}", kind))


class Delivery(RuleBasedStateMachine):
    """A broker at the end of a cable that may be cut at any moment; confirmations get lost, arrivals do not reorder."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf()
        self.agenda = Agenda(self.shelf, replay_rate=20.0)
        self.now, self.mid, self.connected = 0.0, 0, False
        self.cable: list[tuple[int, Message]] = []  # sent, not arrived
        self.unheard: list[int] = []  # arrived, confirmation under way
        self.arrived: list[Message] = []
        self.truth: dict[str, Message] = {}

    @rule(kind=st.sampled_from([Kind.EVENT, Kind.SCORE]), count=st.integers(1, 30))
    def put(self, kind: Kind, count: int) -> None:
        """The daemon has something to tell."""
        for _ in range(count):
            self.shelf.put(kind)

    @rule(topic=st.sampled_from("abc"), text=st.integers())
    def say(self, topic: str, text: int) -> None:
        """State changes."""
        self.truth[topic] = state(topic, str(text))
        self.agenda.say(self.truth[topic])

    @precondition(lambda self: not self.connected)
    @rule(window=st.sampled_from([1, 2, 7, 20, 65_535]))
    def connect(self, window: int) -> None:
        """The broker is there, and may want less at once."""
        self.connected = True
        self.agenda.begin(window)

    @precondition(lambda self: self.connected)
    @rule(arrive=st.integers(0, 30))
    def cut(self, arrive: int) -> None:
        """Some of what is on the cable arrives; no confirmation does."""
        self.arrive(arrive)
        self.cable, self.unheard, self.connected = [], [], False
        assert self.agenda.end() == []

    @rule(count=st.integers(1, 30))
    def send(self, count: int) -> None:
        """As much as may go."""
        for _ in range(count):
            if sending := self.agenda.choose(self.now):
                self.mid += 1
                self.cable.append((self.mid, sending.message))
                self.agenda.sent(sending, self.mid, self.now)

    @rule(count=st.integers(1, 30))
    def arrive(self, count: int) -> None:
        """The broker gets the oldest."""
        for mid, message in self.cable[:count]:
            self.arrived.append(message)
            self.unheard.append(mid)
        self.cable = self.cable[count:]

    @rule(count=st.integers(1, 30))
    def confirm(self, count: int) -> None:
        """The node hears of it."""
        for mid in self.unheard[:count]:
            assert self.agenda.confirm(mid)
        self.unheard = self.unheard[count:]
        self.agenda.settle()

    @rule(seconds=st.sampled_from([0.01, 0.05, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @invariant()
    def the_window_is_kept(self) -> None:
        """Of sent and of arrived together."""
        assert len(self.cable) + len(self.unheard) <= WINDOW

    @invariant()
    def first_arrivals_are_in_order(self) -> None:
        """Among the live ones and among the late ones of a kind."""
        for kind in (Kind.EVENT, Kind.SCORE):
            seen: dict[int, bool] = {}
            for message in self.arrived:
                if message.kind is kind:
                    body = json.loads(message.payload)
                    seen.setdefault(body["id"], body["late"])
            for mark in (True, False):
                order = [number for number, was_late in seen.items() if was_late is mark]
                assert order == sorted(order)

    def teardown(self) -> None:
        """In the end everything has arrived, and the broker holds the truth."""
        if not self.connected:
            self.connect(20)
        for _ in range(10_000):
            self.wait(0.05)
            self.send(30)
            self.arrive(30)
            self.confirm(30)
            if self.agenda.idle:
                break
        assert self.agenda.idle
        got = {json.loads(message.payload)["id"] for message in self.arrived if message.kind.queued}
        assert got == set(range(self.shelf.newest + 1))
        assert len(self.shelf) == 0
        assert {message.topic: message for message in self.arrived if not message.kind.queued} == self.truth


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
