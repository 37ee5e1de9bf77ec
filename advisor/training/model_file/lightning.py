"""A LightningModule as it is: its own loss, optimizer and loader, without a Trainer.

Lightning is never imported here: its classes are known by name in the method resolution order.
"""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from advisor.errors import WorkloadError, note_place
from advisor.training.model_file.foreign import (
    count_places,
    parameters_in,
    parameters_of,
    running,
)
from advisor.training.model_file.own_loader import check_loader
from advisor.training.optimizer_facts import find_given_rate

#: The packages whose own hooks need not run.
_LIGHTNING = ("lightning", "pytorch_lightning")
_WITHOUT_TRAINER = (
    "Write make_optimizer(model) in the model file, and loss_fn(model, batch) or make_dataset() "
    "where they ask for the Trainer, so that it is not needed."
)
#: Steps of a schedule that nobody follows.
_ANY_STEPS = 1000


def is_lightning_type(type_: type, name: str = "LightningModule") -> bool:
    """Return whether the type is a class of the user's that derives from the library's."""
    return any(base.__name__ == name for base in type_.__mro__[1:])


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


_SILENT = _Silent()


class _Trainer:
    """Stands in for Lightning's Trainer: one process that trains the model for so many steps."""

    max_epochs = num_devices = world_size = num_nodes = accumulate_grad_batches = 1
    current_epoch = global_step = global_rank = local_rank = 0
    is_global_zero = training = True
    sanity_checking = validating = testing = predicting = fast_dev_run = barebones = False
    train_dataloader = progress_bar_callback = None
    logger = _SILENT
    loggers = (_SILENT,)
    callbacks: tuple[object, ...] = ()

    def __init__(self, model: nn.Module, find_data_module: Callable[[], Any]) -> None:
        self.model = self.lightning_module = model
        self.has_begun = False  # the first batch
        self.total_steps, self.was_asked = _ANY_STEPS, False
        self._find_data_module = find_data_module

    @property
    def datamodule(self) -> Any:
        return self._find_data_module()

    @property
    def estimated_stepping_batches(self) -> int:
        self.was_asked = True
        return self.total_steps

    max_steps = num_training_batches = estimated_stepping_batches

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        error = AttributeError(f"self.trainer.{name} is asked for, and no Trainer runs here")
        note_place(error, "the LightningModule", _WITHOUT_TRAINER)
        raise error


def prepare(model: nn.Module, find_data_module: Callable[[], Any] = lambda: None) -> nn.Module:
    """Return the module made ready to run without a Trainer: set up, and logging goes nowhere.

    WorkloadError where no single loss and step can be told apart, or it takes its batches itself.
    """
    name = type(model).__name__
    if not getattr(model, "automatic_optimization", True):
        raise WorkloadError(
            f"{name} uses manual optimization",
            next_step="Write make_step(batch_size, device) in the model file instead.",
        )
    step: Any = getattr(type(model), "training_step", None)
    if "dataloader_iter" in (parameters_of(step) or {}):
        raise WorkloadError(
            f"training_step of {name} takes batches from dataloader_iter itself",
            next_step="Write loss_fn(model, batch) in the model file, or make_step(batch_size, "
            "device).",
        )
    object.__setattr__(model, "_trainer", _Trainer(model, find_data_module))
    for method in ("log", "log_dict", "optimizers", "lr_schedulers"):
        object.__setattr__(model, method, _SILENT)
    object.__setattr__(model, "all_gather", lambda data, *_, **__: data)  # of one process
    run_hooks(model, ("configure_model", ()))
    return model


def start(model: nn.Module) -> None:
    """Run the hooks that Lightning runs before the first batch; what of them can run without it."""
    for name in ("on_fit_start", "on_train_start", "on_train_epoch_start"):
        with contextlib.suppress(Exception):  # most of them log, or look at the Trainer
            getattr(model, name)()


def restart(model: nn.Module) -> None:
    """Have the next batch be the first again, if the model is a LightningModule."""
    trainer = getattr(model, "_trainer", None)
    if isinstance(trainer, _Trainer):
        trainer.has_begun = False


def run_hooks(source: object, *more: tuple[str, tuple[object, ...]]) -> None:
    """Run what Lightning runs before it asks for data: prepare_data and setup, then `more`."""
    for name, arguments in (("prepare_data", ()), ("setup", ("fit",)), *more):
        hook = getattr(source, name, None)
        if callable(hook):
            with running(f"{type(source).__name__}.{name}"):
                hook(*arguments[: count_places(hook)])


