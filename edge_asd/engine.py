"""Which execution provider computes a bundle here: each is put to the test once, the fastest that passes wins.

The test runs in a process of its own, because a driver that does not fit may crash or hang whoever loads it. What won
is kept by the bundle's digest and by all that it depends on: ONNX Runtime, driver, libraries, GPU.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import distributions, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_asd.bundle import Bundle, manifest_digest, open_bundle, read_contents
from edge_asd.errors import BundleError
from edge_asd.score.backbone import installed
from edge_asd.score.provider import CPU, Provider, Trial, fastest, spare_threads

if TYPE_CHECKING:
    from edge_asd.signature import Trust

log = logging.getLogger(__name__)

AUTO = "auto"
FILE = "providers.json"
BUILD_S = 600.0
"""what a trial may take: TensorRT builds its engine in it"""
WARM, ROUNDS = 2, 10
"""segments computed before and while time is taken"""
MOST_KEPT = 16
"""bundles whose provider is remembered; the oldest is forgotten first"""
DRIVER = ("/proc/driver/nvidia/version", "/proc/driver/nvidia/gpus/*/information", "/etc/nv_tegra_release")
LIBRARIES = ("usr/lib/*/libnvinfer.so.*", "usr/lib/*/libcudart.so.*", "usr/local/cuda*/lib64/libcudart.so.*")

Attempt = Callable[[Path, Provider, int], float]
"""Prove a bundle with a provider and so many threads; seconds for one segment. Raises BundleError."""


def attempt(path: Path, provider: Provider, threads: int) -> float:
    """Prove and time a bundle in a process of its own.

    Raises:
        BundleError: the provider cannot be loaded, fails the golden test, crashes or hangs.
    """
    command = [sys.executable, "-m", "edge_asd.engine", str(path), json.dumps(asdict(provider)), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    except subprocess.TimeoutExpired as error:
        msg = f"{provider.name} was not ready within {BUILD_S:g} s"
        raise BundleError(msg) from error
    if done.returncode:
        said = (done.stderr.strip() or f"died with code {done.returncode}").splitlines()[-1]
        raise BundleError(said)
    return float(done.stdout.splitlines()[-1])


def fingerprint(root: Path = Path("/")) -> str:
    """All that a provider's choice depends on beside the bundle, as text that differs when any of it does."""
    told = [file for pattern in DRIVER for file in sorted(root.glob(pattern.lstrip("/")))]
    libraries = sorted(str(file) for pattern in LIBRARIES for file in root.glob(pattern))
    wheels = sorted(f"{d.name} {d.version}" for d in distributions() if d.name.startswith(("nvidia-", "tensorrt")))
    return "\n".join([version("onnxruntime"), *map(_text, told), *libraries, *wheels])


