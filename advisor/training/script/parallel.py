"""What exchanges gradients among the ranks of a script, and steps without that."""

from collections.abc import Callable
from typing import Any

from torch import distributed, nn
from torch.distributed import fsdp


def watch_exchange() -> Callable[[bool], None]:
    """Note what the script wraps from here on; return what switches its exchange on or off."""
    wrapped: list[Any] = []
    original_init, original_shard = nn.parallel.DistributedDataParallel.__init__, fsdp.fully_shard

    def init(module: Any, *args: Any, **kwargs: Any) -> None:
        original_init(module, *args, **kwargs)
        wrapped.append(module)

    def shard(module: Any, *args: Any, **kwargs: Any) -> Any:
        sharded = original_shard(module, *args, **kwargs)
        wrapped.append(sharded)
        return sharded

    def exchange(is_on: bool) -> None:
        for module in wrapped:
            if isinstance(module, nn.parallel.DistributedDataParallel):
                module.require_backward_grad_sync = is_on
                module.require_forward_param_sync = is_on
            else:
                module.set_requires_gradient_sync(is_on)

    if distributed.is_available():
        nn.parallel.DistributedDataParallel.__init__ = init  # type: ignore[method-assign,assignment]
        fsdp.fully_shard = shard
    return exchange
