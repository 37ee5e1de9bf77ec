"""The report on a terminal: the answer first, then what it rests on."""

from rich.console import Console, ConsoleRenderable, Group
from rich.table import Table
from rich.text import Text

from advisor.advice.data import Recommendation
from advisor.advice.frontier_tell import render_frontier
from advisor.advice.headline import render_headline, render_limit, why_missing
from advisor.advice.tables import choose_rows, render_batch_table, render_legend
from advisor.derived import Derived
from advisor.engine.run_record import RunRecord
from advisor.predict.memory_tables import tell_how_to, tell_peak, tell_savings
from advisor.report.console import draw_passage
from advisor.report.encoding import write_encodable
from advisor.report.findings import render_findings
from advisor.report.tables import draw_tables
from advisor.telling import Headline, Told
from advisor.training.data import WorkloadFacts
from advisor.units import count_of, format_bytes, format_duration
from advisor.variants.tell import render_variants
from advisor.verify.tell import tell_verification

#: Columns of the labels, wide enough for "Learning rate".
LABEL_WIDTH = 13


def write_report(
    console: Console, record: RunRecord, derived: Derived, *, headline_only: bool = False
) -> None:
    """Print the report, or its headline alone, in characters that the console can show."""
    headline = Text(render_headline(record, derived), style="bold")
    write_encodable(console, headline if headline_only else render_report(record, derived))


def render_report(record: RunRecord, derived: Derived) -> ConsoleRenderable:
    """Return the whole report: headline, table, findings, reasons, warnings, snippet, sources."""
    parts: list[ConsoleRenderable] = [Text(render_headline(record, derived), style="bold")]
    advice = derived.recommendation
    if advice is not None:
        parts.append(Text(f"Limited by {render_limit(advice.limiting_factor)}."))
    if advice is not None and not record.complete:
        parts.append(Text(f"The run is incomplete: {why_missing(record)}.", style="bold"))
    parts += _render_batches(record, derived)
    parts += render_variants(derived.variants)
    parts += draw_tables(tell_verification(derived.verification).tables)
    parts += render_frontier(record, derived)
    parts += [Text(), render_rows(render_findings(record, derived))]
    parts += _render_memory(record, derived)
    if advice is not None:
        parts += _render_advice_text(advice)
    parts += [Text(), render_rows(render_sources(record))]
    return Group(*parts)


def write_told(
    console: Console, headline: Headline, told: Told, *, headline_only: bool = False
) -> None:
    """Print what one question tells, or its headline alone."""
    parts: list[ConsoleRenderable] = [Text(headline.answer, style="bold" if told.rows else "")]
    if not headline_only:
        parts += draw_tables(told.tables)
        parts += [Text()] if told.tables else []
        parts += [render_rows([(row.label, row.text) for row in told.rows])] if told.rows else []
    write_encodable(console, Group(*parts))


def render_tables(record: RunRecord, derived: Derived) -> list[ConsoleRenderable]:
    """Return the tables alone: batches, variants, what holds the memory, what would change it."""
    return [
        *_render_batches(record, derived),
        *render_variants(derived.variants),
        *draw_tables(tell_verification(derived.verification).tables),
        *render_frontier(record, derived),
        *_render_memory(record, derived),
    ]


def _render_memory(record: RunRecord, derived: Derived) -> list[ConsoleRenderable]:
    peak, change = record.peak, derived.what_would_change
    return [
        *draw_tables([] if peak is None else [tell_peak(peak)]),
        *draw_tables([] if change is None else tell_savings([("", change)])),
        *(part for one in tell_how_to([change] if change else []) for part in draw_passage(one)),
    ]


def _render_batches(record: RunRecord, derived: Derived) -> list[ConsoleRenderable]:
    workload = record.workload
    rows = choose_rows(
        derived, base_batch_size=workload.base_batch_size if workload is not None else None
    )
    if not rows:
        return []
    unit = workload.sample_unit if workload is not None else "sample"
    table = render_batch_table(rows, sample_unit=unit)
    return [Text(), table, Text(render_legend(rows), style="dim")]


def _render_advice_text(advice: Recommendation) -> list[ConsoleRenderable]:
    parts: list[ConsoleRenderable] = []
    for title, lines in (("Why", advice.reasons), ("Warnings", advice.warnings)):
        if lines:
            parts += [Text(), Text(title, style="bold"), render_list(lines)]
    if advice.snippet:
        code = Text(advice.snippet.rstrip("\n"), no_wrap=True, overflow="ignore")
        parts += [Text(), Text("To paste", style="bold"), code]
    return parts


def render_sources(record: RunRecord) -> list[tuple[str, str]]:
    """Return how the model file was understood, and on what machine."""
    rows = [] if record.workload is None else render_workload(record.workload)
    if record.environment is not None:
        device = record.environment.device
        machine = f"{device.name}, {format_bytes(device.memory_bytes)}; "
        machine += f"torch {record.environment.torch}, {record.command.precision}"
        machine += ", compiled" if record.command.compile else ""
        rows.append(("Machine", machine))
    run = count_of(len(record.probes), "probe")
    if record.elapsed_s is not None:
        run += f" in {format_duration(record.elapsed_s)}"
    run += f"; {record.created_at}; bsadvisor {record.tool_version}"
    return [*rows, ("Run", run)]


def render_workload(workload: WorkloadFacts) -> list[tuple[str, str]]:
    """Return how the model file was understood, as rows of label and text."""
    count = workload.parameter_count
    size = "" if count is None else f", {count:,} parameters"
    return [
        ("Model", f"{workload.model_name}{size}; {workload.how_model}"),
        ("Loss", workload.how_loss),
        ("Optimizer", workload.how_optimizer),
        ("Batch", workload.how_batch),
        *(("Note", note) for note in workload.notes),
    ]


def render_rows(rows: list[tuple[str, str]]) -> Table:
    """Return rows of label and text; a label that repeats is shown once."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL_WIDTH, no_wrap=True)
    grid.add_column(overflow="fold")
    previous = None
    for label, text in rows:
        grid.add_row(Text("" if label == previous else label, style="bold"), Text(text))
        previous = label
    return grid


def render_list(lines: tuple[str, ...]) -> Table:
    """Return a list with one dash for each line."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row("-", Text(line))
    return grid
