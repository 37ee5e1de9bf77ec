"""What if the repeated blocks of a model kept nothing, and ran again in the backward pass?"""

from collections import Counter
from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_repeated_blocks(model: nn.Module) -> tuple[str, ...]:
    """Return the dotted names of the blocks that recompute from now on; () where none repeat.

    Buffers that a forward updates are updated twice. A Hugging Face model also stops to cache keys
    and values, which would be appended twice.
    """
    blocks = find_repeated_blocks(model)
    for block in blocks.values():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for module in model.modules() if blocks else ():
        config = getattr(module, "config", None)
        if getattr(config, "use_cache", False) is True:
            config.use_cache = False  # type: ignore[union-attr]
    return tuple(blocks)


def find_repeated_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks by dotted name, each module once, in the order of the model.

    Blocks are the children of one ModuleList or Sequential that have parameters and share their
    class with another of them; the outermost such, but for single operations of torch, which keep
    their input either way, and plain Sequentials that have blocks of their own inside.
    """
    first: dict[int, str] = {}
    found = _search(model, "")
    return {name: each for name, each in found if first.setdefault(id(each), name) == name}


def _search(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    # named_children() drops repetitions
    children = {name: each for name, each in module._modules.items() if each is not None}  # noqa: SLF001
    kinds = Counter(type(each) for each in children.values() if _may_be_block(each))
    is_container = isinstance(module, nn.ModuleList | nn.Sequential)
    for name, child in children.items():
        is_repeated = is_container and kinds[type(child)] > 1
        if is_repeated and not (type(child) is nn.Sequential and find_repeated_blocks(child)):
            yield f"{prefix}{name}", child
        else:
            yield from _search(child, f"{prefix}{name}.")


def _may_be_block(module: nn.Module) -> bool:
    """Return whether a module has parameters, and parts; a recurrent layer is many steps."""
    is_leaf = next(module.children(), None) is None
    is_single = is_leaf and type(module).__module__.startswith("torch.nn.")
    has_parameters = next(module.parameters(), None) is not None
    return has_parameters and (not is_single or isinstance(module, nn.RNNBase))
