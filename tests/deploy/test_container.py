"""The container's recipe, read as a builder reads it; building it needs a container engine and a registry."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.debian.trial import complaint

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "Containerfile"
OURS = 65_532


class Step(NamedTuple):
    """One instruction."""

    word: str
    rest: str


def steps() -> list[Step]:
    text = "\n".join(line for line in FILE.read_text().splitlines() if not line.startswith("#"))
    lines = text.replace("\\\n", " ").splitlines()
    return [Step(*line.split(maxsplit=1)) for line in lines if line.strip()]


def final() -> list[Step]:
    """What becomes the image, after the stage that builds."""
    begun = max(number for number, step in enumerate(steps()) if step.word == "FROM")
    return steps()[begun:]


def only(word: str) -> str:
    (found,) = (step.rest for step in final() if step.word == word)
    return found


def test_it_runs_as_nobody_in_particular_and_owns_only_its_state() -> None:
    assert only("USER") == f"{OURS}:{OURS}"
    (made,) = re.findall(r"install --directory --owner (\d+) --group \d+ --mode (\d+) (\S+)", only("RUN"))
    assert made == (str(OURS), "0750", only("VOLUME"))
    assert f"STATE_DIRECTORY={only('VOLUME')}" in only("ENV")
    assert not [step for step in final() if "--chown" in step.rest or step.word == "ADD"]


def test_what_it_runs_is_given_word_by_word_so_that_signals_arrive() -> None:
    assert json.loads(only("ENTRYPOINT")) + json.loads(only("CMD")) == [
        *("/usr/bin/edge-asd", "run", "--config", "/etc/edge_asd/edge-asd.toml")
    ]
    assert (ROOT / "deploy/debian/edge-asd").read_text().splitlines()[-1].startswith("exec ")


def test_everything_it_copies_is_in_git_and_may_be_run() -> None:
    copied = [step.rest.split()[:-1] for step in steps() if step.word == "COPY" and "--from" not in step.rest]
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--stage", *(source for some in copied for source in some)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    modes = {line.split("\t")[1]: line.split()[0] for line in listed}

    assert all(
        any(name == source or name.startswith(f"{source}/") for name in modes) for some in copied for source in some
    )
    run = ("deploy/debian/edge-asd", "deploy/debian/trial.py", "deploy/debian/lay")
    assert {modes[name] for name in run} == {"100755"}


def test_it_is_laid_by_the_scripts_that_make_the_debian_package() -> None:
    build = [step.rest for step in steps() if step.word == "RUN"][1]
    assert build == "python3 deploy/package.py tree --into /payload && deploy/debian/lay image"
    assert "EDGE_ASD_PAYLOAD=/payload" in [step.rest for step in steps() if step.word == "ENV"]


def test_packages_come_without_what_they_recommend_and_leave_no_lists() -> None:
    installing = [step.rest for step in steps() if "apt-get install" in step.rest]
    assert len(installing) == 2
    for rest in installing:
        assert "--no-install-recommends" in rest
        assert "rm -rf /var/lib/apt/lists/*" in rest
        assert rest.startswith("apt-get update ")


def test_every_stage_begins_with_a_named_version_of_the_debian_that_the_package_is_for() -> None:
    bases = {step.rest.split()[0] for step in steps() if step.word == "FROM"}
    assert bases == {"docker.io/library/debian:12-slim"}


def test_its_health_is_the_daemons_own_word() -> None:
    options, command = only("HEALTHCHECK").split(" CMD ")
    assert json.loads(command) == ["/usr/lib/edge_asd/trial", "health"]
    assert "--timeout=15s" in options  # longer than the script waits for an answer


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, "the daemon does not answer"),
        ({"checks": []}, ""),
        (
            {
                "checks": [
                    {"name": "source mic0", "well": False, "said": "lost"},
                    {"name": "store", "well": True, "said": "kept on disk"},
                    {"name": "broker", "well": False, "said": "refused"},
                ]
            },
            "source mic0: lost; broker: refused",
        ),
    ],
)
def test_what_is_not_well_is_said_in_one_line(said: dict[str, object] | None, expected: str) -> None:
    assert complaint(said) == expected
