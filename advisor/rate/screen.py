"""The first screen of a range test: the rate, the good ones, what was trained, and what next."""

import shlex
from collections.abc import Iterator

from advisor.engine.conclusions import Conclusions
from advisor.rate.conclude import LEARNING_RATE, LR_RANGE
from advisor.rate.data import TRIALS, LearningRate, LrRangeConclusion
from advisor.rate.tell import describe_move, group_trials, head_lr_range, write_ends
from advisor.telling import Screen, Table, draw_up
from advisor.units import begin_sentence, format_count, format_figure

#: Rates on the screen; the full report has all.
_MOST_RATES = 8


def draw_up_screen(conclusions: Conclusions) -> Screen:
    """Return the first screen of a range test."""
    record, rate = conclusions.record, conclusions.of(LEARNING_RATE)
    is_found = rate is not None and rate.value is not None
    file = None if record.workload is None or record.workload.script else record.workload.file
    return Screen(
        answer=head_lr_range(conclusions).answer,
        lines=tuple(_list_lines(rate, conclusions.of(LR_RANGE))),
        table=_tabulate(conclusions, rate),
        next_step=f"bsadvisor probe {shlex.quote(file)}" if is_found and file else "",
    )


def _list_lines(rate: LearningRate | None, found: LrRangeConclusion | None) -> Iterator[str]:
    if found is not None and found.low is not None:
        up_to = "up" if found.high is None else f"to {format_figure(found.high)}"
        yield f"Good rates: {format_figure(found.low)} {up_to}; {found.reason}."
    if rate is None or rate.value is None:
        return
    yield f"{'; '.join(filter(None, (begin_sentence(rate.reason), describe_move(rate))))}."
    if found is not None and found.one_cycle_maximum is not None and found.one_cycle_base:
        top, start = map(format_figure, (found.one_cycle_maximum, found.one_cycle_base))
        yield f"For a one-cycle schedule: from {start} up to {top} and down again."


def _tabulate(conclusions: Conclusions, rate: LearningRate | None) -> Table | None:
    """Return a row for each rate that was trained at."""
    tried = sorted(group_trials(conclusions.record.all(TRIALS)).items())[:_MOST_RATES]
    if not tried:
        return None
    groups = [branches for _, branches in tried]
    diverged = [sum(branch.diverged for branch in branches) for branches in groups]
    return draw_up(
        [
            ("rate", [format_figure(each) for (_, each), _ in tried]),
            ("starts", [format_count(len(branches)) for branches in groups]),
            ("last loss", [write_ends(branches) for branches in groups]),
            ("diverged", [format_count(count) for count in diverged]),
        ],
        marks=[">" * (rate is not None and each == rate.value) for (_, each), _ in tried],
        legend="> advised; trained at from fresh starts",
        is_narrow=True,
    )
