"""The answer in one line, what to set with it, what to expect, and why."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from advisor.advice.batch_rows import choose_rows
from advisor.advice.batch_table import draw_up_batches
from advisor.advice.charts import draw_charts
from advisor.advice.data import SCENARIO, LimitingFactor, Recommendation, Schedule, ScheduleItem
from advisor.advice.frontier_tell import chart_frontier, describe_frontier, draw_up_frontier
from advisor.advice.notation import BatchSizeTable
from advisor.advice.plan import ADVICE, FRONTIER, SCHEDULES
from advisor.engine.budget import TIME_PLAN
from advisor.engine.conclusions import Conclusions
from advisor.engine.record import Failure
from advisor.memory.plan import MEMORY
from advisor.race.charts import chart_pairs
from advisor.race.data import Race
from advisor.race.plan import RACE
from advisor.race.tell import describe_race, name_pair
from advisor.rate.data import LR_RANGES
from advisor.rate.tell import describe_changes, describe_learning_rate, describe_range
from advisor.telling import Headline, Passage, Row, Told
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.tell import describe_saturation
from advisor.units import (
    NOT_MEASURED,
    begin_sentence,
    count_of,
    format_count,
    format_duration,
    format_figure,
    format_percent,
    format_range,
)

#: What limits the batch, after "Limited by".
LIMITS: dict[LimitingFactor, str] = {
    "memory": "memory: larger batches do not fit",
    "kernel": "a kernel that takes no larger batch",
    "throughput": "throughput: larger batches are no faster per sample",
    "noise": "gradient noise: larger batches would save too few steps",
    "dataset": "the dataset: it is too small for larger batches",
    "user": "a limit that you set",
    "model": "the model: it runs none of the larger sizes tried",
    "time": "the time of the run: larger batches were not timed",
}


def head_run(conclusions: Conclusions) -> Headline:
    """Return the answer, or what keeps the run from having one, and what was cut short."""
    headline, failures = _head_answer(conclusions), conclusions.record.failures
    return replace(headline, remarks=(*headline.remarks, *map(_describe_failure, failures)))


def _describe_failure(failure: Failure) -> str:
    end = f"{failure.stage.capitalize()} was cut short: {failure.message.rstrip('.')}."
    return f"{end} {failure.next_step}" if failure.next_step else end


def _head_answer(conclusions: Conclusions) -> Headline:
    record, advice = conclusions.record, conclusions.of(ADVICE)
    if advice is None or advice.basis == "untried":
        return _head_untrained(conclusions, advice)
    factors = [advice.micro_batch_size, advice.gradient_accumulation_steps]
    if advice.data_parallel_size > 1:
        factors.append(advice.data_parallel_size)
    product = " × ".join(format_count(factor) for factor in factors)
    rate, batch = advice.learning_rate.value, f"batch {format_count(advice.global_batch_size)}"
    advised = (
        "learning rate not advised" if rate is None else f"learning rate {format_figure(rate)}"
    )
    verb = "Stay" if advice.basis == "stay" else "Train"
    answer = f"{verb} with {batch} (micro-batch {product}), {advised}"
    if advice.basis == "stay":
        remarks = [_explain_stay(conclusions.of(RACE))]
    else:
        limit = f"Limited by {LIMITS[advice.limiting_factor]}."
        remarks = [_describe_gain(conclusions, advice), limit]
    if not record.complete:
        answer += " (from an incomplete run)"
        remarks.append(f"The run is incomplete: {record.why_missing}.")
    return Headline(answer=answer, remarks=tuple(each for each in remarks if each))


def _explain_stay(race: Race | None) -> str:
    if race is None or not race.does_base_train:
        return "It does not train."
    if race.pairs:
        return "Nothing that was tried was surely faster."
    return "There was no time to train another and to confirm it."


def _head_untrained(conclusions: Conclusions, advice: Recommendation | None) -> Headline:
    """Return what memory and speed say, as such: no pair was trained."""
    memory, found = conclusions.of(MEMORY), conclusions.of(THROUGHPUT)
    largest = None if memory is None else memory.max_micro_batch_size
    if largest is None or found is None or not found.points:
        why, plan = _why_none(conclusions), conclusions.record.get(TIME_PLAN)
        more: tuple[str, ...] = ()
        if plan is not None and plan.budget_s < plan.needed_s:
            more = (f"Raise --budget: this model takes about {format_duration(plan.needed_s)}.",)
        return Headline(answer=f"No batch size recommended: {why}", remarks=more, missing="")
    fits = f"Micro-batches of up to {format_count(largest)} were seen to fit."
    speed = describe_saturation(found.saturation)
    why = _why_none(conclusions)
    answer = f"No advice on training: {why}"
    if advice is not None:
        answer = f"Stay with batch {format_count(advice.global_batch_size)}: {why}"
    return Headline(
        answer=answer,
        remarks=(fits, f"{begin_sentence(speed)}."),
        missing=None if _is_inherent(conclusions) else "",
    )


def _is_inherent(conclusions: Conclusions) -> bool:
    """Return whether no longer run of this model file would have told more."""
    facts = conclusions.record.workload
    if facts is None or not conclusions.record.complete:
        return False
    return facts.is_step_only or not facts.has_dataset


def _describe_gain(conclusions: Conclusions, advice: Recommendation) -> str:
    """Return the time over the base pair's, measured or by the law; empty where not known."""
    ratio, race = advice.expected.time_ratio, conclusions.of(RACE)
    if ratio is None or ratio.point is None or race is None or race.base is None:
        return ""
    base = name_pair(race.base.global_batch_size, race.base.learning_rate)
    whose = "your own pair" if race.base.is_own else "the pair it started from"
    origin = "measured" if advice.expected.is_measured else "predicted, not tried"
    span = f"{format_figure(ratio.low or 0.0)} to {format_figure(ratio.high or math.inf)}"
    times = f"{format_figure(ratio.point)} ({span}) times as long"
    return f"Training takes {times} as with {whose}, {base}: {origin}."


