"""Every sentence, row and chart about learning rates, and the first screen of a range test."""

import math
import shlex
from collections.abc import Iterator, Sequence

from advisor.engine.record import Conclusions
from advisor.rate.conclude import LEARNING_RATE, LR_RANGE
from advisor.rate.curves import group_pairs
from advisor.rate.data import TRIALS, LearningRate, OptimizerChanges, TrialBranch
from advisor.rate.range_data import LR_RANGES, LrRangeConclusion, LrRangeCurve, LrRangeSeed
from advisor.rate.range_test import conclude_lr_range, smooth_curve
from advisor.telling import Chart, Datum, Headline, Line, Mark, Row, Screen, Table, Told, draw_up
from advisor.units import begin_sentence, count_of, format_count, format_figure, format_number

#: Rates past the highest good one, as a ratio, that the chart shows; losses there hide all else.
_SHOWN_BEYOND = 4.0
#: Rates on the screen; the full report has all.
_MOST_RATES = 8


def describe_learning_rate(rate: LearningRate) -> str:
    """Return the rate, the rule that proposed it, and what capped it."""
    return "; ".join(filter(None, _list_parts(rate)))


def _list_parts(rate: LearningRate) -> Iterator[str]:
    yield f"not advised: {rate.reason}" if rate.value is None else format_figure(rate.value)
    if rate.rule:
        yield f"rule: {rate.rule}"
    if rate.proposed is not None:
        is_ranged = rate.rule.startswith("range test")
        subject, span = "it suggests" if is_ranged else "the rule proposes", ""
        if rate.low is not None and rate.high is not None and rate.low != rate.high:
            ends = f"{format_figure(rate.low)} to {format_figure(rate.high)}"
            span = f" (good rates: {ends})" if is_ranged else f" ({ends} over the noise)"
        yield f"{subject} {format_figure(rate.proposed)}{span}"
    if rate.base_value is not None:
        size = rate.base_batch_size
        at = "" if size is None else f" at batch {format_count(size)}"
        yield f"base {format_figure(rate.base_value)}{at}"
    yield _describe_move(rate)
    if rate.value is not None:
        yield rate.reason


def _describe_move(rate: LearningRate) -> str:
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
    ends, diverged = _write_ends(branches), sum(branch.diverged for branch in branches)
    size, rate = branches[0].key
    head = f"batch {format_count(size)} at {format_figure(rate)}, {count_of(len(branches), 'seed')}"
    seen = (f"last loss {ends}" if ends else "", f"{diverged} diverged" if diverged else "")
    return ": ".join(filter(None, (head, ", ".join(filter(None, seen)))))


def _write_ends(branches: Sequence[TrialBranch]) -> str:
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
    return [head, *(f"seed {each.seed}: {_describe_seed(each)}" for each in conclusion.seeds)]


def _describe_seed(seed: LrRangeSeed) -> str:
    """Return where one seed's smoothed loss turns."""
    if seed.lowest_at is None or seed.learns_from is None or seed.steepest_at is None:
        return f"the loss stays at {format_number(seed.first_loss)}"
    lowest = f"{format_number(seed.lowest_loss)} at {format_figure(seed.lowest_at)}"
    text = f"learns from {format_figure(seed.learns_from)}, fastest at "
    text += f"{format_figure(seed.steepest_at)}, lowest loss {lowest}"
    if seed.diverges_at is not None:
        text += f", clearly rising from {format_figure(seed.diverges_at)}"
    return text


def head_lr_range(conclusions: Conclusions) -> Headline:
    """Return the rate, or why there is none."""
    record, rate = conclusions.record, conclusions.of(LEARNING_RATE)
    if rate is None or rate.value is None:
        why = record.stopped_because or ("it did not begin" if rate is None else rate.reason)
        reason = "nothing was measured" if rate is None else rate.reason
        return Headline(
            answer=f"No learning rate: {why.rstrip('.')}", missing=f"no learning rate: {reason}"
        )
    size = format_count(record.all(LR_RANGES)[-1].global_batch_size)
    incomplete = "" if record.complete else " (from an incomplete run)"
    pair = f"learning rate {format_figure(rate.value)} with batch {size}"
    return Headline(answer=f"Train at {pair}{incomplete}")


