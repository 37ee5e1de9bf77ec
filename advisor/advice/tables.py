"""The table of batch sizes: memory, speed and predicted time to train, side by side."""

import msgspec
from rich import box
from rich.table import Table

from advisor.advice.data import Candidate
from advisor.derived import Derived
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputPoint
from advisor.units import NOT_MEASURED, format_bytes, format_count, format_number, format_spread

#: Rows that fit on a screen beside the rest of the report; the JSON document has them all.
MAX_ROWS = 14
#: Predicted time to train, over the best, up to which accumulation is shown at all.
MOST_RELATIVE_TIME = 2.0

#: Blanks at the right and left of a cell; one less where the energy needs the place.
_WIDE, _NARROW = (0, 1), (0, 1, 0, 0)

RECOMMENDED, BASE = ">", "b"
#: What was not measured, where a table with energy has no place for words.
DASH = "-"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One batch size as the table shows it; what was not measured is None.

    Attributes:
        predicted_peak_bytes: Peak after the fitted law, where it was not measured.
        predicted_per_s: Samples each second after the fitted law, where the size was not timed.
        energy_per_sample_j: Joules that were counted for each sample.
    """

    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    mark: str
    peak_bytes: int | None
    predicted_peak_bytes: float | None
    samples_per_s: Estimate | None
    predicted_per_s: float | None
    relative_time: float | None
    energy_per_sample_j: float | None = None


def choose_rows(derived: Derived, *, base_batch_size: int | None) -> tuple[Row, ...]:
    """Return the rows by batch size: at most `MAX_ROWS`, the marked and measured ones first."""
    points = derived.throughput.points if derived.throughput is not None else ()
    advice = derived.recommendation
    candidates = advice.candidates if advice is not None else ()
    measured = {point.micro_batch_size: point for point in points}
    rows = [
        _row(candidate, measured, mark=_mark(candidate, derived, base_batch_size))
        for candidate in candidates
    ]
    rows = [row for row in rows if row.mark or row.samples_per_s is not None or _is_worth(row)]
    covered = {row.micro_batch_size for row in rows if row.gradient_accumulation_steps == 1}
    rows += [
        _row(_untraded(point), measured, mark=_mark(_untraded(point), derived, base_batch_size))
        for point in points
        if point.micro_batch_size not in covered
    ]
    ranked = sorted(rows, key=lambda row: (not row.mark, row.samples_per_s is None))
    return tuple(sorted(ranked[:MAX_ROWS], key=_by_size))


def render_batch_table(rows: tuple[Row, ...], *, sample_unit: str) -> Table:
    """Return the table; a column that no row could fill is left out."""
    accumulates = any(row.gradient_accumulation_steps > 1 for row in rows)
    has_memory = any(row.peak_bytes is not None for row in rows)
    has_time = any(row.relative_time is not None for row in rows)
    has_energy = _has_energy(rows)
    missing = DASH if has_energy else NOT_MEASURED
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=_NARROW if has_energy else _WIDE,
    )
    table.add_column("", no_wrap=True)
    table.add_column("batch", justify="right", no_wrap=True)
    if accumulates:
        table.add_column("as", justify="right", no_wrap=True)
    if has_memory:
        table.add_column("memory", justify="right", no_wrap=True)
    table.add_column(f"{sample_unit}s/s", justify="right", no_wrap=True)
    if has_energy:
        table.add_column(f"J/{sample_unit}", justify="right", no_wrap=True)
    if has_time:
        table.add_column("time to train", justify="right", no_wrap=True)
    for row in rows:
        cells = [row.mark, format_count(row.global_batch_size)]
        cells += [f"{row.micro_batch_size} × {row.gradient_accumulation_steps}"] * accumulates
        cells += [_format_memory(row, missing)] * has_memory
        cells += [_format_speed(row, missing)]
        cells += [_format_energy(row)] * has_energy
        cells += [_format_relative_time(row)] * has_time
        table.add_row(*cells, style="bold" if RECOMMENDED in row.mark else None)
    return table


def render_legend(rows: tuple[Row, ...]) -> str:
    """Return what the marks of the table mean, the ones in use only."""
    parts = []
    if any(RECOMMENDED in row.mark for row in rows):
        parts.append("> recommended")
    if any(BASE in row.mark for row in rows):
        parts.append("b your base batch")
    if _has_energy(rows) and any(row.energy_per_sample_j is None for row in rows):
        parts.append(f"{DASH} not measured")
    if any(_is_predicted(row) for row in rows):
        parts.append("~ predicted, not measured")
    confidences = {row.samples_per_s.confidence for row in rows if row.samples_per_s is not None}
    parts += [f"± {100 * confidence:.0f} % interval" for confidence in sorted(confidences)]
    if any(row.relative_time is not None for row in rows):
        parts.append("time to train: predicted, over the best")
    return "; ".join(parts)


def _has_energy(rows: tuple[Row, ...]) -> bool:
    return any(row.energy_per_sample_j is not None for row in rows)


def _is_worth(row: Row) -> bool:
    """Return whether a size that was not timed is near enough to the best to be shown."""
    return row.relative_time is None or row.relative_time <= MOST_RELATIVE_TIME


def _is_predicted(row: Row) -> bool:
    has_predicted_memory = row.peak_bytes is None and row.predicted_peak_bytes is not None
    has_predicted_speed = row.samples_per_s is None and row.predicted_per_s is not None
    return has_predicted_memory or has_predicted_speed


def _row(candidate: Candidate, measured: dict[int, ThroughputPoint], *, mark: str) -> Row:
    is_single = candidate.gradient_accumulation_steps == 1
    point = measured.get(candidate.micro_batch_size) if is_single else None
    return Row(
        global_batch_size=candidate.global_batch_size,
        micro_batch_size=candidate.micro_batch_size,
        gradient_accumulation_steps=candidate.gradient_accumulation_steps,
        mark=mark,
        peak_bytes=point.peak_bytes if point is not None else None,
        predicted_peak_bytes=point.predicted_peak_bytes if point is not None else None,
        samples_per_s=point.samples_per_s if point is not None else None,
        predicted_per_s=candidate.global_batch_size / candidate.step_s
        if candidate.step_s
        else None,
        relative_time=candidate.relative_time,
        energy_per_sample_j=_take_energy_j(point),
    )


def _take_energy_j(point: ThroughputPoint | None) -> float | None:
    energy = None if point is None else point.energy_per_sample_j
    return None if energy is None else energy.point


def _untraded(point: ThroughputPoint) -> Candidate:
    """Return a measured size that the trade-off has nothing to say about."""
    return Candidate(
        global_batch_size=point.micro_batch_size,
        micro_batch_size=point.micro_batch_size,
        gradient_accumulation_steps=1,
        step_s=point.step_s.point or 0.0,
        relative_time=None,
        relative_samples=None,
    )


def _mark(candidate: Candidate, derived: Derived, base_batch_size: int | None) -> str:
    advice = derived.recommendation
    is_advised = advice is not None and (
        (candidate.micro_batch_size, candidate.gradient_accumulation_steps)
        == (advice.micro_batch_size, advice.gradient_accumulation_steps)
    )
    is_base = candidate.global_batch_size == base_batch_size
    return RECOMMENDED * is_advised + BASE * is_base


def _by_size(row: Row) -> tuple[int, int]:
    return row.global_batch_size, row.micro_batch_size


def _format_memory(row: Row, missing: str) -> str:
    if row.peak_bytes is not None:
        return format_bytes(row.peak_bytes)
    if row.predicted_peak_bytes is not None:
        return f"~ {format_bytes(row.predicted_peak_bytes)}"
    return missing


def _format_speed(row: Row, missing: str) -> str:
    if row.samples_per_s is not None:
        return format_spread(row.samples_per_s)
    if row.predicted_per_s is not None:
        return f"~ {format_number(row.predicted_per_s)}"
    return missing


def _format_energy(row: Row) -> str:
    return DASH if row.energy_per_sample_j is None else format_number(row.energy_per_sample_j)


def _format_relative_time(row: Row) -> str:
    return "not predicted" if row.relative_time is None else f"{row.relative_time:.2f} ×"
