"""The words for schedules of a batch that grows, and the table to paste."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from advisor.advice.data import Schedule, ScheduleItem
from advisor.advice.notation import BatchSizeTable
from advisor.statistics import Estimate
from advisor.telling import Row
from advisor.units import count_of, format_count, format_figure, format_interval, format_percent

#: Gain below which it is written as none.
_LEAST_TOLD_FRACTION = 0.0005
_SCHEDULES = {"noise": "Schedule", "trained": "Late switch"}


def list_schedules(schedules: Sequence[Schedule]) -> Iterator[Row]:
    """Yield a row for each schedule considered and for each of its items."""
    for schedule in schedules:
        label = _SCHEDULES.get(schedule.kind, "Decay swap")
        yield Row(label, describe_schedule(schedule))
        yield from (Row(label, _describe_item(item)) for item in schedule.items)
        if schedule.items:
            yield Row(label, f"as a table: {_describe_table(schedule.items)}")


def write_table(items: Sequence[ScheduleItem]) -> str:
    """Return the batches of a schedule in samples, as `BatchSizeSchedule` and Megatron read them.

    Rates that change at the same batch are no part of it.
    """
    sizes = groupby(items, key=lambda item: item.global_batch_size)
    return str(BatchSizeTable(tuple((next(run).from_samples, size) for size, run in sizes)))


def _describe_table(items: Sequence[ScheduleItem]) -> str:
    """Return what follows the table: the accumulation, or the loader where passes are larger."""
    table, first = write_table(items), items[0].micro_batch_size
    if all(item.micro_batch_size == first for item in items):
        return f'BatchSizeSchedule("{table}", ...)'
    return (
        f'"{table}", in passes of the size given: the loader\'s batch changes there, since '
        "accumulation, as by BatchSizeSchedule, makes no sample faster"
    )


def describe_schedule(schedule: Schedule) -> str:
    """Return whether it is advised, why, what it saves, and what it rests on."""
    is_trained = schedule.gain_interval is not None
    advised = "advised" if is_trained else "by the law alone"
    parts = [f"{advised if schedule.items else 'not advised'}: {schedule.reason}"]
    if schedule.untrained_because:
        parts.append(f"not trained: {schedule.untrained_because}")
    parts += [gain] if (gain := _describe_gain(schedule)) else []
    if schedule.measured_to_step is not None:
        start, end = schedule.measured_from_step or 0, schedule.measured_to_step
        span = f"step {format_count(start)} to {format_count(end)}"
        parts.append(f"the noise was measured from {span}, beyond it nothing is known")
    if schedule.items:
        parts.append(schedule.rate_note or "no rates, since none was run to scale from")
        if schedule.rate_note and not is_trained:
            parts.append("not run")
    return "; ".join(parts)


def _describe_gain(schedule: Schedule) -> str:
    """Return what it saves, as trained or by the law; empty where that is not known."""
    gain, near = schedule.gain_fraction, schedule.gain_interval
    if gain is None:
        return ""
    if near is not None:
        ratio = Estimate(1.0 - gain, 1.0 - (near.high or 0.0), 1.0 - (near.low or 0.0))
        took = f"it took {format_interval(ratio)} × the time at"
        if schedule.starts:
            return f"trained from {count_of(schedule.starts, 'start')}, {took} the advised batch"
        return f"read from starts that did not choose it, {took} the best constant batch"
    if gain < 0.0:
        more = format_percent(-gain, decimals=1)
        return f"predicted to take {more} more time than the advised batch"
    if not schedule.items and gain < _LEAST_TOLD_FRACTION:
        return ""  # as the reason says
    saved = f"predicted to save {format_percent(gain, decimals=1)} of the time"
    if schedule.gain_over_advised_fraction is None:
        return f"{saved} at the advised batch"
    over = format_percent(schedule.gain_over_advised_fraction, decimals=1)
    return f"{saved} at the best constant batch, {over} at the advised one"


def _describe_item(item: ScheduleItem) -> str:
    batch = f"batch {format_count(item.global_batch_size)}"
    if item.gradient_accumulation_steps > 1:
        batch += f" ({item.micro_batch_size} × {item.gradient_accumulation_steps})"
    rate = "" if item.learning_rate is None else f", rate {format_figure(item.learning_rate)}"
    samples = count_of(item.from_samples, "sample")
    return f"from step {format_count(item.from_step)} ({samples}): {batch}{rate}"
