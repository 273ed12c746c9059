from __future__ import annotations

from edge_asd.deliver.message import Kind, Message
from edge_asd.deliver.publisher import Broker, NullPublisher, Traffic


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Broker("broker", password="secret"))  # noqa: S106 - of no broker


def test_without_a_broker_everything_is_still_allowed() -> None:
    publisher = NullPublisher()
    publisher.publish(Message("topic", b"", Kind.STATUS))
    publisher.wake()
    publisher.close()

    assert publisher.incoming() == []
    assert publisher.traffic() == Traffic()


def test_every_count_begins_at_nought() -> None:
    traffic = Traffic()

    assert {*traffic.connects.values(), *traffic.published.values(), *traffic.dropped.values()} == {0}
