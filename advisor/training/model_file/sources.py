"""Which source serves what `make_dataset` returned, and what is no dataset."""

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

from advisor.errors import WorkloadError
from advisor.training.model_file.data import DatasetBatches, IterableBatches


def batches_from_dataset(
    dataset: Any, collate: Callable[[list[Any]], Any] | None
) -> DatasetBatches:
    """Return the source for a map-style or iterable dataset.

    Raises:
        WorkloadError: The dataset is empty, or neither map-style nor iterable.
    """
    if isinstance(dataset, dict) or (isinstance(dataset, list | tuple) and _are_sets(dataset)):
        kept = ", ".join(map(str, dataset)) if isinstance(dataset, dict) else len(dataset)
        raise WorkloadError(
            f"make_dataset returned a {type(dataset).__name__} ({kept}), not a dataset",
            next_step="Return the one dataset to train on from it.",
        )
    if isinstance(dataset, str | bytes | PurePath) or _are_columns(dataset):
        kept = repr(dataset) if isinstance(dataset, str | PurePath) else "columns of samples"
        raise WorkloadError(
            f"make_dataset returned a {type(dataset).__name__} ({kept}), not a dataset",
            next_step="Return a dataset of samples, as torch.utils.data.TensorDataset(inputs, "
            "targets) makes it of tensors.",
        )
    if is_map_style(dataset):
        return DatasetBatches(dataset, collate)
    if not hasattr(dataset, "__iter__"):
        raise WorkloadError(
            f"make_dataset returned a {type(dataset).__name__}, not a dataset",
            next_step="Return an object with __getitem__ and __len__, or an iterable.",
        )
    return IterableBatches(dataset, collate)


def _are_sets(parts: Sequence[Any]) -> bool:
    kinds = (Dataset, DataLoader) if isinstance(parts, list) else (Dataset, DataLoader, dict)
    return bool(parts) and all(isinstance(part, kinds) for part in parts)


def _are_columns(dataset: Any) -> bool:
    """Return whether it is (inputs, targets) of all samples in place of pairs of each."""
    if not isinstance(dataset, tuple) or not all(hasattr(part, "shape") for part in dataset):
        return False
    lengths = {len(part) for part in dataset if part.shape}
    return len(dataset) > 1 and len(lengths) == 1 and len(dataset) not in lengths


def is_map_style(dataset: Any) -> bool:
    """Return whether samples are read by index; every torch dataset has the method for it."""
    is_stream = isinstance(dataset, IterableDataset) or (
        hasattr(dataset, "__iter__") and not hasattr(dataset, "__len__")
    )
    return hasattr(dataset, "__getitem__") and not is_stream
