"""What a question tells, drawn for a terminal; a page draws the same."""

from collections.abc import Sequence

from rich import box
from rich.console import ConsoleRenderable
from rich.table import Table
from rich.text import Text

from advisor import telling

#: Blanks around a cell: above, right, below, left; a narrow table has less of them.
_WIDE, _NARROW = (0, 1, 0, 1), (0, 1, 0, 0)


def draw_tables(tables: Sequence[telling.Table]) -> list[ConsoleRenderable]:
    """Return the tables with their legends, a blank line before each."""
    return [part for table in tables for part in (Text(), *draw_table(table))]


def draw_table(told: telling.Table) -> list[ConsoleRenderable]:
    """Return the table with its title, its legend and its notes."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=_NARROW if told.is_narrow else _WIDE,
    )
    for column in told.columns:
        table.add_column(
            Text(column.header),
            justify=column.justify,
            width=column.width,
            no_wrap=not column.folds,
            overflow="fold" if column.folds else "ellipsis",
        )
    for number, cells in enumerate(told.rows):
        table.add_row(*map(Text, cells), style="bold" if number in told.bold_rows else None)
    return [
        *([Text(told.title, style="bold")] if told.title else []),
        table,
        *([Text(told.legend, style="dim")] if told.legend else []),
        *(draw_item(note[2:]) if note.startswith("- ") else Text(note) for note in told.notes),
    ]


def draw_item(text: str, mark: str = "-", style: str = "") -> Table:
    """Return an item of a list, its lines under each other."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    grid.add_row(Text(mark, style=style), Text(text))
    return grid
