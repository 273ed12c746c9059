"""The alert rules as they are shipped: each fires when it must, and is silent on a healthy node."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.exported import Selector, exported, selectors

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
SEVERITIES = {"page", "warning", "info"}
PLACEHOLDER = re.compile(r"\$labels\.(\w+)")


def read(name: str) -> Any:  # noqa: ANN401 - what YAML gives
    return yaml.safe_load((SHIPPED / name).read_text())


@cache
def rules() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in read("rules.yml")["groups"] for rule in group["rules"]}


@cache
def cases() -> tuple[dict[str, Any], ...]:
    return tuple(case for test in read("rules_test.yml")["tests"] for case in test["alert_rule_test"])


@pytest.mark.system
def test_promtool_proves_each_rule() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "rules_test.yml"], cwd=SHIPPED, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.system
def test_promtool_takes_the_settings() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=SHIPPED, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_rule_is_without_a_test_that_it_fires_and_one_that_it_is_silent() -> None:
    assert {case["alertname"] for case in cases() if case["exp_alerts"]} == set(rules())
    assert {case["alertname"] for case in cases() if not case["exp_alerts"]} == set(rules())


@pytest.mark.parametrize("alert", rules())
def test_a_rule_asks_only_for_what_a_node_exports(alert: str) -> None:
    asked = list(selectors(rules()[alert]["expr"]))
    assert asked
    assert [selector for selector in asked if not selector.found()] == []


@pytest.mark.parametrize("alert", rules())
def test_a_rule_says_how_urgent_it_is_and_what_to_do(alert: str) -> None:
    rule = rules()[alert]
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "action"}
    fired = [case["exp_alerts"][0] for case in cases() if case["alertname"] == alert and case["exp_alerts"]]
    for said in PLACEHOLDER.findall(" ".join(rule["annotations"].values())):
        assert said in fired[0]["exp_labels"], f"{said} would be empty"


def test_the_series_that_rules_are_proven_with_are_those_of_a_node() -> None:
    """A test on a series that nobody exports would prove nothing."""
    names = {line["series"] for test in read("rules_test.yml")["tests"] for line in test["input_series"]}
    asked = {selector for name in names for selector in selectors(name)}
    assert {selector for selector in asked if not selector.found() and not _other(selector)} == set()


def _other(selector: Selector) -> bool:
    """A second microphone or machine, of which the node of these tests has one each."""
    return any((label, value) in {("source", "mic1"), ("machine", "pump2")} for label, _, value in selector.matchers)


def test_a_selector_that_nothing_fits_is_noticed() -> None:
    assert Selector("edge_asd_clips_total", (("outcome", "=", "overload"),)).found()
    assert not Selector("edge_asd_clips_total", (("outcome", "=", "overloaded"),)).found()
    assert not Selector("edge_asd_clips_total", (("source", "=~", ".*"),)).found()
    assert not Selector("edge_asd_clip_total", ()).found()
    assert Selector("edge_asd_clips_total", (("machine", "=~", "$machine"), ("instance", "=", "n1"))).found()
    assert list(selectors('sum by (up) (edge_asd_alarms{machine="a"}) > up')) == [
        Selector("edge_asd_alarms", (("machine", "=", "a"),)),
        Selector("up", ()),
    ]
    assert len(exported()) > 60
