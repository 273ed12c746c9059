"""How commands show what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def show(table: Table) -> None:
    """As wide as the terminal; piped, as wide as it needs."""
    console = Console()
    if not console.is_terminal:
        table.box = None
        console = Console(width=1000)
    console.print(table)


def why(evidence: Mapping[str, Any]) -> str:
    """What the two parts that speak loudest say; of events of old the bands and the indicator that moved most."""
    if words := evidence.get("words"):
        return "; ".join(words[:2])
    bands = sorted((evidence.get("bands") or {}).items(), key=lambda band: -band[1])[:2]
    indicators = sorted((evidence.get("indicators") or {}).items(), key=lambda indicator: -indicator[1])[:1]
    said = [f"{hertz} Hz {100 * share:.0f} %" for hertz, share in bands]
    return ", ".join(said + [f"{name} {100 * share:.0f} %" for name, share in indicators])
