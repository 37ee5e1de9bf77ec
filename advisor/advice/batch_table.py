"""The table of batch sizes: memory, speed and predicted time to train, side by side."""

import math
from collections.abc import Sequence
from dataclasses import replace

from advisor.advice.batch_rows import BASE, RECOMMENDED, Row
from advisor.loader.loop import interpolate
from advisor.race.law import LAW_DEVIATION
from advisor.statistics import Estimate
from advisor.telling import Column, Table, draw_up
from advisor.units import (
    NOT_MEASURED,
    format_bytes,
    format_count,
    format_figure,
    format_number,
    format_percent,
    format_ratio,
    format_spread,
)

#: Those of the first screen, and the width of its bars in characters.
FEW_ROWS, BAR_WIDTH = 7, 12
#: Part by which steps on batches that are there already are faster than in the user's loop, from
#: which on that has a column of its own.
LOOP_FRACTION = 0.1
#: Times by the law are known to this factor.
_LAW_WIDTH = math.exp(LAW_DEVIATION)
#: What was not measured, where a table with energy has no place for words.
DASH = "-"


def draw_up_batches(rows: Sequence[Row], *, sample_unit: str, is_loop: bool = False) -> Table:
    """Return the table, by batch; a column that no row could fill is left out."""
    has_energy = any(_get_energy_j(row) is not None for row in rows)
    missing = DASH if has_energy else NOT_MEASURED
    columns = _list_columns(rows, missing)
    has_loop = not is_loop and any(map(_is_apart_in_loop, rows))
    speeds = [_write_measured_speed(row) for row in rows]
    if not has_loop:  # one column for both, so what is predicted is as others slowed the measured
        levelled = _level_speeds(rows)
        speeds = [each or near for each, near in zip(speeds, levelled, strict=True)]
    columns.append((f"{sample_unit}s/s", [each or missing for each in speeds]))
    if has_loop and not has_energy:  # nor is there room for it
        columns.append(("in your loop", [_write_loop_speed(row) or missing for row in rows]))
    if has_energy:
        energies_j = map(_get_energy_j, rows)
        written = [DASH if each is None else format_number(each) for each in energies_j]
        columns.append((f"J/{sample_unit}", written))
    if any(row.trial or row.candidate.relative_time is not None for row in rows):
        columns.append(("time to train", [_write_time(row) for row in rows]))
    return draw_up(
        columns,
        marks=[row.mark for row in rows],
        legend="; ".join(_list_legend(rows, has_energy=has_energy, has_loop=has_loop)),
        is_narrow=has_energy or has_loop,
    )


def _list_columns(rows: Sequence[Row], missing: str) -> list[tuple[str, list[str]]]:
    """Return batch, accumulation and memory, as far as any row has them."""
    columns = [("batch", [format_count(row.candidate.global_batch_size) for row in rows])]
    if any(row.candidate.gradient_accumulation_steps > 1 for row in rows):
        splits = [row.candidate.split for row in rows]
        columns.append(("as", [f"{size} × {count}" for size, count in splits]))
    if any(row.point is not None and row.point.peak_bytes is not None for row in rows):
        columns.append(("memory", [_write_memory(row) or missing for row in rows]))
    return columns


def draw_up_few(rows: Sequence[Row], *, sample_unit: str) -> Table:
    """Return the rows around the advised one for the first screen, in the user's loop.

    The bar is the time to train: shorter is better, half of its width is the base pair's.
    """
    few = _choose_around(rows)
    columns = _list_columns(few, DASH)
    columns.append((f"{sample_unit}s/s", [_write_own_speed(row) or DASH for row in few]))
    times = [_get_time(row)[0].point for row in few]
    has_times = any(time is not None for time in times)
    if has_times:
        columns.append(("time to same loss", [_write_time_span(row) for row in few]))
    bars = [draw_bar(time) if has_times else "" for time in times]
    in_use = {
        "> recommended": any(RECOMMENDED in row.mark for row in few),
        "b your base": any(BASE in row.mark for row in few),
        "~ predicted, times to a factor of 2": any(
            cell.startswith("~") for _, cells in columns for cell in cells
        ),
        "in your loop": len(few) > 1,
    }
    table = draw_up(
        [*columns, ("", bars)],
        marks=[row.mark for row in few],
        legend="; ".join(text for text, is_used in in_use.items() if is_used),
        is_narrow=True,
    )
    return replace(table, columns=(*table.columns[:-1], Column(justify="left")))


def _choose_around(rows: Sequence[Row]) -> list[Row]:
    """Return the marked rows, then those that were trained, then the nearest, by batch."""
    marked = [row.candidate.global_batch_size for row in rows if row.mark]
    centre = math.log(marked[-1] if marked else rows[-1].candidate.global_batch_size)

    def rank(row: Row) -> tuple[bool, bool, float]:
        distance = abs(math.log(row.candidate.global_batch_size) - centre)
        return not row.mark, row.trial is None, distance

    chosen = sorted(rows, key=rank)[:FEW_ROWS]
    return sorted(chosen, key=lambda row: row.candidate.global_batch_size)


