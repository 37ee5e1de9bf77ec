"""Autocast by CUDA's lists of operators, on CPU tensors.

The dispatcher knows which operators CUDA's autocast touches; the tables here say how, where it is
not "in float32". What the CPU's autocast treats as CUDA's does keeps its own kernel, which is also
what caches the casts of weights.

Source: aten/src/ATen/autocast_mode.h of torch 2.13; torch documents the policies under "CUDA Ops
that can autocast".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.library import Library, fallthrough_kernel
from torch.utils import _pytree as pytree

#: Computed in the low type on CUDA, and not in the CPU's lists.
LOW: Final = {
    *("_convolution", "convolution", "_scaled_dot_product_flash_attention"),
    *("addmv", "addr", "mv", "chain_matmul", "einsum", "linalg_multi_dot"),
}
#: Composed of operators of the list above: their inputs are cast here, their weights there.
CELLS: Final = {"lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
#: All inputs take the widest of their types.
WIDEST: Final = {
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot"),
    *("grid_sampler", "index_put", "tensordot", "scatter_add"),
}
#: The CPU's own, of which each is on CUDA made of operators in the low type.
KEPT: Final = {
    *("conv1d.padding", "conv2d.padding", "conv3d.padding"),
    *("_addmm_activation", "mkldnn_rnn_layer", "_native_multi_head_attention"),
}

Kernel = Callable[..., Any]


def register_autocast(library: Library) -> None:
    """Make the CPU's autocast treat every operator as CUDA's does, as long as the library lives."""
    here, there = (
        {
            name.removeprefix("aten::")
            for name in torch._C._dispatch_get_registrations_for_dispatch_key(key)  # noqa: SLF001
            if name.startswith("aten::")
        }
        for key in ("AutocastCPU", "AutocastCUDA")
    )
    for name in sorted((here | there) - KEPT):
        kernel = (
            _make_kernel(name, has_kernel=name in here) if name in there else fallthrough_kernel
        )
        if kernel is not None:
            library.impl(name, kernel, "AutocastCPU")  # type: ignore[no-untyped-call]


@contextmanager
def redirected_autocast() -> Iterator[None]:
    """Have the user's `torch.autocast("cuda")` act on CPU tensors; torch would switch it off."""
    kind = torch.amp.autocast_mode.autocast
    original = kind.__init__

    def redirect(
        self: Any, device_type: str, dtype: torch.dtype | None = None, *args: Any, **kwargs: Any
    ) -> None:
        if device_type == "cuda":
            device_type, dtype = "cpu", dtype or torch.get_autocast_dtype("cuda")
        original(self, device_type, dtype, *args, **kwargs)

    kind.__init__ = redirect  # type: ignore[method-assign]
    try:
        yield
    finally:
        kind.__init__ = original  # type: ignore[method-assign]


def _make_kernel(name: str, *, has_kernel: bool) -> Kernel | None:
    """Return the autocast kernel of an operator of CUDA's lists, None where the CPU's serves."""
    stem, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, stem), overload or "default")
    names = [argument.name for argument in operator._schema.arguments]  # noqa: SLF001
    if name == "binary_cross_entropy":
        return _refuse
    if stem in WIDEST:
        return _cast_to(_widest_type, operator)
    if "dtype" in names:
        return _with_wide_result(operator, stem, names.index("dtype"))
    if has_kernel:
        return None
    if stem in CELLS:
        return _cast_cell(operator.decompose)
    is_low = stem in LOW
    return _cast_to(lambda _: _low_type() if is_low else torch.float32, operator)


def _low_type() -> torch.dtype:
    return torch.get_autocast_dtype("cpu")


def _without_autocast() -> Any:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)  # noqa: SLF001
    return torch._C._ExcludeDispatchKeyGuard(keys)  # noqa: SLF001


def _is_eligible(value: Any) -> bool:
    is_here = isinstance(value, Tensor) and value.device.type == "cpu"
    return is_here and value.is_floating_point() and value.dtype != torch.float64


def _cast(values: Any, dtype: torch.dtype) -> Any:
    return pytree.tree_map(lambda each: each.to(dtype) if _is_eligible(each) else each, values)


def _widest_type(inputs: Any) -> torch.dtype:
    types = {each.dtype for each in pytree.tree_leaves(inputs) if _is_eligible(each)}
    return torch.float32 if torch.float32 in types else _low_type()


def _cast_to(choose: Callable[[Any], torch.dtype], operator: Any) -> Kernel:
    """Return a kernel that first casts every input to the type chosen by them."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        dtype = choose((args, kwargs))
        with _without_autocast():
            return operator(*_cast(args, dtype), **_cast(kwargs, dtype))

    return kernel


def _cast_cell(decompose: Any) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        return decompose(*_cast(args[:2], _low_type()), *args[2:], **kwargs)

    return kernel


def _with_wide_result(operator: Any, stem: str, position: int) -> Kernel:
    """Return a kernel that asks for float32 by the argument `dtype`; its input is not cast."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        given = args[position] if len(args) > position else kwargs.get("dtype")
        if given is None and _is_eligible(args[0]):
            args, kwargs = args[:position], {**kwargs, "dtype": torch.float32}
        is_softmax = stem in {"softmax", "log_softmax"} and args[0].dtype == torch.float16
        with _without_autocast():
            if is_softmax and kwargs.get("dtype") == torch.float32:  # CUDA makes no copy for it
                return getattr(torch.ops.aten, f"_{stem}")(args[0], args[1], True)
            return operator(*args, **kwargs)

    return kernel


def _refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError(
        "binary_cross_entropy cannot run under autocast on CUDA; use "
        "binary_cross_entropy_with_logits on the values before the sigmoid"
    )
