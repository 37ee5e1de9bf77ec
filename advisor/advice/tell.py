"""The answer in one line, what to set with it, what to expect, and why."""

from collections.abc import Iterator, Sequence

from advisor.advice.batch_table import choose_rows, draw_up_batches
from advisor.advice.data import SCENARIO, LimitingFactor, Recommendation, Schedule, ScheduleItem
from advisor.advice.frontier_tell import chart_frontier, describe_frontier, draw_up_frontier
from advisor.advice.plan import ADVICE, FRONTIER, SCHEDULES
from advisor.engine.conclusions import Conclusions
from advisor.engine.record import Record
from advisor.memory.plan import MEMORY
from advisor.noise.plan import NOISE
from advisor.rate.data import LR_RANGES, TRIALS
from advisor.rate.tell import (
    describe_changes,
    describe_learning_rate,
    describe_range,
    describe_trials,
)
from advisor.telling import Chart, Datum, Headline, Line, Passage, Row, Told
from advisor.throughput.conclude import THROUGHPUT
from advisor.units import (
    NOT_MEASURED,
    count_of,
    format_count,
    format_figure,
    format_percent,
    format_range,
    format_ratio,
)

_LIMITS: dict[LimitingFactor, str] = {
    "memory": "memory: larger batches do not fit",
    "throughput": "throughput: larger batches are no faster per sample",
    "noise": "gradient noise: larger batches would save too few steps to pay for themselves",
    "dataset": "the dataset: it is too small for larger batches",
    "user": "a limit that you set",
}


def head_run(conclusions: Conclusions) -> Headline:
    """Return the answer, or what keeps the run from having one."""
    record, advice = conclusions.record, conclusions.of(ADVICE)
    if advice is None:
        why = _why_none(conclusions)
        return Headline(answer=f"No batch size recommended: {why}", missing="")
    factors = [advice.micro_batch_size, advice.gradient_accumulation_steps]
    if advice.data_parallel_size > 1:
        factors.append(advice.data_parallel_size)
    product = " × ".join(format_count(factor) for factor in factors)
    rate = advice.learning_rate.value
    advised = (
        "learning rate not advised" if rate is None else f"learning rate {format_figure(rate)}"
    )
    remarks = [f"Limited by {_LIMITS[advice.limiting_factor]}."]
    if not record.complete:
        advised += " (from an incomplete run)"
        remarks.append(f"The run is incomplete: {record.why_missing}.")
    return Headline(
        answer=f"Train with batch {format_count(advice.global_batch_size)} (micro-batch {product}),"
        f" {advised}",
        remarks=tuple(remarks),
    )


def tell_batches(conclusions: Conclusions) -> Told:
    """Tell the table of batches, and the predicted time to train at each."""
    facts, advice = conclusions.record.workload, conclusions.of(ADVICE)
    base, unit = (None, "sample") if facts is None else (facts.base_batch_size, facts.sample_unit)
    rows = choose_rows(advice, conclusions.of(THROUGHPUT), base)
    return Told(
        tables=(draw_up_batches(rows, sample_unit=unit),) if rows else (),
        charts=() if advice is None else (chart_time(advice),),
    )


def tell_advice(conclusions: Conclusions) -> Told:
    """Tell what to set, what to expect, the reasons and the warnings."""
    record, advice = conclusions.record, conclusions.of(ADVICE)
    if advice is None:  # no warning tells what disturbed the memory search
        memory = conclusions.of(MEMORY)
        disturbances = () if memory is None else memory.disturbances
        return Told(rows=tuple(Row("Memory", each) for each in disturbances))
    passages = (
        Passage(title="Why", items=advice.reasons),
        Passage(title="Warnings", items=advice.warnings),
        Passage(title="To paste", code=advice.snippet),
    )
    noise = conclusions.of(NOISE)
    goal = "speed" if noise is None or noise.status == "not_estimated" else "time to train"
    return Told(
        rows=tuple(_list_settings(record, advice, goal)),
        passages=tuple(passage for passage in passages if passage.items or passage.code),
    )


def tell_plans(conclusions: Conclusions) -> Told:
    """Tell time against cost, and whether to let the batch grow."""
    scenario, frontier = conclusions.record.get(SCENARIO), conclusions.of(FRONTIER)
    schedules = conclusions.of(SCHEDULES)
    rows = [] if frontier is None else [Row("Frontier", describe_frontier(frontier))]
    is_asked = scenario is not None and scenario.asks_for_frontier
    is_drawn = is_asked and frontier is not None and frontier.points
    return Told(
        rows=(*rows, *list_schedules(schedules or ())),
        tables=(draw_up_frontier(frontier, conclusions.of(ADVICE)),)
        if frontier is not None and is_drawn
        else (),
        charts=() if frontier is None else (chart_frontier(frontier),),
    )


