"""How a batch is made of equal micro-batches."""

from math import isqrt

import msgspec

from advisor.figures import Size
from advisor.training.data import WorkloadFacts


class MicroBatches(msgspec.Struct, frozen=True, kw_only=True):
    """Of what an optimizer step is made."""

    micro_batch_size: Size
    gradient_accumulation_steps: Size

    @property
    def split(self) -> tuple[int, int]:
        """Both of it."""
        return self.micro_batch_size, self.gradient_accumulation_steps


class GlobalBatch(MicroBatches, frozen=True, kw_only=True):
    """The same with the samples of all."""

    global_batch_size: Size


def split_batch(
    global_batch_size: int,
    *,
    largest: int,
    largest_part: int | None = None,
    smallest: int = 1,
    multiple: int = 1,
    preferred: int | None = None,
    may_split: bool = True,
) -> tuple[int, int] | None:
    """Return the micro-batch and how many of it make the batch; None where none does.

    The whole batch where it is feasible; else out of the preferred micro-batch where that divides
    it; else out of the largest feasible one that does. Feasible are multiples from the smallest to
    the `largest` that fits; where gradients are held from one to the next, to the `largest_part`.
    """
    whole, least = global_batch_size, max(smallest, 1)
    small = [each for each in range(1, isqrt(whole) + 1) if whole % each == 0]
    parts = sorted({*small, *(whole // each for each in small)} - {whole}, reverse=True)
    most = largest if largest_part is None else min(largest, largest_part)
    for size in (whole, *((preferred or whole, *parts) if may_split else ())):
        if (
            least <= size <= (largest if size == whole else most)
            and whole % size == 0
            and size % multiple == 0
        ):
            return size, whole // size
    return None


def can_split(facts: WorkloadFacts) -> bool:
    """Return whether a step can be made of several micro-batches."""
    optimizer = facts.optimizer
    return not (
        optimizer is None
        or optimizer.needs_closure
        or facts.is_step_only
        or facts.loss_reduction == "coupled"
        or (facts.script is not None and "accumulation" not in facts.script.placeholders)
    )
