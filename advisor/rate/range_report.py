"""What `bsadvisor lr-range` prints, and the page that it writes."""

from pathlib import Path

from rich.console import Console, ConsoleRenderable, Group
from rich.text import Text

from advisor.advice.tell import describe_trials
from advisor.rate.data import DerivedLrRange, LrRangeConclusion, LrRangeCurve
from advisor.rate.range_record import LrRangeRecord
from advisor.rate.range_seeds import describe_range
from advisor.rate.range_test import smooth_curve
from advisor.report.charts import Chart, Datum, Series, render_chart
from advisor.report.encoding import write_encodable
from advisor.report.html import render_page
from advisor.report.terminal import render_rows, render_workload
from advisor.units import count_of, format_bytes, format_count, format_duration, format_rate

#: Points of a curve in the chart: more than the eye tells apart make the page large.
_MOST_POINTS = 120
#: Rates past the lowest point, as a ratio, that the chart shows; losses there hide all else.
_SHOWN_BEYOND = 4.0


def write_lr_range_report(
    console: Console,
    record: LrRangeRecord,
    derived: DerivedLrRange,
    *,
    headline_only: bool = False,
) -> None:
    """Print the report, or its headline alone, in characters that the console can show."""
    headline = Text(render_headline(record, derived), style="bold")
    write_encodable(console, headline if headline_only else render_report(record, derived))


def render_report(record: LrRangeRecord, derived: DerivedLrRange) -> ConsoleRenderable:
    """Return the whole report."""
    return Group(
        Text(render_headline(record, derived), style="bold"),
        Text(),
        render_rows(list_findings(record, derived)),
        Text(),
        render_rows(list_sources(record)),
    )


def render_headline(record: LrRangeRecord, derived: DerivedLrRange) -> str:
    """Return the rate, or why there is none."""
    rate = derived.learning_rate
    if rate is None or rate.value is None:
        why = record.stopped_because or (rate.reason if rate is not None else "it did not begin")
        return f"No learning rate: {why.rstrip('.')}"
    size = record.command.global_batch_size
    at = "" if size is None else f" with batch {format_count(size)}"
    incomplete = "" if record.complete else " (from an incomplete run)"
    return f"Train at learning rate {format_rate(rate.value)}{at}{incomplete}"


def list_findings(record: LrRangeRecord, derived: DerivedLrRange) -> list[tuple[str, str]]:
    """Return rows of label and text."""
    rows: list[tuple[str, str]] = []
    conclusion, rate = derived.lr_range, derived.learning_rate
    if conclusion is not None:
        rows += _list_conclusion(conclusion)
    rows += [("Curves", line) for line in describe_range(record.lr_ranges)]
    rows += [("Trial", line) for line in describe_trials(record.trials)]
    if rate is not None:
        moved = "raised" if rate.raised_by else "lowered" if rate.capped_by else None
        change = "" if moved is None else f"; {moved} by the trial"
        value = "not advised" if rate.value is None else format_rate(rate.value)
        rows.append(("Learning rate", f"{value}: {rate.reason}{change}"))
    return rows


def list_sources(record: LrRangeRecord) -> list[tuple[str, str]]:
    """Return how the model file was understood, and on what machine."""
    rows = [] if record.workload is None else render_workload(record.workload)
    if record.environment is not None:
        device = record.environment.device
        machine = f"{device.name}, {format_bytes(device.memory_bytes)}; "
        machine += f"torch {record.environment.torch}, {record.command.precision}"
        rows.append(("Machine", machine))
    run = count_of(len(record.lr_ranges), "curve")
    if record.elapsed_s is not None:
        run += f" in {format_duration(record.elapsed_s)}"
    run += f"; {record.created_at}; bsadvisor {record.tool_version}"
    return [*rows, ("Run", run)]


def write_lr_range_html(path: Path, record: LrRangeRecord, derived: DerivedLrRange) -> None:
    """Write the report with its chart to `path`."""
    chart = render_curves(record, derived)
    page = render_page(
        headline=render_headline(record, derived),
        incomplete=None if record.complete else (record.stopped_because or "cut short"),
        charts=() if chart is None else (chart,),
        findings=list_findings(record, derived),
        sources=list_sources(record),
    )
    path.write_text(page, encoding="utf-8")


def render_curves(record: LrRangeRecord, derived: DerivedLrRange) -> Chart | None:
    """Return the loss against the rate: each seed's smoothed curve."""
    conclusion = derived.lr_range
    high = None if conclusion is None else conclusion.high
    most = None if high is None else high * _SHOWN_BEYOND
    series = tuple(
        Series(label=f"seed {curve.seed}, smoothed", data=_smooth(curve, most))
        for curve in record.lr_ranges
    )
    rate = derived.learning_rate
    return render_chart(
        title="Loss while the learning rate rises",
        x_label="learning rate",
        y_label="training loss",
        series=series,
        marked=None if rate is None else rate.value,
    )


def _smooth(curve: LrRangeCurve, most: float | None) -> tuple[Datum, ...]:
    smoothed = smooth_curve(curve)
    if smoothed is None:
        return ()
    pairs = [
        (float(rate), float(level))
        for rate, level in zip(smoothed.rates, smoothed.levels, strict=True)
        if most is None or rate <= most
    ]
    every = max(1, len(pairs) // _MOST_POINTS)
    return tuple(Datum(x=rate, y=level) for rate, level in pairs[::every])


def _list_conclusion(conclusion: LrRangeConclusion) -> list[tuple[str, str]]:
    if conclusion.low is None or conclusion.suggested is None:
        return [("Good rates", f"inconclusive: {conclusion.reason}")]
    span = f"from {format_rate(conclusion.low)} up"
    if conclusion.high is not None:
        span = f"{format_rate(conclusion.low)} to {format_rate(conclusion.high)}"
    suggested = f"{format_rate(conclusion.suggested)}, where the loss is as low as it gets"
    rows = [("Good rates", f"{span}: {conclusion.reason}"), ("Suggested", suggested)]
    if conclusion.one_cycle_maximum is not None and conclusion.one_cycle_base is not None:
        top, base = map(format_rate, (conclusion.one_cycle_maximum, conclusion.one_cycle_base))
        rows.append(
            ("One cycle", f"maximum {top}, start {base} (1/25 of it); passed by, not stayed at")
        )
    return rows