def tell_batches(conclusions: Conclusions) -> Told:
    """Tell the table of batches, and all charts over them."""
    facts, advice = conclusions.record.workload, conclusions.of(ADVICE)
    base, unit = (None, "sample") if facts is None else (facts.base_batch_size, facts.sample_unit)
    is_loop = facts is not None and facts.script is not None
    rows = choose_rows(advice, conclusions.of(THROUGHPUT), conclusions.of(RACE), base)
    return Told(
        tables=(draw_up_batches(rows, sample_unit=unit, is_loop=is_loop),) if rows else (),
        charts=tuple(draw_charts(conclusions, rows)),
    )


def tell_advice(conclusions: Conclusions) -> Told:
    """Tell what to set, what to expect, the reasons and the warnings."""
    advice = conclusions.of(ADVICE)
    if advice is None:  # no warning tells what disturbed the memory search
        memory = conclusions.of(MEMORY)
        disturbances = () if memory is None else memory.disturbances
        return Told(rows=tuple(Row("Memory", each) for each in disturbances))
    race = conclusions.of(RACE)
    passages = (
        Passage(title="Why", items=advice.reasons),
        Passage(title="Warnings", items=advice.warnings),
        Passage(title="To paste", code=advice.snippet),
    )
    return Told(
        rows=tuple(_list_settings(conclusions, advice)),
        passages=tuple(passage for passage in passages if passage.items or passage.code),
        charts=() if race is None else (chart_pairs(race),),
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
    race = conclusions.of(RACE)
    if not record.complete:
        return f"the run is incomplete: {record.why_missing}"
    if memory is None or memory.max_micro_batch_size is None:
        return "no size was seen to fit"
    if throughput is None or not throughput.points:
        return "throughput was not measured"
    if given is not None:
        return f"batch {format_count(given)} was given, and no micro-batch timed makes it up"
    if race is None or race.reason:
        return "no pair was trained" if race is None else race.reason
    return "your own batch was not measured, and nothing is advised in its place"


def _list_settings(conclusions: Conclusions, advice: Recommendation) -> Iterator[Row]:
    """Yield the rate, the other settings and what to expect of them."""
    record = conclusions.record
    yield Row("Learning rate", describe_learning_rate(advice.learning_rate))
    yield from (Row("Range test", line) for line in describe_range(record.all(LR_RANGES)))
    yield from (Row("Trial", line) for line in describe_race(conclusions.of(RACE)))
    changes = describe_changes(advice.optimizer_changes)
    if changes:
        yield Row("Also set", changes)
    near = format_range(advice.interval.low, advice.interval.high)
    if near != NOT_MEASURED and advice.interval.low != advice.interval.high:
        yield Row("Near-best", f"batch {near}: trained within 5 % of the advised one's time")
    gain = _describe_gain(conclusions, advice)
    if gain:
        yield Row("Expected", gain.rstrip("."))


_SCHEDULES = {"noise": "Schedule", "trained": "Late switch"}


def list_schedules(schedules: Sequence[Schedule]) -> Iterator[Row]:
    """Yield a row for each schedule considered and for each of its items."""
    for schedule in schedules:
        label = _SCHEDULES.get(schedule.kind, "Decay swap")
        yield Row(label, describe_schedule(schedule))
        yield from (Row(label, _describe_item(item)) for item in schedule.items)
        if schedule.items:
            yield Row(label, f'as a table: BatchSizeSchedule("{write_table(schedule.items)}", ...)')


def write_table(items: Sequence[ScheduleItem]) -> str:
    """Return the batches of a schedule in samples, as `BatchSizeSchedule` and Megatron read them.

    Rates that change at the same batch are no part of it.
    """
    sizes = groupby(items, key=lambda item: item.global_batch_size)
    return str(BatchSizeTable(tuple((next(run).from_samples, size) for size, run in sizes)))


def describe_schedule(schedule: Schedule) -> str:
    """Return whether it is advised, why, what it saves, and what it rests on."""
    advised = "advised" if schedule.items else "not advised"
    parts = [f"{advised}: {schedule.reason}"]
    gain, over_advised = schedule.gain_fraction, schedule.gain_over_advised_fraction
    if gain is not None and schedule.gain_interval is not None:
        near = schedule.gain_interval
        low, high = (format_percent(end or 0.0, decimals=1) for end in (near.low, near.high))
        saved = f"{format_percent(gain, decimals=1)} ({low} to {high})"
        parts.append(
            f"read from starts that did not choose it, it saves {saved} of the time at the best "
            "constant batch"
        )
    elif gain is not None:
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