@dataclass(frozen=True, slots=True)
class Engine:
    """Opens bundles with the provider that serves them best here."""

    wanted: str = AUTO
    """a provider's name, or ``auto``"""
    threads: int = 0
    """of a graph; 0 leaves capture a core"""
    folder: Path | None = None
    """where choices and TensorRT's engines are kept; None: nowhere"""
    installed: Sequence[str] = field(default_factory=installed)
    attempt: Attempt = attempt
    depends: Callable[[], str] = fingerprint
    extend: Callable[[float], None] = lambda _: None
    """told before what may take so many seconds"""

    def open(self, path: Path, *, trust: Trust | None = None) -> Bundle:
        """A bundle with its provider; one that fails gives way to the next, in the end to the processor.

        Raises:
            BundleError: as :func:`edge_asd.bundle.open_bundle`; the processor cannot use it either.
        """
        names = self._candidates()
        if names == [CPU.name]:
            return open_bundle(path, trust=trust, threads=self._threads)
        manifest = read_contents(path, trust).manifest
        if not manifest.backbone:
            return open_bundle(path, trust=trust)
        digest = manifest_digest(manifest)
        key = hashlib.sha256("\n".join([digest, *names, self.wanted, self.depends()]).encode()).hexdigest()[:16]
        opens = partial(open_bundle, path, trust=trust, threads=self._threads)
        return self._remembered(path, digest, key, opens) or self._probed(path, digest, key, names, opens)

    def trials(self, digest: str) -> list[Trial]:
        """What was found when a bundle was last put to the test; nothing where there was no choice."""
        return [Trial(**trial) for trial in self._kept().get(digest, {}).get("trials", [])]

    @property
    def _threads(self) -> int:
        return self.threads or spare_threads()

    def _candidates(self) -> list[str]:
        if self.wanted == AUTO:
            return list(self.installed)
        if self.wanted not in self.installed:
            log.warning("engine.absent", extra={"wanted": self.wanted, "installed": list(self.installed)})
            return [CPU.name]
        return list(dict.fromkeys([self.wanted, CPU.name]))

    def _remembered(self, path: Path, digest: str, key: str, opens: Callable[..., Bundle]) -> Bundle | None:
        kept = self._kept().get(digest, {})
        return self._proven(path, str(kept["provider"]), key, opens) if kept.get("key") == key else None

    def _probed(self, path: Path, digest: str, key: str, names: Sequence[str], opens: Callable[..., Bundle]) -> Bundle:
        trials = [self._try(path, self._provider(name, key)) for name in names]
        passed = [trial for trial in trials if trial.seconds is not None]
        best = fastest(trials) if self.wanted == AUTO else next(iter(passed), None)
        bundle = self._proven(path, best.provider, key, opens) if best else None
        if best and bundle:
            seconds = {trial.provider: trial.seconds for trial in trials}
            log.info("engine.chosen", extra={"bundle": str(path), "provider": best.provider, "seconds": seconds})
            self._keep(digest, {"key": key, "provider": best.provider, "trials": [asdict(trial) for trial in trials]})
            return bundle
        return opens()

    def _try(self, path: Path, provider: Provider) -> Trial:
        self.extend(BUILD_S)
        try:
            return Trial(provider.name, self.attempt(path, provider, self._threads))
        except BundleError as error:
            return self._refused(path, provider.name, error)

    def _proven(self, path: Path, name: str, key: str, opens: Callable[..., Bundle]) -> Bundle | None:
        """Opened and put to the test in this process; None when it failed that."""
        try:
            bundle = opens(provider=self._provider(name, key))
            bundle.prove()
        except BundleError as error:
            self._refused(path, name, error)
            return None
        return bundle

    def _refused(self, path: Path, name: str, error: BundleError) -> Trial:
        log.warning("engine.refused", extra={"bundle": str(path), "provider": name, "reason": str(error)})
        return Trial(name, refused=str(error))

    def _provider(self, name: str, key: str) -> Provider:
        """With a place for TensorRT's engines, which fit one bundle, driver and GPU only."""
        if name != "tensorrt" or self.folder is None:
            return Provider(name)
        place = self.folder / "tensorrt" / key
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.warning("engine.forgetful", extra={"reason": f"every start will build TensorRT's engine: {error}"})
            return Provider(name)
        switches = ("trt_engine_cache_enable", "trt_timing_cache_enable")
        return Provider(name, {"trt_engine_cache_path": str(place), **dict.fromkeys(switches, "1")})

    def _kept(self) -> Mapping[str, Any]:
        if self.folder is None:
            return {}
        try:
            kept = json.loads((self.folder / FILE).read_text("utf-8"))
        except (OSError, ValueError):  # a choice that is lost is made again
            return {}
        return kept if isinstance(kept, dict) and all(isinstance(one, dict) for one in kept.values()) else {}

    def _keep(self, digest: str, choice: Mapping[str, Any]) -> None:
        if self.folder is None:
            return
        others = {known: kept for known, kept in self._kept().items() if known != digest}
        kept = dict([*others.items(), (digest, choice)][-MOST_KEPT:])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = self.folder / f"{FILE}.partial"
            partial.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
            partial.replace(self.folder / FILE)
        except OSError as error:
            log.warning("engine.forgetful", extra={"reason": f"every start will try all providers: {error}"})
        keys = {str(one.get("key")) for one in kept.values()}
        for old in (self.folder / "tensorrt").glob("*"):
            if old.name not in keys:
                shutil.rmtree(old, ignore_errors=True)


def cache_folder(state: Path | None) -> Path | None:
    """Where what can be found out again is kept: as systemd says, or beside the state."""
    told = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    return Path(told) if told else state and state / "cache"


def prove(path: Path, provider: Provider, threads: int) -> float:
    """Prove every head of a bundle; seconds for one segment, median.

    Raises:
        BundleError: the provider cannot be loaded or fails the golden test.
    """
    bundle = open_bundle(path, provider=provider, threads=threads)
    bundle.prove()
    golden = next(iter(bundle.golden.values())).waveform
    segment = np.resize(golden / 32_768, bundle.manifest.windows.segment).astype(np.float32)
    seconds = [_time(bundle, segment) for _ in range(WARM + ROUNDS)]
    return median(seconds[WARM:])


def _time(bundle: Bundle, segment: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    began = time.perf_counter()
    if bundle.backbone:
        bundle.backbone(segment)
    return time.perf_counter() - began


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return f"{file} cannot be read"


def main(path: str, provider: str, threads: str) -> int:
    """Print the seconds for a segment, or say why there are none."""
    try:
        seconds = prove(Path(path), Provider(**json.loads(provider)), int(threads))
    except BundleError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{seconds}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
