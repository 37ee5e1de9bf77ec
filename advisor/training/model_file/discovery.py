"""Which names of the user's module are the model, the data, the loss and the optimizer."""

import contextlib
import copy
import io
import math
import sys
import sysconfig
from collections.abc import Callable
from numbers import Integral, Real
from types import ModuleType
from typing import Any

import msgspec
import torch
from torch import nn

from advisor.errors import UsageError, WorkloadError
from advisor.figures import MOST_BATCH
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.foreign import is_a, parameters_in, parameters_of
from advisor.training.model_file.lightning import is_lightning_type

_THREE_LINES = (
    "Add these three lines, or name the factory with FILE:NAME:\n"
    "    def make_model():\n"
    "        return MyModel()\n"
    "    def make_batch(batch_size): return inputs, targets  # or make_dataset() for real data"
)

Function = Callable[..., Any]


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What the module offers; a name it lacks is None."""

    #: Factory of a fresh model; None with `make_step`.
    model: Function | None
    #: One sentence: where it came from.
    how_model: str
    #: When everything is the user's.
    make_step: Function | None
    make_dataset: Function | None
    make_val_dataset: Function | None
    make_batch: Function | None
    collate_fn: Function | None
    loss_fn: Function | None
    make_optimizer: Function | None
    make_scheduler: Function | None
    #: Factory of a LightningDataModule.
    data_module: Function | None
    base_batch_size: int | None
    clip_grad_norm: float | None


def discover(module: ModuleType, wanted: str | None) -> Names:
    """Return what the module offers: `wanted` of `FILE:NAME`, known names, the unique candidate.

    Raises:
        UsageError: `wanted` is not in the module.
        WorkloadError: No model, or several candidates.
    """
    fields = [name for name in Names.__struct_fields__ if name.startswith("make_") or "_fn" in name]
    functions = {name: _callable(module, name) for name in fields}
    if wanted is not None and not hasattr(module, wanted):
        raise UsageError(
            f"{_file_of(module)} has no name {wanted!r}",
            next_step=f"Names it has: {', '.join(_list_public(module)) or 'none'}.",
        )
    has_data = bool(functions["make_dataset"] or functions["make_batch"])
    is_complete = has_data and _find_factory(module) is not None
    if wanted != "make_step" and (wanted is not None or is_complete):
        functions["make_step"] = None
    step = functions["make_step"]
    name, how_model = ("make_step", "") if step else _find_model(module, wanted)
    return Names(
        model=None if step else _factory_of(module, name),
        how_model=how_model or f"{name} of the model file",
        data_module=_find_data_module(module),
        base_batch_size=read_base_batch_size(module),
        clip_grad_norm=_read_clip_grad_norm(module),
        **functions,
    )


def _find_model(module: ModuleType, wanted: str | None) -> tuple[str, str]:
    """Return the name of the model or its factory, and how it was found where nothing named it."""
    name = wanted or _find_factory(module)
    if name is not None:
        return name, ""
    candidates = _model_candidates(module)
    if len(candidates) == 1:
        return candidates[0], f"{candidates[0]}, the only model in the file"
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
    installed = tuple(map(sysconfig.get_path, ("purelib", "platlib", "stdlib")))
    for name in ("make_model", "create_model", "build_model", "get_model"):
        home = sys.modules.get(getattr(getattr(module, name, None), "__module__", None) or "")
        is_installed = (getattr(home, "__file__", None) or "").startswith(installed)
        if hasattr(module, name) and (name == "make_model" or not is_installed):
            return name
    return None


def _model_candidates(module: ModuleType) -> list[str]:
    """Return the instances, else the complete LightningModules, else the classes, by name.

    A loss without parameters is no model, and neither is a part of another, or one that is frozen
    where there is another.
    """
    values = _list_public(module)
    instances = _keep_whole({name: v for name, v in values.items() if is_a(v, nn.Module)}, id)
    trained = [  # not all of it frozen, as a teacher is
        name for name in instances if any(p.requires_grad for p in parameters_in(values[name]))
    ]
    if trained:
        return trained
    classes = {n: each for n, each in _own_classes(module).items() if _takes_no_arguments(each)}
    classes = {n: each for n, each in classes.items() if is_lightning_type(each)} or classes
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
    whole = (candidates[name] for name in trained.values())
    parts = {identify(part) for model in whole for part in [*model.modules()][1:]}
    return [name for identity, name in trained.items() if identity not in parts]


def _own_classes(module: ModuleType) -> dict[str, type[nn.Module]]:
    return {
        name: value
        for name, value in _list_public(module).items()
        if _is_own_class(module, value) and issubclass(value, nn.Module)
    }


def _is_own_class(module: ModuleType, value: Any) -> bool:
    return is_a(value, type) and value.__module__ == module.__name__


def _factory_of(module: ModuleType, name: str) -> Function | None:
    value = getattr(module, name)
    if isinstance(value, nn.Module):
        return lambda: _copy_model(value, name)  # each run starts from it as the file left it
    return _callable(module, name, is_needed=True)


def _copy_model(model: nn.Module, name: str) -> nn.Module:
    """Return a copy of the model that can be trained; WorkloadError where it cannot be copied."""
    try:
        return _copy_scripted(model) if isinstance(model, torch.jit.ScriptModule) else _copy(model)
    except Exception as error:
        raise WorkloadError(
            f"{name} of the model file cannot be copied ({type(error).__name__}: {error})",
            next_step="Make it in a function: def make_model(): return ...",
        ) from error


def _copy(model: nn.Module) -> nn.Module:
    """Return a deep copy; what a forward pass left behind is copied without its graph."""
    held = tensors_of([[*vars(module).values()] for module in model.modules()])
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in held if not t.is_leaf}
    return copy.deepcopy(model, memo)


def _copy_scripted(model: Any) -> nn.Module:
    """Return a copy by way of a file: a deep copy of a scripted module shares no leaves."""
    file = io.BytesIO()
    torch.jit.save(model, file)
    file.seek(0)
    made: nn.Module = torch.jit.load(file)  # type: ignore[no-untyped-call]
    for old, new in zip(model.parameters(), made.parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
    return made


def _find_data_module(module: ModuleType) -> Function | None:
    """Return a factory of the one LightningDataModule, a class or ready made."""
    found: list[Function] = []
    for value in _list_public(module).values():
        is_own = _is_own_class(module, value)
        if is_lightning_type(value if is_own else type(value), "LightningDataModule"):
            found.append(value if is_own else lambda value=value: value)
    return found[0] if len(found) == 1 else None


def _takes_no_arguments(class_: type) -> bool:
    parameters = parameters_of(class_)
    return parameters is not None and all(
        parameter.default is not parameter.empty
        or parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        for parameter in parameters.values()
    )


def _callable(module: ModuleType, name: str, *, is_needed: bool = False) -> Function | None:
    value = getattr(module, name, None)
    if (value is not None or is_needed) and not callable(value):
        raise WorkloadError(
            f"{_file_of(module)}: {name} is a {type(value).__name__}, not a function",
            next_step=f"Make {name} a function.",
        )
    return value


def read_base_batch_size(module: ModuleType) -> int | None:
    """Return the file's base batch, None without one; WorkloadError where it can be none."""
    value = getattr(module, "BASE_BATCH_SIZE", None)
    if value is not None and not (_is_number(value, Integral) and 1 <= value <= MOST_BATCH):
        raise WorkloadError(
            f"{_file_of(module)}: BASE_BATCH_SIZE is {value!r}, not a whole number from 1 to "
            f"{MOST_BATCH:,}",
            next_step="Set it to the global batch size for which the learning rate was tuned.",
        )
    return None if value is None else int(value)


def _read_clip_grad_norm(module: ModuleType) -> float | None:
    value = getattr(module, "CLIP_GRAD_NORM", None)
    if value is not None and not (_is_number(value, Real) and 0 < value < math.inf):
        raise WorkloadError(
            f"{_file_of(module)}: CLIP_GRAD_NORM is {value!r}, not a positive number",
            next_step="Set it to the norm to which your loop clips gradients, or leave it out.",
        )
    return None if value is None else float(value)


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _list_public(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def _file_of(module: ModuleType) -> str:
    return module.__file__ or module.__name__
