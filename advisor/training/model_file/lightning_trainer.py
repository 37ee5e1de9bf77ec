"""What stands in for Lightning's Trainer and logger where a module asks for them."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from advisor.errors import note_place

WITHOUT_TRAINER = (
    "Write make_optimizer(model) in the model file, and loss_fn(model, batch) or make_dataset() "
    "where they ask for the Trainer, so that it is not needed."
)
#: Steps of a schedule that nobody follows.
_ANY_STEPS = 1000


class _Silent:
    """Takes whatever is asked of a logger, and gives itself in return."""

    log_dir = save_dir = root_dir = tempfile.gettempdir()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> Any:
        return self

    def __getitem__(self, _: object) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __float__(self) -> float:
        return 0.0

    def __format__(self, _: str) -> str:
        return ""


SILENT = _Silent()


class Trainer:
    """Stands in for Lightning's Trainer: one process that trains the model for so many steps."""

    max_epochs = num_devices = world_size = num_nodes = accumulate_grad_batches = 1
    current_epoch = global_step = global_rank = local_rank = 0
    is_global_zero = training = True
    sanity_checking = validating = testing = predicting = fast_dev_run = barebones = False
    train_dataloader = progress_bar_callback = None
    logger = SILENT
    loggers = (SILENT,)
    callbacks: tuple[object, ...] = ()

    def __init__(self, model: nn.Module, find_data_module: Callable[[], Any]) -> None:
        self.model = self.lightning_module = model
        self.was_asked = False
        self._find_data_module = find_data_module
        self._total_steps = _ANY_STEPS
        self._has_begun = False

    @contextmanager
    def spanning(self, total_steps: int) -> Iterator[None]:
        """Train for so many steps, and note whether it is asked for them."""
        self.was_asked, self._total_steps = False, total_steps
        try:
            yield
        finally:
            self._total_steps = _ANY_STEPS

    @property
    def datamodule(self) -> Any:
        """The file's LightningDataModule, None without one."""
        return self._find_data_module()

    @property
    def estimated_stepping_batches(self) -> int:
        """The steps of the whole training, which a schedule asks for."""
        self.was_asked = True
        return self._total_steps

    max_steps = num_training_batches = estimated_stepping_batches

    def restart(self) -> None:
        """Have the next batch be the first again."""
        self._has_begun = False

    def next_batch_index(self) -> int:
        """Return 0 for the first batch, then 1: what is done every so many batches is rare.

        An index that went on would have a compiled step compiled anew for each of its values.
        """
        index, self._has_begun = int(self._has_begun), True
        return index

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        error = AttributeError(f"self.trainer.{name} is asked for, and no Trainer runs here")
        note_place(error, "the LightningModule", WITHOUT_TRAINER)
        raise error
