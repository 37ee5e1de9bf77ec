"""The data of the user's model file: which it is, and the source of batches over it."""

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
from advisor.training.model_file.loading import Maker
from advisor.training.model_file.own_loader import (
    OwnLoader,
    is_loader,
    noting_loaders,
    open_loader,
    refuse_batches,
)


class TrainingData:
    """What the file trains on, found on first use.

    Attributes:
        how_batch: One sentence: where batches come from.
        dataset: None with synthetic batches.
        collate: None is torch's default.
        own_loader: Of a LightningModule or LightningDataModule.
        base_batch_size: That was asked for, else the file's own.
    """

    def __init__(self, maker: Maker, base_batch_size: int | None) -> None:
        self._names, self._settings, self._maker = maker.names, maker.settings, maker
        self.base_batch_size = base_batch_size or maker.names.base_batch_size
        self.dataset: Any = None
        self.collate: Callable[[list[Any]], Any] | None = None
        self.own_loader: Any = None
        self.how_batch = "make_step of the model file"
        self._data_module: Any = None

    def open_held_out(self) -> Batches | None:
        """Return the source of held-out batches; None where the file has no held-out data."""
        _ = self.batches  # opening them finds the collate function
        if self._names.make_val_dataset is not None:
            made = self._make_dataset("make_val_dataset")
            own = open_loader(made, "make_val_dataset").dataset if is_loader(made) else made
            return batches_from_dataset(own, self.collate)
        loader = self._find_loader(held_out=True)
        if loader is None:
            return None
        return batches_from_dataset(loader.dataset, self.collate or loader.collate)

    @cached_property
    def batches(self) -> Batches:
        """The source of batches, opened on first use; WorkloadError where the file has none."""
        names, settings = self._names, self._settings
        collate = names.collate_fn
        if collate is not None:
            collate = settings.bind(collate, positional=1)
        self.collate = collate
        if names.make_val_dataset is not None:
            settings.bind(names.make_val_dataset, positional=0)  # its settings count as used
        if names.make_dataset is not None:
            self.how_batch = "make_dataset of the model file"
            with noting_loaders() as read:
                made = self._make_dataset("make_dataset")
                if is_loader(made):
                    return self._take_apart(open_loader(made, "make_dataset"))
                source = batches_from_dataset(made, collate)
                refuse_batches(source.read([0])[0], read)
            self.dataset = made
            return source
        if names.make_batch is not None:
            make_batch = names.make_batch
            self.how_batch = "make_batch of the model file: synthetic"
            return SyntheticBatches(lambda size: settings.call(make_batch, size))
        loader = self._find_loader()
        if loader is None:
            raise WorkloadError(
                f"{self._maker.target.text} has neither make_dataset nor make_batch: there is "
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
        made = self._maker.make(field)
        return Remade(made, lambda: self._maker.make(field)) if isinstance(made, Iterator) else made

    def _take_apart(self, loader: OwnLoader) -> Batches:
        """Return the source of the loader's samples; its batch is the base where none is given."""
        self.dataset, self.own_loader = loader.dataset, loader.source
        self.collate = self.collate or loader.collate
        if self.base_batch_size is None and loader.batch_size:
            self.base_batch_size = loader.batch_size
            self.how_batch += f", whose batch size {loader.batch_size} is taken as the base"
        return batches_from_dataset(loader.dataset, self.collate)

    def find_data_module(self) -> Any:
        """Return the file's LightningDataModule, made and set up once; None without one."""
        if self._data_module is None and self._names.data_module is not None:
            self._data_module = self._settings.call(self._names.data_module)
            lightning.run_hooks(self._data_module)
        return self._data_module

    def _find_loader(self, *, held_out: bool = False) -> OwnLoader | None:
        source = self.find_data_module()
        if source is None:
            assert self._names.model is not None
            source = self._settings.call(self._names.model)
            if not lightning.is_lightning_type(type(source)):
                return None
            lightning.prepare(source)
        return lightning.find_loader(source, held_out=held_out)


def batches_from_dataset(
    dataset: Any, collate: Callable[[list[Any]], Any] | None
) -> DatasetBatches:
    """Return the source for a map-style or iterable dataset; WorkloadError for anything else."""
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
