"""The batch that takes the most memory: the largest samples, used again where there are too few."""

from collections.abc import Sequence
from typing import Any

from advisor.training.model_file.workload import Workload


def take_worst_batch(workload: Workload, size: int, largest_samples: Sequence[int]) -> Any:
    """Return the batch of the largest samples on the device; None with `make_step`.

    Args:
        workload: Where the samples come from.
        size: Samples of the batch.
        largest_samples: Dataset indices, largest first; empty where all have one size.
    """
    order = largest_samples or range(_available(workload, size))
    return workload.take([order[i % len(order)] for i in range(size)])


def _available(workload: Workload, wanted: int) -> int:
    if workload.is_step_only:
        return wanted
    return min(wanted, workload.batches.size or wanted)
