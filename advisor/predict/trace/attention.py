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

_LOW_TYPES: Final = (torch.float16, torch.bfloat16)
_BACKENDS: Final[dict[Backend, Any]] = {
    "flash": torch.ops.aten._scaled_dot_product_flash_attention,  # noqa: SLF001
    "efficient": torch.ops.aten._scaled_dot_product_efficient_attention,  # noqa: SLF001
    "plain": torch.ops.aten._scaled_dot_product_attention_math,  # noqa: SLF001
}


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
    options: dict[str, Any] = {"scale": scale}
    rest: tuple[Any, ...]
    if chosen == "flash":
        if missing := -query.size(-1) % FLASH_HEAD_MULTIPLE:
            options["scale"] = query.size(-1) ** -0.5 if scale is None else scale
            heads = tuple(pad(head, (0, missing)) for head in heads)  # type: ignore[assignment]
        rest = dropout_p, is_causal, False
    elif chosen == "efficient":
        bias = None if attn_mask is None else _make_bias(attn_mask, query, key)
        wanted = any(each is not None and each.requires_grad for each in (*heads, bias))
        rest = bias, wanted, dropout_p, is_causal
    else:
        rest = attn_mask, dropout_p, is_causal
        options["enable_gqa"] = enable_gqa
    output: Tensor = _BACKENDS[chosen](*heads, *rest, **options)[0]
    width = value.size(-1)
    return output if output.size(-1) == width else output[..., :width]


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
    is_batched = all(head.dim() == 4 and 0 not in head.shape for head in heads)
    if not is_batched or len({head.dtype for head in heads}) > 1:
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
        zeros = torch.zeros_like(mask, dtype=query.dtype)
        bias = zeros.masked_fill_(mask.logical_not(), -torch.inf)
    if missing := -bias.size(-1) % (EFFICIENT_ALIGNMENT_BYTES // query.element_size()):
        bias = pad(bias, (0, missing))[..., : mask.size(-1)]
    return bias.expand(*query.shape[:3], key.size(2))
