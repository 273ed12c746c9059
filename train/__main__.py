"""``python -m train COMMAND``: from data sets to a bundle, and what it is worth; ``--help`` lists the commands."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_asd.errors import ConfigError, EdgeAsdError
from edge_asd.render.performance import MACHINES

# torch and ONNX Runtime are imported inside the commands that need them: the rest answers at once, so do processes

app = typer.Typer(
    help="Learn what machines sound like when all is well, and pack it for the daemon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Data = Annotated[list[Path], typer.Option("--data", help="Data set folder; may be given several times.")]

Machines = Annotated[
    list[str] | None, typer.Option("--machine", help="Only these, set/machine/section, * for any; repeatable.")
]
Truth = Annotated[Path | None, typer.Option(help="An official evaluator's folder, for labels of test clips.")]
Channel = Annotated[int | None, typer.Option(min=1, help="The one to take of recordings that have several.")]
Outliers = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of sound that is none of the machines', for recipes that learn of it; repeatable."),
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out recordings that cannot be read.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Instead of the recipe's, as in settings.alpha=0.3; repeatable.")
]
Ray = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster to do the runs: auto, local, ray://HOST:PORT or HOST:PORT. "
        "All its nodes must see this checkout, --data, --test and --out in the same places."
    ),
]


def show_progress() -> Progress:
    """A bar on standard error; nothing when that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


@app.command()
def data(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="Data sets, or normal recordings of a machine.")
    ],
    truth: Truth = None,
    channel: Channel = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what is in data sets, and what is odd about it, before anyone trains on it."""
    from train.corpus.clip import scan  # noqa: PLC0415
    from train.corpus.survey import as_json as summary  # noqa: PLC0415
    from train.corpus.survey import hear, show, survey  # noqa: PLC0415

    clips = scan(folders, truth=truth, channel=channel)
    with show_progress() as progress:
        machines = survey(hear(clips, progress))
    if as_json:
        print(json.dumps(summary(machines), indent=1))
    else:
        show(machines)


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="A method, METHOD-paper, or the path of a TOML file.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Run folder; an unfinished run in it is gone on with.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    machine: Machines = None,
    change: Changes = None,
    channel: Channel = None,
    skip_broken: SkipBroken = False,
    outliers: Outliers = None,
) -> None:
    """Learn from the normal clips of data sets, one model over all their machines or over those named."""
    from train.teach.recipe import changed, load_recipe  # noqa: PLC0415
    from train.teach.run import Run, create  # noqa: PLC0415

    changes = changed([*(change or ()), f"seed={seed}", *([f"training.epochs={epochs}"] if epochs else ())])
    wanted, machines, others = load_recipe(recipe, **changes), tuple(machine or ()), tuple(outliers or ())
    run = Run(out, wanted, tuple(data), machines, channel, skip_broken, others)
    try:
        with show_progress() as progress:
            clips, strange = run.clips(progress), run.strangers(progress)
            run = create(run, [*clips, *strange])
            if run.recipe.training:
                from train.teach.fit import fit as train  # noqa: PLC0415

                train(run, clips, strange, progress)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last whole epoch", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"{out}: {run.recipe.name} on {len(clips)} clips of {len({c.key for c in clips})} machines; next:")
    print(f"  python -m train export {out} --out {out.name}.asd")


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of a method that draws fakes.")],
    out: Annotated[Path, typer.Option(help="Gets a folder for each machine and attribute group.")],
    machine: Machines = None,
    count: Annotated[int, typer.Option(min=1, help="Fakes of each attribute group.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Others give others.")] = 0,
) -> None:
    """Draw what a run takes its machines to sound like: pictures beside real segments, and files to listen to."""
    from train.compare.fake import generate as draw  # noqa: PLC0415

    with show_progress() as progress:
        written = draw(run, out, count, progress, machines=machine or (), seed=seed)
    print(f"{out}: {len(written)} files; begin with {written[0]}")


@app.command()
def render(
    out: Annotated[Path, typer.Option(help="Folder to write to; must be empty or new.")],
    machine: Annotated[list[str] | None, typer.Option(help=f"{', '.join(MACHINES)}; all by default.")] = None,
    sections: Annotated[int, typer.Option(min=1, help="Identities of each machine.")] = 1,
    source: Annotated[int, typer.Option(min=1, help="Normal training clips in the source domain.")] = 990,
    target: Annotated[int, typer.Option(min=0, help="The same in the target domain.")] = 10,
    test: Annotated[int, typer.Option(min=0, help="Test clips per domain, so many normal and so many anomalous.")] = 50,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Render machines by physics and write them as a DCASE data set."""
    from train.corpus.render import Plan, write_dataset  # noqa: PLC0415

    machines = tuple(machine or MACHINES)
    plan = Plan(machines, sections=sections, source_train=source, target_train=target, test=test, seed=seed)
    clips = write_dataset(out, plan, workers=workers, console=Console(stderr=True))
    print(f"{out}: {clips} clips of {', '.join(machines)}")


