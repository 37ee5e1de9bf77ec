"""How many samples a backward pass of the script has, seen rather than believed."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from advisor.figures import MOST_SAMPLES


class Sizes(msgspec.Struct, kw_only=True):
    """What was seen of the last batch that went into training."""

    #: Samples that the DataLoader puts into a batch.
    loader: int | None = None
    #: Of the first tensor that the model was called with.
    shape: tuple[int, ...] = ()
    #: Samples of the loader's dataset, where it says.
    dataset_size: int | None = None
    #: Processes of the loader; None without one.
    workers: int | None = None
    #: The outermost module that was called.
    model: Any = None
    #: Whether a module normalises by those of the batch.
    has_batch_statistics: bool = False
    #: Whether no more batches need to be looked at.
    is_known: bool = False
    _has_trained: bool = False
    _is_open: bool = True
    _loads: Counter[int] = msgspec.field(default_factory=Counter)
    _calls: int = 0

    def end_pass(self) -> None:
        """Have the next call be that of another backward pass."""
        self._is_open = True

    def take_counts(self) -> tuple[int, int]:
        """Return how many batches of one loader, and calls of the model, came since the last."""
        counts = max(self._loads.values(), default=0), self._calls
        self._loads.clear()
        self._calls = 0
        return counts

    def see_loader(self, iterator: Any, batch: Any) -> None:
        """See a batch and the loader that it came from."""
        self._is_open = True
        self._loads[id(iterator)] += 1
        size = getattr(getattr(iterator, "_index_sampler", None), "batch_size", None)
        fetcher = getattr(iterator, "_dataset_fetcher", None)  # None where processes load
        if not isinstance(size, int) or getattr(fetcher, "ended", False):  # a stream too short
            first = find_tensor(batch)
            size = None if first is None or not first.ndim else first.shape[0]
        self.loader = size
        self.workers = getattr(iterator, "_num_workers", None)
        try:
            length = len(iterator._dataset)  # noqa: SLF001
            self.dataset_size = min(length, MOST_SAMPLES) or None
        except Exception:  # noqa: BLE001 - a stream, or a length that is the user's
            self.dataset_size = None

    def see_call(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """See a module that is called; the first of a pass with a tensor tells its size.

        One that is in `eval` mode counts as long as none trains.
        """
        if next(module.parameters(), None) is None:
            return  # a transform of the data is a module as well
        if module.training and not self._has_trained:
            self._has_trained, self._is_open, self.model = True, True, None
        if module.training != self._has_trained:
            return
        self.has_batch_statistics |= isinstance(module, _BatchNorm)
        if self.model is None:
            self.model = module
        if module is self.model:  # the last call before a backward pass is the one that counts
            self._calls += 1
            self._is_open = True
        if not self._is_open:
            return
        first = find_tensor(inputs)
        if first is not None and first.ndim:
            self.shape, self._is_open = tuple(first.shape), False


def find_tensor(values: Any) -> Tensor | None:
    """Return the first tensor in nested containers."""
    if isinstance(values, Tensor):
        return values
    try:
        if isinstance(values, Mapping):
            values = tuple(values.values())
        if isinstance(values, list | tuple):
            found = (find_tensor(each) for each in values)
            return next((each for each in found if each is not None), None)
    except Exception:  # noqa: BLE001 - a container of the user's, or one that holds itself
        return None
    return None
