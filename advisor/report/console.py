"""What the questions tell, arranged on a terminal: the answer first, then what it rests on."""

from collections.abc import Iterable
from dataclasses import fields
from itertools import chain, groupby

from rich.console import Console, ConsoleRenderable, Group
from rich.table import Table as RichTable
from rich.text import Text

from advisor.engine.question import Kind
from advisor.engine.record import Conclusions
from advisor.report.encoding import write_encodable
from advisor.report.screen import write_screen
from advisor.report.sources import list_sources
from advisor.report.tables import draw_item, draw_table, draw_tables
from advisor.telling import Headline, Passage, Row, Table, Told

#: Columns of the labels, wide enough for "Learning rate".
LABEL_WIDTH = 13


def write_report(
    console: Console,
    kind: Kind,
    conclusions: Conclusions,
    *,
    headline_only: bool = False,
    is_full: bool = True,
) -> None:
    """Print the report, its first screen or its headline, in characters that the console has."""
    if not is_full and not headline_only and kind.screen is not None:
        write_screen(console, kind, conclusions)
        return
    headline = kind.headline(conclusions)
    if headline_only and not kind.answers_in_rows:
        write_encodable(console, Text(headline.answer, style="bold"))
        return
    sources = list_sources(kind, conclusions.record)
    write_encodable(console, draw_part(headline, collect(kind, conclusions), sources))


def draw_part(headline: Headline, told: Told, sources: Iterable[Row] = ()) -> Group:
    """Return what one question of a record tells, drawn."""
    parts: list[ConsoleRenderable] = [Text(headline.answer, style="bold")]
    parts += [Text(remark) for remark in headline.remarks]
    parts += draw_tables(told.tables)
    parts += _draw_rows(told.rows)
    parts += draw_tables(told.details)
    parts += [part for passage in told.passages for part in _draw_passage(passage)]
    parts += _draw_rows(sources)
    return Group(*parts)


def write_facts(console: Console, rows: Iterable[Row]) -> None:
    """Print rows of label and text, the labels as wide as they are."""
    write_encodable(console, _draw_grid(rows, None))


def write_table(console: Console, table: Table) -> None:
    """Print one table."""
    write_encodable(console, Group(*draw_table(table)))


def collect(kind: Kind, conclusions: Conclusions) -> Told:
    """Return what all questions of the kind tell, in the order of the report."""
    questions = kind.told or kind.questions
    parts = [each.tell(conclusions) for each in questions if each.tell is not None]
    names = [field.name for field in fields(Told)]
    return Told(**{name: tuple(chain(*(getattr(each, name) for each in parts))) for name in names})


def _draw_rows(rows: Iterable[Row]) -> list[ConsoleRenderable]:
    """Return the rows, a blank line before them; a label that repeats is shown once."""
    by_label = [[*each] for _, each in groupby(rows, key=lambda row: row.label)]
    shown = [Row(row.label * (n == 0), row.text) for each in by_label for n, row in enumerate(each)]
    return [Text(), _draw_grid(shown, LABEL_WIDTH)] if shown else []


def _draw_grid(rows: Iterable[Row], label_width: int | None) -> RichTable:
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=label_width, no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(Text(row.label, style="bold"), Text(row.text))
    return grid


def _draw_passage(passage: Passage) -> list[ConsoleRenderable]:
    title = [Text(passage.title, style="bold")] if passage.title else []
    if passage.code:
        code = passage.code.rstrip("\n")
        return [Text(), *title, Text(code, no_wrap=True, overflow="ignore")]
    return [Text(), *title, *map(draw_item, passage.items)]
