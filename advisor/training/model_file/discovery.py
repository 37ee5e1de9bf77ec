"""Which names of the user's module are the model, the data, the loss and the optimizer."""

import contextlib
import math
import sys
import sysconfig
from collections.abc import Callable
from numbers import Integral, Real
from types import ModuleType
from typing import Any

import msgspec
from torch import nn

from advisor.errors import UsageError, WorkloadError
from advisor.figures import MOST_BATCH
from advisor.training.model_file.copying import copy_model
from advisor.training.model_file.foreign import is_a, parameters_in, parameters_of
from advisor.training.model_file.lightning import is_data_module_type, is_lightning_type

MODEL_FACTORY_NAMES = ("make_model", "create_model", "build_model", "get_model")

_THREE_LINES = (
    "Add these three lines, or name the factory with FILE:NAME:\n"
    "    def make_model():\n"
    "        return MyModel()\n"
    "    def make_batch(batch_size): return inputs, targets  # or make_dataset() for real data"
)


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What the module offers; a name it lacks is None."""

    #: Factory of a fresh model; None with `make_step`.
    model: Callable[..., Any] | None
    #: One sentence: where it came from.
    how_model: str
    #: `make_step(batch_size, device)`, when everything is the user's.
    step: Callable[..., Any] | None = None
    make_dataset: Callable[..., Any] | None = None
    make_val_dataset: Callable[..., Any] | None = None
    make_batch: Callable[..., Any] | None = None
    collate_fn: Callable[..., Any] | None = None
    loss_fn: Callable[..., Any] | None = None
    make_optimizer: Callable[..., Any] | None = None
    make_scheduler: Callable[..., Any] | None = None
    #: Factory of a LightningDataModule.
    data_module: Callable[..., Any] | None = None
    base_batch_size: int | None = None
    clip_grad_norm: float | None = None


#: Functions of the user's, which have a field of their name.
_FUNCTIONS = (
    *("make_dataset", "make_val_dataset", "make_batch", "collate_fn", "loss_fn"),
    *("make_optimizer", "make_scheduler"),
)


def discover(module: ModuleType, wanted: str | None) -> Names:
    """Return what the module offers: known names first, else the unique candidate.

    `wanted` is the name asked for with `FILE:NAME`, or None.

    Raises:
        UsageError: `wanted` is not in the module.
        WorkloadError: No model, or several candidates.
    """
    functions = {name: _callable(module, name) for name in _FUNCTIONS}
    step = _callable(module, "make_step")
    has_data = bool(functions["make_dataset"] or functions["make_batch"])
    has_model = _find_factory(module) is not None
    if wanted is not None and not hasattr(module, wanted):
        raise UsageError(
            f"{_file_of(module)} has no name {wanted!r}",
            next_step=f"Names it has: {', '.join(_public_names(module)) or 'none'}.",
        )
    if step and (wanted == "make_step" or (wanted is None and not (has_data and has_model))):
        return Names(
            model=None,
            how_model="make_step of the model file",
            step=step,
            base_batch_size=_base_batch_size(module),
        )
    model, how_model = _find_model(module, wanted)
    return Names(
        model=model,
        how_model=how_model,
        data_module=_find_data_module(module),
        base_batch_size=_base_batch_size(module),
        clip_grad_norm=_clip_grad_norm(module),
        **functions,
    )


def _find_model(module: ModuleType, wanted: str | None) -> tuple[Callable[..., Any], str]:
    if wanted is not None:
        return _factory_of(module, wanted), f"{wanted} of the model file"
    name = _find_factory(module)
    if name is not None:
        return _factory_of(module, name), f"{name} of the model file"
    candidates = _model_candidates(module)
    if len(candidates) == 1:
        name = candidates[0]
        return _factory_of(module, name), f"{name}, the only model in the file"
    found = f"found {len(candidates)}: {', '.join(candidates)}" if candidates else "found none"
    needy = [name for name, value in _own_classes(module).items() if not _takes_no_arguments(value)]
    if needy and not candidates:
        found += f", as {', '.join(needy)} cannot be made without arguments"
    raise WorkloadError(
        f"{_file_of(module)} has no make_model, and a unique nn.Module in its place was not there "
        f"({found})",
        next_step=_THREE_LINES,
    )


def _find_factory(module: ModuleType) -> str | None:
    """Return the factory by its name; a library's function of such a name is not the user's."""
    make_model, *others = MODEL_FACTORY_NAMES
    own = (name for name in others if not _is_installed(getattr(module, name, None)))
    return next((name for name in (make_model, *own) if hasattr(module, name)), None)


def _is_installed(value: object) -> bool:
    """Return whether an installed package defines it."""
    home = sys.modules.get(getattr(value, "__module__", None) or "")
    path = getattr(home, "__file__", None) or ""
    return any(path.startswith(sysconfig.get_path(key)) for key in ("purelib", "platlib", "stdlib"))


def _model_candidates(module: ModuleType) -> list[str]:
    """Return the instances, else the complete LightningModules, else the classes, by name.

    A loss without parameters is no model, and neither is a part of another, or one that is frozen
    where there is another.
    """
    values = {name: getattr(module, name) for name in _public_names(module)}
    instances = _keep_whole(
        {name: value for name, value in values.items() if is_a(value, nn.Module)}, id
    )
    trained = [  # not all of it frozen, as a teacher is
        name for name in instances if any(p.requires_grad for p in parameters_in(values[name]))
    ]
    if trained:
        return trained
    own = _own_classes(module)
    classes = {name: class_ for name, class_ in own.items() if _takes_no_arguments(class_)}
    lightning = {name: class_ for name, class_ in classes.items() if is_lightning_type(class_)}
    classes = lightning or classes
    if len(classes) < 2:
        return list(classes) or instances
    made: dict[str, nn.Module] = {}
    for name, class_ in classes.items():
        with contextlib.suppress(Exception):  # one that cannot be made is no candidate
            made[name] = class_()
    return _keep_whole(made, type) or list(classes)


def _keep_whole(
    candidates: dict[str, nn.Module], identify: Callable[[nn.Module], object]
) -> list[str]:
    """Return the names of those with parameters that are no part of another, each once."""
    trained: dict[object, str] = {}
    for name, model in candidates.items():
        with contextlib.suppress(Exception):  # one that was never initialised
            if next(parameters_in(model), None) is not None:
                trained.setdefault(identify(model), name)
    parts = {
        identify(part) for name in trained.values() for part in [*candidates[name].modules()][1:]
    }
    return [name for identity, name in trained.items() if identity not in parts]


def _own_classes(module: ModuleType) -> dict[str, type[nn.Module]]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and is_a(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
    }


def _factory_of(module: ModuleType, name: str) -> Callable[..., Any]:
    value = getattr(module, name)
    if isinstance(value, nn.Module):
        return lambda: copy_model(value, name)  # each run starts from the model as the file left it
    if not callable(value):
        raise WorkloadError(
            f"{_file_of(module)}: {name} is a {type(value).__name__}, not a function or model",
            next_step=f"Make {name} a function without arguments that returns an nn.Module.",
        )
    return value  # type: ignore[no-any-return]


def _find_data_module(module: ModuleType) -> Callable[..., Any] | None:
    """Return a factory of the one LightningDataModule, a class or ready made."""
    found: list[Callable[..., Any]] = []
    for name in _public_names(module):
        value = getattr(module, name)
        if is_a(value, type) and value.__module__ == module.__name__ and is_data_module_type(value):
            found.append(value)
        elif is_data_module_type(type(value)):
            found.append(lambda value=value: value)
    return found[0] if len(found) == 1 else None


def _takes_no_arguments(class_: type) -> bool:
    parameters = parameters_of(class_)
    return parameters is not None and all(
        parameter.default is not parameter.empty
        or parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        for parameter in parameters.values()
    )


def _callable(module: ModuleType, name: str) -> Callable[..., Any] | None:
    value = getattr(module, name, None)
    if value is not None and not callable(value):
        raise WorkloadError(
            f"{_file_of(module)}: {name} is a {type(value).__name__}, not a function",
            next_step=f"Make {name} a function.",
        )
    return value


def _base_batch_size(module: ModuleType) -> int | None:
    value = getattr(module, "BASE_BATCH_SIZE", None)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, Integral)
        or not 1 <= int(value) <= MOST_BATCH
    ):
        raise WorkloadError(
            f"{_file_of(module)}: BASE_BATCH_SIZE is {value!r}, not a whole number from 1 to "
            f"{MOST_BATCH:,}",
            next_step="Set it to the global batch size for which the learning rate was tuned.",
        )
    return int(value)


def _clip_grad_norm(module: ModuleType) -> float | None:
    value = getattr(module, "CLIP_GRAD_NORM", None)
    if value is None:
        return None
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 < float(value) < math.inf:
        raise WorkloadError(
            f"{_file_of(module)}: CLIP_GRAD_NORM is {value!r}, not a positive number",
            next_step="Set it to the norm to which your loop clips gradients, or leave it out.",
        )
    return float(value)


def _public_names(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")]


def _file_of(module: ModuleType) -> str:
    return module.__file__ or module.__name__
