"""The loader that feeds the training: the user's own where there is one, else torch's plain one."""

import sys
from collections.abc import Iterator
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from advisor.training.model_file.order import Shuffled
from advisor.training.model_file.training_data import is_map_style
from advisor.training.model_file.workload import Workload

#: Forked workers have the dataset and the user's functions as they are; others would have to find
#: them by the name of a module that only this process has loaded.
_CONTEXT = "fork" if sys.platform == "linux" else None


def count_own_workers(workload: Workload) -> int:
    """Return the workers of the user's own loader, without one those of DataLoader's default."""
    return int(getattr(workload.data.own_loader, "num_workers", 0))


def find_own_sampling(workload: Workload) -> str | None:
    """Return the class that draws the samples where it is none of torch's uniform ones, else None.

    The tool's own batches for noise and training are drawn uniformly, without replacement.
    """
    own = workload.data.own_loader
    sampler, batch_sampler = (getattr(own, name, None) for name in ("sampler", "batch_sampler"))
    if batch_sampler is not None and type(batch_sampler) is not BatchSampler:
        return type(batch_sampler).__name__
    if isinstance(own, DataLoader) and isinstance(own.dataset, IterableDataset):
        return None  # its stream has an order of its own
    if sampler is None or type(sampler) is SequentialSampler:
        return None
    if type(sampler) is RandomSampler and not sampler.replacement:
        return None
    return type(sampler).__name__


def make_loader(
    workload: Workload, batch_size: int, *, workers: int, timeout_s: float
) -> DataLoader[Any]:
    """Return a loader of full batches, shuffled where the user's own loader would.

    A worker that gives nothing for `timeout_s` is an error.
    """
    own = workload.data.own_loader
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "drop_last": True,
        "collate_fn": workload.data.collate,
        "num_workers": workers,
        "pin_memory": getattr(own, "pin_memory", False),
        "worker_init_fn": getattr(own, "worker_init_fn", None),
    }
    dataset = workload.data.dataset
    if is_map_style(dataset):
        options |= _choose_order(own, dataset)
    elif not isinstance(dataset, IterableDataset):
        dataset = _Stream(dataset)
    if workers:
        is_own = workers == count_own_workers(workload)
        options["persistent_workers"] = getattr(own, "persistent_workers", True) if is_own else True
        options["prefetch_factor"] = getattr(own, "prefetch_factor", None)
        options["multiprocessing_context"] = (
            getattr(own, "multiprocessing_context", None) or _CONTEXT
        )
        options["timeout"] = timeout_s
    return DataLoader(dataset, **options)


def _choose_order(own: Any, dataset: Any) -> dict[str, Any]:
    """Return shuffling, or the own loader's sampler where it is another than torch's two."""
    sampler = getattr(own, "sampler", None)
    if isinstance(sampler, SequentialSampler):
        return {"shuffle": False}
    if sampler is None or isinstance(sampler, RandomSampler) or own.batch_size is None:
        return {"sampler": Shuffled(len(dataset))}  # torch's draws on its default device
    return {"sampler": sampler}


class _Stream(IterableDataset[Any]):
    """An iterable that does not derive from torch's class, made one that does."""

    def __init__(self, samples: Any) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[Any]:
        return iter(self._samples)
