"""The archive that a supporter is sent: what is in it, and what must never be."""

from __future__ import annotations

import gzip
import json
import stat
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.config import load_config
from edge_asd.daemon import Daemon
from edge_asd.deliver.store import FILE as STORE
from edge_asd.doctor import STRUCK, archive, known_secrets, sound_cards, strike
from edge_asd.errors import ConfigError
from edge_asd.model.shelf import Shelf
from edge_asd.signature import Trust
from tests.certificate import self_signed
from tests.conftest import free_port, listens, until
from tests.example import bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SECRETS = ('in the file "quoted" ü\\', "in the environment", "in a credential", "in the address", "in a typo")
QUOTED = json.dumps(SECRETS[0])  # a TOML string, too


@pytest.fixture(autouse=True)
def _secrets_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "mqtt__password").write_text(f"{SECRETS[2]}\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.setenv("EDGE_ASD__MQTT__PASSWORD", SECRETS[1])


def settings(tmp_path: Path, more: str = "") -> Path:
    """One rendered machine with a bundle of its own, and a broker that is not there."""
    path = tmp_path / "edge-asd.toml"
    path.write_text(
        f"""
node = "wall"
# an old one: {SECRETS[4]}
{more}
metrics.listen = "127.0.0.1:{free_port()}"
mqtt = {{ host = "127.0.0.1", port = {free_port()}, username = "wall", password = {QUOTED} }}
sources.mic0 = {{ input = "render:fan" }}
machines.fan = {{ source = "mic0", bundle = "{bundle(tmp_path / "toy.asd")}" }}
"""
    )
    return path


def unpacked(file: Path) -> dict[str, str]:
    """Texts by name."""
    with tarfile.open(file) as packed:
        return {m.name.removeprefix("doctor/"): packed.extractfile(m).read().decode() for m in packed.getmembers()}


def assert_no_secret(file: Path) -> None:
    """In none of the forms that a text may have it."""
    raw = gzip.decompress(file.read_bytes())
    for secret in SECRETS:
        for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
            assert form.encode() not in raw, secret


@contextmanager
def running(path: Path) -> Iterator[Daemon]:
    """The daemon of these settings."""
    config = load_config(path)
    daemon = Daemon(config)
    thread = Thread(target=daemon.run)
    thread.start()
    try:
        until(lambda: listens(config.metrics.address[1]), 10, "no metrics")
        yield daemon
    finally:
        daemon.stop()
        thread.join()


def test_of_a_running_daemon_all_is_in_it_and_no_secret(tmp_path: Path) -> None:
    path, out = settings(tmp_path), tmp_path / "doctor.tar.gz"
    with running(path):
        missing = archive(path, out, NOW)
    found = unpacked(out)

    assert not [line for line in missing if not line.startswith("microphones.json: the PortAudio")]
    assert_no_secret(out)
    assert json.loads(found["settings-in-force.json"])["mqtt"]["username"] == "wall"
    assert json.loads(found["settings-as-written.json"])["mqtt"]["password"] == STRUCK
    assert json.loads(found["health.json"])["data"]["node"] == "wall"
    assert "edge_asd_model_info{" in found["metrics.txt"]
    assert "ok    bundle of fan: toy 1.2.3" in found["check.txt"]
    assert "onnxruntime " in found["versions.txt"]
    assert "== /proc/cpuinfo\n" in found["board.txt"]
    toy = next(one for name, one in json.loads(found["bundles.json"]).items() if name.endswith("toy.asd"))
    assert (toy["name"], toy["heads"]) == ("toy", ["toy/noise/00"])
    assert next(iter(json.loads(found["timing.json"]).values()))["real_time_factor"] > 0
    assert str(STORE) in found["state.txt"]
    assert "clock_synced" in found["node.json"]


def test_metrics_are_had_from_a_daemon_with_a_certificate_too_and_models_that_are_installed_are_named(
    tmp_path: Path,
) -> None:
    self_signed(tmp_path, "wall")
    tls = f'metrics.cert = "{tmp_path / "wall.pem"}"\nmetrics.key = "{tmp_path / "wall.key"}"'
    path = settings(tmp_path, f'{tls}\nstate_dir = "{tmp_path / "state"}"')
    Shelf(tmp_path / "state/models", Trust.of((), allow_unsigned=True)).install(tmp_path / "toy.asd")
    with running(path):
        archive(path, tmp_path / "doctor.tar.gz", NOW)
    found = unpacked(tmp_path / "doctor.tar.gz")

    assert "edge_asd_model_info{" in found["metrics.txt"]
    assert [(model["name"], model["role"]) for model in json.loads(found["models.json"])] == [("toy", "current")]


def test_without_a_daemon_what_only_it_knows_is_named_as_missing_and_the_rest_is_there(tmp_path: Path) -> None:
    out = tmp_path / "doctor.tar.gz"
    missing = archive(settings(tmp_path), out, NOW)
    found = unpacked(out)

    assert {line.partition(":")[0] for line in missing} - {"microphones.json"} == {"health.json", "metrics.txt"}
    assert found["health.json"].startswith("could not be had: ConfigError: no daemon answers at")
    assert "toy" in found["bundles.json"]
    assert_no_secret(out)


def test_a_bundle_that_is_broken_does_not_hide_the_rest(tmp_path: Path) -> None:
    out, path = tmp_path / "doctor.tar.gz", settings(tmp_path)
    (tmp_path / "toy.asd").write_bytes(b"no bundle")
    archive(path, out, NOW)
    found = unpacked(out)

    assert "is no bundle, or is damaged" in found["bundles.json"]
    assert "FAIL  bundle of fan" in found["check.txt"]


@pytest.mark.parametrize(
    "more",
    [
        f'mqt.password = "{SECRETS[4]}"',
        f'[mqtt\npassword = "{SECRETS[4]}"',
    ],
    ids=["unknown table", "no toml"],
)
def test_of_settings_that_are_wrong_the_mistake_is_told_and_no_secret(tmp_path: Path, more: str) -> None:
    out = tmp_path / "doctor.tar.gz"
    archive(settings(tmp_path, more), out, NOW)

    assert "FAIL  config: " in unpacked(out)["check.txt"]
    assert_no_secret(out)


def test_who_an_address_names_stays_here(tmp_path: Path) -> None:
    out = tmp_path / "doctor.tar.gz"
    archive(settings(tmp_path, f'sources.x.input = "file:http://u:{SECRETS[3]}@host/x"'), out, NOW)

    assert f"http://{STRUCK}@host/x" in unpacked(out)["settings-as-written.json"]
    assert_no_secret(out)


def test_only_its_owner_may_read_it_and_nothing_half_written_is_left(tmp_path: Path) -> None:
    out = tmp_path / "here" / "doctor.tar.gz"
    with pytest.raises(
        ConfigError, match="cannot be written: no such file or directory; name another place with --out"
    ):
        archive(settings(tmp_path), out, NOW)

    out.parent.mkdir()
    archive(settings(tmp_path), out, NOW)

    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert list(out.parent.iterdir()) == [out]


@given(st.lists(st.text(min_size=1), max_size=4), st.lists(st.text(), min_size=5, max_size=5))
def test_no_text_keeps_a_secret(secrets: list[str], others: list[str]) -> None:
    longest_first = sorted(secrets, key=len, reverse=True)
    mixed = "".join(other + secret for other, secret in zip(others, secrets, strict=False))
    struck = strike(mixed, longest_first)

    assert not [secret for secret in secrets if secret in struck.replace(STRUCK, "") and secret not in STRUCK]


def test_every_kind_of_secret_is_known(tmp_path: Path) -> None:
    path = settings(tmp_path, f'sources.x = {{ input = "render:fan", api_token = "{SECRETS[4]}" }}')

    assert set(known_secrets(path)) == {SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[4]}


def test_sound_cards_are_told_as_the_kernel_has_them(tmp_path: Path) -> None:
    device = tmp_path / "devices/usb1/1-1.2"
    card = device / "1-1.2:1.0/sound/card1"
    card.mkdir(parents=True)
    (device / "idVendor").write_text("0d8c\n")
    (card / "id").write_text("Device\n")
    asound, sound = tmp_path / "asound", tmp_path / "class"
    (asound / "card1").mkdir(parents=True)
    (asound / "card1" / "stream0").write_text("C-Media USB Audio\n")
    sound.mkdir()
    (sound / "card1").symlink_to(card)

    told = "\n".join(sound_cards(asound, sound))

    assert "C-Media USB Audio" in told
    assert f"{device}: {{'idVendor': '0d8c'}}" in told
    assert "{'id': 'Device'}" in told


def test_the_command_writes_one_archive_and_says_what_is_not_in_it(tmp_path: Path) -> None:
    out = tmp_path / "box.tar.gz"
    command = [sys.executable, "-m", "edge_asd", "doctor", "--config", str(settings(tmp_path)), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.startswith(f"{out} is whole: {out.stat().st_size} bytes")
    assert "not in it: health.json: no daemon answers at" in done.stderr
    assert_no_secret(out)
