from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.outbox import MemoryOutbox


def event(number: int) -> Message:
    return Message("topic", str(number).encode(), Kind.EVENT)


@given(st.lists(st.sampled_from(["put", "remove"]), max_size=60), st.integers(1, 5))
def test_everything_put_is_sent_in_order_or_given_back(steps: list[str], limit: int) -> None:
    outbox, put, out, lost = MemoryOutbox(limit), 0, [], []
    for step in steps:
        if step == "put":
            lost += outbox.put(event(put))
            put += 1
        elif entry := outbox.oldest():
            out.append(entry.message)
            outbox.remove(entry.key)

    rest = [outbox._waiting[key] for key in outbox._waiting]  # noqa: SLF001 - what is left
    assert sorted(int(message.payload) for message in [*out, *lost, *rest]) == list(range(put))
    assert [int(message.payload) for message in out] == sorted(int(message.payload) for message in out)
    assert len(outbox) == len(rest) <= limit
    assert outbox.size == sum(len(message.payload) for message in rest)


def test_a_full_outbox_gives_up_the_oldest() -> None:
    outbox = MemoryOutbox(limit=2)

    assert [outbox.put(event(number)) for number in range(3)] == [[], [], [event(0)]]
    assert outbox.newest == 2


def test_what_was_evicted_while_it_was_sent_may_still_be_removed() -> None:
    outbox = MemoryOutbox(limit=1)
    outbox.put(event(0))
    sending = outbox.oldest()
    outbox.put(event(1))

    assert sending is not None
    outbox.remove(sending.key)
    left = outbox.oldest()
    assert left is not None
    assert left.message == event(1)
