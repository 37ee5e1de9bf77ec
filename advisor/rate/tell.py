"""Every sentence, row and chart about learning rates, and the first screen of a range test."""

import math
import shlex
from collections.abc import Iterator, Sequence

from advisor.engine.conclusions import Conclusions
from advisor.rate.conclude import LEARNING_RATE, LR_RANGE
from advisor.rate.curves import group_pairs
from advisor.rate.data import TRIALS, LearningRate, OptimizerChanges, TrialBranch
from advisor.rate.range_data import LR_RANGES, LrRangeConclusion, LrRangeCurve, LrRangeSeed
from advisor.rate.range_test import conclude_lr_range, smooth_curve
from advisor.telling import Chart, Datum, Headline, Line, Mark, Row, Screen, Table, Told, draw_up
from advisor.units import begin_sentence, count_of, format_count, format_figure, format_number

#: Points of a curve in the chart: more than the eye tells apart make the page large.
_MOST_POINTS = 120
#: Rates past the highest good one, as a ratio, that the chart shows; losses there hide all else.
_SHOWN_BEYOND = 4.0
#: Rates on the screen; the full report has all.
_MOST_RATES = 8


def describe_learning_rate(rate: LearningRate) -> str:
    """Return the rate, the rule that proposed it, and what capped it."""
    parts = [f"not advised: {rate.reason}" if rate.value is None else format_figure(rate.value)]
    if rate.rule:
        parts.append(f"rule: {rate.rule}")
    if rate.proposed is not None:
        is_ranged = rate.rule.startswith("range test")
        subject = "it suggests" if is_ranged else "the rule proposes"
        parts.append(f"{subject} {format_figure(rate.proposed)}")
        if rate.low is not None and rate.high is not None and rate.low != rate.high:
            span = f"{format_figure(rate.low)} to {format_figure(rate.high)}"
            parts[-1] += f" (good rates: {span})" if is_ranged else f" ({span} over the noise)"
    if rate.base_value is not None:
        size = rate.base_batch_size
        at = "" if size is None else f" at batch {format_count(size)}"
        parts.append(f"base {format_figure(rate.base_value)}{at}")
    parts += [moved] if (moved := describe_move(rate)) else []
    if rate.value is not None and rate.reason:
        parts.append(rate.reason)
    return "; ".join(parts)


def describe_move(rate: LearningRate) -> str:
    """Return what the trial did to the proposed rate; empty where it stands."""
    moved = "raised" if rate.raised_by else "lowered" if rate.capped_by else ""
    return f"{moved} by the trial" if moved else ""


def describe_changes(changes: OptimizerChanges) -> str:
    """Return the other settings that go with the batch; empty where none changes."""
    parts = []
    if changes.beta2 is not None:
        parts.append(f"beta2 {format_beta(changes.beta2)}")
    if changes.weight_decay is not None:
        parts.append(f"weight decay {format_figure(changes.weight_decay)}")
    if changes.warmup_steps is not None:
        steps = count_of(changes.warmup_steps, "step")
        parts.append(f"a warm-up, if you use one, over at least {steps} (the trial had none)")
    return ", ".join(parts)


def format_beta(beta: float) -> str:
    """Return a decay rate by three significant digits of its distance from 1: `0.999`, `0.9865`."""
    decimals = 3 if beta >= 1 else 2 - math.floor(math.log10(1 - beta))
    return f"{beta:.{decimals}f}".rstrip("0").rstrip(".")


def _describe_trial(branches: Sequence[TrialBranch]) -> str:
    ends = write_ends(branches)
    diverged = sum(branch.diverged for branch in branches)
    size, rate = branches[0].global_batch_size, branches[0].learning_rate
    head = f"batch {format_count(size)} at {format_figure(rate)}, {count_of(len(branches), 'seed')}"
    seen = (f"last loss {ends}" if ends else "", f"{diverged} diverged" if diverged else "")
    return ": ".join(filter(None, (head, ", ".join(filter(None, seen)))))


def write_ends(branches: Sequence[TrialBranch]) -> str:
    """Return the last losses of those that did not diverge; empty where all did."""
    losses = sorted(b.evaluations[-1].loss for b in branches if b.evaluations and not b.diverged)
    return " to ".join(dict.fromkeys(map(format_number, (*losses[:1], *losses[-1:]))))


def describe_range(curves: Sequence[LrRangeCurve]) -> list[str]:
    """Return where the curves turn, one line for each seed; none without a curve."""
    conclusion = conclude_lr_range(curves)
    if conclusion is None:
        return []
    own = [each for each in curves if each.global_batch_size == conclusion.global_batch_size]
    steps = count_of(own[-1].steps, "step")
    first, last = format_figure(own[-1].rates[0]), format_figure(max(c.rates[-1] for c in own))
    head = f"{count_of(len(own), 'seed')}, {steps} from {first} up, at most to {last}"
    return [head, *(_describe_seed(each) for each in conclusion.seeds)]


