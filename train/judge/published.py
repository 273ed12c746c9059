"""What others published and what we measured of theirs, in percent, to stand beside our own results.

    [GRHD]   Guan et al., "Disentangling Hierarchical Features for Anomalous Sound Detection Under Domain Shift":
             Table I, DCASE 2022 development set
    [OEVAE]  Hai et al., "Anomalous Sound Detection by Self-Supervised Learning of VAE with Domain Shift Techniques",
             DCASE 2024 technical report: Table 1, development set of 2023 and 2024
    [DKU]    Zhang and Li, "Anomalous Sound Detection via Multitask Learning and Adversarial Learning",
             DCASE 2023 technical report: Table 2, development set of 2023

Where two reports print the same baseline, [DKU] is taken: [OEVAE] has three cells misprinted (methods.md §5.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DCASE_2022 = "DCASE 2022 development"
DCASE_2023 = "DCASE 2023 development"
GRHD, OEVAE, DKU = "GRHD, Table I", "OEVAE, Table 1", "DKU 2023, Table 2"
"""where a row is printed"""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of one system, averaged over its sections."""

    auc: float
    """over both domains"""
    pauc: float


@dataclass(frozen=True, slots=True)
class Domains:
    """The three official metrics since 2022: of one machine, or harmonic means over all of them."""

    source: float
    target: float
    pauc: float


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table with AUC and pAUC a machine, and totals."""

    system: str
    data: str
    printed: str
    machines: Mapping[str, Machine]
    total: Domains | None
    """None where it is not printed"""
    omega: float
    """harmonic mean of the three totals, printed as HAUC"""


@dataclass(frozen=True, slots=True)
class Column:
    """A system in a table with all three metrics a machine."""

    system: str
    data: str
    printed: str
    machines: Mapping[str, Domains]
    omega: float
    """harmonic mean of all values"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Ω that somebody else's system reaches on one of the sets of recordings."""

    least: float
    most: float
    """of independent implementations; the same number where there is one"""
    interval: tuple[float, float] | None = None
    """95 %, bootstrap by clip"""
    seeds: tuple[float, ...] = ()
    """of single seeds, where they were kept"""
    spread: float | None = None
    """plus or minus so much over seeds, where only that was kept"""


# Table I of [GRHD] ----------------------------------------------------------------------------------------------------

TABLE_I = "ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"


def _row(system: str, machines: str, total: tuple[float, float, float] | None, omega: float) -> Row:
    """``machines``: AUC/pAUC in the order of TABLE_I."""
    pairs = (Machine(*map(float, pair.split("/"))) for pair in machines.split())
    named = MappingProxyType(dict(zip(TABLE_I, pairs, strict=True)))
    return Row(system, DCASE_2022, GRHD, named, Domains(*total) if total else None, omega)


ROWS = (
    _row(
        "AutoEncoder",
        "62.61/52.74 49.84/50.48 56.40/51.98 62.89/57.52 65.79/58.49 62.81/55.78 50.74/50.36",
        (68.74, 41.91, 53.73),
        52.61,
    ),
    _row(
        "MobileNetV2",
        "55.54/52.27 51.58/51.52 60.26/57.14 59.49/56.90 62.70/56.03 51.69/54.67 62.16/62.42",
        (63.80, 50.04, 55.65),
        55.94,
    ),
    _row(
        "JLESS",
        "82.50/64.68 64.52/55.60 79.83/61.04 67.28/67.25 86.77/72.67 86.73/71.41 91.64/80.01",
        (82.85, 73.96, 66.69),
        73.92,
    ),
    _row(
        "Imp-Freq",
        "65.60/56.10 55.70/52.50 63.10/56.90 74.30/61.70 75.50/64.60 86.10/74.50 71.50/62.90",
        None,
        61.31,
    ),
    _row(
        "DG-Mix",
        "87.51/68.32 53.99/53.20 74.95/64.75 80.05/70.74 85.85/71.22 80.94/68.91 83.51/71.65",
        (77.55, 74.08, 66.34),
        72.34,
    ),
    _row(
        "HMIC-AGC",
        "74.20/57.99 62.24/54.02 73.45/59.61 58.21/55.83 76.94/67.66 83.52/69.11 71.32/66.93",
        (77.46, 61.68, 61.06),
        65.93,
    ),
    _row(
        "GRHD",
        "85.20/64.13 69.10/58.91 81.43/63.52 64.67/66.49 89.45/77.98 88.99/79.12 86.24/77.53",
        (84.64, 72.43, 68.82),
        74.72,
    ),
)

# Tables of all three metrics ------------------------------------------------------------------------------------------

DEVELOPMENT = "ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"


def _column(system: str, printed: str, machines: str, omega: float) -> Column:
    """``machines``: source/target/pAUC in the order of DEVELOPMENT."""
    triples = (Domains(*map(float, triple.split("/"))) for triple in machines.split())
    named = MappingProxyType(dict(zip(DEVELOPMENT, triples, strict=True)))
    return Column(system, DCASE_2023, printed, named, omega)


