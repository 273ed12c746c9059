"""A report as people read it: one HTML file that needs nothing else, or Markdown."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from train.compare.comparison import Table

TEMPLATE = "page.html"
MARKS = re.compile(r"[\\`*<]|(?<!\w)_|_(?!\w)|\](?=\()")


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure and its words."""

    name: str
    """of its file, without a suffix"""
    alt: str
    """what it shows, for who cannot see it"""
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True, slots=True)
class Chapter:
    """What belongs under one heading."""

    title: str
    lines: tuple[str, ...] = ()
    """paragraphs before the tables"""
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    lines: tuple[str, ...]
    chapters: tuple[Chapter, ...]


def html(page: Page) -> str:
    """With the pictures in it: no other file, no network, no script."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE).render(page=page)


def markdown(page: Page, *, pictures: bool) -> str:
    """With pictures as files beside it, or the tables alone."""
    blocks = [f"# {_escaped(page.title)}", *map(_escaped, page.lines)]
    for chapter in page.chapters:
        if chapter.tables or chapter.lines or (pictures and chapter.pictures):
            blocks += [f"## {_escaped(chapter.title)}", *map(_escaped, chapter.lines)]
            blocks += chain.from_iterable(_table(table, alone=len(chapter.tables) == 1) for table in chapter.tables)
            blocks += chain.from_iterable(map(_picture, chapter.pictures if pictures else ()))
    return "\n\n".join(blocks) + "\n"


def _picture(picture: Picture) -> Iterator[str]:
    yield f"![{_escaped(picture.alt)}]({picture.name}.png)"
    yield f"*{_escaped(picture.caption)}*"


def _table(table: Table, *, alone: bool) -> Iterator[str]:
    """Columns line up for who reads the source."""
    if not alone:
        yield f"### {_escaped(table.title)}"
    if table.note:
        yield _escaped(table.note)
    strong = ([f"**{cell}**" if row.strong else cell for cell in map(_cell, row.cells)] for row in table.rows)
    rows = [[_cell(column) for column in table.columns], *strong]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = [f":{'-' * (w - 1)}" if i < table.words else f"{'-' * (w - 1)}:" for i, w in enumerate(widths)]
    first, *others = ([*_padded(row, widths, table.words)] for row in rows)
    yield "\n".join(f"| {' | '.join(row)} |" for row in (first, rule, *others))


def _padded(row: Sequence[str], widths: Sequence[int], words: int) -> Iterator[str]:
    for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if number < words else cell.rjust(width)


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")


def _escaped(text: str) -> str:
    """What Markdown would take for markup; marks inside words are none."""
    return MARKS.sub(r"\\\g<0>", text)
