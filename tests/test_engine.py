"""Providers that this computer lacks are played by attempts; what opens the bundle is ONNX Runtime itself."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_asd import engine as module
from edge_asd.bundle import BUILTIN, GOLDEN, manifest_digest, open_bundle, read_bundle
from edge_asd.engine import MOST_KEPT, Engine, attempt, cache_folder, fingerprint, prove
from edge_asd.errors import BundleError, GoldenMismatch
from edge_asd.score.backbone import installed
from edge_asd.score.provider import CPU, Provider, Trial
from tests.example import bundle, contents, resealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DIGEST = manifest_digest(read_bundle(BUILTIN)[0])
ALL = ("tensorrt", "cuda", "cpu")


class Attempts:
    """What each provider is to take; who is not named here cannot be loaded."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.tried: list[Provider] = []

    def __call__(self, path: Path, provider: Provider, threads: int) -> float:
        """Try one."""
        assert path.is_file()
        assert threads >= 1
        self.tried.append(provider)
        if provider.name not in self.seconds:
            msg = f"libnvinfer.so.10: cannot open shared object file, says {provider.name}"
            raise BundleError(msg)
        return self.seconds[provider.name]

    @property
    def names(self) -> list[str]:
        """In the order they were tried."""
        return [provider.name for provider in self.tried]


def engine(attempts: Attempts, folder: Path | None = None, *names: str, depends: str = "driver 1") -> Engine:
    """With the providers named, or all of them."""
    return Engine(installed=names or ALL, attempt=attempts, folder=folder, depends=lambda: depends)


def test_with_nothing_to_choose_nothing_is_tried_and_nothing_kept(tmp_path: Path) -> None:
    attempts = Attempts()

    assert engine(attempts, tmp_path, "cpu").open(BUILTIN).backbone.provider == "cpu"
    assert (attempts.names, list(tmp_path.iterdir())) == ([], [])


def test_a_bundle_without_a_network_needs_no_provider(tmp_path: Path) -> None:
    attempts = Attempts(cuda=0.001)

    assert engine(attempts, tmp_path).open(bundle(tmp_path / "toy.asd")).backbone is None
    assert attempts.names == []


def test_all_are_tried_once_and_the_winner_is_remembered_over_starts(tmp_path: Path) -> None:
    attempts = Attempts(cuda=0.004, cpu=0.003)
    for _ in range(3):
        opened = engine(attempts, tmp_path).open(BUILTIN)
        assert opened.backbone.provider == "cpu"

    assert attempts.names == ["tensorrt", "cuda", "cpu"]
    refused, *passed = engine(attempts, tmp_path).trials(DIGEST)
    assert (refused.provider, refused.seconds) == ("tensorrt", None)
    assert "libnvinfer.so.10: cannot open" in refused.refused
    assert passed == [Trial("cuda", 0.004), Trial("cpu", 0.003)]


@pytest.mark.parametrize("changed", ["depends", "installed", "wanted", "bundle"])
def test_what_a_choice_depends_on_makes_it_anew(tmp_path: Path, changed: str) -> None:
    before, after = Attempts(cpu=0.003), Attempts(cpu=0.003)
    engine(before, tmp_path).open(BUILTIN)
    again, path = engine(after, tmp_path), BUILTIN
    if changed == "depends":
        again = engine(after, tmp_path, depends="driver 2")
    elif changed == "installed":
        again = engine(after, tmp_path, "cuda", "cpu")
    elif changed == "wanted":
        again = replace(again, wanted="cuda")
    else:
        path = resealed(tmp_path / "other.asd", contents(BUILTIN), lambda described: described.update(version="9.9"))

    again.open(path)

    assert after.names[-1] == "cpu"


def test_a_provider_that_fails_is_said_once_and_never_stops_a_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        opened = engine(Attempts(cpu=0.003), tmp_path).open(BUILTIN)

    assert opened.backbone.provider == "cpu"
    said = [(record.getMessage(), getattr(record, "provider", "")) for record in caplog.records]
    assert said == [("engine.refused", "tensorrt"), ("engine.refused", "cuda"), ("engine.chosen", "cpu")]


