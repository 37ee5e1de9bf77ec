"""A model made without the random values of its large tensors, which no trace reads."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

#: Elements from which on a tensor is large: filling it takes longer than a small model's making.
_LARGE = 1 << 16
_FILLS = {
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    torch.nn.init.kaiming_normal_,
    torch.nn.init.kaiming_uniform_,
    torch.nn.init.normal_,
    torch.nn.init.trunc_normal_,
    torch.nn.init.uniform_,
    torch.nn.init.xavier_normal_,
    torch.nn.init.xavier_uniform_,
}


class Unfilled(TorchFunctionMode):
    """Leaves large tensors as the allocator gave them: mostly untouched pages, which read as 0."""

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the function, unless it fills a large tensor with random numbers."""
        given = kwargs or {}
        tensor = args[0] if args else given.get("tensor")
        if (
            function in _FILLS
            and isinstance(tensor, torch.Tensor)
            and tensor.device.type == "cpu"
            and tensor.numel() >= _LARGE
        ):
            return tensor
        return function(*args, **given)
