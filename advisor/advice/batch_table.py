"""The table of batch sizes: memory, speed and predicted time to train, side by side."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from advisor.advice.plan import ADVICE
from advisor.engine.record import Conclusions
from advisor.loader.loop import interpolate
from advisor.race.data import PairResult
from advisor.race.law import LAW_DEVIATION
from advisor.race.plan import RACE, choose_best
from advisor.rate.data import Candidate
from advisor.statistics import Estimate
from advisor.telling import Column, Table, draw_up
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import ThroughputPoint
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

#: Rows that fit on a screen beside the rest of the report; the JSON document has them all.
MAX_ROWS = 14
#: Those of the first screen, and the width of its bars in characters.
_FEW_ROWS, _BAR_WIDTH = 7, 12
#: Predicted time to train, over the base pair's, up to which accumulation is shown at all.
_MOST_RELATIVE_TIME = 2.0
#: Part by which two speeds differ that are told apart.
_LOOP_FRACTION = 0.1
#: Times by the law are known to this factor.
_LAW_WIDTH = math.exp(LAW_DEVIATION)
RECOMMENDED, BASE = ">", "b"


class Row(NamedTuple):
    """One batch; its point is there where it is one micro-batch that was timed.

    Its trial is that of the best rate, where it was trained.
    """

    mark: str
    candidate: Candidate
    point: ThroughputPoint | None
    trial: PairResult | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Of the batch and its micro-batch."""
        return self.candidate.global_batch_size, self.candidate.micro_batch_size

    @property
    def own_speed(self) -> float | None:
        """Samples a second on batches that are there already."""
        return None if self.point is None else self.point.samples_per_s.point

    @property
    def loop_speed(self) -> float | None:
        """Samples a second by the step that decides, which is as fast as one that nothing slows."""
        step_s = self.candidate.step_s
        return self.candidate.global_batch_size / step_s if step_s else None

    @property
    def loop_sign(self) -> int:
        """-1 where the step that decides is slower than those timed on average, 1 where faster."""
        own, speed = self.own_speed, self.loop_speed
        if self.point is None or not own or not speed:
            return 0
        high = self.point.samples_per_s.high or own
        most = high if high <= 2.0 * own else own  # an interval that wide counts as none
        is_slower = speed * (1.0 + _LOOP_FRACTION) < own
        return -1 if is_slower else int(speed > (1.0 + _LOOP_FRACTION) * most)

    @property
    def energy_j(self) -> float | None:
        """Of a sample."""
        energy = None if self.point is None else self.point.energy_per_sample_j
        return None if energy is None else energy.point

    @property
    def memory(self) -> str:
        """The peak, `~` where it is by the fitted law; empty where it is not known."""
        if self.point is None:
            return ""
        if self.point.peak_bytes is not None:
            return format_bytes(self.point.peak_bytes)
        predicted = self.point.predicted_peak_bytes
        return "" if predicted is None else f"~ {format_bytes(predicted)}"

    @property
    def time(self) -> tuple[str, Estimate]:
        """The time over the base pair's after its mark: as trained, else `~` by the law.

        With the interval of 95 % where it was trained, else with the law's own width.
        """
        if BASE in self.mark:
            return "", Estimate(1.0, None, None)
        ratio = None if self.trial is None else self.trial.time_ratio
        time = self.candidate.relative_time
        if time is None or (ratio is not None and ratio.point is not None):
            return "", ratio or Estimate(None, None, None)
        return "~ ", Estimate(time, time / _LAW_WIDTH, time * _LAW_WIDTH)


