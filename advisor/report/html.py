"""The report as one HTML file that needs nothing beside it."""

import io
from pathlib import Path

import jinja2
from rich.console import Console, Group

from advisor.advice.frontier_tell import chart_frontier
from advisor.advice.tell import chart_time, head_run
from advisor.derived import Derived, GivenConclusions
from advisor.engine.run_record import RunRecord
from advisor.noise.tell import chart_noise
from advisor.report.charts import HEIGHT, WIDTH, Chart, Datum, Series, draw_chart, render_chart
from advisor.report.findings import render_findings
from advisor.report.terminal import render_sources, render_tables
from advisor.sharpness.tell import chart_sharpness
from advisor.statistics import Estimate
from advisor.verify.tell import chart_losses

TEMPLATES = Path(__file__).parent / "templates"
#: Columns of the tables, which are the terminal's.
_TABLE_WIDTH = 100


def write_html(path: Path, record: RunRecord, derived: Derived) -> None:
    """Write the report to `path`."""
    path.write_text(render_html(record, derived), encoding="utf-8")


def render_html(record: RunRecord, derived: Derived) -> str:
    """Return the report as one HTML document with its charts drawn in it."""
    advice, headline = derived.recommendation, head_run(GivenConclusions(record, derived))
    return render_page(
        headline=headline.answer,
        remarks=headline.remarks,
        charts=render_charts(derived),
        tables=draw_tables(record, derived),
        findings=render_findings(record, derived),
        reasons=() if advice is None else advice.reasons,
        warnings=() if advice is None else advice.warnings,
        snippet="" if advice is None else advice.snippet,
        sources=render_sources(record),
    )


def render_page(
    *,
    headline: str,
    charts: tuple[Chart, ...],
    findings: list[tuple[str, str]],
    sources: list[tuple[str, str]],
    remarks: tuple[str, ...] = (),
    tables: str = "",
    reasons: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
    snippet: str = "",
) -> str:
    """Return one HTML document of these parts; empty ones are left out."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        headline=headline,
        remarks=remarks,
        charts=charts,
        tables=tables,
        findings=findings,
        reasons=reasons,
        warnings=warnings,
        snippet=snippet,
        sources=sources,
        width=WIDTH,
        height=HEIGHT,
    )


def draw_tables(record: RunRecord, derived: Derived) -> str:
    """Return the report's tables as lines of text."""
    console = Console(file=io.StringIO(), record=True, width=_TABLE_WIDTH, color_system=None)
    console.print(Group(*render_tables(record, derived)))
    return console.export_text().strip("\n")


def render_charts(derived: Derived) -> tuple[Chart, ...]:
    """Return the charts that the run has data for."""
    advice = derived.recommendation
    points = derived.throughput.points if derived.throughput is not None else ()
    throughput = tuple(
        _datum(point.micro_batch_size, point.samples_per_s.point, point.samples_per_s)
        for point in points
        if point.samples_per_s.point is not None
    )
    memory = tuple(
        Datum(x=point.micro_batch_size, y=point.peak_bytes / 2**20)
        for point in points
        if point.peak_bytes is not None
    )
    micro = None if advice is None else advice.micro_batch_size
    verified = derived.verification
    size = "micro-batch, samples"
    charts = (
        render_chart(
            title="Throughput",
            x_label=size,
            y_label="samples/s",
            series=(Series(label="measured, with its interval", data=throughput),),
            marked=micro,
        ),
        None if advice is None else draw_chart(chart_time(advice)),
        render_chart(
            title="Memory",
            x_label=size,
            y_label="MiB",
            series=(Series(label="measured peak", data=memory),),
            marked=micro,
        ),
        None if derived.noise is None else draw_chart(chart_noise(derived.noise)),
        *([] if verified is None else map(draw_chart, chart_losses(verified))),
        None if derived.frontier is None else draw_chart(chart_frontier(derived.frontier)),
        None if derived.sharpness is None else draw_chart(chart_sharpness(derived.sharpness)),
    )
    return tuple(chart for chart in charts if chart is not None)


def _datum(x: float, y: float, estimate: Estimate) -> Datum:
    return Datum(x=x, y=y, low=estimate.low, high=estimate.high)