@app.command()
def crowd(
    out: Annotated[Path, typer.Option(help="Folder to write to; must be empty or new.")],
    machine: Annotated[list[str] | None, typer.Option(help=f"{', '.join(MACHINES)}; all by default.")] = None,
    individuals: Annotated[int, typer.Option(min=1, help="Of each kind of machine.")] = 16,
    states: Annotated[int, typer.Option(min=1, help="Of each individual, every other one worn.")] = 4,
    clips: Annotated[int, typer.Option(min=1, help="Of each state, each in a room of its own.")] = 15,
    seconds: Annotated[float, typer.Option(min=2.0, help="Length of a clip.")] = 6.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Render a crowd of machines, sound and worn, for a network that is to hear machines it never met."""
    from train.corpus.crowd import Crowd, write_crowd  # noqa: PLC0415

    kinds = tuple(machine or MACHINES)
    wanted = Crowd(kinds, individuals, states, clips, seconds, seed=seed)
    with show_progress() as progress:
        written = write_crowd(out, wanted, workers=workers, progress=progress)
    print(f"{out}: {written} clips of {individuals * len(kinds)} machines in {states} states each; next:")
    print(f"  python -m train fit subcluster-house_tiny --data {out} --out RUN")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="Bundle to write, NAME.asd.")],
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1",
    licence: Annotated[str, typer.Option(help="What may be done with it.")] = "not for distribution: see its data",
    head: Annotated[list[str] | None, typer.Option(help="Machine to export; all that have clips enough.")] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Data sets to fit heads for instead of the run's own, machines it never met; repeatable."),
    ] = None,
    fp32: Annotated[bool, typer.Option(help="Add the full graph, for diagnosis.")] = True,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Show one more, NAME or OUTPUT:NAME, beside the recipe's and not fused; repeatable."),
    ] = None,
) -> None:
    """Quantise, fit heads with the quantised graph, and pack one bundle."""
    from train.pack.export import Wish  # noqa: PLC0415
    from train.pack.export import export as pack  # noqa: PLC0415

    with show_progress() as progress:
        wish = Wish(version, licence, tuple(head or ()), fp32, tuple(backend or ()), tuple(data or ()))
        report = pack(run, out, wish, progress)
    print(report)


@app.command()
def ensemble(
    things: Annotated[
        list[str],
        typer.Argument(
            metavar="[RECIPE] MEMBER.asd…",
            help="A recipe of an ensemble, or the path of a TOML file; then a bundle for each member, NAME=PATH where "
            "neither its name nor its method is the member's.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bundle to write, NAME.asd.")],
    name: Annotated[
        str | None, typer.Option(help="Of the system, in tables; by default the recipe's or OUT's.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="mean or min, instead of the recipe's.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="NAME=W, instead of the recipe's or 1; 0 is shown only; repeatable.")
    ] = None,
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1",
    licence: Annotated[str, typer.Option(help="What may be done with it; by default what its members say.")] = "",
) -> None:
    """Fuse bundles and pack them as one, which the daemon runs like any other."""
    from train.pack.ensemble import ensemble as fuse  # noqa: PLC0415
    from train.pack.plan import load_plan, weights_of  # noqa: PLC0415

    recipe = None if things[0].endswith(".asd") else things[0]
    default = None if recipe else out.stem
    plan = load_plan(recipe, name=name or default, rule=rule, weights=weights_of(weight or ()))
    print(fuse(plan, things[1:] if recipe else things, out, version=version, licence=licence))


@app.command()
def builtin(
    work: Annotated[Path, typer.Option(help="Folder for the rendered sound and the run; gone on with.")],
    out: Annotated[Path | None, typer.Option(help="Where the bundle goes; into the package by default.")] = None,
) -> None:
    """Build the bundle in the package anew, from rendered sound alone."""
    from edge_asd.bundle import BUILTIN  # noqa: PLC0415
    from train.pack.builtin import build  # noqa: PLC0415

    with show_progress() as progress:
        print(build(work, out or BUILTIN, progress))


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="NAME.asd.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for score, decision and result files.")] = None,
    head: Annotated[str | None, typer.Option(help="Judge all machines by this head.")] = None,
    machine: Machines = None,
    precision: Annotated[
        str | None, typer.Option(help="int8 or fp32, for diagnosis; else the graph its heads belong to.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="Metrics of 2020, of 2021, or of 2022 and later.")] = "2022",
    oracle: Annotated[bool, typer.Option("--oracle", help="Mark what was chosen on labels of test clips.")] = False,
    truth: Truth = None,
    channel: Channel = None,
    skip_broken: SkipBroken = False,
) -> None:
    """Measure a bundle by the DCASE protocol, through the daemon's own scoring code."""
    from train.corpus.clip import checked, trials  # noqa: PLC0415
    from train.judge.evaluate import evaluate as judge  # noqa: PLC0415
    from train.judge.metric import PROTOCOLS  # noqa: PLC0415
    from train.judge.table import show  # noqa: PLC0415

    if precision not in {None, "int8", "fp32"}:
        msg = f"no precision {precision!r}; choose int8 or fp32"
        raise ConfigError(msg)
    graph: Literal["int8", "fp32"] | None = "fp32" if precision == "fp32" else "int8" if precision else None
    year = next((known for known in PROTOCOLS if known == protocol), None)
    if year is None:
        msg = f"no protocol {protocol!r}; choose {', '.join(PROTOCOLS[:-1])}, or {PROTOCOLS[-1]} for it and later years"
        raise ConfigError(msg)
    clips = trials(data, machines=machine or (), truth=truth, channel=channel)
    with show_progress() as progress:
        clips = checked(clips, skip_broken=skip_broken, progress=progress)
    console = Console(stderr=True)
    show(judge(bundle, clips, out, head=head, precision=graph, protocol=year, oracle=oracle, console=console))


@app.command()
def curve(
    data: Data,
    bundle: Annotated[
        Path | None, typer.Argument(help="NAME.asd, whose parts are learned anew; the built-in one by default.")
    ] = None,
    machine: Machines = None,
    clips: Annotated[list[int] | None, typer.Option(min=1, help="Normal clips of a lesson; 3, 5, 10, 20, 30.")] = None,
    added: Annotated[list[int] | None, typer.Option(min=0, help="Clips of the target domain; 0, 1, 3, 10.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Of clips, for each figure.")] = 5,
    peer: Annotated[
        str | None, typer.Option(help="A recipe, as ae, whose network is trained on the clips drawn, from the start.")
    ] = None,
    peer_draws: Annotated[int, typer.Option(min=1, help="The same for the peer, which takes far longer.")] = 2,
    head: Annotated[str | None, typer.Option(help="Of the bundle; its first by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for curve.csv and curve.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Measure how good a head is by how few clips a device learned it from."""
    from edge_asd.bundle import BUILTIN  # noqa: PLC0415
    from train.compare.curve import ADDED, CLIPS, Plan, as_csv, drawing, show  # noqa: PLC0415
    from train.compare.curve import curve as measure  # noqa: PLC0415
    from train.file import write_whole  # noqa: PLC0415

    plan = Plan(tuple(clips or CLIPS), tuple(ADDED if added is None else added), draws, peer, peer_draws, seed)
    with show_progress() as progress:
        points = measure(bundle or BUILTIN, data, machine or (), plan, progress, head)
    if out is not None:
        write_whole(out / "curve.csv", as_csv(points))
        write_whole(out / "curve.png", drawing(points))
    if as_json:
        print(json.dumps([asdict(point) for point in points], indent=1))
    else:
        show(points)


@app.command()
def hours(
    bundle: Annotated[Path, typer.Argument(help="NAME.asd.")],
    work: Annotated[Path, typer.Option(help="Folder for what was heard; gone on with, and judged anew.")],
    data: Annotated[list[Path] | None, typer.Option(help="Normal recordings to be judged too; repeatable.")] = None,
    machine: Annotated[list[str] | None, typer.Option(help=f"{', '.join(MACHINES)}; all by default.")] = None,
    learn: Annotated[list[int] | None, typer.Option(min=5, help="Clips of a lesson; 31 and 60.")] = None,
    over: Annotated[list[int] | None, typer.Option(min=1, help="Days that a lesson is spread over; 1.")] = None,
    individuals: Annotated[int, typer.Option(min=1, help="Of each kind of machine.")] = 2,
    days: Annotated[int, typer.Option(min=0, help="After that of the lesson.")] = 2,
    clips: Annotated[int, typer.Option(min=1, help="Normal ones that are judged a day.")] = 360,
    faulty: Annotated[int, typer.Option(min=1, help="Clips of each fault and severity.")] = 12,
    draws: Annotated[int, typer.Option(min=1, help="Lessons drawn from recordings, which then share clips.")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Annotated[int, typer.Option(min=1)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Count false alarms in hours of normal sound after a lesson of minutes, and how soon faults are told."""
    from train.corpus.clip import scan  # noqa: PLC0415
    from train.judge import hours as measure  # noqa: PLC0415

    lessons = tuple(learn or (31, 60))
    kinds = tuple(machine or MACHINES)
    spread, length = tuple(over or (1,)), measure.clip_s(bundle)
    watch = measure.Watch(kinds, individuals, max(lessons), spread, days, clips, faulty, length, seed)
    with show_progress() as progress:
        heard = measure.hear(bundle, watch, work, progress, workers=workers)
    found = list(measure.rendered_hours(bundle, heard, lessons, spread))
    if data:
        quiet = [clip for clip in scan(data) if clip.label == "normal"]
        found += measure.recorded_hours(bundle, quiet, lessons, draws, seed)
    if as_json:
        told = {"normal": [*map(measure.rows, found)], "faults": [*map(measure.delays, found)]}
        print(json.dumps({name: [row for rows in each for row in rows] for name, each in told.items()}, indent=1))
    else:
        measure.show(found)


@app.command()
def sweep(
    recipe: Annotated[list[str], typer.Argument(help="Methods, METHOD-paper, or paths of TOML files.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for a run folder each and the table; gone on with.")],
    test: Annotated[list[Path] | None, typer.Option(help="Where the test clips are; in --data by default.")] = None,
    machine: Machines = None,
    each_machine: Annotated[bool, typer.Option("--each-machine", help="A model for each set/machine/section.")] = False,
    each_kind: Annotated[bool, typer.Option("--each-kind", help="A model for each set/machine.")] = False,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Repeatable; 0 by default.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="The same as --seed 0, --seed 1, … so many times.")] = None,
    change: Changes = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(help="As in settings.alpha=0.03,0.1,0.3; repeatable, all combinations are run."),
    ] = None,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Add rows with the values of the grid that do best on the test labels.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipes'.")] = None,
    outliers: Outliers = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time; one for each core by default.")] = None,
    ray: Ray = None,
    gpus_per_run: Annotated[
        float, typer.Option(min=0.0, help="Of a Ray cluster that has any; a fraction shares one.")
    ] = 1.0,
) -> None:
    """Fit, export and evaluate many runs and collect one table; the same command goes on where it was stopped."""
    from train.compare.sweep import Crew, Plan, show  # noqa: PLC0415
    from train.compare.sweep import sweep as do  # noqa: PLC0415

    if (each_machine and each_kind) or (seed and seeds):
        both = "--each-machine and --each-kind" if each_machine and each_kind else "--seed and --seeds"
        msg = f"{both} contradict each other; give one of them"
        raise ConfigError(msg)
    plan = Plan(
        tuple(recipe),
        tuple(data),
        out,
        test=tuple(test or ()),
        machines=tuple(machine or ()),
        each="machine" if each_machine else "kind" if each_kind else None,
        seeds=tuple(seed or range(seeds or 1)),
        changes=tuple(change or ()),
        grid=tuple(grid or ()),
        epochs=epochs,
        outliers=tuple(outliers or ()),
    )
    try:
        with show_progress() as progress:
            result = do(plan, Crew(workers, ray, gpus_per_run), progress, oracle=oracle)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last whole epochs", file=sys.stderr)
        raise typer.Exit(130) from None
    show(result, Console())
    raise typer.Exit(1 if result.failed else 0)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders with an evaluation in each, or evaluations.")],
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, and report.md with its pictures.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the tables alone.")] = None,
) -> None:
    """Set runs beside each other and beside published results, on one page."""
    from train.compare.report import report as write  # noqa: PLC0415

    with show_progress() as progress:
        written = write(runs, out, markdown, progress)
    print("\n".join(map(str, written)))


@app.command()
def rule(
    runs: Annotated[list[Path], typer.Argument(help="Run folders with an evaluation in each, or evaluations.")],
    part: Annotated[str, typer.Option(help="The part of the network whose weight is asked for.")] = "network",
) -> None:
    """Choose one rule of fusion for all machines, each data set being judged by the rule that the others choose."""
    from train.compare.rule import choose, show  # noqa: PLC0415

    show(choose(runs, part))


@app.command()
def bench(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    bundle: Annotated[Path, typer.Argument(help="The bundle exported from it, with its fp32 graph.")],
    rounds: Annotated[int, typer.Option(min=3)] = 30,
) -> None:
    """Time the exported graphs against torch, in turn, on one core."""
    from train.pack.bench import bench as measure  # noqa: PLC0415

    for timing in measure(run, bundle, rounds):
        print(f"{timing.stage:45} {1e3 * timing.seconds:8.2f} ms   {timing.ratio or 1:.2f} of torch eager")


@app.command()
def bench_sizes(
    out: Annotated[Path, typer.Option(help="Folder for the untrained bundles, for edge-asd bench and cost.")],
    recipe: Annotated[
        list[str] | None, typer.Option(help="The three sizes of the house network by default; repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3)] = 30,
) -> None:
    """Tell what networks of each size cost, int8 on one core, the whole score included, against torch float32."""
    from train.pack.size import SIZES  # noqa: PLC0415
    from train.pack.size import sizes as measure  # noqa: PLC0415

    for size in measure(recipe or SIZES, out, rounds):
        print(f"{size.recipe}: {size.parameters / 1e6:.2f} M parameters, {size.macs / 1e6:.1f} M multiplications")
        print(f"  {'views, a segment':20} {size.views_ms:8.2f} ms")
        for what, cost, unit in (
            ("network, a segment", size.network_ms, "ms"),
            ("whole clip", size.clip_ms, "ms"),
            ("memory", size.memory_mb, "MB"),
        ):
            print(f"  {what:20} {cost.ours:8.2f} {unit}   torch {cost.torch:8.2f}   ratio {cost.ratio:.2f}")


@app.command()
def bench_start(rounds: Annotated[int, typer.Option(min=1)] = 5) -> None:
    """Time a cold start to the first score, and its memory, against the import of torch alone, in turn."""
    from train.pack.bench import bench_start as measure  # noqa: PLC0415

    for start in measure(rounds):
        print(f"{start.what:48} {start.seconds:6.2f} s  {start.memory_bytes / 1e6:6.0f} MB")


@app.command()
def bench_epoch(
    data: Data,
    recipe: Annotated[str, typer.Option(help="A recipe that trains.")] = "grhd",
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Time an epoch of training against the same network in a plain loop fed by torchaudio, in turn."""
    from train.corpus.clip import normals  # noqa: PLC0415
    from train.pack.bench import bench_epoch as measure  # noqa: PLC0415

    for timing in measure(recipe, normals(data), rounds):
        print(f"{timing.stage:45} {timing.seconds:8.2f} s   {timing.ratio or 1:.2f} of the plain loop")


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