def _describe_seed(seed: LrRangeSeed) -> str:
    """Return where one seed's smoothed loss turns."""
    if seed.lowest_at is None or seed.learns_from is None or seed.steepest_at is None:
        return f"seed {seed.seed}: the loss stays at {format_number(seed.first_loss)}"
    parts = [
        f"seed {seed.seed}: learns from {format_figure(seed.learns_from)}",
        f"fastest at {format_figure(seed.steepest_at)}",
        f"lowest loss {format_number(seed.lowest_loss)} at {format_figure(seed.lowest_at)}",
    ]
    if seed.diverges_at is not None:
        parts.append(f"clearly rising from {format_figure(seed.diverges_at)}")
    return ", ".join(parts)


def head_lr_range(conclusions: Conclusions) -> Headline:
    """Return the rate, or why there is none."""
    record, rate = conclusions.record, conclusions.of(LEARNING_RATE)
    if rate is None or rate.value is None:
        why = record.stopped_because or ("it did not begin" if rate is None else rate.reason)
        reason = "nothing was measured" if rate is None else rate.reason
        return Headline(
            answer=f"No learning rate: {why.rstrip('.')}", missing=f"no learning rate: {reason}"
        )
    size = record.all(LR_RANGES)[-1].global_batch_size
    pair = f"learning rate {format_figure(rate.value)} with batch {format_count(size)}"
    incomplete = "" if record.complete else " (from an incomplete run)"
    return Headline(answer=f"Train at {pair}{incomplete}")


def tell_lr_range(conclusions: Conclusions) -> Told:
    """Return the good rates, the curves and trials behind them, and the rate that was confirmed."""
    record, rate = conclusions.record, conclusions.of(LEARNING_RATE)
    rows = [*_list_conclusion(conclusions.of(LR_RANGE))]
    rows += [Row("Curves", line) for line in describe_range(record.all(LR_RANGES))]
    groups = group_pairs(record.all(TRIALS)).values()
    rows += [Row("Trial", _describe_trial(branches)) for branches in groups]
    if rate is not None:
        change = f"; {moved}" if (moved := describe_move(rate)) else ""
        value = "not advised" if rate.value is None else format_figure(rate.value)
        rows.append(Row("Learning rate", f"{value}: {rate.reason}{change}"))
    return Told(rows=tuple(rows), charts=(_draw_curves(conclusions),))


def _list_conclusion(conclusion: LrRangeConclusion | None) -> Iterator[Row]:
    if conclusion is None:
        return
    if conclusion.low is None or conclusion.suggested is None:
        yield Row("Good rates", f"inconclusive: {conclusion.reason}")
        return
    span = f"from {format_figure(conclusion.low)} up"
    if conclusion.high is not None:
        span = f"{format_figure(conclusion.low)} to {format_figure(conclusion.high)}"
    yield Row("Good rates", f"{span}: {conclusion.reason}")
    lowest = format_figure(conclusion.suggested)
    yield Row("Suggested", f"{lowest}, where the loss is as low as it gets")
    if conclusion.one_cycle_maximum is not None and conclusion.one_cycle_base is not None:
        top, base = map(format_figure, (conclusion.one_cycle_maximum, conclusion.one_cycle_base))
        text = f"maximum {top}, start {base} (1/25 of it); passed by, not stayed at"
        yield Row("One cycle", text)


def _draw_curves(conclusions: Conclusions) -> Chart:
    """Return the loss against the rate: each seed's smoothed curve."""
    conclusion, rate = conclusions.of(LR_RANGE), conclusions.of(LEARNING_RATE)
    low, high = (None, None) if conclusion is None else (conclusion.low, conclusion.high)
    most = math.inf if high is None else high * _SHOWN_BEYOND
    span = None if low is None or high is None else Mark("good rates", low, high)
    chosen = None if rate is None or rate.value is None else Mark("advised", rate.value)
    reason = "no curve was measured" if conclusion is None else conclusion.reason
    return Chart(
        title="Loss while the learning rate rises",
        caption=f"{'No rate is told good' if span is None else 'Good rates'}: {reason}.",
        x_label="learning rate",
        y_label="training loss",
        lines=tuple(
            Line(f"seed {curve.seed}, smoothed", _smooth(curve, most))
            for curve in conclusions.record.all(LR_RANGES)
        ),
        x_marks=tuple(mark for mark in (chosen, span) if mark is not None),
    )


def _smooth(curve: LrRangeCurve, most: float) -> tuple[Datum, ...]:
    smoothed = smooth_curve(curve)
    if smoothed is None:
        return ()
    pairs = [
        (float(rate), float(level))
        for rate, level in zip(smoothed.rates, smoothed.levels, strict=True)
        if rate <= most
    ]
    every = max(1, len(pairs) // _MOST_POINTS)
    return tuple(Datum(x=rate, y=level) for rate, level in pairs[::every])


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
    tried = sorted(group_pairs(conclusions.record.all(TRIALS)).items())[:_MOST_RATES]
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
