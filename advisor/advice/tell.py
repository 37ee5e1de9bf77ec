"""What to set besides the batch: the rate and what its trial showed, other settings, the gain."""

import math
from collections.abc import Sequence

from advisor.advice.data import Recommendation
from advisor.engine.run_record import RunRecord
from advisor.rate.data import LearningRate, OptimizerChanges, TrialBranch
from advisor.rate.range_seeds import describe_range
from advisor.units import (
    NOT_MEASURED,
    count_of,
    format_count,
    format_number,
    format_range,
    format_rate,
)


def render_advice(
    record: RunRecord, advice: Recommendation, *, noise_is_known: bool
) -> list[tuple[str, str]]:
    """Return (label, paragraph) for the rate, the other settings and what to expect."""
    rows = [("Learning rate", describe_learning_rate(advice.learning_rate))]
    rows += [("Range test", line) for line in describe_range(record.lr_ranges)]
    rows += [("Trial", line) for line in render_trials(record)]
    changes = describe_changes(advice.optimizer_changes)
    if changes:
        rows.append(("Also set", changes))
    near = format_range(advice.interval.low, advice.interval.high)
    if near != NOT_MEASURED:
        goal = "time to train" if noise_is_known else "speed"
        rows.append(("Near-best", f"batch {near}: predicted within 5 % of the best {goal}"))
    expected = describe_expected(record, advice)
    if expected:
        rows.append(("Expected", expected))
    return rows


def describe_learning_rate(rate: LearningRate) -> str:
    """Return the rate, the rule that proposed it, and what capped it."""
    head = f"not advised: {rate.reason}" if rate.value is None else format_rate(rate.value)
    parts = [head]
    if rate.rule:
        parts.append(f"rule: {rate.rule}")
    if rate.proposed is not None:
        is_ranged = rate.rule.startswith("range test")
        subject = "it suggests" if is_ranged else "the rule proposes"
        proposed = f"{subject} {format_rate(rate.proposed)}"
        if rate.low is not None and rate.high is not None and is_ranged:
            proposed += f" (good rates: {format_rate(rate.low)} to {format_rate(rate.high)})"
        elif rate.low is not None and rate.high is not None:
            proposed += f" ({format_rate(rate.low)} to {format_rate(rate.high)} over the noise)"
        parts.append(proposed)
    if rate.base_value is not None:
        size = rate.base_batch_size
        at = "" if size is None else f" at batch {format_count(size)}"
        parts.append(f"base {format_rate(rate.base_value)}{at}")
    if rate.raised_by or rate.capped_by:
        parts.append(f"{'raised' if rate.raised_by else 'lowered'} by the trial")
    if rate.value is not None and rate.reason:
        parts.append(rate.reason)
    return "; ".join(parts)


def render_trials(record: RunRecord) -> list[str]:
    """Return one line for each pair of batch and rate that was tried."""
    return describe_trials(record.trials)


def describe_trials(trials: Sequence[TrialBranch]) -> list[str]:
    """Return one line for each pair of batch and rate among the branches."""
    pairs = dict.fromkeys((branch.global_batch_size, branch.learning_rate) for branch in trials)
    return [_describe_trial(trials, size, rate) for size, rate in pairs]


def describe_changes(changes: OptimizerChanges) -> str:
    """Return the other settings that go with the batch; empty where none changes."""
    parts = []
    if changes.beta2 is not None:
        parts.append(f"beta2 {format_beta(changes.beta2)}")
    if changes.weight_decay is not None:
        parts.append(f"weight decay {format_rate(changes.weight_decay)}")
    if changes.warmup_steps is not None:
        steps = count_of(changes.warmup_steps, "step")
        parts.append(f"a warm-up, if you use one, over at least {steps} (the trial had none)")
    return ", ".join(parts)


def format_beta(beta: float) -> str:
    """Return a decay rate by three significant digits of its distance from 1: `0.999`, `0.9865`."""
    decimals = 3 if beta >= 1 else 2 - math.floor(math.log10(1 - beta))
    return f"{beta:.{decimals}f}".rstrip("0").rstrip(".")


def describe_expected(record: RunRecord, advice: Recommendation) -> str:
    """Return time and cost beside the base batch, predicted and tried; empty where not known."""
    time, cost = advice.expected.time_ratio, advice.expected.cost_ratio
    size = record.workload.base_batch_size if record.workload is not None else None
    base = "the base batch" if size is None else f"base batch {format_count(size)}"
    parts = []
    if time is not None:
        parts.append(f"{time:.2f} × the time to train")
    if cost is not None:
        parts.append(f"{cost:.2f} × the cost")
    predicted = f"{' and '.join(parts)} of {base}, predicted" if parts else ""
    measured = advice.expected.trial_time_ratio
    if measured is None or size == advice.global_batch_size:
        return predicted
    shown = f"in the trial {measured:.2f} × the time to the loss that {base} ends on"
    return f"{predicted}; {shown}" if predicted else shown


def _describe_trial(trials: Sequence[TrialBranch], size: int, rate: float) -> str:
    branches = [
        branch
        for branch in trials
        if (branch.global_batch_size, branch.learning_rate) == (size, rate)
    ]
    losses = [b.evaluations[-1].loss for b in branches if b.evaluations and not b.diverged]
    diverged = sum(branch.diverged for branch in branches)
    parts = [
        f"batch {format_count(size)} at {format_rate(rate)}, {count_of(len(branches), 'seed')}"
    ]
    if losses:
        ends = dict.fromkeys(format_number(loss) for loss in (min(losses), max(losses)))
        parts.append(f"last loss {' to '.join(ends)}")
    if diverged:
        parts.append(f"{diverged} diverged")
    return ": ".join([parts[0], ", ".join(parts[1:])]) if parts[1:] else parts[0]