def test_a_provider_that_passed_its_trial_but_does_not_load_here_gives_way_to_the_processor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Really: this ONNX Runtime has no CUDA, so that loading fails as it does with a missing library."""
    opened = engine(Attempts(cuda=0.001, cpu=0.003)).open(BUILTIN)

    assert opened.backbone.provider == "cpu"
    assert "cuda" not in installed()
    refused = [record for record in caplog.records if record.getMessage() == "engine.refused"]
    assert [record.provider for record in refused] == ["tensorrt", "cuda"]


def test_a_choice_that_no_longer_loads_is_made_anew(tmp_path: Path) -> None:
    engine(Attempts(cpu=0.003), tmp_path).open(BUILTIN)
    kept = tmp_path / module.FILE
    kept.write_text(kept.read_text().replace('"provider": "cpu"', '"provider": "cuda"'))
    attempts = Attempts(cpu=0.003)

    assert engine(attempts, tmp_path).open(BUILTIN).backbone.provider == "cpu"
    assert attempts.names == list(ALL)


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({DIGEST: 3}), "null"], ids=repr)
def test_choices_that_cannot_be_read_are_made_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / module.FILE).write_text(text)
    attempts = Attempts(cpu=0.003)
    engine(attempts, tmp_path).open(BUILTIN)

    assert attempts.names == list(ALL)


def test_who_is_asked_for_wins_although_the_processor_is_faster(tmp_path: Path) -> None:
    attempts = Attempts(cuda=0.009, cpu=0.003)
    wanting = replace(engine(attempts, tmp_path), wanted="cuda")
    wanting.open(BUILTIN)

    assert attempts.names == ["cuda", "cpu"]
    assert replace(wanting, wanted="cpu").open(BUILTIN).backbone.provider == "cpu"
    assert attempts.names == ["cuda", "cpu"]


def test_who_is_asked_for_and_not_installed_is_said_and_the_processor_computes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = Attempts()

    assert replace(engine(attempts, None, "cpu"), wanted="tensorrt").open(BUILTIN).backbone.provider == "cpu"
    assert [(r.getMessage(), r.wanted) for r in caplog.records] == [("engine.absent", "tensorrt")]


def test_a_bundle_that_the_processor_cannot_use_either_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*absent\.asd"):
        engine(Attempts()).open(tmp_path / "absent.asd")


def test_tensorrt_keeps_its_engines_by_what_they_depend_on_and_old_ones_go(tmp_path: Path) -> None:
    def place(attempts: Attempts) -> str:
        return attempts.tried[0].options["trt_engine_cache_path"]

    first, second = Attempts(tensorrt=0.001, cpu=0.0005), Attempts(tensorrt=0.001, cpu=0.0005)
    engine(first, tmp_path).open(BUILTIN)
    engine(second, tmp_path, depends="driver 2").open(BUILTIN)

    assert place(first) != place(second)
    assert [str(folder) for folder in (tmp_path / "tensorrt").iterdir()] == [place(second)]
    assert first.tried[1:] == [Provider("cuda"), CPU]


def test_only_so_many_choices_are_kept(tmp_path: Path) -> None:
    kept = {str(number): {"key": str(number), "provider": "cpu", "trials": []} for number in range(40)}
    (tmp_path / module.FILE).write_text(json.dumps(kept))
    engine(Attempts(cpu=0.003), tmp_path).open(BUILTIN)

    assert list(json.loads((tmp_path / module.FILE).read_text())) == [
        *map(str, range(40 - MOST_KEPT + 1, 40)),
        DIGEST,
    ]


def test_a_cache_that_cannot_be_written_is_said_and_does_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")

    assert engine(Attempts(cpu=0.003), tmp_path / "file").open(BUILTIN).backbone.provider == "cpu"
    assert "engine.forgetful" in [record.getMessage() for record in caplog.records]


def test_systemd_is_told_before_what_may_take_minutes() -> None:
    told: list[float] = []
    replace(engine(Attempts(cpu=0.003)), extend=told.append).open(BUILTIN)

    assert told == [module.BUILD_S] * 3


# The trial itself, with the provider that is here ---------------------------------------------------------------------


def test_a_trial_proves_and_times_the_bundle_in_a_process_of_its_own() -> None:
    assert 0 < attempt(BUILTIN, CPU, 1) < 1


def test_a_trial_says_why_a_provider_cannot_be_had() -> None:
    with pytest.raises(BundleError, match="cuda"):
        attempt(BUILTIN, Provider("cuda"), 1)


def test_a_provider_that_fails_the_golden_test_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load, save  # noqa: PLC0415 - for this test

    golden = load(contents(BUILTIN)[GOLDEN])
    moved = {name: np.asarray(value + 1) if name.endswith("/z") else value for name, value in golden.items()}
    path = resealed(tmp_path / "moved.asd", contents(BUILTIN) | {GOLDEN: save(moved)})

    with pytest.raises(GoldenMismatch, match="scores its golden waveform"):
        prove(path, CPU, 1)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died with code -11"),
        ("import time; time.sleep(60)", "cpu was not ready within 1 s"),
    ],
    ids=["crashes", "hangs"],
)
def test_a_driver_that_takes_its_process_down_takes_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, said: str
) -> None:
    """The process is a real one, told to do what such a driver does."""
    (tmp_path / "sitecustomize.py").write_text(does)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "BUILD_S", 1.0)

    with pytest.raises(BundleError, match=said):
        attempt(BUILTIN, CPU, 1)


def test_more_threads_and_the_probe_leave_the_numbers_as_they_are() -> None:
    """Threads may add in another order; the golden test's tolerance is what they are held to."""
    few, many = open_bundle(BUILTIN, threads=1), open_bundle(BUILTIN, threads=3)
    few.prove()
    many.prove()


# What a choice depends on ---------------------------------------------------------------------------------------------


def _driver(root: Path) -> None:
    (root / "proc/driver/nvidia/version").write_text("NVRM version: 580.2")


def _gpu(root: Path) -> None:
    (root / "proc/driver/nvidia/gpus/0/information").write_text("Model: another")


def _library(root: Path) -> None:
    (root / "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.4.0").touch()


def _jetpack(root: Path) -> None:
    (root / "etc/nv_tegra_release").write_text("# R39 (release)")


@pytest.mark.parametrize("change", [_driver, _gpu, _library, _jetpack])
def test_another_driver_gpu_library_or_jetpack_is_another_fingerprint(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    for folder in ("proc/driver/nvidia/gpus/0", "usr/lib/aarch64-linux-gnu", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("NVRM version: 580.1")
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before

    change(tmp_path)

    assert fingerprint(tmp_path) != before


def test_the_cache_is_where_systemd_says_or_beside_the_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    assert (cache_folder(tmp_path), cache_folder(None)) == (tmp_path / "cache", None)

    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/edge_asd:/other")
    assert str(cache_folder(tmp_path)) == "/var/cache/edge_asd"
