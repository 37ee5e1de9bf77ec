"""What to set besides the batch: the rate and what its trial showed, other settings, the gain."""

from advisor.advice.data import Recommendation
from advisor.engine.run_record import RunRecord
from advisor.rate.tell import (
    describe_changes,
    describe_learning_rate,
    describe_range,
    describe_trials,
)
from advisor.units import (
    NOT_MEASURED,
    format_count,
    format_range,
)


def render_advice(
    record: RunRecord, advice: Recommendation, *, noise_is_known: bool
) -> list[tuple[str, str]]:
    """Return (label, paragraph) for the rate, the other settings and what to expect."""
    rows = [("Learning rate", describe_learning_rate(advice.learning_rate))]
    rows += [("Range test", line) for line in describe_range(record.lr_ranges)]
    rows += [("Trial", line) for line in describe_trials(record.trials)]
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
