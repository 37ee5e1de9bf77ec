"""The answer in one line, what to set with it, what to expect, and why."""

import math
import shlex
from dataclasses import replace

from advisor.advice.batch_table import choose_rows, draw_up_batches, draw_up_few
from advisor.advice.charts import chart_pairs, draw_charts
from advisor.advice.data import SCENARIO, LimitingFactor, Recommendation
from advisor.advice.frontier_tell import chart_frontier, describe_frontier, draw_up_frontier
from advisor.advice.plan import ADVICE, FRONTIER
from advisor.advice.schedule_tell import list_schedules
from advisor.advice.schedules import SCHEDULES
from advisor.engine.budget import TIME_PLAN
from advisor.engine.record import Conclusions, Failure, Record
from advisor.memory.plan import MEMORY
from advisor.race.data import Race
from advisor.race.plan import RACE, choose_best
from advisor.race.tell import describe_race, name_pair
from advisor.rate.range_data import LR_RANGES
from advisor.rate.tell import describe_changes, describe_learning_rate, describe_range
from advisor.telling import Headline, Passage, Row, Screen, Told
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.tell import describe_saturation
from advisor.units import (
    begin_sentence,
    format_count,
    format_duration,
    format_figure,
    format_range,
    format_ratio,
)

#: What limits the batch, after "Limited by".
LIMITS: dict[LimitingFactor, str] = {
    "memory": "memory: larger batches do not fit",
    "kernel": "a kernel that takes no larger batch",
    "throughput": "throughput: larger batches are no faster per sample",
    "noise": "gradient noise: larger batches would save too few steps",
    "dataset": "the dataset: it is too small for larger batches",
    "script": "the script: it ends before enough steps of larger batches",
    "user": "a limit that you set",
    "model": "the model: it runs none of the larger sizes tried",
    "time": "the time of the run: larger batches were not timed",
}
#: Warnings on the first screen.
_MOST_CAUTIONS = 2
#: Ratio of times from which on a pair that did not surely win asks for more time, and how much.
_MAY_BE, _SURER = 0.9, 2.0
#: Option after which a longer budget is put into the command that was typed.
_BUDGET = "--budget"


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
    factors += [advice.data_parallel_size] * (advice.data_parallel_size > 1)
    rate, is_kept = advice.learning_rate.value, advice.basis == "stay"
    answer = (
        f"{'Stay' if is_kept else 'Train'} with batch {format_count(advice.global_batch_size)} "
        f"(micro-batch {' × '.join(map(format_count, factors))}), learning rate "
        f"{'not advised' if rate is None else format_figure(rate)}"
    )
    remarks = [_describe_gain(conclusions, advice), f"Limited by {LIMITS[advice.limiting_factor]}."]
    if is_kept:
        remarks = [_explain_stay(conclusions.of(RACE))]
    if not record.complete:
        answer += " (from an incomplete run)"
        remarks.append(f"The run is incomplete: {record.why_missing}.")
    return Headline(answer=answer, remarks=tuple(filter(None, remarks)))


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
    record, facts = conclusions.record, conclusions.record.workload
    plan = record.get(TIME_PLAN)
    memory, found = conclusions.of(MEMORY), conclusions.of(THROUGHPUT)
    largest, why = memory.max_micro_batch_size if memory else None, _why_none(conclusions)
    if largest is None or found is None or not found.points:
        more: tuple[str, ...] = ()
        if not record.has_failed and plan is not None and plan.budget_s < plan.needed_s:
            more = (f"Raise --budget: this model takes about {format_duration(plan.needed_s)}.",)
        return Headline(answer=f"No batch size recommended: {why}", remarks=more, missing="")
    answer = "No advice on training"
    if advice is not None:
        answer = f"Stay with batch {format_count(advice.global_batch_size)}"
    # No longer run of a model file that cannot be trained would have told more.
    is_inherent = facts is not None and (facts.is_step_only or not facts.has_dataset)
    return Headline(
        answer=f"{answer}: {why}",
        remarks=(
            f"Micro-batches of up to {format_count(largest)} were seen to fit.",
            f"{begin_sentence(describe_saturation(found.saturation))}.",
        ),
        missing=None if is_inherent and record.complete else "",
    )


def _describe_gain(conclusions: Conclusions, advice: Recommendation) -> str:
    """Return the time over the base pair's, measured or by the law; empty where not known."""
    ratio, race = advice.expected.time_ratio, conclusions.of(RACE)
    if ratio is None or ratio.point is None or race is None or race.base is None:
        return ""
    base = name_pair(race.base.key)
    whose = "your own pair" if race.base.is_own else "the pair it started from"
    span = f"{format_figure(ratio.low or 0.0)} to {format_figure(ratio.high or math.inf)}"
    times = f"{format_figure(ratio.point)} ({span}) times as long"
    return f"Training takes {times} as with {whose}, {base}: {_name_origin(advice)}."


def _name_origin(advice: Recommendation) -> str:
    return "measured" if advice.expected.is_measured else "predicted, not tried"


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
    advice, race, record = conclusions.of(ADVICE), conclusions.of(RACE), conclusions.record
    if advice is None:  # no warning tells what disturbed the memory search
        memory = conclusions.of(MEMORY)
        disturbances = () if memory is None else memory.disturbances
        return Told(rows=tuple(Row("Memory", each) for each in disturbances))
    near, near_best = advice.interval, ""
    if near.low != near.high:
        span = format_range(near.low, near.high)
        near_best = f"batch {span}: trained within 1.05 × the advised one's time"
    rows = (
        Row("Learning rate", describe_learning_rate(advice.learning_rate)),
        *(Row("Range test", line) for line in describe_range(record.all(LR_RANGES))),
        *(Row("Trial", line) for line in describe_race(race)),
        Row("Also set", describe_changes(advice.optimizer_changes) or ""),
        Row("Near-best", near_best),
        Row("Expected", _describe_gain(conclusions, advice).rstrip(".")),
    )
    passages = (
        Passage(title="Why", items=advice.reasons),
        Passage(title="Warnings", items=advice.warnings),
        Passage(title="To paste", code=advice.snippet),
    )
    return Told(
        rows=tuple(row for row in rows if row.text),
        passages=tuple(passage for passage in passages if passage.items or passage.code),
        charts=() if race is None else (chart_pairs(race),),
    )


