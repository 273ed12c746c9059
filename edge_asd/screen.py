"""How commands show what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def show(table: Table) -> None:
    """As wide as the terminal; piped, as wide as it needs."""
    console = Console()
    if not console.is_terminal:
        table.box = None
        console = Console(width=1000)
    console.print(table)
