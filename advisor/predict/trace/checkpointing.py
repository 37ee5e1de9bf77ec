"""What if the repeated blocks of a model kept nothing, and ran again in the backward pass?"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

_CONTAINERS = (nn.ModuleList, nn.Sequential)


def checkpoint_repeated_blocks(model: nn.Module) -> tuple[str, ...]:
    """Return the dotted names of the blocks that recompute from now on; () where none repeat.

    Blocks are the children of one ModuleList or Sequential that have parameters and share their
    class with another of them; the outermost such. Not taken are single operations of torch, which
    keep their input either way, and plain Sequentials that have blocks of their own inside: those
    are the blocks then.

    Each forward runs under `torch.utils.checkpoint`, the state of the random numbers kept, so the
    gradients stay what they were. Buffers that a forward updates, such as BatchNorm's running
    averages, are updated twice. A Hugging Face model also stops to cache keys and values, as with
    its own checkpointing: a block that runs twice would append to that cache twice.

    Args:
        model: Changed in place: the blocks get a `forward` of their own.
    """
    blocks = find_repeated_blocks(model)
    for block in blocks.values():
        block.forward = _recompute(block.forward)
    if blocks:
        _stop_caching(model)
    return tuple(blocks)


def find_repeated_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks by dotted name, each module once, in the order of the model."""
    found: dict[str, nn.Module] = {}
    _search(model, "", found)
    seen: dict[int, str] = {}
    return {name: each for name, each in found.items() if seen.setdefault(id(each), name) == name}


def _search(module: nn.Module, prefix: str, found: dict[str, nn.Module]) -> None:
    kinds = Counter(
        type(child)
        for child in module._modules.values()  # noqa: SLF001 - named_children() drops repetitions
        if child is not None and _may_be_block(child)
    )
    is_container = isinstance(module, _CONTAINERS)
    for name, child in module._modules.items():  # noqa: SLF001
        if child is None:
            continue
        path = f"{prefix}{name}"
        if is_container and kinds[type(child)] > 1 and not _has_blocks_inside(child):
            found[path] = child
        else:
            _search(child, f"{path}.", found)


def _may_be_block(module: nn.Module) -> bool:
    has_parameters = next(module.parameters(), None) is not None
    return has_parameters and not _is_single_operation(module)


def _is_single_operation(module: nn.Module) -> bool:
    """Return whether a module is a layer of torch without parts; a recurrent one is many steps."""
    is_leaf = next(module.children(), None) is None
    return is_leaf and type(module).__module__.startswith("torch.nn.") and not _is_recurrent(module)


def _is_recurrent(module: nn.Module) -> bool:
    return isinstance(module, nn.RNNBase)


def _has_blocks_inside(module: nn.Module) -> bool:
    return type(module) is nn.Sequential and bool(find_repeated_blocks(module))


def _recompute(forward: Callable[..., Any]) -> Callable[..., Any]:
    return partial(checkpoint, forward, use_reentrant=False)


def _stop_caching(model: nn.Module) -> None:
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and getattr(config, "use_cache", False) is True:
            config.use_cache = False
