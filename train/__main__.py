"""``python -m train COMMAND``: render, fit, export, evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_asd.errors import EdgeAsdError

# torch is imported inside the commands that need it: the rest answers at once, and so do worker processes

app = typer.Typer(
    help="Learn what machines sound like when all is well, and pack it for the daemon.",
    no_args_is_help=True,
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

        with show_progress() as progress:
            train(run, clips, progress)
    print(f"{out}: {run.recipe.name} on {len(clips)} clips of {len({c.key for c in clips})} machines; next:")
    print(f"  python -m train export {out} --out {out.name}.asd")


def main() -> int:
    """Run a command; errors are one line, Ctrl-C is no error."""
    try:
        app(standalone_mode=False)
    except EdgeAsdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last whole epoch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
