"""What a person types: ``edge-asd COMMAND``."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a frame is too small to share; threads that wait burn a core

import typer
from rich.table import Table

from edge_asd.bundles import bundles
from edge_asd.clips import clips
from edge_asd.errors import ConfigError, EdgeAsdError
from edge_asd.labels import labels
from edge_asd.lessons import export_learnt, learn
from edge_asd.models import models
from edge_asd.observe.log import start_logging
from edge_asd.operate import alarm, events, judge
from edge_asd.screen import Json, show
from edge_asd.survey import commission

if TYPE_CHECKING:
    from edge_asd.bench import Timing
    from edge_asd.score.clip import ClipScore
    from edge_asd.score.listener import Listener

# what only one command needs is imported in it: the daemon's memory and its 1.5 s to READY

CONFIG_EXIT = 78
"""EX_CONFIG: systemd is told not to start again on it"""

INTERRUPTED = 130
"""what a shell reports of Ctrl-C"""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
mqtt = typer.Typer(no_args_is_help=True, help="Look at the broker.")
app.add_typer(mqtt, name="mqtt")
app.add_typer(alarm, name="alarm")
app.add_typer(clips, name="clips")
app.add_typer(bundles, name="bundle")
app.add_typer(models, name="model")
BundleFile = Annotated[Path | None, typer.Option("--bundle", help="NAME.asd; the built-in one by default.")]
HeadKey = Annotated[str | None, typer.Option("--head", help="Machine identity, set/machine/section.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="TOML file; see deploy/edge-asd.toml.")]


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - typer hands on a switch
    if asked:
        print(version("edge-asd"))
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="And leave.")
    ] = False,
) -> None:
    """Hears a machine going wrong. Start with: edge-asd demo."""


@app.command()
def run(config: ConfigFile) -> None:
    """Listen, score, raise alarms: the daemon."""
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.daemon import Daemon, stopped_by_signals  # noqa: PLC0415

    settings = load_config(config)
    start_logging(settings.log_level)
    daemon = Daemon(settings)
    with stopped_by_signals(daemon):
        daemon.run()


@app.command()
def demo(
    machine: Annotated[str, typer.Option(help="fan or valve.")] = "valve",
    fault: Annotated[str, typer.Option(help="What goes wrong half-way; leak or bearing by default.")] = "",
    mqtt: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Tell a broker, too.")] = None,
    as_json: Json = False,
) -> None:
    """Watch a rendered machine go wrong, for a minute. Needs no microphone, broker or data.

    A valve may suffer leak, sticking or contamination; a fan bearing, imbalance or blade.
    """
    from edge_asd.demo import demo as perform  # noqa: PLC0415

    start_logging("error")
    logging.getLogger("edge_asd.deliver").setLevel(logging.WARNING)  # a broker that was named and is not there
    fault = fault or {"valve": "leak", "fan": "bearing"}.get(machine, "")
    raised = perform(machine, fault, _address(mqtt) if mqtt else None, as_json=as_json)
    if raised is None:
        print("stopped before anything could be said", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if raised else 1)


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings: WAV, FLAC. Each is one clip.")],
    bundle: BundleFile = None,
    head: HeadKey = None,
    channel: Annotated[int | None, typer.Option(min=1, help="Of recordings with several.")] = None,
    as_json: Json = False,
) -> None:
    """Score recordings. The exit code is 1 when any could not be."""
    from edge_asd.bundle import BUILTIN, open_bundle  # noqa: PLC0415

    listener = open_bundle(bundle or BUILTIN).scorer(head)
    table = Table("file", "surprise", "health", "score", "level dBFS", "parts")
    failed = False
    for file in files:
        try:
            clip = _score(listener, file, channel)
        except EdgeAsdError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
            continue
        if as_json:
            parts = {part.name: part.z for part in clip.parts}
            print(json.dumps({"file": str(file)} | asdict(clip) | {"parts": parts}), flush=True)
        else:
            parts_said = ", ".join(f"{part.name} {part.z:+.1f}" for part in clip.parts)
            numbers = (f"{clip.surprise:.2f}", str(clip.health_index), f"{clip.score:.2f}", f"{clip.level_dbfs:.1f}")
            table.add_row(str(file), *numbers, parts_said)
    if not as_json and table.row_count:
        show(table)
    raise typer.Exit(1 if failed else 0)


@app.command()
def devices(as_json: Json = False) -> None:
    """List microphones by tokens that outlive a reboot, to paste into the config."""
    from edge_asd.capture.device import devices as found  # noqa: PLC0415

    listed = found()
    if as_json:
        print(json.dumps([asdict(device) for device in listed]))
        return
    table = Table("input", "name", "channels", "hertz")
    for device in listed:
        table.add_row(f"microphone:{device.token}", device.name, str(device.channels), str(device.rate))
    if listed:
        show(table)
    else:
        print("no microphone found; is it plugged in, and may this user read /dev/snd?")


@app.command()
def check(config: ConfigFile) -> None:
    """Say what is wrong before the daemon does: config, bundles, sources, ports, broker."""
    from edge_asd.check import check as look  # noqa: PLC0415

    start_logging("error")  # the findings say it better
    findings = []
    for finding in look(config):
        findings.append(finding)
        print(f"{'ok  ' if finding.well else 'FAIL'}  {finding.what}: {finding.said}", flush=True)
    raise typer.Exit(0 if all(finding.well for finding in findings) else 1)


@app.command()
def doctor(
    config: ConfigFile,
    out: Annotated[Path | None, typer.Option("--out", help="NAME.tar.gz; by default here, with the date.")] = None,
) -> None:
    """Put all that somebody who is to help wants to see into one archive; passwords stay here."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from edge_asd.config import node_name  # noqa: PLC0415
    from edge_asd.doctor import archive  # noqa: PLC0415

    start_logging("error")
    now = datetime.now(UTC)
    out = out or Path(f"edge-asd-{node_name()}-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    for missing in archive(config, out, now):
        print(f"not in it: {missing}", file=sys.stderr)
    print(f"{out} is whole: {out.stat().st_size} bytes; look through it before you send it")


@mqtt.command("test")
def try_broker(config: ConfigFile, as_json: Json = False) -> None:
    """Try the broker stage by stage, from its name to a message that comes back, and say what to mend."""
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.deliver.probe import probe  # noqa: PLC0415
    from edge_asd.deliver.topic import Topics  # noqa: PLC0415

    settings = load_config(config)
    if settings.mqtt is None:
        msg = f"{config}: no broker is configured; add a table [mqtt] with its host"
        raise ConfigError(msg)
    start_logging("error")
    well = True
    for stage in probe(settings.mqtt.broker(), Topics(settings.node, settings.mqtt.base)):
        well = stage.well
        if as_json:
            print(json.dumps(asdict(stage)), flush=True)
        else:
            advice = "" if well else f"; {stage.advice}"
            print(
                f"{'ok  ' if well else 'FAIL'}  {stage.name}: {stage.said}{advice}  ({1e3 * stage.seconds:.0f} ms)",
                flush=True,
            )
    raise typer.Exit(0 if well else 1)


@app.command()
def bench(
    bundle: BundleFile = None,
    head: HeadKey = None,
    rounds: Annotated[int, typer.Option(min=3)] = 30,
    as_json: Json = False,
) -> None:
    """Time every stage on one core of this machine, int8 against fp32 in turn."""
    from edge_asd.bench import bench as measure  # noqa: PLC0415
    from edge_asd.bundle import BUILTIN, open_bundle  # noqa: PLC0415

    path = bundle or BUILTIN
    timings, share = measure(path, head or next(iter(open_bundle(path).heads)), rounds)
    if as_json:
        print(json.dumps({"stages": [asdict(timing) for timing in timings], "real_time_factor": share}))
        return
    show(_timings(timings))
    print(f"a clip takes {100 * share:.2f} % of the time it lasts (real-time factor {share:.4f})")


@app.command()
def cost(
    bundle: BundleFile = None,
    head: HeadKey = None,
    machines: Annotated[int, typer.Option(min=1, help="Each at a source of its own.")] = 1,
    seconds: Annotated[float, typer.Option(min=1, help="To look at it for.")] = 60.0,
    source: Annotated[
        str | None, typer.Option("--input", help="As `edge-asd devices` lists; a recording by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a real daemon and say what it costs: start, processor, memory. Stop the service before."""
    from edge_asd.bundle import BUILTIN, open_bundle  # noqa: PLC0415
    from edge_asd.cost import cost as measure  # noqa: PLC0415

    path = bundle or BUILTIN
    found = measure(path, head or next(iter(open_bundle(path).heads)), machines, seconds, source)
    if as_json:
        print(json.dumps(asdict(found) | {"cpu_per_machine": found.cpu_per_machine}))
        return
    print(f"from start to READY                           {found.ready_s:.2f} s")
    print(f"from start to the first score, less the clip {found.first_score_s:.2f} s")
    print(f"processor, a machine                          {100 * found.cpu_per_machine:.2f} % of a core")
    print(f"memory of the daemon                          {found.memory_bytes / 1e6:.0f} MB")
    print(f"memory of its capture processes               {found.capture_bytes / 1e6:.0f} MB")


app.command()(events)
app.command("label")(judge)
app.command()(labels)
app.command()(commission)
app.command()(learn)
models.command()(export_learnt)


def main() -> None:
    """Run a command; an error of ours is one line, and a broken setting has an exit code of its own."""
    try:
        app()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(CONFIG_EXIT)
    except EdgeAsdError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _score(listener: Listener, file: Path, channel: int | None) -> ClipScore:
    from edge_asd.capture.file import read_audio  # noqa: PLC0415
    from edge_asd.errors import AudioError  # noqa: PLC0415
    from edge_asd.signal.health import fault  # noqa: PLC0415

    samples = read_audio(file, listener.windows.sample_rate, channel=channel)
    if unfit := fault(samples):
        msg = f"{file} is {unfit}, which says nothing of a machine; record it again"
        raise AudioError(msg)
    return listener.score(samples)


def _address(text: str) -> tuple[str, int]:
    from edge_asd.config import MqttSettings  # noqa: PLC0415

    host, _, port = text.rpartition(":")
    try:
        broker = MqttSettings.model_validate({"host": host.strip("[]"), "port": port})
    except ValueError as error:
        msg = f"--mqtt wants HOST:PORT, such as localhost:1883, got {text!r}"
        raise ConfigError(msg) from error
    return broker.host, broker.port


def _timings(timings: list[Timing]) -> Table:
    table = Table("stage", "milliseconds", "ratio to fp32")
    for timing in timings:
        ratio = f"{timing.ratio:.2f}" if timing.ratio else ""
        table.add_row(timing.stage, f"{1e3 * timing.seconds:.2f}", ratio)
    return table
