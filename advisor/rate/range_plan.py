"""What `lr-range` tests: what was asked, its defaults filled in by what the model file gives."""

from msgspec.structs import replace

from advisor.engine.run import Run
from advisor.errors import UsageError
from advisor.rate.range_data import RANGE, RangePlan
from advisor.training.data import WorkloadFacts

#: The batch where neither the user nor the model file names one.
_USUAL_BATCH = 32
#: The rate around which a range lies where the optimizer's own is 0.
_USUAL_RATE = 0.01
#: The range around the optimizer's own rate: seven decades, since that rate may be anything.
LOW_FACTOR, HIGH_FACTOR = 1e-4, 1e3
#: The range must span this much at least: below, noise decides where the loss is lowest.
_LEAST_SPAN = 10.0


def plan_range(run: Run) -> None:
    """Keep what is to be tested."""
    run.set(RANGE, resolve_plan(run.record.get(RANGE) or RangePlan(), run.facts))


def resolve_plan(asked: RangePlan, facts: WorkloadFacts) -> RangePlan:
    """Return what was asked with its defaults filled in.

    Raises UsageError where there is nothing to learn from, or batch or range are impossible.
    """
    _refuse_unlearnable(facts)
    size = _choose_batch(asked, facts)
    micro = asked.micro_batch_size or size
    if size % micro:
        raise UsageError(
            f"--micro-batch-size {micro} does not divide the batch of {size}",
            next_step="Give a divisor of it, or another --global-batch-size.",
        )
    if micro < facts.min_micro_batch_size:
        raise UsageError(
            f"the model does not train at micro-batch {micro}",
            next_step=f"Give {facts.min_micro_batch_size} or more.",
        )
    assert facts.optimizer is not None
    if facts.optimizer.needs_closure and micro != size:
        raise UsageError(
            f"{facts.optimizer.name} evaluates its batch again, which cannot be split",
            next_step="Leave out --micro-batch-size.",
        )
    low, high = _choose_rates(asked, facts.optimizer.learning_rate or 0.0)
    return replace(
        asked,
        global_batch_size=size,
        micro_batch_size=micro,
        gradient_accumulation_steps=size // micro,
        low_rate=low,
        high_rate=high,
    )


def _refuse_unlearnable(facts: WorkloadFacts) -> None:
    if facts.is_step_only:
        raise UsageError(
            f"{facts.file} has make_step, which keeps its optimizer to itself",
            next_step="Write make_model, make_dataset and make_optimizer for a range test.",
        )
    if not facts.has_dataset:
        raise UsageError(
            f"{facts.file} has no make_dataset, and synthetic batches leave nothing to learn",
            next_step="Add make_dataset to the model file.",
        )
    if facts.optimizer is None or facts.optimizer.learning_rate is None:
        raise UsageError(
            f"the optimizer of {facts.file} has no learning rate",
            next_step="Give one whose parameter groups have `lr`.",
        )


def _choose_batch(asked: RangePlan, facts: WorkloadFacts) -> int:
    size, most = asked.global_batch_size, facts.dataset_size
    if size is not None and most is not None and size > most:
        raise UsageError(
            f"--global-batch-size {size} is more than the dataset's {most} {facts.sample_unit}s",
            next_step=f"Give {most} or less.",
        )
    if size is not None:
        return size
    size = max(facts.base_batch_size or _USUAL_BATCH, facts.min_micro_batch_size)
    size = size if most is None else min(size, most)
    micro = asked.micro_batch_size or 1
    return max(size // micro, 1) * micro


def _choose_rates(asked: RangePlan, own_rate: float) -> tuple[float, float]:
    """Return the ends of the range, those not asked for around the optimizer's own rate."""
    middle = own_rate or _USUAL_RATE
    low = middle * LOW_FACTOR if asked.low_rate is None else asked.low_rate
    high = middle * HIGH_FACTOR if asked.high_rate is None else asked.high_rate
    if high < low * _LEAST_SPAN:
        raise UsageError(
            f"the range from {low:.3g} to {high:.3g} is too narrow",
            next_step="Let --to be at least ten times --from.",
        )
    return low, high
