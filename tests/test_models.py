"""What one types to vouch for bundles and to change models, and what the daemon makes of it."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from edge_asd.bundle import CARD, open_bundle
from edge_asd.check import check
from edge_asd.cli import main
from edge_asd.config import load_config
from edge_asd.daemon import Daemon
from edge_asd.errors import BundleUntrusted, ConfigError
from edge_asd.signature import make_keys
from tests.example import MACHINE, bundle, contents, resealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., str]

SETTINGS = """
state_dir = "{folder}/state"
metrics.listen = ""
trust.keys = ["{folder}/plant.pub"]
sources.mic.input = "render:valve"
machines.pump = {{ source = "mic", bundle = "{bundle}" }}
"""


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the tests' own bundles are not welcome."""
    monkeypatch.delenv("EDGE_ASD__TRUST__ALLOW_UNSIGNED")


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A bundle of tomorrow and one of today, ``new.asd`` and ``toy.asd``, keys, and a config that trusts them."""
    bundle(tmp_path / "toy.asd")
    resealed(
        tmp_path / "new.asd", contents(tmp_path / "toy.asd"), lambda m: m.update(version="2", created="2026-02-01")
    )
    make_keys(tmp_path / "plant", "press hall 3")
    make_keys(tmp_path / "thief")
    configured(tmp_path, "installed:toy")
    return tmp_path


def configured(folder: Path, reference: str) -> Path:
    path = folder / "edge-asd.toml"
    path.write_text(SETTINGS.format(folder=folder, bundle=reference))
    return path


@pytest.fixture
def edge_asd(plant: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command, typed beside those files: what it says; it ends with this code. A process each would take minutes."""

    def typed(*arguments: str, code: int = 0) -> str:
        monkeypatch.chdir(plant)
        monkeypatch.setattr(sys, "argv", ["edge-asd", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        return "".join(capsys.readouterr())

    return typed


def test_a_bundle_goes_from_who_signs_it_to_where_it_is_in_use(plant: Path, edge_asd: Command) -> None:
    said, config = edge_asd, ("--config", "edge-asd.toml")
    key = re.match(r"key (\w{16}): sign with other, and name other\.pub in", said("bundle", "keygen", "other"))
    assert key
    assert "toy.asd: is not signed" in said("model", "install", "toy.asd", *config, code=1)
    said("bundle", "sign", "toy.asd", "--key", "thief")
    assert "which is not trusted here" in said("model", "install", "toy.asd", *config, code=1)
    said("bundle", "sign", "toy.asd", "--key", "plant")
    said("bundle", "sign", "new.asd", "--key", "plant")

    assert f"golden test: {MACHINE}" in said("bundle", "verify", "toy.asd", *config)
    assert re.match(r"toy 1\.2\.3, \w{16}: current\n", said("model", "install", "toy.asd", *config))
    assert re.match(r"toy 2, \w{16}: candidate\n", said("model", "install", "new.asd", *config))
    assert re.match(r"toy 2, \w{16}: current\n", said("model", "activate", "toy", *config))
    assert re.match(r"toy 2, \w{16}: current, pinned\n", said("model", "pin", "toy", *config))
    assert "its name is pinned" in said("model", "install", "toy.asd", *config, code=1)
    said("model", "unpin", "toy", *config)
    assert re.match(r"toy 1\.2\.3, \w{16}: current\n", said("model", "rollback", "toy", *config))
    listed = [json.loads(line) for line in said("model", "list", "--json", *config).splitlines()]
    assert [(model["version"], model["role"]) for model in listed] == [("1.2.3", "current"), ("2", "previous")]
    assert listed[0]["digest"] == open_bundle(plant / "toy.asd").digest
    assert re.search(r"toy +1\.2\.3 +2026-01-01\S+ +\w{16} +\w{16} +current +False", said("model", "list", *config))
    assert said("model", "prune", *config) == "nothing to delete\n"
    bundle_found = next(finding for finding in check(plant / "edge-asd.toml") if finding.what == "bundle of pump")
    assert re.fullmatch(r"toy 1\.2\.3, head toy/noise/00, golden test passed, signed by \w{16}", bundle_found.said)


def test_two_bundles_are_told_apart(edge_asd: Command) -> None:
    lines = edge_asd("bundle", "diff", "--json", "toy.asd", "new.asd", code=1).splitlines()

    assert [json.loads(line) for line in lines] == [
        {"what": "version", "old": "1.2.3", "new": "2"},
        {"what": "created", "old": "2026-01-01", "new": "2026-02-01"},
    ]
    assert edge_asd("bundle", "diff", "toy.asd", "toy.asd") == "they say the same\n"


def test_a_bundle_tells_of_itself(plant: Path, edge_asd: Command) -> None:
    told = edge_asd("bundle", "show", "toy.asd")
    assert re.search(r"signed_by +nobody +\n", told)
    assert contents(plant / "toy.asd")[CARD].decode() in told
    edge_asd("bundle", "sign", "toy.asd", "--key", "thief", "--out", "signed.asd")

    told = edge_asd("bundle", "show", "signed.asd", "--json")

    assert re.fullmatch(r"\w{16}", json.loads(told)["signed_by"])
    assert json.loads(told)["manifest"]["heads"][MACHINE]["clips"] == 20


def test_nobody_is_told_that_a_bundle_is_well_without_saying_whose_word_will_do(edge_asd: Command) -> None:
    assert "say whose signature will do" in edge_asd("bundle", "verify", "toy.asd", code=78)


# What the daemon makes of it ------------------------------------------------------------------------------------------


def test_the_daemon_refuses_a_bundle_that_nobody_signed(plant: Path) -> None:
    config = load_config(configured(plant, str(plant / "toy.asd")))

    with pytest.raises(BundleUntrusted, match=r"toy\.asd: is not signed; sign it .* set trust\.allow_unsigned = true"):
        Daemon(config)


def unsigned_models(daemon: Daemon) -> float | None:
    return daemon.metrics.registry.get_sample_value("edge_asd_unsigned_models")


def test_the_daemon_counts_what_it_was_told_to_use_unsigned(
    plant: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(plant, str(plant / "toy.asd"))
    monkeypatch.setenv("EDGE_ASD__TRUST__ALLOW_UNSIGNED", "true")

    assert unsigned_models(Daemon(load_config(config))) == 1
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == ["model.unsigned"]


def test_the_daemon_takes_the_current_one_of_a_name(plant: Path, edge_asd: Command) -> None:
    for name in ("toy", "new"):
        edge_asd("bundle", "sign", f"{name}.asd", "--key", "plant")
        edge_asd("model", "install", f"{name}.asd", "--config", "edge-asd.toml")
    config = load_config(plant / "edge-asd.toml")

    daemon = Daemon(config)

    assert daemon.wards["pump"].voice.model.version == "1.2.3"
    assert unsigned_models(daemon) == 0


def test_a_key_that_is_none_is_a_mistake_in_the_config(plant: Path) -> None:
    (plant / "plant.pub").write_text("-----BEGIN PUBLIC KEY-----\n")

    with pytest.raises(ConfigError, match=r"plant\.pub: is no public key \(it begins with '-----BEGIN'\)"):
        Daemon(load_config(plant / "edge-asd.toml"))


def test_a_private_key_does_not_pass_for_a_public_one(plant: Path) -> None:
    (plant / "plant").replace(plant / "plant.pub")

    with pytest.raises(ConfigError, match=r"plant\.pub: is no public key"):
        load_config(plant / "edge-asd.toml").trust.trust()
