"""Which batches and rates a verification trains: pure."""

import math
from collections.abc import Sequence

from advisor.advice.data import Recommendation
from advisor.rate.data import OptimizerChanges, PairKey
from advisor.rate.rules import Rule, name_family, propose_optimizer_changes
from advisor.training.data import OptimizerFacts, WorkloadFacts
from advisor.verify.data import CriticalBatchStatus

#: Batches over the recommended one.
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Most halvings below, and doublings above, the first batches.
_MOST_EXTENSIONS = 4


def choose_batches(
    advice: Recommendation, facts: WorkloadFacts, asked: Sequence[int] = ()
) -> tuple[int, ...]:
    """Return the global batches to train, smallest first, the recommended one among them.

    Those asked for take the place of its multiples; all lie within what dataset and model allow.
    """
    centre = advice.global_batch_size
    wanted = asked or [round(factor * centre) for factor in FACTORS]
    most = facts.dataset_size or math.inf
    possible = {size for size in wanted if facts.min_micro_batch_size <= size <= most}
    return tuple(sorted({*possible, centre}))


def choose_extension(
    status: CriticalBatchStatus, sizes: Sequence[int], *, smallest: int, centre: int
) -> int | None:
    """Return the batch near the recommended one, `centre`, that may close an open end; or None."""
    reach = FACTORS[-1] * 2**_MOST_EXTENSIONS
    if status == "at_most" and min(sizes) // 2 >= max(smallest, centre / reach):
        return min(sizes) // 2
    if status == "at_least" and max(sizes) * 2 <= centre * reach:
        return max(sizes) * 2
    return None


def find_base(advice: Recommendation) -> PairKey:
    """Return the pair that the rule scales from; a range test's is its own."""
    rate = advice.learning_rate
    size, value = rate.base_batch_size, rate.base_value
    if size is None:
        size, value = advice.global_batch_size, rate.value
    assert value is not None
    return size, value


def choose_rate(
    facts: WorkloadFacts, advice: Recommendation, size: int, *, noise_scale: float | None
) -> float | None:
    """Return the rate that goes with a batch, by the run's rule through both pairs it tried.

    The factor by which the trial moved the recommended rate applies in full from its batch on, not
    at all at the base batch, and by the logarithm of the batch between.
    """
    (base_size, base), recommended = find_base(advice), advice.global_batch_size
    value = advice.learning_rate.value
    if facts.optimizer is None or not base or value is None:
        return None
    family = name_family(facts.optimizer) or "heuristic"  # as where it was tried
    rule = Rule(family, base_size, base, facts.loss_reduction == "sum")
    noise = math.inf if noise_scale is None else noise_scale
    share = 1.0
    if base_size != recommended:
        share = math.log(size / base_size) / math.log(recommended / base_size)
    factor = value / rule.scale(recommended, noise)
    return float(rule.scale(size, noise) * factor ** min(max(share, 0.0), 1.0))


def choose_changes(
    optimizer: OptimizerFacts, advice: Recommendation, size: int, rate: float
) -> OptimizerChanges:
    """Return the other settings that go with a batch; the recommended one's are as advised."""
    if size == advice.global_batch_size:
        return advice.optimizer_changes
    return propose_optimizer_changes(optimizer, find_base(advice), (size, rate))
