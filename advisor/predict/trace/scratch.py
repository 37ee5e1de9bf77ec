"""What operators of CUDA take besides their results, by the kernels of torch 2.14."""

import math
from typing import Any

import torch
from torch import Tensor

from advisor.predict.buffers import EmbeddingGradient, Reduction

_ATEN = torch.ops.aten
#: Run by cuBLAS, whose handle takes a workspace when it first multiplies.
_PRODUCTS = {_ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm, _ATEN.mv, _ATEN.addmv}
#: Reductions over the dimensions of the second argument.
_REDUCTIONS = {_ATEN.sum, _ATEN.mean, _ATEN.amax, _ATEN.amin}
#: Their kernels read contiguous memory alone, and copy the first arguments, so many, where need be.
_COPIES = {
    _ATEN._softmax: 1,  # noqa: SLF001
    _ATEN._log_softmax: 1,  # noqa: SLF001
    _ATEN._softmax_backward_data: 2,  # noqa: SLF001
    _ATEN._log_softmax_backward_data: 2,  # noqa: SLF001
    _ATEN.embedding_dense_backward: 1,
    _ATEN._embedding_bag_backward: 1,  # noqa: SLF001
}
#: These sort the indices in their second argument, and hold so many copies at once.
_SORTS = {_ATEN.embedding_dense_backward, _ATEN._embedding_bag_backward}  # noqa: SLF001
_INDEX_COPIES = 6
#: Mode of a bag that takes the largest, and sums nothing; the argument after it asks for a sparse
#: gradient, which has the looked-up rows alone.
_MODE_MAX = 2


def takes_workspace(func: Any, args: tuple[Any, ...]) -> bool:
    """Return whether cuBLAS multiplies; operands of one value are `recurrent.py`'s."""
    return func.overloadpacket in _PRODUCTS and any(
        any(each.stride()) for each in args if isinstance(each, Tensor)
    )


def find_buffer(func: Any, args: tuple[Any, ...]) -> Reduction | EmbeddingGradient | None:
    """Return the buffer that the operator takes at this size, of no block yet; None for none."""
    operator = func.overloadpacket
    if operator in _REDUCTIONS and len(args) > 1 and args[1]:
        return _find_sum(args[0], args[1])
    if operator == _ATEN.embedding_dense_backward:
        gradient, indices, rows = args[:3]
        return EmbeddingGradient(-1, (indices.numel(), 0), rows, gradient.size(-1))
    if operator == _ATEN._embedding_bag_backward and args[8] != _MODE_MAX and not args[9]:  # noqa: SLF001
        gradient, indices, rows = args[0], args[1], args[6]
        return EmbeddingGradient(-1, (indices.numel(), 0), rows, gradient.size(-1), is_bag=True)
    return None


def _find_sum(source: Tensor, over: int | list[int]) -> Reduction | None:
    """Return the reduction over dimensions that are not the fastest; None for another."""
    given = [over] if isinstance(over, int) else over
    reduced = {dim % source.dim() for dim in given}
    dims = [dim for dim in range(source.dim()) if source.size(dim) > 1]
    along = [source.stride(dim) for dim in dims if dim in reduced]
    across = [source.stride(dim) for dim in dims if dim not in reduced]
    if not (along and across and min(across) < min(along)):
        return None
    inputs = math.prod(source.size(dim) for dim in dims if dim in reduced)
    return Reduction(-1, (inputs, 0), (source.numel() // inputs, 0), min(across) == 1)


def size_copies(func: Any, args: tuple[Any, ...]) -> list[int]:
    """Return the bytes of each copy that the operator makes of what it reads."""
    read = args[: _COPIES.get(func.overloadpacket, 0)]
    copied = [each for each in read if isinstance(each, Tensor) and not each.is_contiguous()]
    if func.overloadpacket in _SORTS:
        copied += [args[1]] * _INDEX_COPIES
    return [each.numel() * each.element_size() for each in copied]
