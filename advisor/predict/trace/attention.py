"""Scaled dot-product attention as CUDA chooses and allocates it.

    fp16, bf16, no mask, head up to 256 wide ─▶ flash
    fp32, or a mask                          ─▶ memory-efficient
    anything else                            ─▶ plain matrix products

The fused two keep the log-sum-exp of each query and never the matrix of scores. Assumed: a GPU that
has flash attention (Ampere or later), and all backends left enabled.

Source: the behaviour of aten/src/ATen/native/transformers/cuda in torch 2.8 and later.
"""

from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Backend = Literal["flash", "efficient", "plain"]

FLASH_WIDEST_HEAD: Final = 256
#: Flash works on heads whose width is a multiple of it, and pads the others.
FLASH_HEAD_MULTIPLE: Final = 8
#: Bytes to which the efficient kernels want the rows of heads and of masks aligned.
EFFICIENT_ALIGNMENT_BYTES: Final = 16
#: Rows of queries, and columns of heads, to which the buffers of flash's backward are rounded up.
FLASH_QUERY_MULTIPLE: Final = 128
FLASH_WIDTH_MULTIPLE: Final = 32

_LOW_TYPES: Final = (torch.float16, torch.bfloat16)
_aten = torch.ops.aten


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return the attention output; takes the place of `aten::scaled_dot_product_attention`."""
    chosen = choose_backend(
        query, key, value, mask=attn_mask, is_causal=is_causal, enable_gqa=enable_gqa
    )
    if chosen == "flash":
        return _attend_flash(query, key, value, dropout_p, is_causal, scale)
    if chosen == "efficient":
        bias = None if attn_mask is None else _make_bias(attn_mask, query, key)
        output: Tensor = _Efficient.apply(query, key, value, bias, dropout_p, is_causal, scale)  # type: ignore[no-untyped-call]
        return output
    plain: Tensor = _aten._scaled_dot_product_attention_math(  # noqa: SLF001
        query,
        key,
        value,
        attn_mask,
        dropout_p,
        is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
    )[0]
    return plain


def choose_backend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None,
    is_causal: bool,
    enable_gqa: bool,
) -> Backend:
    """Return the backend that CUDA takes for these tensors, the first that can run of the three."""
    tensors = (query, key, value)
    if any(tensor.dim() != 4 for tensor in tensors) or len({t.dtype for t in tensors}) > 1:
        return "plain"
    widths = {tensor.size(-1) for tensor in tensors}
    if any(0 in tensor.shape for tensor in tensors):
        return "plain"
    square = not is_causal or query.size(-2) == key.size(-2)
    low = query.dtype in _LOW_TYPES
    if low and mask is None and len(widths) == 1 and max(widths) <= FLASH_WIDEST_HEAD and square:
        return "flash"
    grouped = enable_gqa and query.size(1) != key.size(1)
    multiple = EFFICIENT_ALIGNMENT_BYTES // query.element_size()
    aligned = not any(width % multiple for width in widths)
    supported = low or query.dtype == torch.float32
    return "efficient" if supported and aligned and not grouped else "plain"


def _attend_flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    """Return flash's output, the heads padded to the width it wants and cut back."""
    width = query.size(-1)
    missing = -width % FLASH_HEAD_MULTIPLE
    if missing:
        scale = width**-0.5 if scale is None else scale
        query, key, value = (
            torch.nn.functional.pad(tensor, (0, missing)) for tensor in (query, key, value)
        )
    output: Tensor = _Flash.apply(query, key, value, dropout, is_causal, scale)  # type: ignore[no-untyped-call]
    return output[..., :width] if missing else output


def _make_bias(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Return the mask as the efficient kernels take it: additive, with aligned rows, expanded."""
    bias = mask
    if mask.dtype == torch.bool:
        bias = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(
            mask.logical_not(), -torch.inf
        )
    multiple = EFFICIENT_ALIGNMENT_BYTES // query.element_size()
    missing = -bias.size(-1) % multiple
    if missing:
        bias = torch.nn.functional.pad(bias, (0, missing))[..., : mask.size(-1)]
    return bias.expand(query.size(0), query.size(1), query.size(2), key.size(2))


class _Flash(torch.autograd.Function):
    """Flash attention with the buffers of its backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dropout: float,
        is_causal: bool,
        scale: float | None,
    ) -> Tensor:
        output, lse, _, _, _, _, seed, offset, _ = _aten._scaled_dot_product_flash_attention(  # noqa: SLF001
            query, key, value, dropout, is_causal, False, scale=scale
        )
        ctx.save_for_backward(query, key, value, output, lse, seed, offset)
        ctx.options = (dropout, is_causal, scale)
        kept: Tensor = output
        return kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        query, key, value, output, lse, seed, offset = ctx.saved_tensors
        dropout, is_causal, scale = ctx.options
        batch, heads, queries, width = query.shape
        rows, columns = (
            _round_up(queries, FLASH_QUERY_MULTIPLE),
            _round_up(width, FLASH_WIDTH_MULTIPLE),
        )
        sums = query.new_empty((batch, heads, rows), dtype=torch.float32)
        accumulated = query.new_empty((batch, rows, heads, columns), dtype=torch.float32)
        expanded = (
            [key.new_empty((batch, key.size(2), heads, width)) for _ in range(2)]
            if key.size(1) != heads
            else []
        )
        gradients = _aten._scaled_dot_product_flash_attention_backward(  # noqa: SLF001
            gradient,
            query,
            key,
            value,
            output,
            lse,
            None,
            None,
            queries,
            key.size(2),
            dropout,
            is_causal,
            seed,
            offset,
            scale=scale,
        )
        del sums, accumulated, expanded
        return (*gradients, None, None, None)


class _Efficient(torch.autograd.Function):
    """Memory-efficient attention with the buffers of its backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        dropout: float,
        is_causal: bool,
        scale: float | None,
    ) -> Tensor:
        wanted = any(
            tensor is not None and tensor.requires_grad for tensor in (query, key, value, bias)
        )
        output, lse, seed, offset = _aten._scaled_dot_product_efficient_attention(  # noqa: SLF001
            query, key, value, bias, wanted, dropout, is_causal, scale=scale
        )
        ctx.save_for_backward(query, key, value, bias, output, lse, seed, offset)
        ctx.options = (dropout, is_causal, scale)
        kept: Tensor = output
        return kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        query, key, value, bias, output, lse, seed, offset = ctx.saved_tensors
        dropout, is_causal, scale = ctx.options
        wanted = list(ctx.needs_input_grad[:4])
        gradient = gradient.transpose(1, 2).contiguous().transpose(1, 2)
        gradients = _aten._scaled_dot_product_efficient_attention_backward(  # noqa: SLF001
            gradient,
            query,
            key,
            value,
            bias,
            output,
            lse,
            seed,
            offset,
            dropout,
            wanted,
            is_causal,
            scale=scale,
        )
        # Of each query the product of gradient and output: fp32 by an operator of its own, a low
        # type inside the kernel, which sums the gradient of the queries in fp32.
        if query.dtype == torch.float32:
            products = torch.empty_like(output)
            delta = products.sum(-1)
            del products, delta
        else:
            accumulated = torch.empty_like(query, dtype=torch.float32)
            del accumulated
        return (*gradients, None, None, None)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
