"""A LightningModule as it is: its own loss, optimizer and loader, without a Trainer.

Lightning is never imported here: its classes are known by name in the method resolution order.
"""

import functools
import inspect
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from advisor.errors import WorkloadError, note_place
from advisor.training.model_file.foreign import call_with_known, parameters_of, running
from advisor.training.model_file.own_loader import OwnLoader, open_loader
from advisor.training.optimizer_facts import find_given_rate

_WITHOUT_TRAINER = (
    "Write make_optimizer(model) in the model file, and loss_fn(model, batch) or make_dataset() "
    "where they ask for the Trainer, so that it is not needed."
)


def is_lightning_type(type_: type) -> bool:
    """Return whether the type is a LightningModule of the user's (not the library's own class)."""
    return any(base.__name__ == "LightningModule" for base in type_.__mro__[1:])


def is_data_module_type(type_: type) -> bool:
    """Return whether the type is a LightningDataModule of the user's."""
    return any(base.__name__ == "LightningDataModule" for base in type_.__mro__[1:])


def _ignore(*_: object, **__: object) -> None:
    """Stand in for `self.log`, which needs a Trainer."""


def prepare(model: nn.Module) -> nn.Module:
    """Return the module made ready to run without a Trainer: set up, and logging goes nowhere.

    Raises:
        WorkloadError: It optimises manually, so that no single loss and step can be told apart.
    """
    name = type(model).__name__
    if not getattr(model, "automatic_optimization", True):
        raise WorkloadError(
            f"{name} uses manual optimization",
            next_step="Write make_step(batch_size, device) in the model file instead.",
        )
    object.__setattr__(model, "_trainer", Trainer(model))
    for method in ("log", "log_dict"):
        object.__setattr__(model, method, _ignore)
    run_hooks(model, ("configure_model", ()))
    return model


def run_hooks(source: object, *more: tuple[str, tuple[object, ...]]) -> None:
    """Run what Lightning runs before it asks for data: prepare_data and setup, then `more`."""
    for name, arguments in (("prepare_data", ()), ("setup", ("fit",)), *more):
        hook = getattr(source, name, None)
        if callable(hook):
            with running(f"{type(source).__name__}.{name}"):
                call_with_known(hook, *arguments)


def training_loss(model: nn.Module, batch: Any) -> object:
    """Return what `training_step` returns, the loss taken out of a dict."""
    for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
        hook = getattr(model, name, None)
        batch = hook(batch, 0) if hook is not None else batch
    output = _call_step(model, batch)
    return output["loss"] if isinstance(output, dict) and "loss" in output else output


def _call_step(model: Any, batch: object) -> object:
    return model.training_step(batch, *_step_arguments(type(model)))  # type: ignore[arg-type]


@functools.cache
def _step_arguments(type_: Any) -> tuple[int, ...]:
    """Return what `training_step` takes beside the batch: an index, and that of a loader."""
    parameters = parameters_of(type_.training_step) or {}
    kinds = [each.kind for each in parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return (0,)
    named = sum(kind == inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds)
    return (0,) * max(0, named - len(("self", "batch")))


def configured_optimizer(model: nn.Module) -> Optimizer | None:
    """Return the optimizer of `configure_optimizers` at its own rate, None where there is none.

    Raises:
        WorkloadError: It returns several.
    """
    optimizer, _ = _read(model, Trainer(model))
    return optimizer


def follow_scheduler(
    model: nn.Module, optimizer: Optimizer, total_steps: int
) -> LRScheduler | None:
    """Return the module's own schedule over so many steps, from the optimizer's rates on.

    None where it has none, steps it with epochs, or fixes its length without asking the Trainer.
    """
    trainer = Trainer(model, total_steps)
    _, found = _read(model, trainer)
    if not isinstance(found, dict) or found.get("interval") != "step" or not trainer.was_asked:
        return None
    return _Follower(optimizer, found["scheduler"])


#: Steps of a schedule that nobody follows.
_ANY_STEPS = 1000


class Trainer:
    """Stands in for Lightning's Trainer: one process that trains the model for so many steps."""

    max_epochs = num_devices = world_size = num_nodes = accumulate_grad_batches = 1
    current_epoch = global_step = global_rank = local_rank = 0
    is_global_zero = training = True
    sanity_checking = validating = testing = predicting = fast_dev_run = barebones = False
    logger = datamodule = train_dataloader = None
    loggers: tuple[object, ...] = ()
    callbacks: tuple[object, ...] = ()

    def __init__(self, model: nn.Module, total_steps: int = _ANY_STEPS) -> None:
        self.model = self.lightning_module = model
        self.was_asked = False
        self._total_steps = total_steps

    @property
    def estimated_stepping_batches(self) -> int:
        """The steps of the whole training, which a schedule asks for."""
        self.was_asked = True
        return self._total_steps

    max_steps = num_training_batches = estimated_stepping_batches

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        error = AttributeError(f"self.trainer.{name} is asked for, and no Trainer runs here")
        note_place(error, "the LightningModule", _WITHOUT_TRAINER)
        raise error


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
            rate * group["lr"] / find_given_rate(group)
            for rate, group in zip(self.base_lrs, groups, strict=True)
        ]


def _read(model: nn.Module, trainer: Trainer) -> tuple[Optimizer | None, Any]:
    """Return the one optimizer that is configured, and the configuration of its scheduler."""
    attached = getattr(model, "_trainer", None)
    object.__setattr__(model, "_trainer", trainer)
    try:
        with running(f"configure_optimizers of {type(model).__name__}", _WITHOUT_TRAINER):
            found: Any = model.configure_optimizers()  # type: ignore[operator]
    finally:
        object.__setattr__(model, "_trainer", attached)
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
        found, scheduler = found["optimizer"], found.get("lr_scheduler", scheduler)
    return found, scheduler


def find_loader(source: Any, *, held_out: bool = False) -> OwnLoader | None:
    """Return the training loader of a LightningModule or LightningDataModule, None without one.

    `held_out` takes the validation loader, of which there may be several: none is taken then.
    """
    method = "val_dataloader" if held_out else "train_dataloader"
    if not hasattr(source, method):
        return None
    if is_data_module_type(type(source)):
        run_hooks(source)
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
