"""What a prediction tells: every figure in it was derived from a trace, none was run."""

from collections.abc import Iterator, Sequence

from advisor.device.catalogue import Gpu
from advisor.engine.record import Conclusions
from advisor.errors import DeviceError
from advisor.predict.data import CARDS, TRACES, LimitedBy, Prediction
from advisor.predict.memory_tables import CARDS_ABREAST, chart_parts, tell_peak, tell_savings
from advisor.predict.memory_trace import MemoryTrace, TraceMethod
from advisor.predict.prediction import PREDICTIONS
from advisor.statistics import Estimate
from advisor.telling import (
    Chart,
    Column,
    Headline,
    Line,
    Passage,
    Row,
    Screen,
    Table,
    Told,
    place_estimates,
)
from advisor.units import format_bytes, format_count, format_number, format_percent

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
_ENDS: dict[LimitedBy, str] = {
    "dataset": "; the dataset has no more samples",
    "cap": "; larger sizes were not looked for",
}
_BOUNDS = {"arithmetic": "peak arithmetic", "bandwidth": "peak memory bandwidth"}
FITS = {True: "yes", False: "no", None: "uncertain"}
#: Cards on the screen; the full report has all.
_MOST_CARDS = 12


def tell_catalogue(gpus: Sequence[Gpu]) -> Table:
    """Return the cards of the catalogue."""
    titles = ("memory", "bf16 TFLOP/s", "GB/s", "capability")
    return Table(
        columns=(Column("GPU", "left"), *map(Column, titles)),
        rows=tuple(
            (
                gpu.name,
                f"{format_count(gpu.memory_bytes >> 20)} MiB",
                f"{gpu.peak_flops['bf16'] / 1e12:,.1f}" if "bf16" in gpu.peak_flops else "-",
                "-" if bandwidth is None else f"{bandwidth / 1e9:,.0f}",
                gpu.compute_capability or "-",
            )
            for gpu in gpus
            for bandwidth in (gpu.bandwidth_bytes_per_s,)
        ),
    )


def tell_headline(conclusions: Conclusions) -> Headline:
    """Return the answer for every card in one line, or why there is none."""
    record, predictions = conclusions.record, conclusions.of(PREDICTIONS) or ()
    why = record.stopped_because
    if not predictions:
        return Headline(answer=f"Nothing predicted: {why or 'the model was not traced'}")
    answers = (
        f"{format_count(int(one.max_micro_batch_size.point))} on {one.gpu}"
        if one.max_micro_batch_size.point
        else f"nothing on {one.gpu}"
        for one in predictions
    )
    missing = None
    if all(one.max_micro_batch_size.high == 0 for one in predictions):
        missing = DeviceError(
            "not even the smallest batch fits on any of these cards, by the prediction",
            next_step="Take a larger card or a smaller model, or recompute activations.",
        )
    cut = f"The prediction is incomplete: {(why or 'it was cut short').rstrip('.')}."
    return Headline(
        answer=f"Predicted, not run: the largest micro-batch is {', '.join(answers)}",
        remarks=() if record.complete else (cut,),
        missing=missing,
    )


def tell_prediction(conclusions: Conclusions) -> Told:
    """Return a row for each card, the parts of the peak, what holds it, the bound, the method."""
    record, predictions = conclusions.record, conclusions.of(PREDICTIONS) or ()
    asked, traces = record.get(CARDS), record.all(TRACES)
    if not predictions or asked is None:
        return Told()
    parts = [
        (
            f"{one.gpu}, batch {format_count(one.micro_batch_size or 0)}",
            {share.part: share.size_bytes for share in one.breakdown},
        )
        for one in predictions
        if one.breakdown
    ]
    peaks = [(one.at_peak, one.gpu) for one in predictions if one.at_peak is not None]
    savings = [
        (one.gpu, one.what_would_change) for one in predictions if one.what_would_change is not None
    ]
    notes = tuple(dict.fromkeys(note for trace in traces for note in trace.notes))
    expandable = ", expandable segments" * asked.expandable_segments
    return Told(
        tables=(
            _tell_cards(predictions, is_asked=asked.micro_batch_size is not None),
            *map(
                _tell_parts,
                (parts[i : i + CARDS_ABREAST] for i in range(0, len(parts), CARDS_ABREAST)),
            ),
            *(tell_peak(peak, where=f" on {gpu}") for peak, gpu in peaks[:1]),
            *tell_savings(savings),
        ),
        rows=(
            *(Row("Memory", _describe_memory(one)) for one in predictions),
            *(Row("Speed bound", text) for text in _describe_bounds(predictions)),
            Row("Method", _describe_trace(traces[0]) + expandable),
        ),
        passages=(Passage(title="What the trace assumes", items=notes),) if notes else (),
        charts=(
            _chart_sizes(predictions),
            chart_parts(parts, caption="The predicted peak of the process on each card, by part."),
        ),
    )


def _tell_cards(predictions: Sequence[Prediction], *, is_asked: bool) -> Table:
    """Return a row for each card; a size that was asked for has a verdict."""
    gpu, sizes = Column("GPU", "left", folds=True), Column("largest micro-batch")
    if is_asked:
        used = Column(f"used at batch {format_count(predictions[0].micro_batch_size or 0)}")
        columns = gpu, sizes, used, Column("fits")
    else:
        columns = gpu, Column("memory"), sizes, Column("device memory then")
    rows = []
    for one in predictions:
        figures = format_sizes(one.max_micro_batch_size), _format_gib(one.device_used_bytes)
        rows.append(
            (one.gpu, *figures, FITS[one.fits])
            if is_asked
            else (one.gpu, format_bytes(one.memory_bytes), *figures)
        )
    legend = f"all figures predicted, not run; in brackets the {_describe_interval(predictions)}"
    return Table(columns=columns, rows=tuple(rows), legend=legend)


