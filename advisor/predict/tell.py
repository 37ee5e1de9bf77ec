"""The report of a prediction: every figure in it was derived from a trace, none was run."""

from rich import box
from rich.console import Console, ConsoleRenderable, Group
from rich.table import Table
from rich.text import Text

from advisor.device.catalogue import Gpu
from advisor.memory.tables import render_comparisons, render_peak
from advisor.predict.data import LimitedBy, Prediction, ThroughputBound
from advisor.predict.memory_trace import MemoryTrace, TraceMethod
from advisor.predict.record import PredictRecord
from advisor.report.encoding import write_encodable
from advisor.report.terminal import render_list, render_rows, render_workload
from advisor.statistics import Estimate
from advisor.units import format_bytes, format_count, format_duration, format_number

#: Cards side by side in the table of parts: what 80 columns hold.
_CARDS_ABREAST = 3

_METHODS: dict[TraceMethod, str] = {
    "symbolic": "one symbolic trace of three training steps serves every size; none was run",
    "per_size": "three training steps traced at each of several sizes; none was run",
    "measured": "the tensors of three training steps, recorded while they ran on this CPU",
}

_SOURCES = {
    "driver-reported": "by its driver",
    "nominal": "by its data sheet",
    "stated": "as you stated",
}

_ENDS: dict[LimitedBy, tuple[str, ...]] = {
    "memory": (),
    "dataset": ("the dataset has no more samples",),
    "cap": ("larger sizes were not looked for",),
    "budget": (),
}

_FITS = {True: "yes", False: "no", None: "uncertain"}


def write_predictions_report(
    console: Console,
    record: PredictRecord,
    predictions: tuple[Prediction, ...],
    *,
    headline_only: bool = False,
) -> None:
    """Print the report, or its headline alone, in characters that the console can show."""
    headline = Text(render_predictions_headline(record, predictions), style="bold")
    whole = headline if headline_only else render_predictions(record, predictions)
    write_encodable(console, whole)


def write_catalogue(console: Console, gpus: tuple[Gpu, ...]) -> None:
    """Print the cards of the catalogue."""
    table = _table()
    table.add_column("GPU", no_wrap=True)
    for title in ("memory", "bf16 TFLOP/s", "GB/s", "capability"):
        table.add_column(title, justify="right", no_wrap=True)
    for gpu in gpus:
        peak, bandwidth = gpu.peak_flops.get("bf16"), gpu.bandwidth_bytes_per_s
        table.add_row(
            gpu.name,
            f"{format_count(gpu.memory_bytes >> 20)} MiB",
            "-" if peak is None else f"{peak / 1e12:,.1f}",
            "-" if bandwidth is None else f"{bandwidth / 1e9:,.0f}",
            gpu.compute_capability or "-",
        )
    write_encodable(console, table)


def render_predictions_headline(record: PredictRecord, predictions: tuple[Prediction, ...]) -> str:
    """Return the answer for every card in one line, or why there is none."""
    if not predictions:
        return f"Nothing predicted: {record.stopped_because or 'the model was not traced'}"
    answers = (
        f"{format_count(_whole(one.max_micro_batch_size.point))} on {one.gpu}"
        if one.max_micro_batch_size.point
        else f"nothing on {one.gpu}"
        for one in predictions
    )
    return f"Predicted, not run: the largest micro-batch is {', '.join(answers)}"


def render_predictions(
    record: PredictRecord, predictions: tuple[Prediction, ...]
) -> ConsoleRenderable:
    """Return the report: a row for each card, the parts of the peak, the bound, the method."""
    parts: list[ConsoleRenderable] = [
        Text(render_predictions_headline(record, predictions), style="bold")
    ]
    if not record.complete:
        why = record.stopped_because or "it was cut short"
        parts.append(Text(f"The prediction is incomplete: {why.rstrip('.')}.", style="bold"))
    if predictions:
        is_asked = record.command.micro_batch_size is not None
        parts += [Text(), _render_cards(predictions, is_asked=is_asked)]
        parts.append(Text(_legend(predictions), style="dim"))
    sized = tuple(one for one in predictions if one.breakdown)
    for start in range(0, len(sized), _CARDS_ABREAST):
        parts += [Text(), _render_parts(sized[start : start + _CARDS_ABREAST])]
    parts += _render_memory(predictions)
    parts += [Text(), render_rows(_findings(record, predictions))]
    notes = tuple(dict.fromkeys(note for trace in record.traces for note in trace.notes))
    if notes:
        parts += [Text(), Text("What the trace assumes", style="bold"), render_list(notes)]
    return Group(*parts, Text(), render_rows(_sources(record)))


def _render_memory(predictions: tuple[Prediction, ...]) -> list[ConsoleRenderable]:
    """Return what holds the memory on the first card, and what would change it on each."""
    parts: list[ConsoleRenderable] = []
    broken_down = next((one for one in predictions if one.at_peak is not None), None)
    if broken_down is not None and broken_down.at_peak is not None:
        parts += render_peak(broken_down.at_peak, where=f" on {broken_down.gpu}")
    compared = [
        (one.gpu, one.what_would_change) for one in predictions if one.what_would_change is not None
    ]
    return parts + render_comparisons(compared)


