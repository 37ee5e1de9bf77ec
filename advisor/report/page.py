"""The report as one HTML file that needs nothing beside it."""

import io
from pathlib import Path

import jinja2
from rich.console import Console, Group

from advisor.engine.conclusions import Conclusions
from advisor.engine.question import Kind
from advisor.report.charts import HEIGHT, WIDTH, draw_chart
from advisor.report.console import collect
from advisor.report.sources import list_sources
from advisor.report.tables import draw_tables
from advisor.units import format_number

TEMPLATES = Path(__file__).parent / "templates"
#: Columns of the tables, which are the terminal's.
_TABLE_WIDTH = 100


def render_page(kind: Kind, conclusions: Conclusions) -> str:
    """Return the report as one HTML document with its charts drawn in it."""
    told = collect(kind, conclusions)
    console = Console(file=io.StringIO(), record=True, width=_TABLE_WIDTH, color_system=None)
    console.print(Group(*draw_tables((*told.tables, *told.details))))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["figure"] = format_number
    return environment.get_template("page.html.j2").render(
        headline=kind.headline(conclusions),
        drawings=[drawn for chart in told.charts if (drawn := draw_chart(chart)) is not None],
        tables=console.export_text().strip("\n"),
        rows=told.rows,
        passages=told.passages,
        sources=list_sources(kind, conclusions.record),
        width=WIDTH,
        height=HEIGHT,
    )