def _describe_interval(predictions: Sequence[Prediction]) -> str:
    confidence = format_percent(predictions[0].max_micro_batch_size.confidence, decimals=0)
    return f"{confidence} interval, from the errors of such predictions on real GPUs"


def _chart_sizes(predictions: Sequence[Prediction]) -> Chart:
    data = place_estimates((one.gpu, one.max_micro_batch_size) for one in predictions)
    return Chart(
        title="Largest micro-batch by card",
        caption=f"Predicted from a trace, not run; bars are the {_describe_interval(predictions)}.",
        x_label="",
        y_label="largest micro-batch, samples",
        lines=(Line("predicted", data, "points"),),
    )


def _tell_parts(parts: Sequence[tuple[str, dict[str, int]]]) -> Table:
    titles = (Column(title.replace(", ", "\n"), folds=True) for title, _ in parts)
    return Table(
        columns=(Column("predicted peak", "left"), *titles),
        rows=tuple(
            (part, *(format_bytes(sizes[part]) for _, sizes in parts)) for part in parts[0][1]
        ),
    )


def _describe_memory(one: Prediction) -> str:
    usable = ""
    if one.usable_bytes < one.memory_bytes:
        usable = f" ({format_bytes(one.usable_bytes)} of it for CUDA programs)"
    return (
        f"{one.gpu}: {format_bytes(one.memory_bytes)} {_SOURCES[one.memory_source]}{usable}; "
        f"{format_bytes(one.capacity_bytes)} for tensors, after the context and "
        f"{format_bytes(one.headroom_bytes)} headroom{_ENDS.get(one.limited_by, '')}"
    )


def _describe_bounds(predictions: Sequence[Prediction]) -> Iterator[str]:
    for one in predictions:
        if one.bound is not None:
            yield (
                f"{one.gpu}: at most {format_number(one.bound.samples_per_s)} samples/s at batch "
                f"{format_count(one.micro_batch_size or 0)}, by {_BOUNDS[one.bound.limited_by]}; "
                "a bound, not an estimate"
            )


def _describe_trace(trace: MemoryTrace) -> str:
    reason = f": {trace.reason}" if trace.reason else ""
    operators = "CUDA's operators" if trace.operators == "cuda" else "the CPU's operators"
    return f"{_METHODS[trace.method]}{reason}; {operators}"


def format_sizes(estimate: Estimate) -> str:
    """Return the largest size with its interval, in whole samples."""
    ends = (estimate.point, estimate.low, estimate.high)
    point, low, high = (format_count(int(value or 0)) for value in ends)
    return f"{point} ({low} to {high})" if estimate.high else "none fits"


def _format_gib(estimate: Estimate | None) -> str:
    """Return `22.1 (19.0 to 25.3) GiB`, every figure in the point's unit."""
    if estimate is None or estimate.point is None:
        return "-"
    factor, unit = (2**30, "GiB") if estimate.point >= 2**30 else (2**20, "MiB")
    ends = (estimate.point, estimate.low, estimate.high)
    point, low, high = (format_number((value or 0.0) / factor) for value in ends)
    return f"{point} ({low} to {high}) {unit}"


def draw_up_screen(conclusions: Conclusions) -> Screen:
    """Return the first screen of a prediction."""
    headline, predictions = tell_headline(conclusions), conclusions.of(PREDICTIONS) or ()
    answer, asked = headline.answer, conclusions.record.get(CARDS)
    size = None if asked is None else asked.micro_batch_size
    if len(predictions) > 1:
        answer = f"Predicted for {len(predictions)} cards by a trace; nothing was run on them"
    verdict = () if size is None else (Column(f"batch {format_count(size)} fits"),)
    table = Table(
        columns=(
            Column("GPU", "left"),
            Column("largest micro-batch"),
            *verdict,
            Column("mostly", "left"),
            Column("would help", "left", folds=True),
        ),
        rows=tuple(
            (
                one.gpu,
                format_sizes(one.max_micro_batch_size),
                *(FITS[one.fits] for _ in verdict),
                _name_largest_part(one),
                _name_best_change(one),
            )
            for one in predictions[:_MOST_CARDS]
        ),
        legend="all predicted; in brackets the interval of such predictions on real GPUs",
        is_narrow=True,
    )
    return Screen(answer=answer, lines=headline.remarks, table=table if predictions else None)


def _name_largest_part(one: Prediction) -> str:
    """Return what takes most of the memory; empty where it is not known."""
    total = sum(share.size_bytes for share in one.breakdown)
    if not total:
        return ""
    largest = max(one.breakdown, key=lambda share: share.size_bytes)
    return f"{largest.part}, {format_percent(largest.size_bytes / total, decimals=0)}"


def _name_best_change(one: Prediction) -> str:
    """Return the change that allows the largest batch; empty where none allows a larger one."""
    changes = one.what_would_change
    best = next(iter(changes.savings), None) if changes is not None else None  # the largest first
    if changes is None or best is None:
        return ""
    is_larger = best.max_micro_batch_size > changes.max_micro_batch_size
    return f"{best.name}: {format_count(best.max_micro_batch_size)}" if is_larger else ""
