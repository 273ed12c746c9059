"""The bundle in the package: learned from rendered machines alone (decision 13), by one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_asd.errors import ConfigError
from train.corpus.clip import normals
from train.corpus.render import Plan, write_dataset
from train.pack.export import Report, Wish, export
from train.teach.fit import fit
from train.teach.recipe import load_recipe
from train.teach.run import Run, create

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

MACHINES = ("fan", "valve")
PLAN = Plan(MACHINES, sections=4, source_train=36, target_train=4, test=10, seed=0)
"""four identities of each, so that the network has something to tell apart; the bundle keeps the first"""
EPOCHS = 10


def build(work: Path, out: Path, progress: Progress) -> Report:
    """Render, fit, export; what is done already is not done again."""
    data, run_folder = work / "rendered", work / "run"
    try:
        clips = normals([data])
    except ConfigError:
        write_dataset(data, PLAN, workers=2, console=progress.console)
        clips = normals([data])
    run = create(Run(run_folder, load_recipe("grhd", training={"epochs": EPOCHS}), (data,)), clips)
    fit(run, clips, (), progress)
    heads = tuple(f"rendered/{machine}/00" for machine in MACHINES)
    return export(run_folder, out, Wish("1", "Apache-2.0, learned from rendered sound", heads, fp32=False), progress)
