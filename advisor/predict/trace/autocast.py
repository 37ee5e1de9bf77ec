"""Autocast by CUDA's lists of operators, on CPU tensors.

The dispatcher knows which operators CUDA's autocast touches; the tables here say only how, where it
is not "in float32". What the CPU's autocast treats as CUDA's does keeps its own kernel, which is
also what caches the casts of weights.

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

#: Computed in the low type on CUDA. Those that the CPU has too are left alone.
LOW: Final = frozenset(
    {
        "_convolution",
        "convolution",
        "addmm",
        "addmv",
        "addr",
        "addbmm",
        "baddbmm",
        "bmm",
        "mm",
        "mv",
        "matmul",
        "linear",
        "einsum",
        "chain_matmul",
        "linalg_multi_dot",
        "linalg_vecdot",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_tbc",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "prelu",
        "scaled_dot_product_attention",
        "_scaled_dot_product_flash_attention",
        "cudnn_convolution",
        "cudnn_convolution_transpose",
    }
)
#: Composed of operators of the list above: their inputs are cast here, their weights there.
CELLS: Final = frozenset({"lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"})
#: Never reached, since nothing lowers to them.
UNUSED: Final = frozenset({"_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "_cudnn_rnn"})
#: Their result is float32; the input is not converted first.
WIDE_RESULT: Final = frozenset(
    {
        "prod",
        "softmax",
        "log_softmax",
        "cumprod",
        "cumsum",
        "linalg_vector_norm",
        "linalg_matrix_norm",
        "sum",
    }
)
#: All inputs take the widest of their types.
WIDEST: Final = frozenset(
    {
        "addcdiv",
        "addcmul",
        "atan2",
        "bilinear",
        "cross",
        "dot",
        "vdot",
        "grid_sampler",
        "index_put",
        "tensordot",
        "scatter_add",
    }
)
#: The CPU's own, of which each is on CUDA made of operators in the low type.
KEPT: Final = frozenset(
    {
        "_addmm_activation",
        "mkldnn_rnn_layer",
        "_native_multi_head_attention",
        "conv1d.padding",
        "conv2d.padding",
        "conv3d.padding",
    }
)
_NORMS: Final = {"norm.Scalar": "ScalarOpt_dtype", "norm.ScalarOpt_dim": "ScalarOpt_dim_dtype"}
_HERE: Final = "AutocastCPU"
_THERE: Final = "AutocastCUDA"

Kernel = Callable[..., Any]


def register_autocast(library: Library) -> None:
    """Make the CPU's autocast treat every operator as CUDA's does, as long as the library lives."""
    here, there = (_list_registered(key) for key in (_HERE, _THERE))
    for name in sorted(here - there):
        if name not in KEPT:
            library.impl(name, fallthrough_kernel, _HERE)  # type: ignore[no-untyped-call]
    for name in sorted(there):
        kernel = make_kernel(name, has_kernel=name in here)
        if kernel is not None:
            library.impl(name, kernel, _HERE)  # type: ignore[no-untyped-call]


@contextmanager
def redirected_autocast() -> Iterator[None]:
    """Have `torch.autocast("cuda")` in the user's code act on CPU tensors.

    Where there is no CUDA torch switches it off with a warning; a trace by CUDA's operators wants
    it on, in the type that CUDA would take.
    """
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


def make_kernel(name: str, *, has_kernel: bool) -> Kernel | None:
    """Return the autocast kernel of an operator of CUDA's lists, None where it needs none.

    Args:
        name: As registered: with its overload after a dot, if that has a name.
        has_kernel: Whether the CPU's autocast has a kernel for it.
    """
    stem, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, stem), overload or "default")
    if stem in UNUSED:
        return None
    if name == "binary_cross_entropy":
        return _refuse
    if name in _NORMS:
        return _widen_norm(operator, getattr(torch.ops.aten.norm, _NORMS[name]))
    if stem in WIDEST:
        return _at_widest(operator)
    if stem in WIDE_RESULT:
        return _with_wide_result(operator, stem)
    if has_kernel:
        return None
    if stem in CELLS:
        return _at_low_type(operator.decompose, nested=True)
    return _at_low_type(operator) if stem in LOW else _at_float32(operator)


def _list_registered(key: str) -> set[str]:
    names = torch._C._dispatch_get_registrations_for_dispatch_key(key)  # noqa: SLF001
    return {name.removeprefix("aten::") for name in names if name.startswith("aten::")}


def _without_autocast() -> Any:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)  # noqa: SLF001
    return torch._C._ExcludeDispatchKeyGuard(keys)  # noqa: SLF001


def _is_eligible(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.is_floating_point()
        and value.dtype != torch.float64
    )


def _cast(values: Any, dtype: torch.dtype) -> Any:
    return pytree.tree_map(lambda each: each.to(dtype) if _is_eligible(each) else each, values)


def _at_float32(operator: Any) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _without_autocast():
            return operator(*_cast(args, torch.float32), **_cast(kwargs, torch.float32))

    return kernel


def _at_low_type(operator: Any, *, nested: bool = False) -> Kernel:
    """Return a kernel for which everything is low; `nested`: its weights are cast further down."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype("cpu")
        if nested:
            return operator(*_cast(args[:2], dtype), *args[2:], **kwargs)
        with _without_autocast():
            return operator(*_cast(args, dtype), **_cast(kwargs, dtype))

    return kernel


def _at_widest(operator: Any) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        types = {each.dtype for each in pytree.tree_leaves((args, kwargs)) if _is_eligible(each)}
        dtype = torch.float32 if torch.float32 in types else torch.get_autocast_dtype("cpu")
        with _without_autocast():
            return operator(*_cast(args, dtype), **_cast(kwargs, dtype))

    return kernel


def _with_wide_result(operator: Any, stem: str) -> Kernel:
    names = [argument.name for argument in operator._schema.arguments]  # noqa: SLF001
    position = names.index("dtype")

    def kernel(*args: Any, **kwargs: Any) -> Any:
        given = args[position] if len(args) > position else kwargs.get("dtype")
        if given is None and _is_eligible(args[0]):
            args, kwargs = args[:position], {**kwargs, "dtype": torch.float32}
        with _without_autocast():
            if _is_fused(stem, args, kwargs):
                return getattr(torch.ops.aten, f"_{stem}")(args[0], args[1], True)
            return operator(*args, **kwargs)

    return kernel


def _is_fused(stem: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether CUDA goes from float16 to a float32 softmax without a copy in between."""
    return (
        stem in {"softmax", "log_softmax"}
        and args[0].dtype == torch.float16
        and kwargs.get("dtype") == torch.float32
    )


def _widen_norm(operator: Any, typed: Any) -> Kernel:
    arguments = operator._schema.arguments  # noqa: SLF001

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _without_autocast():
            if not _is_eligible(args[0]):
                return operator(*args, **kwargs)
            # The overload with a type has no defaults.
            rest = (kwargs.get(each.name, each.default_value) for each in arguments[len(args) :])
            return typed(*args, *rest, dtype=torch.float32)

    return kernel


def _refuse(*args: Any, **kwargs: Any) -> Any:
    """Refuse as CUDA does."""
    del args, kwargs
    raise RuntimeError(
        "binary_cross_entropy cannot run under autocast on CUDA; use "
        "binary_cross_entropy_with_logits on the values before the sigmoid"
    )
