"""The data of the user's model file: which it is, and the batches and loaders over it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

from advisor.errors import WorkloadError
from advisor.training.model_file import lightning
from advisor.training.model_file.data import (
    Batches,
    DatasetBatches,
    IterableBatches,
    SyntheticBatches,
)
from advisor.training.model_file.kept import Remade
from advisor.training.model_file.loading import ModelFile
from advisor.training.model_file.own_loader import (
    check_loader,
    choose_order,
    find_batch_size,
    is_loader,
    noting_loaders,
    refuse_batches,
)

#: Forked workers have the dataset and the user's functions as they are; others would have to find
#: them by the name of a module that only this process has loaded.
_CONTEXT = "fork" if sys.platform == "linux" else None


class TrainingData:
    """What the file trains on, found on first use."""

    def __init__(self, file: ModelFile, base_batch_size: int | None) -> None:
        self._file, self._names = file, file.names
        self.base_batch_size = base_batch_size or file.names.base_batch_size
        #: None with synthetic batches.
        self.dataset: Any = None
        #: None is torch's default.
        self.collate: Callable[[list[Any]], Any] | None = None
        self.own_loader: Any = None
        self.how_batch = ""  # one sentence

    def open_held_out(self) -> Batches | None:
        """Return the source of held-out batches; None where the file has no held-out data."""
        _ = self.batches  # opening them finds the collate function
        if self._names.make_val_dataset is not None:
            made = self._make_dataset("make_val_dataset")
            own = check_loader(made, "make_val_dataset").dataset if is_loader(made) else made
            return batches_from_dataset(own, self.collate)
        loader = self._find_loader(held_out=True)
        if loader is None:
            return None
        return batches_from_dataset(loader.dataset, self.collate or loader.collate_fn)

    @cached_property
    def batches(self) -> Batches:
        """The source of batches, opened on first use; WorkloadError where the file has none."""
        names = self._names
        if names.make_step is not None:
            return SyntheticBatches(lambda _: None)
        if names.collate_fn is not None:
            self.collate = self._file.bind(names.collate_fn, positional=1)
        if names.make_val_dataset is not None:
            self._file.bind(names.make_val_dataset, positional=0)  # its settings count as used
        if names.make_dataset is not None:
            self.how_batch = "make_dataset of the model file"
            with noting_loaders() as read:
                made = self._make_dataset("make_dataset")
                if is_loader(made):
                    return self._take_apart(check_loader(made, "make_dataset"))
                source = batches_from_dataset(made, self.collate)
                refuse_batches(source.read([0])[0], read)
            self.dataset = made
            return source
        if names.make_batch is not None:
            make_batch = names.make_batch
            self.how_batch = "make_batch of the model file: synthetic"
            return SyntheticBatches(lambda size: self._file.call(make_batch, size))
        loader = self._find_loader()
        if loader is None:
            raise WorkloadError(
                f"{self._file.target.text} has neither make_dataset nor make_batch: there is "
                "nothing to train on",
                next_step=(
                    "Add one of these to the model file:\n"
                    "    def make_dataset(): return ...  # a torch Dataset: the noise needs it\n"
                    "    def make_batch(batch_size): return inputs, targets  # synthetic"
                ),
            )
        self.how_batch = "train_dataloader's dataset"
        return self._take_apart(loader)

    def _make_dataset(self, field: str) -> Any:
        """Return what the user's function makes; a stream of one pass is made anew for the next."""
        made = self._file.make(field)
        return Remade(lambda: self._file.make(field), made) if isinstance(made, Iterator) else made

    def _take_apart(self, loader: Any) -> Batches:
        """Return the source of the loader's samples; its batch is the base where none is given."""
        self.dataset, self.own_loader = loader.dataset, loader
        self.collate = self.collate or loader.collate_fn
        size = find_batch_size(loader)
        if self.base_batch_size is None and size is not None:
            self.base_batch_size = size
            self.how_batch += f", whose batch size {size} is taken as the base"
        return batches_from_dataset(loader.dataset, self.collate)

    @cached_property
    def data_module(self) -> Any:
        """The file's LightningDataModule, made and set up once; None without one."""
        if self._names.data_module is None:
            return None
        made = self._file.make("data_module")
        lightning.run_hooks(made)
        return made

    def _find_loader(self, *, held_out: bool = False) -> Any:
        """Return the loader of the file's LightningDataModule, or LightningModule; else None."""
        source = self.data_module
        if source is None:
            source = self._file.make("model")
            if not lightning.is_lightning_type(type(source)):
                return None
            lightning.prepare(source)
        return lightning.find_loader(source, held_out=held_out)

    @property
    def own_workers(self) -> int:
        """Workers of the user's own loader, without one those of DataLoader's default."""
        return int(getattr(self.own_loader, "num_workers", 0))

    def make_loader(self, batch_size: int, *, workers: int, timeout_s: float) -> DataLoader[Any]:
        """Return a loader of full batches, shuffled where the user's own loader would.

        A worker that gives nothing for `timeout_s` is an error.
        """
        own, dataset = self.own_loader, self.dataset
        options: dict[str, Any] = {
            "pin_memory": getattr(own, "pin_memory", False),
            "worker_init_fn": getattr(own, "worker_init_fn", None),
        }
        if is_map_style(dataset):
            options |= choose_order(own, len(dataset))
        elif not isinstance(dataset, IterableDataset):
            dataset = Remade(lambda: self.dataset)
        if workers:
            is_own = workers == self.own_workers
            options |= {
                "persistent_workers": not is_own or getattr(own, "persistent_workers", True),
                "prefetch_factor": getattr(own, "prefetch_factor", None),
                "multiprocessing_context": getattr(own, "multiprocessing_context", None)
                or _CONTEXT,
                "timeout": timeout_s,
            }
        return DataLoader(
            dataset,
            batch_size,
            drop_last=True,
            collate_fn=self.collate,
            num_workers=workers,
            **options,
        )


def batches_from_dataset(
    dataset: Any, collate: Callable[[list[Any]], Any] | None
) -> DatasetBatches:
    """Return the source for a map-style or iterable dataset; WorkloadError for anything else."""
    held, next_step = "", "Return an object with __getitem__ and __len__, or an iterable."
    if isinstance(dataset, dict) or (isinstance(dataset, list | tuple) and _are_sets(dataset)):
        held = ", ".join(map(str, dataset)) if isinstance(dataset, dict) else str(len(dataset))
        next_step = "Return the one dataset to train on from it."
    elif isinstance(dataset, str | bytes | PurePath) or _are_columns(dataset):
        held = repr(dataset) if isinstance(dataset, str | PurePath) else "columns of samples"
        next_step = (
            "Return a dataset of samples, as torch.utils.data.TensorDataset(inputs, targets) makes "
            "it of tensors."
        )
    elif is_map_style(dataset):
        return DatasetBatches(dataset, collate)
    elif hasattr(dataset, "__iter__"):
        return IterableBatches(dataset, collate)
    kind = f"{type(dataset).__name__} ({held})" if held else type(dataset).__name__
    raise WorkloadError(f"make_dataset returned a {kind}, not a dataset", next_step=next_step)


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
