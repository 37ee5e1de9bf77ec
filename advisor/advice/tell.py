"""The answer in one line, what to set with it, what to expect, and why."""

import math
from collections.abc import Iterator
from dataclasses import replace

from advisor.advice.batch_rows import choose_rows
from advisor.advice.batch_table import draw_up_batches
from advisor.advice.charts import draw_charts
from advisor.advice.data import SCENARIO, LimitingFactor, Recommendation
from advisor.advice.frontier_tell import chart_frontier, describe_frontier, draw_up_frontier
from advisor.advice.plan import ADVICE, FRONTIER
from advisor.advice.schedule_tell import list_schedules
from advisor.advice.schedules import SCHEDULES
from advisor.engine.budget import TIME_PLAN
from advisor.engine.conclusions import Conclusions
from advisor.engine.record import Failure
from advisor.memory.plan import MEMORY
from advisor.race.charts import chart_pairs
from advisor.race.data import Race
from advisor.race.plan import RACE, choose_best
from advisor.race.tell import describe_race, name_pair
from advisor.rate.range_data import LR_RANGES
from advisor.rate.tell import describe_changes, describe_learning_rate, describe_range
from advisor.telling import Headline, Passage, Row, Told
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.tell import describe_saturation
from advisor.units import (
    NOT_MEASURED,
    begin_sentence,
    format_count,
    format_duration,
    format_figure,
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
    ahead = choose_best([pair for pair in race.pairs if pair.standing == "ahead"])
    if ahead is not None:
        return f"Nothing that was tried was surely faster; {name_pair(ahead.key)} may be."
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
    base = name_pair(race.base.key)
    whose = "your own pair" if race.base.is_own else "the pair it started from"
    origin = "measured" if advice.expected.is_measured else "predicted, not tried"
    span = f"{format_figure(ratio.low or 0.0)} to {format_figure(ratio.high or math.inf)}"
    times = f"{format_figure(ratio.point)} ({span}) times as long"
    return f"Training takes {times} as with {whose}, {base}: {origin}."


def tell_batches(conclusions: Conclusions) -> Told:
    """Tell the table of batches, and all charts over them."""
    rows, facts = choose_rows(conclusions), conclusions.record.workload
    unit = "sample" if facts is None else facts.sample_unit
    is_loop = facts is not None and facts.script is not None
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
        yield Row("Near-best", f"batch {near}: trained within 1.05 × the advised one's time")
    gain = _describe_gain(conclusions, advice)
    if gain:
        yield Row("Expected", gain.rstrip("."))
