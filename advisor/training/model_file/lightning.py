"""A LightningModule as it is: its own loss, optimizer and loader, without a Trainer.

Lightning is never imported here: its classes are known by name in the method resolution order.
"""

from typing import Any

import msgspec
from torch import nn
from torch.optim import Optimizer

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
    """Return the optimizer of `configure_optimizers`, None where it configures none.

    Raises:
        WorkloadError: It returns several.
    """
    found: Any = model.configure_optimizers()  # type: ignore[operator]
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], list | tuple):
        found = found[0]
    if isinstance(found, dict):
        found = found["optimizer"]
    if isinstance(found, list | tuple):
        if len(found) != 1:
            raise WorkloadError(
                f"configure_optimizers of {type(model).__name__} returns {len(found)} optimizers",
                next_step="Write make_step(batch_size, device) in the model file instead.",
            )
        found = found[0]
    if isinstance(found, dict):
        found = found["optimizer"]
    return found  # type: ignore[no-any-return]


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
