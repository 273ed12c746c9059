"""Which methods there are. Their files load torch, so they are opened only when one is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from train.method.task import Method, Table, Task

Name = Literal[
    "adversarial",
    "ae",
    "dg_mix",
    "grhd",
    "hmic",
    "imp_freq",
    "jless",
    "mobilenetv2",
    "multitask",
    "oevae",
    "statistics",
    "stgram_mfn",
    "subcluster",
    "twfr_gmm",
]
NAMES: tuple[Name, ...] = get_args(Name)
NETWORKLESS: Name = "statistics"
"""has no graph at all"""
UNTRAINED: tuple[Name, ...] = (NETWORKLESS, "imp_freq", "twfr_gmm")
"""have no weights to learn"""
GENERATIVE: tuple[Name, ...] = ("adversarial",)
"""are a :class:`train.method.task.Generator` too"""


def trained(name: Name) -> bool:
    """Whether a method has weights to learn."""
    return name not in UNTRAINED


def settings(name: Name, given: dict[str, Any]) -> Table:
    """A method's settings, checked.

    Raises:
        pydantic.ValidationError: one is unknown or out of range.
    """
    table: Table = import_module(f"train.method.{name}").Settings.model_validate(given)
    return table


def build(name: Name, task: Task, given: dict[str, Any]) -> Method:
    """A method's network with fresh weights.

    Raises:
        ConfigError: it finds too little to learn, or the recipe lacks a front end that it looks through.
    """
    method: Any = import_module(f"train.method.{name}").build(task, settings(name, given))
    for view in method.embedder.views:
        task.shape(view)
    found: Method = method
    return found
