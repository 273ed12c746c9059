from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from edge_asd.errors import ConfigError
from train.corpus.clip import Clip
from train.teach.recipe import Recipe, Training
from train.teach.run import ROOT, Run, commit, create, data_digest, load_run, provenance, write_json

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.train

GRHD = Recipe(method="grhd", training=Training(epochs=2))


def stored(folder: Path, *names: str) -> list[Clip]:
    """Clips whose content is their name; a digest asks for no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return [Clip(folder / name, "set/fan/00", "", "source", "train", "normal", name) for name in names]


def test_a_run_folder_opens_as_the_run_that_was_created(tmp_path: Path) -> None:
    run = create(Run(tmp_path / "run", GRHD, (tmp_path / "x" / ".." / "data",)), stored(tmp_path / "data", "a", "b"))
    assert load_run(tmp_path / "run") == run
    assert run.data == (tmp_path / "data",)


def test_a_run_knows_where_it_came_from(tmp_path: Path) -> None:
    clips = stored(tmp_path / "data", "a", "b")
    create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), clips)
    origin = provenance(tmp_path / "run")
    assert (origin["clips"], origin["data_digest"]) == (2, data_digest(clips))
    assert origin["lock"] == hashlib.sha256((ROOT / "uv.lock").read_bytes()).hexdigest()
    assert origin["versions"]["torch"] == version("torch")
    assert re.fullmatch(r"unknown|[0-9a-f]{40}\+?", origin["commit"])
    assert origin["commit"] == commit()


def test_the_same_command_goes_on_with_the_run(tmp_path: Path) -> None:
    clips = stored(tmp_path / "data", "a")
    first = create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), clips)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    assert create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), clips) == first
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before


@pytest.mark.parametrize("other", ["recipe", "seed", "folder", "content", "clips"])
def test_a_folder_of_another_run_is_refused(tmp_path: Path, other: str) -> None:
    clips, recipe, data = stored(tmp_path / "data", "a", "b"), GRHD, tmp_path / "data"
    create(Run(tmp_path / "run", recipe, (data,)), clips)
    match other:
        case "recipe":
            recipe = GRHD.model_copy(update={"training": Training(epochs=3)})
        case "seed":
            recipe = GRHD.model_copy(update={"seed": 1})
        case "folder":
            data = tmp_path / "elsewhere"
        case "content":
            clips[0].path.write_text("something else")
        case "clips":
            clips = clips[:1]
    with pytest.raises(ConfigError, match="run with other settings or data; give another --out"):
        create(Run(tmp_path / "run", recipe, (data,)), clips)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(ConfigError, match="is no run folder"):
        create(Run(tmp_path, GRHD, (tmp_path,)), [])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", [None, "{", ""], ids=["missing", "cut off", "empty"])
def test_what_is_no_run_folder_is_answered_with_the_command_that_makes_one(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"is no run folder .*python -m train fit RECIPE --data DIR --out"):
        load_run(tmp_path)


def test_the_data_digest_follows_content_name_and_labels(tmp_path: Path) -> None:
    clips = stored(tmp_path / "data", "a", "b")
    digests = [data_digest(clips)]
    clips[1].path.write_text("c")
    digests.append(data_digest(clips))
    for said in ({"key": "set/fan/01"}, {"attribute": "A"}, {"domain": "target"}, {"recording": "r"}):
        clips[1] = replace(clips[1], **said)  # type: ignore[arg-type]
        digests.append(data_digest(clips))
    clips[1] = replace(clips[1], path=clips[1].path.rename(tmp_path / "data" / "z"))
    digests.append(data_digest(clips))
    assert len(set(digests)) == len(digests)


def test_data_that_moved_are_the_same_data(tmp_path: Path) -> None:
    before = data_digest(stored(tmp_path / "here", "a", "b"))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert data_digest(stored(tmp_path / "there", "a", "b")) == before


def test_a_log_grows_by_one_line_of_json_at_a_time(tmp_path: Path) -> None:
    run = create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), stored(tmp_path / "data", "a"))
    run.log(epoch=0, loss=1.5)
    run.log(epoch=1, loss=1.25)
    lines = (run.folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"epoch": 0, "loss": 1.5}, {"epoch": 1, "loss": 1.25}]


def test_a_log_forgets_epochs_that_were_not_saved(tmp_path: Path) -> None:
    run = create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), stored(tmp_path / "data", "a"))
    run.forget(0)  # nothing logged yet
    for epoch in range(3):
        run.log(epoch=epoch)
    run.forget(2)
    lines = (run.folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]


def test_a_run_cut_off_before_its_config_is_begun_anew(tmp_path: Path) -> None:
    clips = stored(tmp_path / "data", "a")
    before = create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), clips)
    (tmp_path / "run" / "config.json").rename(tmp_path / "run" / ".config.json.part")
    assert create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), clips) == before
    assert {"config.json", "provenance.json"} <= {path.name for path in before.folder.iterdir()}


@pytest.mark.parametrize("content", [None, "{"], ids=["missing", "cut off"])
def test_a_run_that_lost_its_provenance_is_refused(tmp_path: Path, content: str | None) -> None:
    clips = stored(tmp_path / "data", "a")
    file = create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), clips).folder / "provenance.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"provenance\.json cannot be read .*; give another --out"):
        create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), clips)


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*run is a file; name a folder that is new or empty"):
        create(Run(tmp_path / "run", GRHD, (tmp_path,)), [])


def test_settings_of_another_version_are_refused_in_one_line(tmp_path: Path) -> None:
    run = create(Run(tmp_path / "run", GRHD, (tmp_path / "data",)), stored(tmp_path / "data", "a"))
    for change in ({"recipe": {"name": "oevae", "colour": "red"}}, {"recipe": 3}, {"data": None}):
        config = json.loads((run.folder / "config.json").read_text())
        write_json(tmp_path / "other" / "config.json", config | change)
        with pytest.raises(ConfigError, match=r"is no run folder \([^\n]+\); make one with") as caught:
            load_run(tmp_path / "other")
        assert "\n" not in str(caught.value)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"kept": True})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"path": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"kept": True}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_outliers_are_refused_by_a_recipe_that_learns_of_none(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", GRHD, (tmp_path,), outliers=(tmp_path,))
    with pytest.raises(ConfigError, match="grhd learns of no outliers; leave out --outliers, or --set training"):
        run.strangers()


def test_outliers_are_part_of_what_makes_a_run_the_same(tmp_path: Path) -> None:
    clips = stored(tmp_path / "data", "a")
    run = create(Run(tmp_path / "run", GRHD, (tmp_path / "data",), outliers=(tmp_path / "noise",)), clips)
    assert load_run(run.folder) == run
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        create(replace(run, outliers=()), clips)