def choose_rows(conclusions: Conclusions) -> tuple[Row, ...]:
    """Return the rows by batch size: at most `MAX_ROWS`, the marked and measured ones first."""
    advice, facts = conclusions.of(ADVICE), conclusions.record.workload
    found, race = conclusions.of(THROUGHPUT), conclusions.of(RACE)
    points = {point.micro_batch_size: point for point in (found.points if found else ())}
    pairs, winner = (race.pairs, race.winner) if race else ((), None)

    def make(each: Candidate) -> Row:
        size = each.global_batch_size
        is_advised = advice is not None and size == advice.global_batch_size
        is_base = facts is not None and size == facts.base_batch_size
        # The advised one's is as the headline says.
        is_won = is_advised and winner is not None and winner.global_batch_size == size
        return Row(
            RECOMMENDED * is_advised + BASE * is_base,
            each,
            points.get(size) if each.gradient_accumulation_steps == 1 else None,
            winner if is_won else choose_best(pairs, size),
        )

    rows = [
        row
        for row in map(make, () if advice is None else advice.candidates)
        if row.mark or row.point or (row.candidate.relative_time or 0.0) <= _MOST_RELATIVE_TIME
    ]
    covered = {row.candidate.micro_batch_size for row in rows if row.point is not None}
    for size, point in points.items():
        if size not in covered:
            step_s = point.step_s.point or 0.0
            split = {"micro_batch_size": size, "gradient_accumulation_steps": 1}
            rows.append(make(Candidate(global_batch_size=size, step_s=step_s, **split)))
    rows.sort(key=lambda row: (not row.mark, row.trial is None, row.point is None))
    return tuple(sorted(rows[:MAX_ROWS], key=lambda row: row.sizes))


def draw_up_batches(rows: Sequence[Row], *, sample_unit: str, is_loop: bool = False) -> Table:
    """Return the table, by batch; a column that no row could fill is left out."""
    has_energy = any(row.energy_j is not None for row in rows)
    has_loop = not is_loop and any(row.loop_sign < 0 for row in rows)
    has_times = any(row.trial or row.candidate.relative_time is not None for row in rows)
    missing = "-" if has_energy else NOT_MEASURED  # which energy leaves no place for
    speeds = ["" if row.point is None else format_spread(row.point.samples_per_s) for row in rows]
    if not has_loop:  # one column for both, so what is predicted is as others slowed the measured
        speeds = [each or near for each, near in zip(speeds, _level_speeds(rows), strict=True)]
    columns = _list_columns(rows, f"{sample_unit}s/s", speeds, missing)
    if has_loop and not has_energy:
        columns.append(("in your loop", [_predict(row.loop_speed) or missing for row in rows]))
    if has_energy:
        energies_j = [row.energy_j for row in rows]
        written = [missing if each is None else format_number(each) for each in energies_j]
        columns.append((f"J/{sample_unit}", written))
    if has_times:
        columns.append(("time to train", [_write_time(row) for row in rows]))
    confidences = {row.point.samples_per_s.confidence for row in rows if row.point is not None}
    is_faster = any(row.loop_sign > 0 for row in rows)
    legend = {
        "b your base batch": any(BASE in row.mark for row in rows),
        "samples/s: without loading": has_loop,
        "in your loop: as if nothing else ran": has_loop and is_faster,
        "- not measured": has_energy and any(row.energy_j is None for row in rows),
        "~ predicted, not measured": _has_predicted(columns),
        **{f"± {format_percent(each, decimals=0)} interval": True for each in sorted(confidences)},
        "time to train: in your loop, over your own pair's": has_times,
    }
    return _draw_up(columns, rows, legend, is_narrow=has_energy or has_loop)


