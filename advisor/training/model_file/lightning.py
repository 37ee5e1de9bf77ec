"""A LightningModule as it is: its own loss, optimizer and loader, without a Trainer.

Lightning is never imported here: its classes are known by name in the method resolution order.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from advisor.errors import WorkloadError, note_place
from advisor.training.model_file.foreign import (
    call_with_known,
    parameters_in,
    parameters_of,
    running,
)
from advisor.training.model_file.lightning_trainer import SILENT, WITHOUT_TRAINER, Trainer
from advisor.training.model_file.own_loader import OwnLoader, open_loader
from advisor.training.optimizer_facts import find_given_rate

#: The packages whose own hooks need not run.
_LIGHTNING = ("lightning", "pytorch_lightning")


def is_lightning_type(type_: type) -> bool:
    """Return whether the type is a LightningModule of the user's (not the library's own class)."""
    return any(base.__name__ == "LightningModule" for base in type_.__mro__[1:])


def is_data_module_type(type_: type) -> bool:
    """Return whether the type is a LightningDataModule of the user's."""
    return any(base.__name__ == "LightningDataModule" for base in type_.__mro__[1:])


def prepare(model: nn.Module, find_data_module: Callable[[], Any] = lambda: None) -> nn.Module:
    """Return the module made ready to run without a Trainer: set up, and logging goes nowhere.

    Raises:
        WorkloadError: It optimises manually, so that no single loss and step can be told apart, or
            takes its batches itself.
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
    object.__setattr__(model, "_trainer", Trainer(model, find_data_module))
    for method in ("log", "log_dict", "optimizers", "lr_schedulers"):
        object.__setattr__(model, method, SILENT)
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
    if isinstance(trainer, Trainer):
        trainer.restart()


def run_hooks(source: object, *more: tuple[str, tuple[object, ...]]) -> None:
    """Run what Lightning runs before it asks for data: prepare_data and setup, then `more`."""
    for name, arguments in (("prepare_data", ()), ("setup", ("fit",)), *more):
        hook = getattr(source, name, None)
        if callable(hook):
            with running(f"{type(source).__name__}.{name}"):
                call_with_known(hook, *arguments)


def training_loss(model: nn.Module, batch: Any) -> object:
    """Return what `training_step` returns, the loss taken out of a dict."""
    trainer: Trainer = model._trainer  # type: ignore[assignment]  # noqa: SLF001
    batch = _transfer(model, trainer.datamodule, batch)
    index = trainer.next_batch_index()
    if _has_own(type(model), "on_train_batch_start"):  # type: ignore[arg-type]
        with contextlib.suppress(Exception):  # as `start`
            model.on_train_batch_start(batch, index)  # type: ignore[operator]
    try:  # in every step that is timed
        output = model.training_step(batch, *(index, 0)[: _count_step_arguments(type(model))])  # type: ignore[arg-type,operator]
    except Exception as error:
        note_place(error, f"training_step of {type(model).__name__}", WITHOUT_TRAINER)
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
    parameters = parameters_of(type_.training_step) or {}
    kinds = [each.kind for each in parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 1
    named = sum(kind == inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds)
    return max(0, named - len(("self", "batch")))


def configured_optimizer(model: nn.Module) -> Optimizer | None:
    """Return the one of `configure_optimizers` at its own rate, None without one."""
    return _read(model)[0]


def follow_scheduler(
    model: nn.Module, optimizer: Optimizer, total_steps: int
) -> LRScheduler | None:
    """Return the module's own schedule over so many steps, from the optimizer's rates on.

    None where it has none, steps it with epochs, or fixes its length without asking the Trainer.
    """
    trainer: Trainer = model._trainer  # type: ignore[assignment]  # noqa: SLF001
    with trainer.spanning(total_steps):
        _, found = _read(model)
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
    with running(f"configure_optimizers of {type(model).__name__}", WITHOUT_TRAINER):
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


def find_loader(source: Any, *, held_out: bool = False) -> OwnLoader | None:
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
    return open_loader(loader, what)
