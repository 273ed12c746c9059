"""Fakes of a method that draws some: to look at beside real segments, and to listen to.

What is drawn is a log-mel; a sound that has it is found by least squares for its spectrum and by Griffin and Lim's
iteration for the phases (IEEE Trans. ASSP 32(2), 1984), both torchaudio's. Its level is that of the log-mel.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure
from torch.nn import functional
from torchaudio.transforms import GriffinLim, InverseMelScale

from edge_asd.errors import ConfigError
from edge_asd.signal.view import mel_bank
from train.compare.plot import png
from train.corpus.clip import chosen
from train.file import write_whole
from train.method import catalogue
from train.teach.fit import load_method
from train.teach.lesson import learn_from, middles
from train.teach.run import load_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray
    from rich.progress import Progress

    from edge_asd.signal.view import LogMel
    from train.teach.lesson import Lesson
    from train.teach.run import Run

STRANGE = re.compile(r"[^\w.+-]+")
"""what a folder's name is better off without"""
HERTZ = 125, 250, 500, 1000, 2000, 4000
"""marked beside an image"""
INCHES = 2.6
"""of an image, either way"""


@dataclass(frozen=True, slots=True)
class Fakes:
    """Of one attribute group."""

    key: str
    """machine identity"""
    condition: str
    drawn: NDArray[np.float32]
    """(N, M, T) dB"""
    real: NDArray[np.float32]
    """(R, M, T) dB, middle segments of at most N of its training clips"""


def generate(
    folder: Path, out: Path, count: int, progress: Progress, *, machines: Sequence[str] = (), seed: int = 0
) -> list[Path]:
    """Write so many fakes of each attribute group that a run has learned: a picture, and a FLAC file each.

    Args:
        folder: the run's.
        out: gets a folder for each machine and, in it, for each group.
        count: fakes of a group.
        progress: shows how far it is.
        machines: patterns of machines' identities; all without any.
        seed: others give others.

    Raises:
        ConfigError: the run's method draws none, it is not finished, or a pattern matches no machine.
    """
    run = load_run(folder)
    if run.recipe.method not in catalogue.GENERATIVE:
        can = ", ".join(catalogue.GENERATIVE)
        msg = f"{folder} is a run of {run.recipe.method}, which draws no fakes; give one of {can}"
        raise ConfigError(msg)
    written: list[Path] = []
    spec, samples = run.recipe.front_end, run.recipe.windows.segment
    for number, fakes in enumerate(progress.track(list(_fakes(run, machines, count, seed, progress)))):
        place = out / fakes.key / f"{number:02d}_{STRANGE.sub('_', fakes.condition)}"
        content = {"fakes.png": png(picture(fakes, spec))}
        content |= {
            f"fake-{n}.flac": flac(sound(one, spec, samples, seed), spec) for n, one in enumerate(fakes.drawn, 1)
        }
        for name, encoded in content.items():
            write_whole(place / name, encoded)
            written.append(place / name)
    return written


def _fakes(run: Run, machines: Sequence[str], count: int, seed: int, progress: Progress) -> Iterator[Fakes]:
    network, task = load_method(run)
    clips = run.clips(progress)
    wanted = {clip.key for clip in chosen(clips, machines)}
    lesson = replace(learn_from(clips, (), run.recipe, progress), views=("log_mel",))
    if lesson.task.groups != task.groups:
        msg = f"{', '.join(map(str, run.data))}: not what {run.folder} learned from, its attribute groups are others; "
        msg += "fit it again with another --out"
        raise ConfigError(msg)
    network.eval()
    for key in sorted(wanted):
        for column in np.flatnonzero(task.own("group_logit", key)):
            group = functional.one_hot(torch.full((count,), int(column)), len(task.groups)).float()
            drawn = network.generate(group, seed).numpy()
            yield Fakes(key, task.groups[column].removeprefix(f"{key} "), drawn, _real(lesson, int(column), count))


def _real(lesson: Lesson, column: int, count: int) -> NDArray[np.float32]:
    """(R, M, T) of clips that were trained on."""
    own = lesson.taught[lesson.labels.group[lesson.taught, column] > 0]
    images: NDArray[np.float32] = middles(lesson, own[:count]).views["log_mel"].numpy()
    return images


# To listen to ---------------------------------------------------------------------------------------------------------


def sound(image: NDArray[np.float32], spec: LogMel, samples: int, seed: int = 0) -> NDArray[np.float32]:
    """A waveform (S,) that has about this log-mel (M, T); the same for the same seed."""
    unmel = InverseMelScale(
        spec.n_fft // 2 + 1,
        spec.n_mels,
        spec.sample_rate,
        spec.f_min,
        spec.f_max,
        norm="slaney" if spec.scale == "slaney" else None,
        mel_scale=spec.scale,
    )
    phases = GriffinLim(spec.n_fft, hop_length=spec.hop, power=2.0, length=samples)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wave: NDArray[np.float32] = phases(unmel(10.0 ** (torch.from_numpy(image) / 10.0))).numpy()
    return wave


def flac(wave: NDArray[np.float32], spec: LogMel) -> bytes:
    """A file of 16 bits; what is too loud for it is clipped."""
    content = io.BytesIO()
    soundfile.write(content, wave.clip(-1.0, 1.0), spec.sample_rate, format="FLAC", subtype="PCM_16")
    return content.getvalue()


# To look at -----------------------------------------------------------------------------------------------------------


def picture(fakes: Fakes, spec: LogMel) -> Figure:
    """Real segments above, fakes below, in the same colours."""
    columns = len(fakes.drawn)
    figure = Figure(figsize=(INCHES * columns + 1.2, 2 * INCHES), layout="constrained")
    panels = figure.subplots(2, columns, squeeze=False, sharex=True, sharey=True)
    low, high = np.percentile(np.concatenate([fakes.real, fakes.drawn]), (1, 99.9))
    for row, (kind, images) in enumerate((("real", fakes.real), ("fake", fakes.drawn))):
        for axes, image in zip(panels[row], images, strict=False):
            drawn = _image(axes, image, spec, (low, high))
            axes.set_title(kind, fontsize=9)
        for axes in panels[row][len(images) :]:
            axes.set_axis_off()  # fewer clips than fakes
        panels[row, 0].set_ylabel("kHz")
    for axes in panels[1]:
        axes.set_xlabel("s")
    figure.colorbar(drawn, ax=panels, label="dB", shrink=0.8)
    figure.suptitle(f"{fakes.key}, {fakes.condition}", fontsize=10)
    return figure


def _image(axes: Axes, image: NDArray[np.float32], spec: LogMel, limits: tuple[float, float]) -> AxesImage:
    bands, frames = image.shape
    extent = (0.0, frames * spec.hop / spec.sample_rate, -0.5, bands - 0.5)
    shown = axes.imshow(image, origin="lower", aspect="auto", extent=extent, vmin=limits[0], vmax=limits[1])
    centres = mel_bank(spec).argmax(axis=0) * spec.sample_rate / spec.n_fft
    marked = [hertz for hertz in HERTZ if centres[0] <= hertz <= centres[-1]]
    axes.set_yticks(np.interp(marked, centres, np.arange(bands)), [f"{hertz / 1000:g}" for hertz in marked])
    return shown