COLUMNS = (
    _column(
        "AutoEncoder, MSE",
        DKU,
        "70.10/46.89/52.47 57.93/57.02/48.57 65.92/55.75/50.42 80.19/36.18/59.04 "
        "60.31/60.69/53.22 70.31/48.77/56.37 55.35/50.69/51.18",
        55.02,
    ),
    _column(
        "AutoEncoder, selective Mahalanobis",
        DKU,
        "74.53/43.42/49.18 55.98/42.45/48.13 65.16/55.28/51.37 87.10/45.98/59.33 "
        "71.88/70.78/54.34 84.02/73.29/54.72 56.31/51.40/51.08",
        56.91,
    ),
    _column(
        "OEVAE",
        OEVAE,
        "47.66/51.62/51.21 67.32/42.24/48.78 63.80/69.34/60.36 70.02/33.00/48.95 "
        "61.12/63.92/50.47 65.00/61.36/48.89 50.04/52.54/50.94",
        53.41,
    ),
)
"""Ω of the first two as printed; of OEVAE computed from its cells, for its report prints none"""

# Measured on the sets of recordings -----------------------------------------------------------------------------------


def _one(omega: float, *interval: float, seeds: tuple[float, ...] = (), spread: float | None = None) -> Measured:
    return Measured(omega, omega, (interval[0], interval[1]) if interval else None, seeds, spread)


PEERS: Mapping[str, Mapping[str, Measured]] = MappingProxyType(
    {
        "AutoEncoder, MSE": {
            "valve": _one(45.7, 35, 55),
            "fan": _one(62.1),
            "motor_eol": _one(84.9, 78, 91),
            "bldc": _one(30, spread=28),
            "bldc_noisy_m6dB": _one(63.2, 52, 75),
        },
        "AutoEncoder, selective Mahalanobis": {
            "valve": _one(46.2, 35, 55),
            "fan": _one(67.7),
            "motor_eol": _one(72.8),
            "bldc": _one(34, spread=26),
            "bldc_noisy_m6dB": _one(29.7),
        },
        "FFT and STFT branches, sub-cluster AdaCos, FeatEx, kNN": {
            "valve": _one(62.3, 53, 73),
            "fan": _one(53.0),
            "motor_eol": _one(63, seeds=(71, 56)),
            "bldc": _one(100),
            "bldc_noisy_m6dB": _one(92.6, 86, 99),
            "bldc_noisy_0dB": _one(100),
        },
        "STgram-MobileFaceNet, kNN": {
            "valve": _one(61.6),
            "fan": _one(0.4),
            "motor_eol": _one(66.0),
            "bldc": _one(86.6),
            "bldc_noisy_m6dB": _one(53.5),
            "bldc_noisy_0dB": _one(64.5),
        },
        "log-mel mean, nearest": {
            "valve": _one(48.0),
            "fan": _one(66.1),
            "motor_eol": _one(78.4),
            "bldc": _one(100),
            "bldc_noisy_m6dB": _one(49.7),
            "bldc_noisy_0dB": _one(66.9),
        },
        "log-mel mean and maximum, Mahalanobis": {
            "valve": _one(67.7, 60, 76),
            "fan": _one(69.3),
            "motor_eol": _one(85.1),
            "bldc": _one(100),
            "bldc_noisy_m6dB": _one(77.8, 65, 89),
            "bldc_noisy_0dB": _one(91.3),
        },
        "log-mel mean and maximum, nearest, local density": {
            "valve": _one(70.1, 62, 83),
            "fan": _one(62.2),
            "motor_eol": _one(91.1, 87, 96),
            "bldc": _one(100),
            "bldc_noisy_m6dB": _one(72.9),
            "bldc_noisy_0dB": _one(90.5),
        },
        "log-mel maximum, nearest, local density": {
            "valve": _one(82.8),
            "fan": _one(46.6),
            "motor_eol": _one(77.5),
            "bldc": _one(100),
            "bldc_noisy_m6dB": _one(76.8),
            "bldc_noisy_0dB": _one(88.8),
        },
        "crest factor, nearest": {
            "valve": _one(96.0, 93, 99),
            "fan": _one(83.3),
            "motor_eol": _one(40.1),
            "bldc": _one(88.8),
            "bldc_noisy_m6dB": _one(54.5),
            "bldc_noisy_0dB": _one(64.6),
        },
        "level, nearest": {
            "valve": _one(85.8),
            "fan": _one(100),
            "motor_eol": _one(72.5),
            "bldc": _one(88.0),
            "bldc_noisy_m6dB": _one(58.7),
            "bldc_noisy_0dB": _one(47.9),
        },
        "statistics by clip": {
            "valve": Measured(93, 96),
            "fan": Measured(93, 99),
            "motor_eol": Measured(89, 92),
            "bldc": _one(100),
            "bldc_noisy_m6dB": Measured(74, 79),
            "bldc_noisy_0dB": Measured(86, 92),
        },
        "statistics by segment": {
            "valve": _one(56),
            "fan": _one(99),
            "motor_eol": _one(91),
            "bldc": _one(100),
        },
    }
)
"""System -> set -> Ω, 1 to 3 seeds, trained on normal clips only. A set that was not measured is missing. Sets of
2-s clips have no row of their own by segment: it is that by clip."""