def tell_lr_range(conclusions: Conclusions) -> Told:
    """Return the good rates, the curves and trials behind them, and the rate that was confirmed."""
    record, rate = conclusions.record, conclusions.of(LEARNING_RATE)
    rows = [*_list_conclusion(conclusions.of(LR_RANGE))]
    rows += [Row("Curves", line) for line in describe_range(record.all(LR_RANGES))]
    groups = group_pairs(record.all(TRIALS)).values()
    rows += [Row("Trial", _describe_trial(branches)) for branches in groups]
    if rate is not None:
        value = "not advised" if rate.value is None else format_figure(rate.value)
        parts = (f"{value}: {rate.reason}", _describe_move(rate))
        rows.append(Row("Learning rate", "; ".join(filter(None, parts))))
    return Told(rows=tuple(rows), charts=(_draw_curves(conclusions),))


def _list_conclusion(found: LrRangeConclusion | None) -> Iterator[Row]:
    if found is None:
        return
    if found.low is None or found.suggested is None:
        yield Row("Good rates", f"inconclusive: {found.reason}")
        return
    start = "from " if found.high is None else ""
    yield Row("Good rates", f"{start}{_format_good_rates(found)}: {found.reason}")
    lowest = format_figure(found.suggested)
    yield Row("Suggested", f"{lowest}, where the loss is as low as it gets")
    if found.one_cycle_maximum is not None and found.one_cycle_base is not None:
        top, base = map(format_figure, (found.one_cycle_maximum, found.one_cycle_base))
        text = f"maximum {top}, start {base} (1/25 of it); passed by, not stayed at"
        yield Row("One cycle", text)


def _format_good_rates(found: LrRangeConclusion) -> str:
    up_to = "up" if found.high is None else f"to {format_figure(found.high)}"
    return f"{format_figure(found.low or 0.0)} {up_to}"


def _draw_curves(conclusions: Conclusions) -> Chart:
    """Return the loss against the rate: each seed's smoothed curve."""
    found, rate = conclusions.of(LR_RANGE), conclusions.of(LEARNING_RATE)
    marks, most, head = [], math.inf, "No rate is told good"
    if rate is not None and rate.value is not None:
        marks.append(Mark("advised", rate.value))
    if found is not None and found.low is not None:
        head, label = "Good rates", "good rates from"
        if found.high is not None:
            label, most = "good rates", found.high * _SHOWN_BEYOND
        marks.append(Mark(label, found.low, found.high))
    reason = "no curve was measured" if found is None else found.reason
    return Chart(
        title="Loss while the learning rate rises",
        caption=f"{head}: {reason}.",
        x_label="learning rate",
        y_label="training loss",
        lines=tuple(
            Line(f"seed {curve.seed}, smoothed", _smooth(curve, most))
            for curve in conclusions.record.all(LR_RANGES)
        ),
        x_marks=tuple(marks),
    )


def _smooth(curve: LrRangeCurve, most: float) -> tuple[Datum, ...]:
    smoothed = smooth_curve(curve)
    if smoothed is None:
        return ()
    pairs = zip(smoothed.rates.tolist(), smoothed.levels.tolist(), strict=True)
    return tuple(Datum(x=rate, y=level) for rate, level in pairs if rate <= most)


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
        yield f"Good rates: {_format_good_rates(found)}; {found.reason}."
    if rate is None or rate.value is None:
        return
    yield f"{'; '.join(filter(None, (begin_sentence(rate.reason), _describe_move(rate))))}."
    if found is not None and found.one_cycle_maximum is not None and found.one_cycle_base:
        top, start = map(format_figure, (found.one_cycle_maximum, found.one_cycle_base))
        yield f"For a one-cycle schedule: from {start} up to {top} and down again."


def _tabulate(conclusions: Conclusions, rate: LearningRate | None) -> Table | None:
    """Return a row for each rate that was trained at."""
    tried = sorted(group_pairs(conclusions.record.all(TRIALS)).items())[:_MOST_RATES]
    if not tried:
        return None
    rates, groups = [key[1] for key, _ in tried], [branches for _, branches in tried]
    diverged = [sum(branch.diverged for branch in branches) for branches in groups]
    return draw_up(
        [
            ("rate", [*map(format_figure, rates)]),
            ("starts", [format_count(len(branches)) for branches in groups]),
            ("last loss", [*map(_write_ends, groups)]),
            ("diverged", [*map(format_count, diverged)]),
        ],
        marks=[">" * (rate is not None and each == rate.value) for each in rates],
        legend="> advised; trained at from fresh starts",
        is_narrow=True,
    )
