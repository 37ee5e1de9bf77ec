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
from torch.nn.functional import pad

Backend = Literal["flash", "efficient", "plain"]

FLASH_WIDEST_HEAD: Final = 256
#: Flash works on heads whose width is a multiple of it, and pads the others.
FLASH_HEAD_MULTIPLE: Final = 8
#: Bytes to which the efficient kernels want the rows of heads and of masks aligned.
EFFICIENT_ALIGNMENT_BYTES: Final = 16
#: Queries that a block of the efficient kernel's backward sums, and floats that its lock takes.
EFFICIENT_QUERY_BLOCK: Final = 64
EFFICIENT_LOCK_VALUES: Final = 4
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
    heads = (query, key, value)
    chosen = choose_backend(*heads, mask=attn_mask, is_causal=is_causal, enable_gqa=enable_gqa)
    output: Tensor
    if chosen == "flash":
        width = query.size(-1)
        if missing := -width % FLASH_HEAD_MULTIPLE:
            scale = width**-0.5 if scale is None else scale
            query, key, value = (pad(head, (0, missing)) for head in heads)
        flash = _aten._scaled_dot_product_flash_attention  # noqa: SLF001
        output, *_ = flash(query, key, value, dropout_p, is_causal, False, scale=scale)
        return output[..., :width] if missing else output
    if chosen == "efficient":
        bias = None if attn_mask is None else _make_bias(attn_mask, query, key)
        wanted = any(each is not None and each.requires_grad for each in (*heads, bias))
        efficient = _aten._scaled_dot_product_efficient_attention  # noqa: SLF001
        output, *_ = efficient(*heads, bias, wanted, dropout_p, is_causal, scale=scale)
        return output
    plain = _aten._scaled_dot_product_attention_math  # noqa: SLF001
    options = {"scale": scale, "enable_gqa": enable_gqa}
    output, *_ = plain(*heads, attn_mask, dropout_p, is_causal, **options)
    return output


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
    heads = (query, key, value)
    if (
        any(head.dim() != 4 or 0 in head.shape for head in heads)
        or len({h.dtype for h in heads}) > 1
    ):
        return "plain"
    widths = {head.size(-1) for head in heads}
    square = not is_causal or query.size(-2) == key.size(-2)
    low = query.dtype in _LOW_TYPES
    if low and mask is None and len(widths) == 1 and max(widths) <= FLASH_WIDEST_HEAD and square:
        return "flash"
    grouped = enable_gqa and query.size(1) != key.size(1)
    multiple = EFFICIENT_ALIGNMENT_BYTES // query.element_size()
    aligned = not any(width % multiple for width in widths)
    supported = low or query.dtype == torch.float32
    return "efficient" if supported and aligned and not grouped else "plain"


def _make_bias(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Return the mask as the efficient kernels take it: additive, with aligned rows, expanded."""
    bias = mask
    if mask.dtype == torch.bool:
        bias = torch.zeros_like(mask, dtype=query.dtype)
        bias = bias.masked_fill_(mask.logical_not(), -torch.inf)
    if missing := -bias.size(-1) % (EFFICIENT_ALIGNMENT_BYTES // query.element_size()):
        bias = pad(bias, (0, missing))[..., : mask.size(-1)]
    return bias.expand(*query.shape[:3], key.size(2))


def differentiate_flash(
    gradient: Tensor, query: Tensor, key: Tensor, *rest: Any, **options: Any
) -> Any:
    """Return the gradients of flash attention, the buffers of its kernel held meanwhile."""
    batch, heads, queries, width = query.shape
    rows = -(-queries // FLASH_QUERY_MULTIPLE) * FLASH_QUERY_MULTIPLE
    columns = -(-width // FLASH_WIDTH_MULTIPLE) * FLASH_WIDTH_MULTIPLE
    buffers = [
        query.new_empty((batch, heads, rows), dtype=torch.float32),
        query.new_empty((batch, rows, heads, columns), dtype=torch.float32),
    ]
    if key.size(1) != heads:
        buffers += [key.new_empty((batch, key.size(2), heads, width)) for _ in range(2)]
    differentiate = _aten._scaled_dot_product_flash_attention_backward  # noqa: SLF001
    gradients = _run_once(differentiate, gradient, query, key, *rest, **options)
    del buffers
    return gradients


def differentiate_efficient(gradient: Tensor, query: Tensor, *rest: Any, **options: Any) -> Any:
    """Return the gradients of memory-efficient attention, with the buffers of its kernel."""
    gradient = gradient.transpose(1, 2).contiguous().transpose(1, 2)
    differentiate = _aten._scaled_dot_product_efficient_attention_backward  # noqa: SLF001
    gradients = _run_once(differentiate, gradient, query, *rest, **options)
    # Of each query the product of gradient and output: fp32 by an operator of its own, a low type
    # inside the kernel. That sums the gradient of the queries in fp32, with a lock for each block.
    products = torch.empty_like(rest[3]).sum(-1) if query.dtype == torch.float32 else None
    batch, heads, queries, width = query.shape
    blocks = -(-queries // EFFICIENT_QUERY_BLOCK)
    values = blocks * (EFFICIENT_QUERY_BLOCK * width + EFFICIENT_LOCK_VALUES)
    sums = query.new_empty(batch * heads * values, dtype=torch.float32)
    del products, sums
    return gradients


def _run_once(differentiate: Any, *args: Any, **options: Any) -> Any:
    """Return the gradients, which CUDA has no gradients of."""
    if torch.is_grad_enabled():
        raise NotImplementedError("fused attention cannot be differentiated twice")
    with torch._C._AutoDispatchBelowAutograd():  # noqa: SLF001
        return differentiate(*args, **options)