def draw_up_few(rows: Sequence[Row], *, sample_unit: str) -> Table:
    """Return the rows around the advised one for the first screen, in the user's loop.

    Marked rows come first, then those that were trained, then the nearest. The bar is the time to
    train: shorter is better, half of its width is the base pair's.
    """
    marked = [row.candidate.global_batch_size for row in rows if row.mark]
    centre = math.log(marked[-1] if marked else rows[-1].candidate.global_batch_size)

    def rank(row: Row) -> tuple[bool, bool, float]:
        distance = abs(math.log(row.candidate.global_batch_size) - centre)
        return not row.mark, row.trial is None, distance

    few = sorted(sorted(rows, key=rank)[:_FEW_ROWS], key=lambda row: row.sizes[0])
    columns = _list_columns(few, f"{sample_unit}s/s", [_write_speed(row) for row in few], "-")
    if any(row.time[1].point is not None for row in few):
        columns.append(("time to same loss", [_write_time(row, with_span=True) for row in few]))
    legend = {
        "b your base": any(BASE in row.mark for row in few),
        "~ predicted, times to a factor of 2": _has_predicted(columns),
        "in your loop": len(few) > 1,
    }
    columns.append(("", [draw_bar(row.time[1].point) for row in few]))
    table = _draw_up(columns, few, legend, is_narrow=True)
    return replace(table, columns=(*table.columns[:-1], Column(justify="left")))


def _list_columns(
    rows: Sequence[Row], unit: str, speeds: Sequence[str], missing: str
) -> list[tuple[str, list[str]]]:
    """Return batch, accumulation and memory, as far as any row has them, and the speeds."""
    columns = [("batch", [format_count(row.candidate.global_batch_size) for row in rows])]
    splits = [row.candidate.split for row in rows]
    if any(count > 1 for _, count in splits):
        columns.append(("as", [f"{size} × {count}" for size, count in splits]))
    if any(row.point is not None and row.point.peak_bytes is not None for row in rows):
        columns.append(("memory", [row.memory or missing for row in rows]))
    return [*columns, (unit, [speed or missing for speed in speeds])]


def _has_predicted(columns: Sequence[tuple[str, list[str]]]) -> bool:
    return any(cell.startswith("~") for _, cells in columns for cell in cells)


def _draw_up(
    columns: Sequence[tuple[str, list[str]]],
    rows: Sequence[Row],
    legend: dict[str, bool],
    *,
    is_narrow: bool,
) -> Table:
    """Return the table with what its marks mean, the ones in use only."""
    marks = [row.mark for row in rows]
    in_use = {"> recommended": any(RECOMMENDED in mark for mark in marks), **legend}
    text = "; ".join(text for text, is_used in in_use.items() if is_used)
    return draw_up(columns, marks=marks, legend=text, is_narrow=is_narrow)


def draw_bar(ratio: float | None) -> str:
    """Return a bar as long as the ratio, full at twice, with a point beyond that."""
    if ratio is None:
        return ""
    if ratio > 2.0:
        return "█" * (_BAR_WIDTH - 1) + ">"
    halves = round(ratio * _BAR_WIDTH)
    return "█" * (halves // 2) + "▌" * (halves % 2)


def _predict(speed: float | None) -> str:
    return "" if speed is None else f"~ {format_number(speed)}"


def _level_speeds(rows: Sequence[Row]) -> list[str]:
    """Return the speeds by the step that decides, as far below it as those measured beside them."""
    logs = {
        row.candidate.micro_batch_size: math.log(row.own_speed / row.loop_speed)
        for row in rows
        if row.own_speed and row.loop_speed
    }
    sizes = sorted(logs)
    values = [logs[size] for size in sizes]

    def level(row: Row) -> float | None:
        if row.loop_speed is None or not sizes:
            return row.loop_speed
        return row.loop_speed * math.exp(interpolate(row.sizes[1], sizes, values))

    return [_predict(level(row)) for row in rows]


def _write_speed(row: Row) -> str:
    """Return the speed by the step that decides; without `~` where that is as it was measured."""
    speed = row.loop_speed or row.own_speed
    is_measured = row.own_speed is not None and not row.loop_sign
    return format_number(speed) if speed is not None and is_measured else _predict(speed)


def _write_time(row: Row, *, with_span: bool = False) -> str:
    mark, time = row.time
    if time.point is None:
        return NOT_MEASURED
    text = f"{mark}{format_ratio(time.point)}"
    if not with_span or time.low is None or time.high is None:
        return text
    return f"{text} ({format_figure(time.low, 2)} to {format_figure(time.high, 2)})"
