"""What the questions tell, arranged on a terminal: the answer first, then what it rests on."""

from collections.abc import Iterable

from rich.console import Console, ConsoleRenderable, Group
from rich.table import Table as RichTable
from rich.text import Text

from advisor.engine.conclusions import Conclusions
from advisor.engine.question import Kind
from advisor.report.encoding import write_encodable
from advisor.report.screen import write_screen
from advisor.report.sources import list_sources
from advisor.report.tables import draw_item, draw_tables
from advisor.telling import Headline, Passage, Row, Told

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
    headline, told = kind.headline(conclusions), collect(kind, conclusions)
    sources = list_sources(kind, conclusions.record)
    is_enough = headline_only and not kind.answers_in_rows
    write_part(console, headline, told, sources, headline_only=is_enough)


def write_part(
    console: Console,
    headline: Headline,
    told: Told,
    sources: Iterable[Row] = (),
    *,
    headline_only: bool = False,
) -> None:
    """Print what one question of a record tells, or its headline alone."""
    part = Text(headline.answer, style="bold")
    write_encodable(console, part if headline_only else draw_part(headline, told, sources))


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


def collect(kind: Kind, conclusions: Conclusions) -> Told:
    """Return what all questions of the kind tell, in the order of the report."""
    told = kind.told or kind.questions
    parts = [each.tell(conclusions) for each in told if each.tell is not None]
    return Told(
        rows=tuple(row for part in parts for row in part.rows),
        tables=tuple(table for part in parts for table in part.tables),
        details=tuple(table for part in parts for table in part.details),
        passages=tuple(passage for part in parts for passage in part.passages),
        charts=tuple(chart for part in parts for chart in part.charts),
    )


def _draw_rows(rows: Iterable[Row]) -> list[ConsoleRenderable]:
    """Return the rows, a blank line before them; a label that repeats is shown once."""
    shown, previous = list[Row](), None
    for row in rows:
        shown.append(Row("" if row.label == previous else row.label, row.text))
        previous = row.label
    return [Text(), _draw_grid(shown, LABEL_WIDTH)] if shown else []


def _draw_grid(rows: Iterable[Row], label_width: int | None) -> RichTable:
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=label_width, no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(Text(row.label, style="bold"), Text(row.text))
    return grid


def _draw_passage(passage: Passage) -> list[ConsoleRenderable]:
    parts: list[ConsoleRenderable] = [Text()]
    parts += [Text(passage.title, style="bold")] if passage.title else []
    if passage.code:
        code = passage.code.rstrip("\n")
        return [*parts, Text(code, no_wrap=True, overflow="ignore")]
    return [*parts, *map(draw_item, passage.items)]
