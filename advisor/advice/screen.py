"""The first screen of a run: what to type, what it gains, what limits it, and what next."""

import math
import shlex
from collections.abc import Iterator

from advisor.advice.batch_rows import choose_rows
from advisor.advice.batch_table import draw_up_few
from advisor.advice.data import Recommendation
from advisor.advice.plan import ADVICE
from advisor.advice.tell import LIMITS, head_run
from advisor.engine.budget import TIME_PLAN
from advisor.engine.conclusions import Conclusions
from advisor.engine.record import Record
from advisor.race.data import Race
from advisor.race.plan import RACE
from advisor.race.tell import name_pair
from advisor.telling import Screen
from advisor.units import format_count, format_figure, format_ratio

#: Warnings on the first screen.
_MOST_CAUTIONS = 2
#: Ratio of times from which on a pair that did not surely win asks for more time, and how much.
_MAY_BE, _SURER = 0.9, 2.0
#: Options after which a longer budget is put into the command that was typed.
_BUDGET = "--budget"


def draw_up_screen(conclusions: Conclusions, *, is_verified: bool) -> Screen:
    """Return the first screen of a run."""
    record, advice = conclusions.record, conclusions.of(ADVICE)
    headline = head_run(conclusions)
    rows = choose_rows(conclusions)
    unit = "sample" if record.workload is None else record.workload.sample_unit
    is_advised = advice is not None and advice.basis not in {"untried", "stay"}
    lines = [*_list_lines(conclusions, advice)] if is_advised and advice is not None else []
    if not is_advised:
        lines = [*headline.remarks[: len(headline.remarks) - len(record.failures)]]
    elif not record.complete:
        lines.append(f"The run is incomplete: {record.why_missing}.")
    return Screen(
        answer=headline.answer,
        settings=advice.settings if is_advised and advice is not None else (),
        lines=tuple(lines),
        cautions=() if advice is None else advice.cautions[:_MOST_CAUTIONS],
        table=draw_up_few(rows, sample_unit=unit) if rows else None,
        next_step=choose_next_step(conclusions, advice, is_verified=is_verified),
    )


def tell_so_far(conclusions: Conclusions) -> str:
    """Return what would be advised now; empty while no pair but the user's was trained."""
    advice, race = conclusions.of(ADVICE), conclusions.of(RACE)
    if advice is None or race is None or not race.pairs:
        return ""
    batch, rate = format_count(advice.global_batch_size), advice.learning_rate.value
    at = "" if rate is None else f" at rate {format_figure(rate)}"
    if advice.basis == "stay":
        return f"so far: stay with batch {batch}{at}"
    ratio = advice.expected.time_ratio
    gain = "" if ratio is None or ratio.point is None else f", {format_ratio(ratio.point)} the time"
    return f"so far: batch {batch}{at}{gain}"


def _list_lines(conclusions: Conclusions, advice: Recommendation) -> Iterator[str]:
    """Yield what it gains and what limits it, a line each."""
    ratio, race = advice.expected.time_ratio, conclusions.of(RACE)
    if ratio is not None and ratio.point is not None and race is not None and race.base is not None:
        whose = f"{'your ' * race.base.is_own}{name_pair(race.base.key)}"
        origin = "measured" if advice.expected.is_measured else "predicted, not tried"
        low, high = ratio.low or 0.0, ratio.high or math.inf
        span = f"{format_figure(low, 2)} to {format_figure(high, 2)}"
        yield f"Takes {format_ratio(ratio.point)} ({span}) the time of {whose}: {origin}."
    yield f"Limited by {LIMITS[advice.limiting_factor]}."


def choose_next_step(
    conclusions: Conclusions, advice: Recommendation | None, *, is_verified: bool
) -> str:
    """Return the command that tells more: a longer run, or a longer training of the advice."""
    record, race = conclusions.record, conclusions.of(RACE)
    plan = record.get(TIME_PLAN)
    is_open = advice is None or race is None or _is_open(race)
    if plan is not None and is_open and plan.budget_s < plan.needed_s:
        return write_longer(record, plan.needed_s)
    facts = record.workload
    if _may_win(advice, race) and record.elapsed_s is not None:
        return write_longer(record, _SURER * record.elapsed_s)
    can_verify = facts is not None and not facts.script and not is_verified
    if advice is not None and advice.basis == "winner" and facts is not None and can_verify:
        return f"bsadvisor verify last {facts.file}"
    return ""


def _is_open(race: Race) -> bool:
    """Return whether a longer race may tell more: nothing was tried, or what is ahead unjudged."""
    if race.winner is not None or race.does_base_train is False:
        return False
    return not race.pairs or any(pair.standing == "ahead" for pair in race.pairs)


def _may_win(advice: Recommendation | None, race: Race | None) -> bool:
    """Return whether a pair that was trained may be clearly faster than the one to stay with."""
    if advice is None or race is None or advice.basis != "stay":
        return False
    ratios = [pair.time_ratio for pair in race.pairs if pair.time_ratio is not None]
    return any(each.point is not None and each.point <= _MAY_BE for each in ratios)


def write_longer(record: Record, needed_s: float) -> str:
    """Return the command that was typed, with the time that it takes."""
    arguments, kept = list(record.command.argv[1:]), list[str]()
    skips = False
    for argument in arguments:
        if skips:
            skips = False
        elif argument == _BUDGET:
            skips = True
        elif not argument.startswith(f"{_BUDGET}="):
            kept.append(argument)
    minutes = f"{_BUDGET}={math.ceil(needed_s / 60.0)}m"
    at = kept.index("--") if "--" in kept else len(kept)
    return shlex.join(["bsadvisor", *kept[:at], minutes, *kept[at:]])
