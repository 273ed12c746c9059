"""A new version stays if it scores; otherwise the last good one runs again, within three minutes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from deploy.debian import trial
from edge_asd.deliver.control import Control
from tests.conftest import until
from tests.deliver.scene import HEALTH

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Service:
    """A service by the clock: from when on it answers, scores, or has failed; None is never."""

    answers: float | None = 5.0
    scores: float | None = 15.0
    fails: float | None = None
    lives_s: float = 1e9
    """until it dies and systemd starts it again"""
    run: str = "new"
    now: float = 0.0
    restarts: list[float] = field(default_factory=list)

    def health(self) -> dict[str, Any] | None:
        """What it says of itself."""
        if self.answers is None or self.now < self.answers:
            return None
        age = (self.now - self.answers) % self.lives_s
        return {
            "boot_id": self.run,
            "uptime_s": age,
            "scored": int(self.scores is not None and self.now >= self.scores),
        }

    def failed(self) -> bool:
        """Systemd has given it up."""
        return self.fails is not None and self.now >= self.fails

    def restart(self) -> None:
        """Counted."""
        self.restarts.append(self.now)

    def rest(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds


@pytest.fixture
def place(tmp_path: Path) -> trial.Place:
    place = trial.Place(tmp_path / "opt", tmp_path / "edge-asd.toml", tmp_path / "state")
    for version in ("1", "2"):
        (place.root / version).mkdir(parents=True)
    (place.root / "current").symlink_to("2")
    (place.root / "previous").symlink_to("1")
    return place


def judged(place: trial.Place, service: Service, before: Service | None = None, patience_s: float = 180.0) -> bool:
    trial.begin(place, "1", before or Service(run="old", now=100.0))
    good = trial.judge(place, service, lambda: service.now, service.rest, patience_s)
    assert not place.note.exists()
    return good


def links(place: trial.Place) -> tuple[str, str]:
    return (place.root / "current").readlink().name, (place.root / "previous").readlink().name


def test_a_version_that_scores_for_a_while_stays(place: trial.Place) -> None:
    service = Service()
    assert judged(place, service)
    assert (links(place), service.restarts) == (("2", "1"), [])
    assert 30 <= service.now <= 40


@pytest.mark.parametrize(
    "service",
    [Service(answers=None), Service(scores=None), Service(lives_s=20.0)],
    ids=["it never answers", "it runs and hears nothing", "it scores and dies, again and again"],
)
def test_one_that_does_not_is_replaced_by_the_last_good_one_within_three_minutes(
    place: trial.Place, service: Service
) -> None:
    assert not judged(place, service)
    assert links(place) == ("1", "2")
    (restarted,) = service.restarts
    assert 180 <= restarted <= 185


def test_an_operator_may_have_it_wait_for_longer(place: trial.Place) -> None:
    slow = Service(answers=200.0, scores=300.0)
    assert judged(place, slow, patience_s=360.0)
    assert 300 <= slow.now <= 305


def test_the_old_one_that_still_answers_proves_nothing(place: trial.Place) -> None:
    assert not judged(place, Service(run="old"))


def test_one_that_systemd_has_given_up_is_not_waited_for(place: trial.Place) -> None:
    service = Service(answers=None, fails=4.0)
    assert not judged(place, service)
    assert service.restarts == [4.0]


def test_a_microphone_that_was_away_before_is_not_held_against_it(place: trial.Place) -> None:
    assert judged(place, Service(scores=None), before=Service(run="old", now=100.0, scores=None))


def test_what_is_on_trial_itself_is_no_last_good_one(place: trial.Place) -> None:
    trial.begin(place, "1", Service(run="old", now=100.0))
    trial.begin(place, "2", Service(run="tried", now=100.0, scores=None))
    assert place.note.read_text() == "1\nscoring\ntried\n"


def test_a_power_cut_only_lets_it_begin_again(place: trial.Place) -> None:
    class PowerCut(Exception):
        pass

    def cut(_seconds: float) -> None:
        raise PowerCut

    trial.begin(place, "1", Service(run="old", now=100.0))
    with pytest.raises(PowerCut):
        trial.judge(place, Service(), lambda: 0.0, cut)
    assert judged(place, Service())


def test_the_daemon_is_asked_where_the_settings_say_it_keeps_its_state(place: trial.Place, tmp_path: Path) -> None:
    assert trial.health(place) is None
    place.config.write_text(f'state_dir = "{tmp_path}"\n')
    control = Control(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(trial.health, place)
        asked = until(lambda: list(control.asked()), 5, "nobody asked")[0]
        assert asked.verb == "health_check"
        asked.answer(json.dumps({"data": json.loads(HEALTH.model_dump_json())}).encode())
        assert (said.result(5)["uptime_s"], said.result(5)["scored"]) == (12.5, 1)
    control.close()
