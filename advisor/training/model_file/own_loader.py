"""A DataLoader of the user's: whether it can be taken apart, its batch size and its order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock  # torch has it loaded

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from advisor.errors import WorkloadError
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.order import Shuffled
from advisor.units import count_of


def is_loader(value: object) -> bool:
    """Return whether a dataset is none, but a torch DataLoader or made like one."""
    return isinstance(value, DataLoader) or all(
        hasattr(type(value), name) or name in getattr(value, "__dict__", {})
        for name in ("dataset", "collate_fn", "__iter__")
    )


def check_loader(loader: Any, what: str) -> Any:
    """Return the loader that `what` returned; WorkloadError for none, several, or whole batches."""
    if not is_loader(loader):
        held = getattr(loader, "iterables", loader)  # of Lightning's CombinedLoader
        is_several = isinstance(held, dict | list | tuple)
        said = count_of(len(held), "loader") if is_several else "no loader"
        said += f" in a {type(loader).__name__}, and one DataLoader is needed"
    elif all(getattr(loader, name, None) is None for name in ("batch_size", "batch_sampler")):
        said = "a DataLoader with batch_size=None: its dataset gives whole batches"
    else:
        return loader
    raise WorkloadError(
        f"{what} returned {said}",
        next_step="Write make_dataset() in the model file: it returns the dataset of single "
        "samples that the training draws from, and collate_fn(samples) makes batches of them.",
    )


def find_batch_size(loader: Any) -> int | None:
    """Return the size of its batches, or of those of its sampler; None where they have no one."""
    size = getattr(loader, "batch_size", None)
    if size is None:
        size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    return size if isinstance(size, int) and size > 0 else None


def find_own_sampling(loader: Any) -> str | None:
    """Return the class that draws the samples where it is none of torch's uniform ones, else None.

    The tool's own batches for noise and training are drawn uniformly, without replacement.
    """
    sampler, of_batches = (getattr(loader, name, None) for name in ("sampler", "batch_sampler"))
    if of_batches is not None and type(of_batches) is not BatchSampler:
        return type(of_batches).__name__
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset):
        return None  # its stream has an order of its own
    is_uniform = type(sampler) is RandomSampler and not sampler.replacement
    is_plain = sampler is None or type(sampler) is SequentialSampler or is_uniform
    return None if is_plain else type(sampler).__name__


def choose_order(loader: Any, size: int) -> dict[str, Any]:
    """Return a DataLoader's options: shuffling, or the sampler where it is another than torch's."""
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, SequentialSampler):
        return {"shuffle": False}
    if sampler is None or isinstance(sampler, RandomSampler) or loader.batch_size is None:
        return {"sampler": Shuffled(size)}  # torch's draws on its default device
    return {"sampler": sampler}


@contextmanager
def noting_loaders() -> Iterator[list[Any]]:
    """Note each DataLoader that is iterated in the block."""
    read: list[Any] = []
    plain = DataLoader.__iter__

    def note(loader: Any) -> Any:
        read.append(loader)
        return plain(loader)

    with mock.patch.object(DataLoader, "__iter__", note):
        yield read


def refuse_batches(sample: Any, read: Sequence[Any]) -> None:
    """Raise WorkloadError where the sample of a dataset is a batch of a loader that it reads."""
    sides = {tuple(tensor.shape[:1]) for tensor in tensors_of(sample)}
    sizes = {getattr(loader, "batch_size", None) for loader in read} - {None, 1}
    found = [size for size in sizes if sides == {(size,)}]
    if found:
        raise WorkloadError(
            f"make_dataset gives batches of {found[0]} in place of samples, as the DataLoader does "
            "that it reads",
            next_step="Return the DataLoader itself: its dataset, sampler, collate_fn and batch "
            "size are taken.",
        )
