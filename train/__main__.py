"""``python -m train COMMAND``: render, fit, export, evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_asd.errors import ConfigError, EdgeAsdError

# torch and ONNX Runtime are imported inside the commands that need them: the rest answers at once, so do processes

app = typer.Typer(
    help="Learn what machines sound like when all is well, and pack it for the daemon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Data = Annotated[list[Path], typer.Option("--data", help="Data set folder; may be given several times.")]


def show_progress() -> Progress:
    """A bar on standard error; nothing when that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="statistics, grhd, or the path of a TOML file.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Run folder; an unfinished run in it is gone on with.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
) -> None:
    """Learn from the normal clips of data sets, one model over all their machines."""
    from train.data import normals  # noqa: PLC0415
    from train.recipe import load_recipe  # noqa: PLC0415
    from train.run import create  # noqa: PLC0415

    changes = {"training": {"epochs": epochs}} if epochs else {}
    clips = normals(data)
    run = create(out, load_recipe(recipe, seed=seed, **changes), data, clips)
    if run.recipe.training:
        from train.fit import fit as train  # noqa: PLC0415

        try:
            with show_progress() as progress:
                train(run, clips, progress)
        except KeyboardInterrupt:
            print("stopped; the same command goes on from the last whole epoch", file=sys.stderr)
            raise typer.Exit(130) from None
    print(f"{out}: {run.recipe.name} on {len(clips)} clips of {len({c.key for c in clips})} machines; next:")
    print(f"  python -m train export {out} --out {out.name}.asd")


@app.command()
def render(  # noqa: PLR0913, PLR0917 - a command line is its arguments
    out: Annotated[Path, typer.Option(help="Folder to write to; must be empty or new.")],
    machine: Annotated[list[str] | None, typer.Option(help="fan or valve; both by default.")] = None,
    sections: Annotated[int, typer.Option(min=1, help="Identities of each machine.")] = 1,
    source: Annotated[int, typer.Option(min=1, help="Normal training clips in the source domain.")] = 990,
    target: Annotated[int, typer.Option(min=0, help="The same in the target domain.")] = 10,
    test: Annotated[int, typer.Option(min=0, help="Test clips per domain, so many normal and so many anomalous.")] = 50,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Render machines by physics and write them as a DCASE data set."""
    from edge_asd.render.performance import MACHINES  # noqa: PLC0415
    from train.render import Plan, write_dataset  # noqa: PLC0415

    machines = tuple(machine or MACHINES)
    plan = Plan(machines, sections=sections, source_train=source, target_train=target, test=test, seed=seed)
    clips = write_dataset(out, plan, workers=workers, console=Console(stderr=True))
    print(f"{out}: {clips} clips of {', '.join(machines)}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="Bundle to write, NAME.asd.")],
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1",
    licence: Annotated[str, typer.Option(help="What may be done with it.")] = "not for distribution: see its data",
    head: Annotated[list[str] | None, typer.Option(help="Machine to export; all that have clips enough.")] = None,
    fp32: Annotated[bool, typer.Option(help="Add the full graph, for diagnosis.")] = True,
) -> None:
    """Quantise, fit heads with the quantised graph, and pack one bundle."""
    from train.export import Wish  # noqa: PLC0415
    from train.export import export as pack  # noqa: PLC0415

    with show_progress() as progress:
        report = pack(run, out, Wish(version, licence, tuple(head or ()), fp32), progress)
    print(report)


@app.command()
def builtin(
    work: Annotated[Path, typer.Option(help="Folder for the rendered sound and the run; gone on with.")],
    out: Annotated[Path | None, typer.Option(help="Where the bundle goes; into the package by default.")] = None,
) -> None:
    """Build the bundle in the package anew, from rendered sound alone."""
    from edge_asd.bundle import BUILTIN  # noqa: PLC0415
    from train.builtin import build  # noqa: PLC0415

    with show_progress() as progress:
        print(build(work, out or BUILTIN, progress))


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917 - a command line is its arguments
    bundle: Annotated[Path, typer.Argument(help="NAME.asd.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for score, decision and result files.")] = None,
    head: Annotated[str | None, typer.Option(help="Judge all machines by this head.")] = None,
    machine: Annotated[list[str] | None, typer.Option(help="Only this one, set/machine/section; repeatable.")] = None,
    precision: Annotated[str, typer.Option(help="int8, or fp32 for diagnosis.")] = "int8",
    protocol: Annotated[str, typer.Option(help="Metrics of 2020, of 2021, or of 2022 and later.")] = "2022",
    oracle: Annotated[bool, typer.Option("--oracle", help="Mark what was chosen on labels of test clips.")] = False,
) -> None:
    """Measure a bundle by the DCASE protocol, through the daemon's own scoring code."""
    from train.evaluate import evaluate as judge  # noqa: PLC0415
    from train.judge import PROTOCOLS  # noqa: PLC0415
    from train.table import show  # noqa: PLC0415

    if precision not in {"int8", "fp32"}:
        msg = f"no precision {precision!r}; choose int8 or fp32"
        raise ConfigError(msg)
    graph: Literal["int8", "fp32"] = "fp32" if precision == "fp32" else "int8"
    year = next((known for known in PROTOCOLS if known == protocol), None)
    if year is None:
        msg = f"no protocol {protocol!r}; choose {', '.join(PROTOCOLS[:-1])}, or {PROTOCOLS[-1]} for it and later years"
        raise ConfigError(msg)
    show(
        judge(
            bundle,
            data,
            out,
            head=head,
            machines=machine or (),
            precision=graph,
            protocol=year,
            oracle=oracle,
            console=Console(stderr=True),
        )
    )


@app.command()
def bench(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    bundle: Annotated[Path, typer.Argument(help="The bundle exported from it, with its fp32 graph.")],
    rounds: Annotated[int, typer.Option(min=3)] = 30,
) -> None:
    """Time the exported graphs against torch, in turn, on one core."""
    from train.bench import bench as measure  # noqa: PLC0415

    for timing in measure(run, bundle, rounds):
        print(f"{timing.stage:30} {1e3 * timing.seconds:6.2f} ms   {timing.ratio or 1:.2f} of torch eager")


def main() -> None:
    """Run a command; an error of ours is one line."""
    try:
        app()
    except EdgeAsdError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that is not ours
        reason = (error.strerror or str(error)).lower()
        print(f"error: {error.filename or 'a file'}: {reason}; name another place, or make room there", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