def tell_plans(conclusions: Conclusions) -> Told:
    """Tell time against cost, and whether to let the batch grow."""
    scenario, frontier = conclusions.record.get(SCENARIO), conclusions.of(FRONTIER)
    known = conclusions.of(SCHEDULES)
    schedules = tuple(list_schedules(known or ()))
    if frontier is None:
        return Told(rows=schedules)
    is_drawn = scenario is not None and scenario.asks_for_frontier and frontier.points
    return Told(
        rows=(Row("Frontier", describe_frontier(frontier)), *schedules),
        tables=(draw_up_frontier(frontier, conclusions.of(ADVICE)),) if is_drawn else (),
        charts=(chart_frontier(frontier),),
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


def draw_up_screen(conclusions: Conclusions, *, is_verified: bool) -> Screen:
    """Return the first screen: what to type, what it gains, what limits it, and what next."""
    record, advice, race = conclusions.record, conclusions.of(ADVICE), conclusions.of(RACE)
    headline, rows = head_run(conclusions), choose_rows(conclusions)
    unit = "sample" if record.workload is None else record.workload.sample_unit
    settings: tuple[str, ...] = ()
    lines = list(headline.remarks)
    if rows:  # else what failed is the answer
        lines = lines[: len(lines) - len(record.failures)]
    if advice is not None and advice.basis not in {"untried", "stay"}:
        settings, ratio = advice.settings, advice.expected.time_ratio
        if lines and ratio is not None and ratio.point is not None and race and race.base:
            whose = f"{'your ' * race.base.is_own}{name_pair(race.base.key)}"
            low, high = ratio.low or 0.0, ratio.high or math.inf
            span = f"{format_figure(low, 2)} to {format_figure(high, 2)}"
            gain = f"Takes {format_ratio(ratio.point)} ({span}) the time of {whose}"
            lines[0] = f"{gain}: {_name_origin(advice)}."
    return Screen(
        answer=headline.answer,
        settings=settings,
        lines=tuple(lines),
        cautions=() if advice is None else advice.cautions[:_MOST_CAUTIONS],
        table=draw_up_few(rows, sample_unit=unit) if rows else None,
        next_step=choose_next_step(conclusions, is_verified=is_verified),
    )


def tell_so_far(conclusions: Conclusions) -> str:
    """Return what would be advised now; empty while no pair but the user's was trained."""
    advice, race = conclusions.of(ADVICE), conclusions.of(RACE)
    if advice is None or race is None or not race.pairs:
        return ""
    rate, ratio = advice.learning_rate.value, advice.expected.time_ratio
    text = "so far: " + "stay with " * (advice.basis == "stay")
    text += f"batch {format_count(advice.global_batch_size)}"
    text += "" if rate is None else f" at rate {format_figure(rate)}"
    if advice.basis == "stay" or ratio is None or ratio.point is None:
        return text
    return f"{text}, {format_ratio(ratio.point)} the time"


def choose_next_step(conclusions: Conclusions, *, is_verified: bool) -> str:
    """Return the command that tells more: a longer run, or a longer training of the advice."""
    record, facts = conclusions.record, conclusions.record.workload
    advice, race, plan = conclusions.of(ADVICE), conclusions.of(RACE), record.get(TIME_PLAN)
    basis, pairs = advice and advice.basis, race.pairs if race else ()
    # A longer race may tell more where nothing was tried, or what is ahead was not judged.
    is_open = not pairs or any(pair.standing == "ahead" for pair in pairs)
    is_settled = race is not None and (race.winner is not None or race.does_base_train is False)
    is_open = advice is None or (is_open and not is_settled)
    if facts is not None and facts.dataset_size is not None:
        is_open &= (facts.base_batch_size or 0) <= facts.dataset_size  # else it cannot be trained
    is_short = plan is not None and plan.budget_s < plan.needed_s
    if plan is not None and is_short and is_open and not record.has_failed:
        return write_longer(record, plan.needed_s)
    ratios = [pair.time_ratio for pair in pairs if pair.time_ratio is not None]
    may_win = any(each.point is not None and each.point <= _MAY_BE for each in ratios)
    if basis == "stay" and may_win and record.elapsed_s is not None:
        return write_longer(record, _SURER * record.elapsed_s)
    if basis == "winner" and facts is not None and not facts.script and not is_verified:
        return f"bsadvisor verify last {shlex.quote(facts.file)}"
    return ""


def write_longer(record: Record, needed_s: float) -> str:
    """Return the command that was typed, with the time that it takes."""
    arguments = record.command.argv[1:]
    at = arguments.index("--") if "--" in arguments else len(arguments)  # then the script's own
    kept = [
        each
        for before, each in zip(("", *arguments), arguments[:at], strict=False)
        if _BUDGET not in {before, each} and not each.startswith(f"{_BUDGET}=")
    ]
    minutes = f"{_BUDGET}={math.ceil(needed_s / 60.0)}m"
    return shlex.join(["bsadvisor", *kept, minutes, *arguments[at:]])
