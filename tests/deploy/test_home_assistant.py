from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2.sandbox import SandboxedEnvironment

from edge_asd.deliver.discovery import Discovery
from tests.deliver.scene import HEALTH, STAMP, STANDING, TOPICS, VOICE

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "home-assistant"
CARDS = {"conditional", "markdown", "entities", "gauge", "history-graph", "logbook"}
ANOMALY = "binary_sensor.press_hall_3_pump1_anomaly"


def dashboard() -> Any:  # noqa: ANN401 - a YAML document
    return yaml.safe_load((FOLDER / "dashboard.yaml").read_text("utf-8"))


def values(document: object, key: str) -> Iterator[Any]:
    """All that stands under a key, at any depth."""
    if isinstance(document, dict):
        yield from (value for name, value in document.items() if name == key)
    if isinstance(document, dict | list):
        for part in document.values() if isinstance(document, dict) else document:
            yield from values(part, key)


def entity_ids() -> set[str]:
    """What Home Assistant calls the entities that are announced: their device's name and their own."""
    discovery = Discovery(TOPICS, "0.1.0")
    told = [discovery.node(["mic0"], HEALTH), discovery.machine("pump1", "mic0", 10.0)]
    return {
        f"{part['platform']}.{slug(body['device']['name'])}_{slug(part['name'])}"
        for body in (json.loads(message.payload) for message in told)
        for part in body["components"].values()
        if "name" in part
    }


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def test_every_entity_of_the_dashboard_is_announced() -> None:
    shown = set()
    for key in ("entity", "entity_id"):
        for value in values(dashboard(), key):
            shown |= {value} if isinstance(value, str) else set(value)

    assert ANOMALY in shown
    assert shown - entity_ids() == set()


def test_the_dashboard_is_made_of_cards_that_come_with_home_assistant() -> None:
    views = dashboard()["views"]
    cards = [card for view in views for card in view["cards"]]

    assert {card["type"] for card in cards} | {card["card"]["type"] for card in cards if "card" in card} == CARDS
    assert len({view["path"] for view in views}) == len(views)


def test_its_text_is_made_from_the_alarm_that_is_published() -> None:
    (text,) = values(dashboard(), "content")
    alarm = json.loads(TOPICS.alarm(VOICE.alarm(STAMP, STANDING)).payload)

    def state_attr(entity: str, name: str) -> object:
        assert entity == ANOMALY
        return alarm.get(name)

    said = SandboxedEnvironment().from_string(text).render(state_attr=state_attr)
    assert " ".join(said.split()) == (
        "Since 2026-11-20T11:59:30.104Z, surprise 2.41 at a threshold of 4.0. Not yet acknowledged."
    )


def test_the_readme_watches_an_entity_that_is_announced() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text("utf-8"), re.DOTALL)

    assert set(values(yaml.safe_load(block), "entity_id")) == {ANOMALY}
