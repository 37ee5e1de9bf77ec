"""The first screen as Markdown, for an issue, a pull request or a language model."""

from collections.abc import Iterable

from advisor.engine.question import Kind
from advisor.engine.record import Conclusions
from advisor.report.console import collect
from advisor.report.encoding import hide_controls
from advisor.report.screen import list_statuses
from advisor.telling import Table


def render_markdown(kind: Kind, conclusions: Conclusions) -> str:
    """Return what decides; of a kind without a first screen the report's headline and tables."""
    if kind.screen is not None:
        screen, statuses = kind.screen(conclusions), list_statuses(kind, conclusions)
        code, table = "\n".join(screen.settings), screen.table
        parts = [
            f"### {_escape(screen.answer)}",
            code and f"```\n{code}\n```",
            *map(_escape, screen.lines),
            "\n".join(f"> ⚠ {_escape(each)}" for each in screen.cautions),
            "" if table is None else draw_table(table),
            screen.next_step and f"Next: `{screen.next_step}`",
            "\n".join(f"- **{e.label}** ({e.state}): {_escape(e.text)}" for e in statuses),
        ]
    else:
        headline, told = kind.headline(conclusions), collect(kind, conclusions)
        parts = [f"### {_escape(headline.answer)}", *map(_escape, headline.remarks)]
        parts += map(draw_table, told.tables)
        rows = [f"- **{row.label}** {_escape(row.text)}" for row in told.rows]
        parts += ["\n".join(rows)]
    return "\n\n".join(filter(None, parts)) + "\n"


def draw_table(table: Table) -> str:
    """Return a table with its legend."""
    headers = [_escape_cell(column.header) or " " for column in table.columns]
    marks = [":--" if column.justify == "left" else "--:" for column in table.columns]
    lines = [_row(headers), _row(marks), *(_row(map(_escape_cell, row)) for row in table.rows)]
    return "\n".join(lines) + (f"\n\n{_escape(table.legend)}" if table.legend else "")


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape_cell(text: str) -> str:
    return _join_lines(text).replace("|", "\\|")


def _escape(text: str) -> str:
    """Return the text as such: no HTML of the user's, no list, heading or quote by chance."""
    escaped = _join_lines(text)
    return f"\\{escaped}" if escaped[:1] in {">", "#", "-", "*", "+"} else escaped


def _join_lines(text: str) -> str:
    return hide_controls(" ".join(text.splitlines())).replace("&", "&amp;").replace("<", "&lt;")
