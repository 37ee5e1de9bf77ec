"""The report as one HTML file that asks nothing of the network."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
from plotly import io
from plotly.offline import get_plotlyjs

from advisor.engine.question import Kind
from advisor.engine.record import Conclusions
from advisor.report.figures import draw_figure, prepare, tabulate
from advisor.report.screen import list_statuses
from advisor.report.sources import list_sources
from advisor.telling import Screen

#: Colours by what they are for, on light paper and on dark; those of lines are taken in turn.
_COLOURS: dict[str, tuple[Any, Any]] = {
    "base": ("plotly_white", "plotly_dark"),
    "paper": ("#ffffff", "#14171a"),
    "ink": ("#1b1f24", "#e6e9ec"),
    "soft": ("#57606a", "#a5afb9"),
    "rule": ("#d8dee4", "#333a41"),
    "good": ("#1a6b38", "#6fd08f"),
    "warn": ("#8a4b00", "#ffab5e"),
    "lines": (
        (
            *("#0b62c4", "#b35900", "#2a7d46", "#8a3ea8", "#b3235c"),
            *("#6b6200", "#00707a", "#555555", "#c2410c", "#4b4fc7"),
        ),
        (
            *("#6cb0ff", "#ffab5e", "#6fd08f", "#d59bf0", "#ff8fb3"),
            *("#d9cf6a", "#5fd4de", "#bbbbbb", "#ff7a59", "#9da1ff"),
        ),
    ),
}
LIGHT, DARK = (
    SimpleNamespace(**{name: pair[number] for name, pair in _COLOURS.items()}) for number in (0, 1)
)


def make_template(theme: SimpleNamespace) -> dict[str, Any]:
    """Return plotly's own template in the theme's colours."""
    layout: dict[str, Any] = io.templates[theme.base].layout.to_plotly_json()
    axis = {"gridcolor": theme.rule, "zerolinecolor": theme.rule, "linecolor": theme.soft}
    own = {
        "colorway": theme.lines,
        "paper_bgcolor": theme.paper,
        "plot_bgcolor": theme.paper,
        "font": {"color": theme.ink, "family": "system-ui, sans-serif"},
        "hoverlabel": {"bgcolor": theme.paper, "bordercolor": theme.soft},
        "xaxis": layout["xaxis"] | axis,
        "yaxis": layout["yaxis"] | axis,
    }
    return {"layout": layout | own}


TEMPLATES = Path(__file__).parent / "templates"


def render_page(kind: Kind, conclusions: Conclusions) -> str:
    """Return the verdict, the charts and the full report, folded by question, as one document."""
    parts = [
        (question.name.capitalize(), question.tell(conclusions))
        for question in kind.told or kind.questions
        if question.tell is not None
    ]
    charts = [chart for _, told in parts for each in told.charts if (chart := prepare(each))]
    if kind.screen is not None:
        screen = kind.screen(conclusions)
    else:
        headline = kind.headline(conclusions)
        screen = Screen(answer=headline.answer, lines=headline.remarks)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2").render(
        screen=screen,
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
