"""Batches between the candidates: the time of their step, and how they are split."""

from collections.abc import Sequence

from advisor.advice.candidates import Candidate
from advisor.memory.split import split_batch


def interpolate_step_s(candidates: Sequence[Candidate], global_batch_size: float) -> float | None:
    """Return the seconds of a step on the line between the two nearest candidates.

    None outside of them: nothing was measured there.

    Args:
        candidates: By size, ascending.
        global_batch_size: In samples.

    Source: derived; the step time is about affine between neighbours (Hockney).
    """
    below = [each for each in candidates if each.global_batch_size <= global_batch_size]
    above = [each for each in candidates if each.global_batch_size >= global_batch_size]
    if not below or not above:
        return None
    low, high = below[-1], above[0]
    if low.global_batch_size == high.global_batch_size:
        return low.step_s
    span = high.global_batch_size - low.global_batch_size
    share = (global_batch_size - low.global_batch_size) / span
    return low.step_s + share * (high.step_s - low.step_s)


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
