"""How a batch is made of equal micro-batches."""

from math import isqrt

from advisor.training.data import WorkloadFacts


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
    it; else out of the largest feasible one that does.

    Args:
        global_batch_size: In samples.
        largest: The largest micro-batch that fits, in samples.
        largest_part: The largest that fits where gradients are held from one to the next; None
            where that is any that fits.
        smallest: The smallest that the model runs at, in samples.
        multiple: Only multiples of this are feasible.
        preferred: The micro-batch to take before any but the whole batch.
        may_split: Whether a step can be made of several micro-batches; see `can_split`.
    """
    whole, least = global_batch_size, max(smallest, 1)
    parts = [part for part in _list_divisors(whole) if least <= part < whole]
    most = largest if largest_part is None else min(largest, largest_part)
    for size in (whole, *((preferred or whole, *parts) if may_split else ())):
        if (
            least <= size <= (largest if size == whole else most)
            and whole % size == 0
            and size % multiple == 0
        ):
            return size, whole // size
    return None


def _list_divisors(number: int) -> list[int]:
    """Return what divides a number, largest first."""
    small = [each for each in range(1, isqrt(number) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)}, reverse=True)


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