def training_loss(model: nn.Module, batch: Any) -> object:
    """Return what `training_step` returns, the loss taken out of a dict."""
    trainer: _Trainer = model._trainer  # type: ignore[assignment]  # noqa: SLF001
    batch = _transfer(model, trainer.datamodule, batch)
    # Then 1: an index that went on would have a compiled step compiled anew for each value.
    index, trainer.has_begun = int(trainer.has_begun), True
    if _has_own(type(model), "on_train_batch_start"):  # type: ignore[arg-type]
        with contextlib.suppress(Exception):  # as `start`
            model.on_train_batch_start(batch, index)  # type: ignore[operator]
    try:  # in every step that is timed
        output = model.training_step(batch, *(index, 0)[: _count_step_arguments(type(model))])  # type: ignore[arg-type,operator]
    except Exception as error:
        note_place(error, f"training_step of {type(model).__name__}", _WITHOUT_TRAINER)
        raise
    return output["loss"] if isinstance(output, dict) and "loss" in output else output


def _transfer(model: nn.Module, data_module: Any, batch: Any) -> Any:
    """Return the batch after the hooks of its transfer, the data module's before the module's."""
    for name in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"):
        owners = [each for each in (data_module, model) if _has_own(type(each), name)]  # type: ignore[arg-type]
        if owners:
            moves = name == "transfer_batch_to_device"
            where = (next(parameters_in(model)).device,) if moves else ()
            batch = getattr(owners[0], name)(batch, *where, 0)
    return batch


@functools.cache
def _has_own(type_: Any, name: str) -> bool:
    """Return whether the user's class has the hook, and not Lightning's, which only moves."""
    defined = getattr(type_, name, None)
    home = getattr(defined, "__module__", None) or ""
    return callable(defined) and home.partition(".")[0] not in _LIGHTNING


@functools.cache
def _count_step_arguments(type_: Any) -> int:
    """Return how much `training_step` takes beside the batch: an index, and that of a loader."""
    more = count_places(type_.training_step) - len(("self", "batch"))
    return max(0, more) if more <= 2 else 1  # of *args


def configured_optimizer(model: nn.Module) -> Optimizer | None:
    """Return the one of `configure_optimizers` at its own rate, None without one."""
    return _read(model)[0]


def follow_scheduler(
    model: nn.Module, optimizer: Optimizer, total_steps: int
) -> LRScheduler | None:
    """Return the module's own schedule over so many steps, from the optimizer's rates on.

    None where it has none, steps it with epochs, or fixes its length without asking the Trainer.
    """
    trainer: _Trainer = model._trainer  # type: ignore[assignment]  # noqa: SLF001
    trainer.was_asked, trainer.total_steps = False, total_steps
    _, found = _read(model)
    trainer.total_steps = _ANY_STEPS
    if not isinstance(found, dict) or found.get("interval") != "step" or not trainer.was_asked:
        return None
    own = found.get("scheduler")
    return _Follower(optimizer, own) if isinstance(own, LRScheduler) else None


class _Follower(LRScheduler):
    """Gives an optimizer's rates the course that the module's scheduler gives its own optimizer."""

    def __init__(self, optimizer: Optimizer, own: LRScheduler) -> None:
        self._own = own
        own.optimizer._opt_called = True  # type: ignore[attr-defined]  # noqa: SLF001 - never steps
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch >= 0:
            self._own.step()
        super().step(epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        groups = self._own.optimizer.param_groups
        return [
            rate * group["lr"] / given if given else rate  # a group that rests has no course
            for rate, group in zip(self.base_lrs, groups, strict=True)
            for given in (find_given_rate(group),)
        ]


def _read(model: nn.Module) -> tuple[Optimizer | None, Any]:
    """Return the one optimizer that is configured, and the configuration of its scheduler."""
    with running(f"configure_optimizers of {type(model).__name__}", _WITHOUT_TRAINER):
        found: Any = model.configure_optimizers()  # type: ignore[operator]
    scheduler = None
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], list | tuple):
        found, schedulers = found
        scheduler = schedulers[0] if schedulers else None
    if isinstance(found, list | tuple):
        if len(found) != 1:
            raise WorkloadError(
                f"configure_optimizers of {type(model).__name__} returns {len(found)} optimizers",
                next_step="Write make_step(batch_size, device) in the model file instead.",
            )
        found = found[0]
    if isinstance(found, dict):
        found, scheduler = found.get("optimizer"), found.get("lr_scheduler", scheduler)
    return found, scheduler


def find_loader(source: Any, *, held_out: bool = False) -> Any:
    """Return the training loader of a LightningModule or LightningDataModule, None without one.

    `held_out` takes the validation loader, of which there may be several: none is taken then.
    """
    method = "val_dataloader" if held_out else "train_dataloader"
    if not hasattr(source, method):
        return None
    what = f"{method} of {type(source).__name__}"
    try:
        with running(what):
            loader = getattr(source, method)()
    except Exception as error:
        if type(error).__name__ == "MisconfigurationException":  # Lightning's word for "not there"
            return None
        raise
    if loader is None or (held_out and not hasattr(loader, "dataset")):
        return None
    return check_loader(loader, what)
