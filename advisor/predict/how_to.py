"""The lines of code that make each change; `model` and `optimizer` are the names in them."""

import re
from collections.abc import Sequence

from advisor.predict.data import WhatIf
from advisor.predict.memory_trace import MemoryTrace
from advisor.training.data import OptimizerFacts

#: Optimizers of torch whose state bitsandbytes keeps in 8 bits, and its names for the options.
_8BIT: dict[str, dict[str, str]] = {
    "Adam": {"epsilon": "eps", "weight_decay": "weight_decay"},
    "AdamW": {"epsilon": "eps", "weight_decay": "weight_decay"},
    "SGD": {"momentum": "momentum", "weight_decay": "weight_decay"},
    "RMSprop": {"momentum": "momentum", "epsilon": "eps", "weight_decay": "weight_decay"},
    "Adagrad": {"weight_decay": "weight_decay"},
}
#: Blocks that are listed one by one before the line gets longer than a reader follows.
_MOST_LISTED = 4


def write_how_to(
    what_if: WhatIf, *, device_type: str, optimizer: OptimizerFacts | None
) -> str | None:
    """Return one line of code that makes the change; None where there is nothing to change.

    The trace names the blocks to recompute, and all modules.
    """
    match what_if.change:
        case "bf16":
            return f'with torch.autocast("{device_type}", torch.bfloat16): loss = ...'
        case "checkpointing":
            return _write_checkpointing(what_if.trace) if what_if.trace.checkpointed else None
        case "foreach_off":
            return 'for group in optimizer.param_groups: group["foreach"] = False'
        case "state_8bit":
            return None if optimizer is None else _write_8bit(optimizer)


def _write_8bit(optimizer: OptimizerFacts) -> str | None:
    names = _8BIT.get(optimizer.name)
    if names is None:
        return None
    options = [] if optimizer.learning_rate is None else [f"lr={optimizer.learning_rate!r}"]
    if "Adam" in optimizer.name and None not in {optimizer.beta1, optimizer.beta2}:
        options.append(f"betas=({optimizer.beta1!r}, {optimizer.beta2!r})")
    for field, name in names.items():
        value = getattr(optimizer, field)
        options += [] if value is None else [f"{name}={value!r}"]
    arguments = ", ".join(["model.parameters()", *options])
    return f"optimizer = bitsandbytes.optim.{optimizer.name}8bit({arguments})"


def _write_checkpointing(trace: MemoryTrace) -> str:
    containers = dict.fromkeys(name.rpartition(".")[0] for name in trace.checkpointed)
    terms = [term for container in containers for term in _list_terms(container, trace)]
    where = f"({', '.join(terms)}{',' if len(terms) == 1 else ''})"
    if len(terms) == 1 and terms[0].startswith("*"):
        where = terms[0].removeprefix("*")
    wrapped = "partial(checkpoint, block.forward, use_reentrant=False)"
    return f"for block in {where}: block.forward = {wrapped}"


def _list_terms(container: str, trace: MemoryTrace) -> list[str]:
    """Return what to loop over of one container: all of it, a slice, or its blocks by name."""
    chosen = _list_children(container, trace.checkpointed)
    place = _write_place(container)
    # A module that is used twice has one name: those of a container may have gaps.
    if _list_children(container, trace.modules) == chosen:
        return [f"*{place}"]
    numbers = [int(name) for name in chosen if name.isdecimal()]
    if len(numbers) == len(chosen) and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return [f"*{place}[{numbers[0]}:{numbers[-1] + 1}]"]
    if len(chosen) <= _MOST_LISTED:
        return [_write_place(f"{container}.{name}".removeprefix(".")) for name in chosen]
    return [f"*map({place}.get_submodule, {chosen!r})"]


def _list_children(container: str, names: Sequence[str]) -> list[str]:
    split = (name.rpartition(".") for name in names if name)
    return [last for outer, _, last in split if outer == container]


def _write_place(name: str) -> str:
    """Return the expression for a module: `model.stages[2].blocks`."""
    if not name:
        return "model"
    if not all(re.fullmatch(r"[A-Za-z_]\w*|\d+", part) for part in name.split(".")):
        return f"model.get_submodule({name!r})"
    return "model" + "".join(
        f"[{part}]" if part.isdecimal() else f".{part}" for part in name.split(".")
    )