def _why_none(conclusions: Conclusions) -> str:
    record, memory = conclusions.record, conclusions.of(MEMORY)
    throughput, given = conclusions.of(THROUGHPUT), record.command.limits.global_batch_size
    if not record.complete:
        return f"the run is incomplete: {record.why_missing}"
    if memory is None or memory.max_micro_batch_size is None:
        return "no size was seen to fit"
    if throughput is None or not throughput.points:
        return "throughput was not measured"
    if given is not None:
        return f"batch {format_count(given)} was given, and no micro-batch timed makes it up"
    return "the measurements do not support one"


def _list_settings(record: Record, advice: Recommendation, goal: str) -> Iterator[Row]:
    """Yield the rate, the other settings and what to expect of them."""
    yield Row("Learning rate", describe_learning_rate(advice.learning_rate))
    yield from (Row("Range test", line) for line in describe_range(record.all(LR_RANGES)))
    yield from (Row("Trial", line) for line in describe_trials(record.all(TRIALS)))
    changes = describe_changes(advice.optimizer_changes)
    if changes:
        yield Row("Also set", changes)
    near = format_range(advice.interval.low, advice.interval.high)
    if near != NOT_MEASURED:
        yield Row("Near-best", f"batch {near}: predicted within 5 % of the best {goal}")
    base = None if record.workload is None else record.workload.base_batch_size
    expected = describe_expected(advice, base)
    if expected:
        yield Row("Expected", expected)


def describe_expected(advice: Recommendation, base_batch_size: int | None) -> str:
    """Return time and cost beside the base batch, predicted and tried; empty where not known."""
    expected, base = advice.expected, "the base batch"
    if base_batch_size is not None:
        base = f"base batch {format_count(base_batch_size)}"
    parts = []
    if expected.time_ratio is not None:
        parts.append(f"{format_ratio(expected.time_ratio)} the time to train")
    if expected.cost_ratio is not None:
        parts.append(f"{format_ratio(expected.cost_ratio)} the cost")
    told = [f"{' and '.join(parts)} of {base}, predicted"] if parts else []
    tried = expected.trial_time_ratio
    if tried is not None and base_batch_size != advice.global_batch_size:
        told.append(f"in the trial {format_ratio(tried)} the time to the loss that {base} ends on")
    return "; ".join(told)


def chart_time(advice: Recommendation) -> Chart:
    """Return the predicted time to train over the batches."""
    time = tuple(
        Datum(x=one.global_batch_size, y=one.relative_time)
        for one in advice.candidates
        if one.relative_time is not None
    )
    return Chart(
        title="Predicted time to train",
        x_label="global batch, samples",
        y_label="over the best",
        lines=(Line("predicted", time),),
        marked=advice.global_batch_size,
    )


def list_schedules(schedules: Sequence[Schedule]) -> Iterator[Row]:
    """Yield a row for each schedule considered and for each of its items."""
    for schedule in schedules:
        label = "Schedule" if schedule.kind == "noise" else "Decay swap"
        yield Row(label, describe_schedule(schedule))
        yield from (Row(label, _describe_item(item)) for item in schedule.items)


def describe_schedule(schedule: Schedule) -> str:
    """Return whether it is advised, why, what it saves, and what it rests on."""
    advised = "advised" if schedule.items else "not advised"
    parts = [f"{advised}: {schedule.reason}"]
    gain, over_advised = schedule.gain_fraction, schedule.gain_over_advised_fraction
    if gain is not None:
        saved = f"predicted to save {format_percent(gain, decimals=1)} of the time"
        if over_advised is None:
            parts.append(f"{saved} at the advised batch")
        else:
            over = format_percent(over_advised, decimals=1)
            parts.append(f"{saved} at the best constant batch, {over} at the advised one")
    if schedule.measured_to_step is not None:
        start, end = schedule.measured_from_step or 0, schedule.measured_to_step
        span = f"step {format_count(start)} to {format_count(end)}"
        parts.append(f"the noise was measured from {span}, beyond it nothing is known")
    if schedule.items:
        parts.append(schedule.rate_note or "no rates, since none was run to scale from")
    return "; ".join(parts)


def _describe_item(item: ScheduleItem) -> str:
    batch = f"batch {format_count(item.global_batch_size)}"
    if item.gradient_accumulation_steps > 1:
        batch += f" ({item.micro_batch_size} × {item.gradient_accumulation_steps})"
    rate = "" if item.learning_rate is None else f", rate {format_figure(item.learning_rate)}"
    samples = count_of(item.from_samples, "sample")
    return f"from step {format_count(item.from_step)} ({samples}): {batch}{rate}"
