from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import ConfigError
from train.teach.recipe import RECIPES, Recipe, Training, changed, load_recipe, named

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.train

SHIPPED = sorted(RECIPES.glob("*.toml"))


def written(folder: Path, text: str) -> str:
    (folder / "own.toml").write_text(text)
    return str(folder / "own.toml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_named_as_its_file_and_begins_with_its_command(path: Path) -> None:
    assert load_recipe(path.stem).name == path.stem
    command = f"# uv run python -m train fit {path.stem} --data DIR --out RUN"
    assert path.read_text().splitlines()[0] == command


@pytest.mark.parametrize(
    ("variant", "preset", "name"),
    [
        ("", "edge", "grhd"),
        ("", "paper", "grhd-paper"),
        ("two", "edge", "grhd-two"),
        ("two", "paper", "grhd-two-paper"),
    ],
)
def test_a_variant_and_the_preset_of_papers_are_in_the_name(variant: str, preset: str, name: str) -> None:
    assert named("grhd", variant, preset) == name


def test_a_variant_that_would_not_be_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"variant: .*got 'two-paper'"):
        load_recipe(written(tmp_path, 'method = "statistics"\nvariant = "two-paper"\n'))


def test_grhd_trains_as_decided() -> None:
    """methods.md §1.3: optimiser, loss weights, focal loss."""
    for name, epochs in (("grhd", 20), ("grhd-paper", 150)):
        recipe = load_recipe(name)
        training = recipe.training
        assert training is not None
        assert (training.batch, training.rate, training.last_rate, training.clip_gradient) == (64, 1e-3, 1e-5, 5.0)
        assert (training.targets, training.epochs) == (1, epochs)
        assert recipe.settings == {"alpha": 0.1, "beta": 1.0, "gamma": 1.0, "focal_gamma": 2.0}


def test_statistics_train_no_network() -> None:
    assert load_recipe("statistics").training is None


def test_a_recipe_of_ones_own_is_named_by_its_path(tmp_path: Path) -> None:
    own = written(tmp_path, 'method = "grhd"\nseed = 3\n[training]\nepochs = 2\n')
    assert load_recipe(own) == Recipe(method="grhd", seed=3, training=Training(epochs=2))


@given(epochs=st.integers(1, 1000), seed=st.integers(0, 2**32))
def test_a_change_leaves_the_other_settings_alone(epochs: int, seed: int) -> None:
    before, after = load_recipe("grhd"), load_recipe("grhd", seed=seed, training={"epochs": epochs})
    assert before.training is not None
    training = before.training.model_copy(update={"epochs": epochs})
    assert after == before.model_copy(update={"seed": seed, "training": training})


@given(st.builds(Training, epochs=st.integers(1, 99), mixup=st.floats(0, 1), holdout=st.floats(0, 0.9)))
def test_a_recipe_survives_its_run_folder(training: Training) -> None:
    recipe = Recipe(method="grhd", training=training)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("epoch = 3\n[training]", r"epoch: .*got 3"),
        ("[training]\nepoch = 3", r"training\.epoch: .*got 3"),
        ("[training]\n[settings]\nalfa = 0.5", r"settings\.alfa: .*got 0\.5"),
        ("[training]\n[windows]\nsegmnt = 3", r"windows\.segmnt: .*got 3"),
        ("[training]\n[front_end]\nmels = 64", r"front_end\.mels: .*got 64"),
    ],
    ids=["top", "training", "settings", "windows", "front end"],
)
def test_an_unknown_setting_is_named_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"own\.toml: {place}"):
        load_recipe(written(tmp_path, f'method = "grhd"\n{text}\n'))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("epochs", 0), ("batch", 1), ("rate", 0.0), ("mixup", 1.5), ("holdout", 1.0), ("targets", -1)],
)
def test_a_setting_out_of_range_is_named_with_its_value(tmp_path: Path, setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"training\.{setting}: .*got {value}"):
        load_recipe(written(tmp_path, f'method = "grhd"\n[training]\n{setting} = {value}\n'))


def test_windows_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"windows: .*segments >= 2"):
        load_recipe(written(tmp_path, 'method = "grhd"\n[training]\n[windows]\nsegments = 1\n'))


def test_changes_are_written_as_in_a_recipe() -> None:
    assert changed(["seed=3", "training.epochs = 2", "settings.alpha=0.5", 'fusion.rule="min"']) == {
        "seed": 3,
        "training": {"epochs": 2},
        "settings": {"alpha": 0.5},
        "fusion": {"rule": "min"},
    }


@pytest.mark.parametrize("text", ["epochs", "training.epochs=", "fusion.rule=min", "=3"])
def test_a_change_that_is_none_is_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot understand {text!r}: write PLACE=VALUE"):
        changed([text])


def test_log_mels_that_mixup_would_change_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cache = true keeps log-mels, which mixup \(0\.5\)"):
        load_recipe(written(tmp_path, 'method = "grhd"\n[training]\ncache = true\n'))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('cache = true\nmixup = 0.0\naugmentations = ["identity", "fade", "time_mask"]', "augmentations fade would"),
        ('augmentations = ["fade", "fade"]', "augmentations fade, fade name one twice"),
        ('augmentations = ["echo"]', r"training\.augmentations\.0: .* got 'echo'"),
    ],
)
def test_augmentations_that_cannot_be_told_apart_or_made_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_recipe(written(tmp_path, f'method = "multitask"\n[training]\n{text}\n'))


def test_windows_and_front_end_have_one_rate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"front_end: front_end\.sample_rate is 16000, windows\.sample_rate 8000$"):
        load_recipe(written(tmp_path, 'method = "statistics"\n[windows]\nsample_rate = 8000\n'))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("fusion.weights={ odds = 0.0 }", "fusion.weights names odds; the parts are network, indicators, spectrum"),
        ('parts=[{ name = "a", feature = "embedding", backend = "knnn" }]', "no back end 'knnn'; choose one of knn"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_trained(change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_recipe("grhd", **changed([change]))


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'grdh'; choose one of .*grhd, .*statistics, .*or give the path"):
        load_recipe("grdh")


def test_statistics_cannot_be_told_how_long_to_train() -> None:
    with pytest.raises(ConfigError, match=r"statistics train no network; leave out .*--epochs"):
        load_recipe("statistics", training={"epochs": 3})


def test_grhd_cannot_go_untrained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"grhd needs a table \[training\]"):
        load_recipe(written(tmp_path, 'method = "grhd"\n'))


def test_a_binary_file_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.asd").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"a\.asd is no TOML"):
        load_recipe(str(tmp_path / "a.asd"))


def test_what_is_no_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"own\.toml is no TOML: .*line 1"):
        load_recipe(written(tmp_path, "name: grhd\n"))