def _render_cards(predictions: tuple[Prediction, ...], *, is_asked: bool) -> Table:
    """Return a row for each card; a size that was asked for has a verdict."""
    size = format_count(predictions[0].micro_batch_size or 0)
    table = _table()
    table.add_column("GPU", overflow="fold")
    if not is_asked:
        table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("largest micro-batch", justify="right", no_wrap=True)
    used = f"used at batch {size}" if is_asked else "device memory then"
    table.add_column(used, justify="right", no_wrap=True)
    if is_asked:
        table.add_column("fits", justify="right", no_wrap=True)
    for one in predictions:
        sizes, used = _format_sizes(one.max_micro_batch_size), _format_gib(one.device_used_bytes)
        if is_asked:
            table.add_row(one.gpu, sizes, used, _FITS[one.fits])
        else:
            table.add_row(one.gpu, format_bytes(one.memory_bytes), sizes, used)
    return table


def _render_parts(predictions: tuple[Prediction, ...]) -> Table:
    table = _table()
    table.add_column("predicted peak", no_wrap=True)
    for one in predictions:
        title = f"{one.gpu}\nbatch {format_count(one.micro_batch_size or 0)}"
        table.add_column(title, justify="right")
    names = dict.fromkeys(share.part for one in predictions for share in one.breakdown)
    columns = [{share.part: share.size_bytes for share in one.breakdown} for one in predictions]
    for name in names:
        cells = [format_bytes(column[name]) if name in column else "-" for column in columns]
        table.add_row(name, *cells)
    return table


def _legend(predictions: tuple[Prediction, ...]) -> str:
    confidence = predictions[0].max_micro_batch_size.confidence
    return (
        f"all figures predicted, not run; in brackets the {100 * confidence:.0f} % interval, from "
        "the errors of such predictions on real GPUs"
    )


def _findings(record: PredictRecord, predictions: tuple[Prediction, ...]) -> list[tuple[str, str]]:
    rows = [("Memory", _describe_memory(one)) for one in predictions]
    rows += [
        ("Speed bound", _describe_bound(one.gpu, one.micro_batch_size or 0, one.bound))
        for one in predictions
        if one.bound is not None
    ]
    return [*rows, *(("Method", _describe_trace(trace)) for trace in record.traces[:1])]


def _describe_memory(one: Prediction) -> str:
    source = _SOURCES.get(one.memory_source, one.memory_source)
    usable = ""
    if one.usable_bytes < one.memory_bytes:
        usable = f" ({format_bytes(one.usable_bytes)} of it for CUDA programs)"
    left = format_bytes(one.capacity_bytes)
    parts = [
        f"{one.gpu}: {format_bytes(one.memory_bytes)} {source}{usable}",
        f"{left} for tensors, after the context and {format_bytes(one.headroom_bytes)} headroom",
    ]
    return "; ".join([*parts, *_ENDS[one.limited_by]])


def _describe_bound(gpu: str, size: int, bound: ThroughputBound) -> str:
    what = {"arithmetic": "peak arithmetic", "bandwidth": "peak memory bandwidth"}
    return (
        f"{gpu}: at most {format_number(bound.samples_per_s)} samples/s at batch "
        f"{format_count(size)}, by {what[bound.limited_by]}; a bound, not an estimate"
    )


def _describe_trace(trace: MemoryTrace) -> str:
    reason = f": {trace.reason}" if trace.reason else ""
    operators = "CUDA's operators" if trace.operators == "cuda" else "the CPU's operators"
    return f"{_METHODS[trace.method]}{reason}; {operators}"


def _sources(record: PredictRecord) -> list[tuple[str, str]]:
    rows = [] if record.workload is None else render_workload(record.workload)
    if record.environment is not None:
        expandable = ", expandable segments" if record.command.expandable_segments else ""
        software = f"torch {record.environment.torch}, {record.command.precision}{expandable}"
        rows.append(("Software", software))
    run = "" if record.elapsed_s is None else f"{format_duration(record.elapsed_s)}; "
    return [*rows, ("Run", f"{run}{record.created_at}; bsadvisor {record.tool_version}")]


def _format_sizes(estimate: Estimate) -> str:
    point, low, high = (_whole(value) for value in (estimate.point, estimate.low, estimate.high))
    if high == 0:
        return "none fits"
    return f"{format_count(point)} ({format_count(low)} to {format_count(high)})"


def _format_gib(estimate: Estimate | None) -> str:
    """Return `22.1 (19.0 to 25.3) GiB`, every figure in the point's unit."""
    if estimate is None or estimate.point is None:
        return "-"
    factor, unit = (2**30, "GiB") if estimate.point >= 2**30 else (2**20, "MiB")
    low, high = (format_number((value or 0.0) / factor) for value in (estimate.low, estimate.high))
    return f"{format_number(estimate.point / factor)} ({low} to {high}) {unit}"


def _whole(value: float | None) -> int:
    return int(value or 0)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