def draw_bar(ratio: float | None) -> str:
    """Return a bar as long as the ratio, full at twice, with a point beyond that."""
    if ratio is None:
        return ""
    if ratio > 2.0:
        return "█" * (BAR_WIDTH - 1) + ">"
    halves = round(min(ratio / 2.0, 1.0) * BAR_WIDTH * 2)
    return "█" * (halves // 2) + "▌" * (halves % 2)


def _list_legend(rows: Sequence[Row], *, has_energy: bool, has_loop: bool) -> list[str]:
    """Return what the marks of the table mean, the ones in use only."""
    confidences = {row.point.samples_per_s.confidence for row in rows if row.point is not None}
    in_use = {
        "> recommended": any(RECOMMENDED in row.mark for row in rows),
        "b your base batch": any(BASE in row.mark for row in rows),
        "samples/s: without loading": has_loop,
        "in your loop: as if nothing else ran": has_loop
        and any(map(_is_faster_than_measured, rows)),
        f"{DASH} not measured": has_energy and any(_get_energy_j(row) is None for row in rows),
        "~ predicted, not measured": any(_is_predicted(row) for row in rows),
        **{f"± {format_percent(each, decimals=0)} interval": True for each in sorted(confidences)},
        "time to train: in your loop, over your own pair's": any(
            row.trial or row.candidate.relative_time is not None for row in rows
        ),
    }
    return [text for text, is_used in in_use.items() if is_used]


def _is_predicted(row: Row) -> bool:
    if row.point is None or (row.trial is None and row.candidate.relative_time is not None):
        return row.candidate.step_s > 0.0
    return row.point.peak_bytes is None and row.point.predicted_peak_bytes is not None


def _get_energy_j(row: Row) -> float | None:
    energy = None if row.point is None else row.point.energy_per_sample_j
    return None if energy is None else energy.point


def _write_memory(row: Row) -> str:
    """Return the peak, `~` where it is by the fitted law; empty where it is not known."""
    if row.point is None:
        return ""
    if row.point.peak_bytes is not None:
        return format_bytes(row.point.peak_bytes)
    predicted = row.point.predicted_peak_bytes
    return "" if predicted is None else f"~ {format_bytes(predicted)}"


def _write_measured_speed(row: Row) -> str:
    return "" if row.point is None else format_spread(row.point.samples_per_s)


def _write_loop_speed(row: Row) -> str:
    """Return the speed with loading, which only the loader's own sizes were timed with."""
    speed = _get_loop_speed(row)
    return "" if speed is None else f"~ {format_number(speed)}"


def _level_speeds(rows: Sequence[Row]) -> list[str]:
    """Return the speeds by the step that decides, as far below it as those measured beside them.

    That step is as fast as one that nothing slowed; what was measured holds those that others did.
    """
    factors = {}
    for row in rows:
        own, speed = _get_own_speed(row), _get_loop_speed(row)
        if own and speed:
            factors[row.candidate.micro_batch_size] = math.log(own / speed)
    sizes, logs = sorted(factors), [factors[size] for size in sorted(factors)]

    def write(row: Row) -> str:
        speed = _get_loop_speed(row)
        if speed is None:
            return ""
        log = interpolate(row.candidate.micro_batch_size, sizes, logs) if sizes else 0.0
        return f"~ {format_number(speed * math.exp(log))}"

    return [write(row) for row in rows]


def _get_own_speed(row: Row) -> float | None:
    return None if row.point is None else row.point.samples_per_s.point


def _write_own_speed(row: Row) -> str:
    """Return the speed by the step that decides; without `~` where that is as it was measured."""
    own = _get_own_speed(row)
    speed = _get_loop_speed(row) or own
    if speed is None:
        return ""
    is_own = own is not None and not _is_apart_in_loop(row) and not _is_faster_than_measured(row)
    return f"{'' if is_own else '~ '}{format_number(speed)}"


def _is_faster_than_measured(row: Row) -> bool:
    """Return whether the step that decides is shorter than those that were timed on average."""
    own, speed = _get_own_speed(row), _get_loop_speed(row)
    if row.point is None or not own or not speed:
        return False
    high = row.point.samples_per_s.high or own
    most = high if high <= 2.0 * own else own  # an interval that wide counts as none
    return speed > (1.0 + LOOP_FRACTION) * most


def _get_loop_speed(row: Row) -> float | None:
    step_s = row.candidate.step_s
    return row.candidate.global_batch_size / step_s if step_s else None


def _is_apart_in_loop(row: Row) -> bool:
    """Return whether the step that decides takes longer than the one that was timed."""
    own, speed = _get_own_speed(row), _get_loop_speed(row)
    if not own or not speed:
        return False
    return speed * (1.0 + LOOP_FRACTION) < own


def _get_time(row: Row) -> tuple[Estimate, str]:
    """Return the time over the base pair's, and its mark: as trained, else `~` by the law.

    With the interval of 95 % where it was trained, else with the law's own width.
    """
    if BASE in row.mark:
        return Estimate(1.0, None, None), ""
    ratio, time = None if row.trial is None else row.trial.time_ratio, row.candidate.relative_time
    if ratio is not None and ratio.point is not None:
        return ratio, ""
    if time is None:
        return Estimate(None, None, None), ""
    return Estimate(time, time / _LAW_WIDTH, time * _LAW_WIDTH), "~ "


def _write_time(row: Row) -> str:
    time, mark = _get_time(row)
    return NOT_MEASURED if time.point is None else f"{mark}{format_ratio(time.point)}"


def _write_time_span(row: Row) -> str:
    """Return the same with its interval, where there is one."""
    time, _ = _get_time(row)
    if time.low is None or time.high is None:
        return _write_time(row)
    return f"{_write_time(row)} ({format_figure(time.low, 2)} to {format_figure(time.high, 2)})"
