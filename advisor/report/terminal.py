"""The report on a terminal: the answer first, then what it rests on."""

from rich.console import Console, ConsoleRenderable, Group
from rich.table import Table
from rich.text import Text

from advisor.advice.tell import head_run, tell_advice, tell_plans
from advisor.derived import Derived, GivenConclusions
from advisor.engine.run_record import RunRecord
from advisor.predict.memory_tables import tell_peak, tell_savings
from advisor.report.console import draw_passage
from advisor.report.encoding import write_encodable
from advisor.report.findings import render_findings
from advisor.report.tables import draw_tables
from advisor.training.data import WorkloadFacts
from advisor.units import count_of, format_bytes, format_duration
from advisor.variants.tell import tabulate_variants
from advisor.verify.tell import tell_verification

#: Columns of the labels, wide enough for "Learning rate".
LABEL_WIDTH = 13


def write_report(
    console: Console, record: RunRecord, derived: Derived, *, headline_only: bool = False
) -> None:
    """Print the report, or its headline alone, in characters that the console can show."""
    headline = Text(head_run(GivenConclusions(record, derived)).answer, style="bold")
    write_encodable(console, headline if headline_only else render_report(record, derived))


def render_report(record: RunRecord, derived: Derived) -> ConsoleRenderable:
    """Return the whole report: headline, table, findings, reasons, warnings, snippet, sources."""
    known = GivenConclusions(record, derived)
    headline, advised = head_run(known), tell_advice(known)
    parts: list[ConsoleRenderable] = [Text(headline.answer, style="bold")]
    parts += [Text(remark) for remark in headline.remarks]
    parts += _render_upper(record, derived)
    parts += [Text(), render_rows(render_findings(record, derived))]
    parts += _render_memory(record, derived)
    for passage in advised.passages:
        parts += draw_passage(passage)
    parts += [Text(), render_rows(render_sources(record))]
    return Group(*parts)


def render_tables(record: RunRecord, derived: Derived) -> list[ConsoleRenderable]:
    """Return the tables alone: batches, variants, what holds the memory, what would change it."""
    return [*_render_upper(record, derived), *_render_memory(record, derived)]


def _render_upper(record: RunRecord, derived: Derived) -> list[ConsoleRenderable]:
    known = GivenConclusions(record, derived)
    return [
        *draw_tables(tell_advice(known).tables),
        *draw_tables(tabulate_variants(derived.variants)),
        *draw_tables(tell_verification(known).tables),
        *draw_tables(tell_plans(known).tables),
    ]


def _render_memory(record: RunRecord, derived: Derived) -> list[ConsoleRenderable]:
    peak, change = record.peak, derived.what_would_change
    return [
        *draw_tables([] if peak is None else [tell_peak(peak)]),
        *draw_tables([] if change is None else tell_savings([("", change)])),
    ]


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
