"""A batch that the user keeps to: whether it can be run, and out of which micro-batches."""

from advisor.engine.run import Run
from advisor.errors import UsageError
from advisor.memory.plan import MEMORY
from advisor.memory.split import can_split, split_batch


def refuse_impossible_batch(run: Run) -> None:
    """Raise UsageError where the model file tells that the given batch cannot exist."""
    size, facts = run.spec.limits.global_batch_size, run.facts
    multiple, smallest = run.spec.limits.batch_multiple, facts.min_micro_batch_size
    if size is None:
        return
    if facts.dataset_size is not None and size > facts.dataset_size:
        why = f"is above the dataset, which has {facts.dataset_size} samples"
        next_step = f"Give at most {facts.dataset_size}."
    elif size < smallest:
        why = f"is below {smallest}, the smallest batch that {facts.file} runs"
        next_step = f"Give at least {smallest}."
    elif size % multiple:
        why = f"is no multiple of --batch-multiple {multiple}"
        next_step = f"Give a multiple of {multiple}, such as {-(-size // multiple) * multiple}."
    else:
        return
    raise UsageError(f"--global-batch-size {size} {why}", next_step=next_step)


def refuse_oversized_batch(run: Run) -> None:
    """Raise UsageError where the given batch fits neither whole nor in equal micro-batches."""
    size, memory = run.spec.limits.global_batch_size, run.of(MEMORY)
    largest = None if memory is None else memory.max_micro_batch_size
    if size is None or largest is None or find_given_micro_batch(run) is not None:
        return
    why = f", and no micro-batch up to {largest}, the largest seen to fit, divides it"
    next_step = f"Give a multiple of a smaller size, such as {size // largest * largest}."
    if not can_split(run.facts):
        why = (
            f": micro-batch {largest} is the largest seen to, and this training cannot be split "
            "into several"
        )
        next_step = f"Give at most {largest}."
    raise UsageError(f"--global-batch-size {size} does not fit{why}", next_step=next_step)


def find_given_micro_batch(run: Run) -> int | None:
    """Return the largest micro-batch of which the given batch can be made; None without either."""
    size, memory = run.spec.limits.global_batch_size, run.of(MEMORY)
    if size is None or memory is None or memory.max_micro_batch_size is None:
        return None
    split = split_batch(
        size,
        largest=memory.max_micro_batch_size,
        largest_part=memory.largest_accumulating,
        smallest=run.facts.min_micro_batch_size,
        multiple=run.spec.limits.batch_multiple,
        may_split=can_split(run.facts),
    )
    return None if split is None else split[0]
