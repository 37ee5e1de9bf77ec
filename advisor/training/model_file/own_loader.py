"""A DataLoader of the user's, taken apart: its dataset, its batches and its batch size."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from torch.utils.data import DataLoader

from advisor.errors import WorkloadError
from advisor.training.model_file.batches import tensors_of
from advisor.units import count_of

_NEXT_STEP = (
    "Write make_dataset() in the model file: it returns the dataset of single samples that the "
    "training draws from, and collate_fn(samples) makes batches of them."
)


class OwnLoader(msgspec.Struct, frozen=True, kw_only=True):
    """What a loader holds."""

    dataset: Any
    #: Makes a batch of samples.
    collate: Callable[[list[Any]], Any]
    #: None where its batches have no one size.
    batch_size: int | None
    #: The loader itself.
    source: Any


def is_loader(value: object) -> bool:
    """Return whether a dataset is none, but a torch DataLoader or made like one."""
    return isinstance(value, DataLoader) or all(
        hasattr(type(value), name) or name in getattr(value, "__dict__", {})
        for name in ("dataset", "collate_fn", "__iter__")
    )


def open_loader(loader: Any, what: str) -> OwnLoader:
    """Return what the loader holds.

    `what` returned it, for messages.

    Raises:
        WorkloadError: It is none, several, or makes its batches out of no samples.
    """
    if not is_loader(loader):
        held = getattr(loader, "iterables", loader)  # of Lightning's CombinedLoader
        is_several = isinstance(held, dict | list | tuple)
        said = count_of(len(held), "loader") if is_several else "no loader"
        raise WorkloadError(
            f"{what} returned {said} in a {type(loader).__name__}, and one DataLoader is needed",
            next_step=_NEXT_STEP,
        )
    batch_size = getattr(loader, "batch_size", None)
    sampler = getattr(loader, "batch_sampler", None)
    if batch_size is None and sampler is None:
        raise WorkloadError(
            f"{what} returned a DataLoader with batch_size=None: its dataset gives whole batches",
            next_step=_NEXT_STEP,
        )
    if batch_size is None:
        batch_size = getattr(sampler, "batch_size", None)
    is_size = isinstance(batch_size, int) and batch_size > 0
    return OwnLoader(
        dataset=loader.dataset,
        collate=loader.collate_fn,
        batch_size=batch_size if is_size else None,
        source=loader,
    )


@contextmanager
def noting_loaders() -> Iterator[list[Any]]:
    """Note each DataLoader that is iterated in the block."""
    read: list[Any] = []
    plain = DataLoader.__iter__

    def note(loader: Any) -> Any:
        read.append(loader)
        return plain(loader)

    DataLoader.__iter__ = note  # type: ignore[method-assign]
    try:
        yield read
    finally:
        DataLoader.__iter__ = plain  # type: ignore[method-assign]


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
