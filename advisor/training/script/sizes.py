"""How many samples a backward pass of the script has, seen rather than believed."""

from collections.abc import Mapping
from typing import Any

import msgspec
from torch import Tensor, nn


class Sizes(msgspec.Struct, kw_only=True):
    """What was seen of the last batch that went into training.

    Attributes:
        loader: Samples that the DataLoader puts into a batch.
        shape: Of the first tensor that the model was called with.
        dataset_size: Samples of the loader's dataset, where it says.
        workers: Processes of the loader; None without one.
        model: The outermost module that was called.
    """

    loader: int | None = None
    shape: tuple[int, ...] = ()
    dataset_size: int | None = None
    workers: int | None = None
    model: Any = None
    is_new: bool = True

    def see_loader(self, iterator: Any, batch: Any) -> None:
        """See a batch and the loader that it came from."""
        self.is_new = True
        size = getattr(getattr(iterator, "_index_sampler", None), "batch_size", None)
        if not isinstance(size, int):
            first = _find_tensor(batch)
            size = None if first is None or not first.ndim else first.shape[0]
        self.loader = size
        self.workers = getattr(iterator, "_num_workers", None)
        try:
            self.dataset_size = len(iterator._dataset)  # noqa: SLF001
        except Exception:  # noqa: BLE001 - a stream, or a length that is the user's
            self.dataset_size = None

    def see_call(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """See a module that is called; the first of a step with a tensor tells its size."""
        if not self.is_new or next(module.parameters(), None) is None:
            return  # a transform of the data is a module as well
        first = _find_tensor(inputs)
        if self.model is None:
            self.model = module
        if first is not None and first.ndim:
            self.shape, self.is_new = tuple(first.shape), False


def _find_tensor(values: Any) -> Tensor | None:
    """Return the first tensor in nested containers."""
    if isinstance(values, Tensor):
        return values
    if isinstance(values, Mapping):
        values = tuple(values.values())
    if isinstance(values, list | tuple):
        return next((found for each in values if (found := _find_tensor(each)) is not None), None)
    return None
