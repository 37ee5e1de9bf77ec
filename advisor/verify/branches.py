"""Which batches and rates a verification trains: pure."""

import math
from collections.abc import Sequence

import msgspec

from advisor.advice.data import Recommendation
from advisor.rate.data import LearningRate, OptimizerChanges
from advisor.rate.optimizer_changes import propose_optimizer_changes
from advisor.rate.rules import name_family, scale_rate
from advisor.training.data import OptimizerFacts, WorkloadFacts
from advisor.verify.data import CriticalBatchStatus

#: Batches over the recommended one.
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Seeds of the first round, the most where the answer stays open, and how many each round adds.
LEAST_SEEDS, MOST_SEEDS, MORE_SEEDS = 3, 10, 2
#: Most halvings below, and doublings above, the first batches.
_MOST_EXTENSIONS = 4


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One batch with the settings that go with it."""

    micro_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    changes: OptimizerChanges = OptimizerChanges()

    @property
    def global_batch_size(self) -> int:
        """Samples of one optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation_steps


def choose_batches(
    advice: Recommendation, facts: WorkloadFacts, asked: Sequence[int] = ()
) -> tuple[int, ...]:
    """Return the global batches to train, smallest first, the recommended one among them.

    Args:
        advice: Its batch is the middle.
        facts: A batch has at most the samples of the dataset and at least the smallest size.
        asked: In place of the multiples of the recommended batch.

    Source: derived.
    """
    centre = advice.global_batch_size
    wanted = asked or [round(factor * centre) for factor in FACTORS]
    most = facts.dataset_size or math.inf
    possible = {size for size in wanted if facts.min_micro_batch_size <= size <= most}
    return tuple(sorted({*possible, centre}))


def choose_extension(
    status: CriticalBatchStatus, sizes: Sequence[int], *, smallest: int, centre: int
) -> int | None:
    """Return the batch that may close an open end of the critical batch, None where there is none.

    Args:
        status: Of the critical batch so far.
        sizes: The batches trained.
        smallest: The smallest batch that the model runs.
        centre: The recommended batch, from which extensions are counted.

    Source: derived.
    """
    reach = FACTORS[-1] * 2**_MOST_EXTENSIONS
    if status == "at_most" and min(sizes) // 2 >= max(smallest, centre / reach):
        return min(sizes) // 2
    if status == "at_least" and max(sizes) * 2 <= centre * reach:
        return max(sizes) * 2
    return None


def anchor_rate(rate: LearningRate, recommended: int) -> LearningRate:
    """Return the recommended rate with the pair that the rule scales from.

    Where the rate comes from a range test there is no base batch: it is the recommended pair.

    Args:
        rate: The recommended one, with a value.
        recommended: The recommended batch.

    Source: derived.
    """
    if rate.base_batch_size is not None:
        return rate
    return msgspec.structs.replace(rate, base_value=rate.value, base_batch_size=recommended)


def choose_rate(
    optimizer: OptimizerFacts,
    rate: LearningRate,
    size: int,
    *,
    recommended: int,
    noise_scale: float | None,
    loss_is_sum: bool,
) -> float | None:
    """Return the rate that goes with a batch, by the run's rule through both pairs it tried.

    The rule gives base and recommended rate alike, unless the trial lowered the latter. The factor
    of that is applied in full from the recommended batch on, not at all at the base batch, and by
    the logarithm of the batch between.

    Args:
        optimizer: Names the rule.
        rate: The recommended one, with the pair that the rule scales from (`anchor_rate`).
        size: The batch.
        recommended: The recommended batch.
        noise_scale: φ in samples; None takes the rule's limit.
        loss_is_sum: Whether the loss sums over its batch.

    Source: docs/method.md, section 4, for the rule; the factor is derived.
    """
    family, base, base_size = name_family(optimizer), rate.base_value, rate.base_batch_size
    if family is None or base is None or base_size is None or rate.value is None:
        return None

    def apply_rule(batch: int) -> float:
        unit = base * (base_size / batch if loss_is_sum and family == "gradient" else 1.0)
        return scale_rate(
            family,
            unit,
            base_batch_size=base_size,
            global_batch_size=batch,
            noise_scale=math.inf if noise_scale is None else noise_scale,
        )

    share = 1.0
    if base_size != recommended:
        share = math.log(size / base_size) / math.log(recommended / base_size)
    factor = rate.value / apply_rule(recommended)
    return float(apply_rule(size) * factor ** min(max(share, 0.0), 1.0))


def choose_changes(
    optimizer: OptimizerFacts, advice: Recommendation, size: int, rate: float
) -> OptimizerChanges:
    """Return the other settings that go with a batch; the recommended one's are as advised."""
    if size == advice.global_batch_size:
        return advice.optimizer_changes
    anchor = anchor_rate(advice.learning_rate, advice.global_batch_size)
    proposal = msgspec.structs.replace(anchor, proposed=rate)
    return propose_optimizer_changes(optimizer, proposal, size)
