"""What the technician types when a microphone hangs: ``edge-asd commission MACHINE``."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from edge_asd.errors import ConfigError
from edge_asd.screen import Json, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_asd.commission import Report
    from edge_asd.signal.profile import Profile

ConfigFile = Annotated[Path, typer.Option("--config", help="TOML file; see deploy/edge-asd.toml.")]
BAR = -100.0, 50
"""dBFS of an empty bar, and characters of one at full scale"""


def commission(
    machine: Annotated[str, typer.Argument(help="As the config names it.")],
    config: ConfigFile,
    seconds: Annotated[float, typer.Option(min=10, max=3_600, help="Of sound.")] = 60,
    state: Annotated[
        str, typer.Option(help="What the machine does meanwhile: running, off, or a name of yours such as idle.")
    ] = "running",
    yes: Annotated[bool, typer.Option("--yes", help="Keep the profile whatever is found; ask nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Listen for a minute: is this ear fit? Keeps what it hears, and the daemon holds the ear to that.

    Once with the machine running as usual, once with it off. The exit code is 1 when the ear is not fit.
    """
    from edge_asd.baseline import keep, read  # noqa: PLC0415
    from edge_asd.commission import commission as look  # noqa: PLC0415
    from edge_asd.config import load_config  # noqa: PLC0415
    from edge_asd.observe.log import start_logging  # noqa: PLC0415

    settings = load_config(config)
    if settings.state_dir is None:
        msg = f"{config}: state_dir is off, so no profile can be kept; set it"
        raise ConfigError(msg)
    start_logging("error")
    with _watched(seconds) as progress:
        report = look(settings, machine, seconds, state, read(settings.state_dir, machine), progress=progress)
    if as_json:
        print(json.dumps(asdict(report) | {"fit": report.fit}))
    else:
        _tell(report)
    if yes or report.fit or (not as_json and typer.confirm("keep this profile all the same?", err=True)):
        path = keep(settings.state_dir, report.commissioned)
        print(f"kept as version {report.commissioned.version}: {path}", file=sys.stderr)
    raise typer.Exit(0 if report.fit else 1)


@contextmanager
def _watched(seconds: float) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("listening", total=seconds)
        yield lambda heard: bar.update(task, completed=heard)


def _tell(report: Report) -> None:
    print(*_bands(report.profile), sep="\n")
    floor, level = report.profile.floor_dbfs, report.profile.level_dbfs
    print(f"level {level:.1f} dBFS, quietest moments {floor:.1f} dBFS\n")
    table = Table("", "what", "found")
    for finding in report.findings:
        table.add_row("ok" if finding.well else "FAIL", finding.what, finding.said)
    show(table)
    print(f"this ear is {'fit' if report.fit else 'NOT fit'} to listen to {report.commissioned.machine}")


def _bands(heard: Profile) -> Iterator[str]:
    """Third octaves as bars, the quietest moments solid."""
    yield "third octaves, dBFS; solid: the quietest moments"
    for band, level in heard.bands.items():
        solid = min(_length(heard.floor.get(band, BAR[0])), _length(level))
        yield f"{band:>6} Hz {level:7.1f}  {'█' * solid}{'░' * (_length(level) - solid)}"


def _length(level: float) -> int:
    return max(0, round((1 - level / BAR[0]) * BAR[1]))
