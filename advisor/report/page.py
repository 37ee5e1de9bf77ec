"""The report as one HTML file that asks nothing of the network."""

from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from advisor.engine.conclusions import Conclusions
from advisor.engine.question import Kind
from advisor.report.figures import draw_figure, prepare, tabulate
from advisor.report.screen import list_statuses
from advisor.report.sources import list_sources
from advisor.report.themes import DARK, LIGHT, make_template
from advisor.telling import Headline, Screen

TEMPLATES = Path(__file__).parent / "templates"


def render_page(kind: Kind, conclusions: Conclusions) -> str:
    """Return the verdict, the charts and the full report, folded by question, as one document."""
    parts = [
        (question.name.capitalize(), question.tell(conclusions))
        for question in kind.told or kind.questions
        if question.tell is not None
    ]
    charts = [chart for _, told in parts for each in told.charts if (chart := prepare(each))]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2").render(
        screen=_choose_screen(kind, conclusions),
        is_short=kind.screen is None,
        statuses=list_statuses(kind, conclusions),
        charts=[(chart, tabulate(chart)) for chart in charts],
        parts=parts,
        sources=list_sources(kind, conclusions.record),
        light=LIGHT,
        dark=DARK,
        data={
            "figures": [*map(draw_figure, charts)],
            "templates": {"light": make_template(LIGHT), "dark": make_template(DARK)},
        },
        plotly=get_plotlyjs() if charts else "",
    )


def _choose_screen(kind: Kind, conclusions: Conclusions) -> Screen:
    """Return the first screen; of a kind without one its headline."""
    if kind.screen is not None:
        return kind.screen(conclusions)
    headline: Headline = kind.headline(conclusions)
    return Screen(answer=headline.answer, lines=headline.remarks)
