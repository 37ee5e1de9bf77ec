"""The answer in one line, and what limits it in another."""

from advisor.advice.data import LimitingFactor, Recommendation
from advisor.derived import Derived
from advisor.engine.run_record import RunRecord
from advisor.units import format_count, format_rate

_LIMITS: dict[LimitingFactor, str] = {
    "memory": "memory: larger batches do not fit",
    "throughput": "throughput: larger batches are no faster per sample",
    "noise": "gradient noise: larger batches would save too few steps to pay for themselves",
    "dataset": "the dataset: it is too small for larger batches",
    "user": "a limit that you set",
}


def render_headline(record: RunRecord, derived: Derived) -> str:
    """Return the answer, or what keeps the run from having one."""
    advice = derived.recommendation
    if advice is None:
        return f"No batch size recommended: {_why_none(record, derived)}"
    rate = advice.learning_rate.value
    advised = "learning rate not advised" if rate is None else f"learning rate {format_rate(rate)}"
    incomplete = "" if record.complete else " (from an incomplete run)"
    return f"Train with {describe_batch(advice)}, {advised}{incomplete}"


def describe_batch(advice: Recommendation) -> str:
    """Return `batch 384 (micro-batch 192 × 2)`."""
    factors = [advice.micro_batch_size, advice.gradient_accumulation_steps]
    if advice.data_parallel_size > 1:
        factors.append(advice.data_parallel_size)
    product = " × ".join(format_count(factor) for factor in factors)
    return f"batch {format_count(advice.global_batch_size)} (micro-batch {product})"


def render_limit(factor: LimitingFactor) -> str:
    """Return what limits the answer, in words."""
    return _LIMITS[factor]


def why_missing(record: RunRecord) -> str:
    """Return why a part of the run is not there."""
    if record.stopped_because:
        return record.stopped_because.rstrip(".")
    return "the run did not reach it" if record.complete else "the run was cut short"


def _why_none(record: RunRecord, derived: Derived) -> str:
    if not record.complete:
        return f"the run is incomplete: {why_missing(record)}"
    if derived.memory is None or derived.memory.max_micro_batch_size is None:
        return "no size was seen to fit"
    if derived.throughput is None or not derived.throughput.points:
        return "throughput was not measured"
    given = record.command.limits.global_batch_size
    if given is not None:
        return f"batch {format_count(given)} was given, and no micro-batch timed makes it up"
    return "the measurements do not support one"
