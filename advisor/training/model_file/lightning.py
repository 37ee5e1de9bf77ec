"""A LightningModule as it is: its own loss, optimizer and loader, without a Trainer.

Lightning is never imported here: its classes are known by name in the method resolution order.
"""

from typing import Any

import msgspec
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from advisor.errors import WorkloadError


def is_lightning_type(type_: type) -> bool:
    """Return whether the type is a LightningModule of the user's (not the library's own class)."""
    return any(base.__name__ == "LightningModule" for base in type_.__mro__[1:])


def is_data_module_type(type_: type) -> bool:
    """Return whether the type is a LightningDataModule of the user's."""
    return any(base.__name__ == "LightningDataModule" for base in type_.__mro__[1:])


def _ignore(*_: object, **__: object) -> None:
    """Stand in for `self.log`, which needs a Trainer."""


class Loader(msgspec.Struct, frozen=True, kw_only=True):
    """What a DataLoader holds: the dataset, how samples become a batch, and its batch size.

    Attributes:
        source: The loader itself.
    """

    dataset: Any
    collate: Any
    batch_size: int | None
    source: Any = None


def prepare(model: nn.Module) -> nn.Module:
    """Return the module made ready to run without a Trainer: logging goes nowhere.

    Raises:
        WorkloadError: It optimises manually, so that no single loss and step can be told apart.
    """
    if not getattr(model, "automatic_optimization", True):
        raise WorkloadError(
            f"{type(model).__name__} uses manual optimization",
            next_step="Write make_step(batch_size, device) in the model file instead.",
        )
    for name in ("log", "log_dict"):
        if hasattr(model, name):
            object.__setattr__(model, name, _ignore)
    return model


def training_loss(model: nn.Module, batch: object) -> object:
    """Return what `training_step` returns, the loss taken out of a dict."""
    output = model.training_step(batch, 0)  # type: ignore[operator]
    return output["loss"] if isinstance(output, dict) and "loss" in output else output


def configured_optimizer(model: nn.Module) -> Optimizer | None:
    """Return the optimizer of `configure_optimizers` at its own rate, None where there is none.

    Raises:
        WorkloadError: It returns several.
    """
    optimizer, _ = _read(model, _Trainer(_ANY_STEPS))
    for group in optimizer.param_groups if isinstance(optimizer, Optimizer) else ():
        group["lr"] = _rate_before(group)
    return optimizer


def follow_scheduler(
    model: nn.Module, optimizer: Optimizer, total_steps: int
) -> LRScheduler | None:
    """Return the module's own schedule over so many steps, from the optimizer's rates on.

    None where it has none, steps it with epochs, or fixes its length without asking the Trainer.
    """
    trainer = _Trainer(total_steps)
    _, found = _read(model, trainer)
    if not isinstance(found, dict) or found.get("interval") != "step" or not trainer.was_asked:
        return None
    return _Follower(optimizer, found["scheduler"])


#: Steps of a schedule that nobody follows.
_ANY_STEPS = 1000


class _Trainer:
    """Stands in for the Trainer that a schedule asks for its length."""

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self.was_asked = False

    @property
    def estimated_stepping_batches(self) -> int:
        self.was_asked = True
        return self._total_steps

    max_steps = estimated_stepping_batches


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
            rate * group["lr"] / _rate_before(group)
            for rate, group in zip(self.base_lrs, groups, strict=True)
        ]


def _rate_before(group: dict[str, Any]) -> Any:
    """Return the rate that the user gave, before a scheduler changed it."""
    return group.get("max_lr", group.get("initial_lr", group["lr"]))


def _read(model: nn.Module, trainer: _Trainer) -> tuple[Optimizer | None, Any]:
    """Return the one optimizer that is configured, and the configuration of its scheduler."""
    attached = getattr(model, "_trainer", None)
    object.__setattr__(model, "_trainer", trainer)
    try:
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


def find_loader(source: Any, *, held_out: bool = False) -> Loader | None:
    """Return the training loader of a LightningModule or LightningDataModule, None without one.

    `held_out` takes the validation loader, of which there may be several: none is taken then.
    """
    method = "val_dataloader" if held_out else "train_dataloader"
    if held_out and not hasattr(source, method):
        return None
    for name, arguments in (("prepare_data", ()), ("setup", ("fit",))):
        hook = getattr(source, name, None)  # a LightningModule may prepare its own data
        if callable(hook):
            hook(*arguments)
    try:
        loader = getattr(source, method)()
    except Exception as error:
        if type(error).__name__ == "MisconfigurationException":  # Lightning's word for "not there"
            return None
        raise
    if loader is None or (held_out and not hasattr(loader, "dataset")):
        return None
    return Loader(
        dataset=loader.dataset,
        collate=loader.collate_fn,
        batch_size=getattr(loader, "batch_size", None),
        source=loader,
    )
