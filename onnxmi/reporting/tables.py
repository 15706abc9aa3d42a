"""Tables for a terminal: columns where they fit, and one value a line where they do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

MIN_NAME = 20  # characters of the first column, below which a name would be broken letter by letter
_GAP = 3  # characters between two columns: a space, the line, a space
MIN_TEXT = 30  # characters that a text needs beside its label


def printable(text: str) -> str:
    """Escape what a terminal would obey or could not show: names come from files."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plain(text: str, style: str = "") -> Text:
    """Text that is printed as it is: no markup, no control characters."""
    return Text(printable(text), style=style, overflow="fold")


class NumberTable:
    """A table whose first column is text and whose other columns are numbers.

    Where the terminal is too narrow for the columns, each row becomes a name with its values below it.

    Parameters
    ----------
    title : str
        Printed above the table; "" for none.
    *headings : str
        One for each column; "" where the cells say enough.
    """

    def __init__(self, title: str, *headings: str) -> None:
        self._title, self._headings = title, headings
        self._rows: list[tuple[RenderableType, ...]] = []
        self._sections: set[int] = set()

    def add_row(self, *cells: RenderableType) -> None:
        """Add a row with a cell for each column."""
        self._rows.append(cells)

    def add_section(self) -> None:
        """Draw a line below the rows so far."""
        self._sections.add(len(self._rows))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        widths = [self._width(console, options, place) for place in range(len(self._headings))]
        widths[0] = min(widths[0], MIN_NAME)
        if sum(widths) + _GAP * len(widths) <= options.max_width:
            yield self._table(widths[0])
        else:
            yield from self._lines()

    def _width(self, console: Console, options: ConsoleOptions, place: int) -> int:
        """Return the width of a column, if nothing in it is broken."""
        cells = (self._headings[place], *(row[place] for row in self._rows if place < len(row)))
        return max(Measurement.get(console, options, cell).maximum for cell in cells)

    def _table(self, name_width: int) -> Table:
        table = Table(title=self._title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(plain(self._headings[0]), overflow="fold", min_width=name_width)
        for heading in self._headings[1:]:
            table.add_column(plain(heading), justify="right", no_wrap=True, overflow="fold")
        for place, row in enumerate(self._rows):
            if place in self._sections:
                table.add_section()
            table.add_row(*row)
        return table

    def _lines(self) -> Iterator[RenderableType]:
        if self._title:
            yield Text(self._title, style="bold")
        for name, *cells in self._rows:
            yield name
            for heading, cell in zip(self._headings[1:], cells, strict=False):
                value = cell if isinstance(cell, Text) else Text(str(cell))
                if value.plain:
                    yield Padding(Text.assemble(f"{heading}  " if heading else "", value), (0, 0, 0, 2))
        yield Text()


class Pairs:
    """Labels with texts beside them; below them where the terminal is narrow.

    Parameters
    ----------
    rows : iterable of pairs
        Label and text.
    """

    def __init__(self, rows: Iterable[tuple[str, RenderableType]]) -> None:
        self._rows = tuple(rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        longest = max((len(printable(label)) for label, _ in self._rows), default=0)
        if longest + MIN_TEXT > options.max_width:
            for label, text in self._rows:
                yield Padding(plain(label), (0, 0, 0, 2))
                yield Padding(text, (0, 0, 0, 4))
            return
        grid = Table.grid(padding=(0, 2), pad_edge=False)
        grid.add_column(no_wrap=True)
        grid.add_column()
        for label, text in self._rows:
            grid.add_row(plain(label), text)
        yield Padding(grid, (0, 0, 0, 2), expand=False)
