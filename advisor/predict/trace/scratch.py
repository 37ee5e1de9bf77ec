"""What operators of CUDA allocate besides their results, and in which order; torch 2.14's kernels.

With `torch.backends.cudnn.benchmark` on, cuDNN runs every algorithm it has for a convolution once,
and so takes the largest workspace of them, for as long as the operator runs. Assumed for kernels
larger than one pixel, without groups, in float32: input and output as Winograd's algorithm
transforms them, 6 × 6 values for every 4 × 4. With the flag off workspaces are left out.

Source: the factor is that of F(4 × 4, 3 × 3), Lavin and Gray 2016. That it stands for all kernels
is an estimate. Of the factors 0, 1, 36/16, 3 and 64/16 only 36/16 and 3 bring both the median and
the 90th percentile of the error over the 30 runs of benchmarks/data/a100_vision_memory.csv below
3 % and 13 %, so those runs no longer test it.
"""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from advisor.predict.buffers import EmbeddingGradient, Reduction
from advisor.predict.trace.ledger import Ledger

_ATEN = torch.ops.aten
#: Run by cuBLAS, whose handle takes a workspace when it first multiplies.
_PRODUCTS: Final = {_ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm, _ATEN.mv, _ATEN.addmv}
#: Reductions over the dimensions of the second argument.
_REDUCTIONS: Final = {_ATEN.sum, _ATEN.mean, _ATEN.amax, _ATEN.amin}
#: Their kernels read contiguous memory alone, and copy the first arguments, so many, where need be.
_COPIES: Final = {
    _ATEN._softmax: 1,  # noqa: SLF001
    _ATEN._log_softmax: 1,  # noqa: SLF001
    _ATEN._softmax_backward_data: 2,  # noqa: SLF001
    _ATEN._log_softmax_backward_data: 2,  # noqa: SLF001
    _ATEN.embedding_dense_backward: 1,
    _ATEN._embedding_bag_backward: 1,  # noqa: SLF001
}
#: These sort the indices in their second argument, and hold so many copies at once.
_SORTS: Final = {_ATEN.embedding_dense_backward, _ATEN._embedding_bag_backward}  # noqa: SLF001
_INDEX_COPIES: Final = 6
#: Mode of a bag that takes the largest, and sums nothing; the argument after it asks for a sparse
#: gradient, which has the looked-up rows alone.
_MODE_MAX: Final = 2
#: Values of a tile of a convolution before and after the transform, without their factor of 4.
_ORIGINAL, _TRANSFORMED = 4, 9
#: Queries that a block of efficient attention's backward sums, and floats that its lock takes.
_QUERY_BLOCK, _LOCK_VALUES = 64, 4
#: Rows of queries, and columns of heads, to which the buffers of flash's backward are rounded up.
_FLASH_ROWS, _FLASH_COLUMNS = 128, 32
_FP32_BYTES: Final = 4


class Writer(NamedTuple):
    """Writes down what one operator allocates."""

    ledger: Ledger
    operator: str
    module: int
    note: Callable[[Any], None]  #: Of results, the storages not seen before.

    def take(self, size_bytes: int) -> int:
        """Return a new block."""
        return self.ledger.allocate(size_bytes, self.operator, self.module)


def note_allocations(func: Any, args: tuple[Any, ...], result: Any, writer: Writer) -> None:
    """Write down the results, and what the operator takes besides them, in its order."""
    operator = func.overloadpacket
    if operator in _ORDERS:
        _ORDERS[operator](args, result, writer)
        return
    writer.note(result)
    if operator in _PRODUCTS and any(
        any(each.stride()) for each in args if isinstance(each, Tensor)
    ):  # operands of one value are those of `sequences.py`
        writer.ledger.take_workspace(writer.operator)
    read = args[: _COPIES.get(operator, 0)]
    copied = [each for each in read if isinstance(each, Tensor) and not each.is_contiguous()]
    copied += [args[1]] * _INDEX_COPIES if operator in _SORTS else ()
    copies = [writer.take(_size(each)) for each in copied]
    if (buffer := _find_buffer(operator, args)) is not None:
        writer.ledger.take_buffer(buffer, writer.operator, writer.module)
    for block in copies:
        writer.ledger.free(block)


