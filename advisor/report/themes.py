"""The colours of a page that is light or dark, and with them plotly's templates."""

from typing import Any, NamedTuple

from plotly import io


class Theme(NamedTuple):
    """Colours by what they are for; those of lines are taken in turn."""

    base: str
    paper: str
    ink: str
    soft: str
    rule: str
    good: str
    warn: str
    lines: tuple[str, ...]


LIGHT = Theme(
    base="plotly_white",
    paper="#ffffff",
    ink="#1b1f24",
    soft="#57606a",
    rule="#d8dee4",
    good="#1a6b38",
    warn="#8a4b00",
    lines=(
        *("#0b62c4", "#b35900", "#2a7d46", "#8a3ea8", "#b3235c"),
        *("#6b6200", "#00707a", "#555555", "#c2410c", "#4b4fc7"),
    ),
)
DARK = Theme(
    base="plotly_dark",
    paper="#14171a",
    ink="#e6e9ec",
    soft="#a5afb9",
    rule="#333a41",
    good="#6fd08f",
    warn="#ffab5e",
    lines=(
        *("#6cb0ff", "#ffab5e", "#6fd08f", "#d59bf0", "#ff8fb3"),
        *("#d9cf6a", "#5fd4de", "#bbbbbb", "#ff7a59", "#9da1ff"),
    ),
)


def make_template(theme: Theme) -> dict[str, Any]:
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
