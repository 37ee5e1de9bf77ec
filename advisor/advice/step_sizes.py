"""Batches between the candidates: the time of their step, and how they are split."""

from collections.abc import Sequence

from advisor.advice.candidates import Candidate
from advisor.memory.split import split_batch
from advisor.throughput.step_time import StepTimes, estimate_step_s


def interpolate_step_s(candidates: Sequence[Candidate], global_batch_size: float) -> float | None:
    """Return the seconds of a step between the candidates; None outside of them."""
    times = StepTimes(step_s={each.global_batch_size: each.step_s for each in candidates})
    return estimate_step_s(times, global_batch_size, may_extrapolate=False)


def find_split(candidates: Sequence[Candidate], global_batch_size: int) -> tuple[int, int]:
    """Return micro-batch and accumulation that make up the batch.

    It is the candidate's own where there is one; else as few micro-batches as the largest that was
    timed allows, all of one size.

    Source: derived.
    """
    for each in candidates:
        if each.global_batch_size == global_batch_size:
            return each.micro_batch_size, each.gradient_accumulation_steps
    largest = max(each.micro_batch_size for each in candidates)
    split = split_batch(global_batch_size, largest=largest)
    assert split is not None  # micro-batches of one sample make any batch
    return split