def _find_buffer(operator: Any, args: tuple[Any, ...]) -> Reduction | EmbeddingGradient | None:
    """Return the buffer that the operator takes at this size, of no block yet; None for none."""
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


def _convolve(args: tuple[Any, ...], result: Any, writer: Writer) -> None:
    """Write down a convolution, or its gradients one after the other, each with a workspace."""
    is_forward = isinstance(result, Tensor)
    source, weight, groups = (*args[:2], args[8]) if is_forward else (*args[1:3], args[9])
    output = result if is_forward else args[0]
    size_bytes = size_workspace(source, output, weight, groups)
    for place, each in enumerate((result,) if is_forward else result):
        writer.note(each)
        if size_bytes and each is not None and place < 2:  # that of the bias is a sum
            writer.ledger.free(writer.take(size_bytes))


def size_workspace(source: Tensor, output: Tensor, weight: Tensor, groups: int) -> int:
    """Return the bytes of the workspace of one convolution, forward or backward."""
    is_pixel = all(size == 1 for size in weight.shape[2:])
    is_plain = groups > 1 or is_pixel or source.dtype != torch.float32
    if is_plain or not torch.backends.cudnn.benchmark:
        return 0
    return (source.numel() + output.numel()) * _FP32_BYTES * _TRANSFORMED // _ORIGINAL


def _differentiate_flash(args: tuple[Any, ...], result: Any, writer: Writer) -> None:
    """Write down the gradients of flash attention, the buffers of its kernel held meanwhile."""
    query, key = args[1:3]
    batch, heads, queries, width = query.shape
    rows = -(-queries // _FLASH_ROWS) * _FLASH_ROWS
    columns = -(-width // _FLASH_COLUMNS) * _FLASH_COLUMNS
    sizes = [batch * heads * rows * _FP32_BYTES, batch * rows * heads * columns * _FP32_BYTES]
    if key.size(1) != heads:
        sizes += [batch * key.size(2) * heads * width * key.element_size()] * 2
    blocks = [writer.take(size) for size in sizes]
    writer.note(result)
    for block in blocks:
        writer.ledger.free(block)


def _differentiate_efficient(args: tuple[Any, ...], result: Any, writer: Writer) -> None:
    """Write down the gradients of memory-efficient attention, with the buffers of its kernel.

    Of each query the product of gradient and output: fp32 by an operator of its own, a low type
    inside the kernel. That sums the gradient of the queries in fp32, with a lock for each block.
    """
    gradient, query, output = args[0], args[1], args[5]
    batch, heads, queries, width = query.shape
    held = []
    if not gradient.transpose(1, 2).is_contiguous():
        held.append(writer.take(_size(gradient)))
    writer.note(result)
    if query.dtype == torch.float32:
        product = writer.take(_size(output))
        held.append(writer.take(batch * heads * queries * _FP32_BYTES))
        writer.ledger.free(product)
    blocks = -(-queries // _QUERY_BLOCK)
    sums = batch * heads * blocks * (_QUERY_BLOCK * width + _LOCK_VALUES)
    for block in (*held, writer.take(sums * _FP32_BYTES)):
        writer.ledger.free(block)


#: Operators with an order of their own.
_ORDERS: Final[dict[Any, Callable[[tuple[Any, ...], Any, Writer], None]]] = {
    _ATEN.native_dropout: lambda _, result, writer: writer.note(result[::-1]),  # the mask first
    _ATEN.convolution: _convolve,
    _ATEN.convolution_backward: _convolve,
    _ATEN._scaled_dot_product_flash_attention_backward: _differentiate_flash,  # noqa: SLF001
    _ATEN._scaled_dot_product_efficient_attention_backward: _differentiate_efficient,  # noqa: SLF001
}


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
