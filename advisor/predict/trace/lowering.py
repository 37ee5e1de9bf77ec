"""CUDA's operators in place of the CPU's, for fake tensors that say they are on the CPU.

    autocast  ─▶ by CUDA's lists                      (autocast.py)
    autograd  ─▶ attention, dropout, linear and recurrent layers, the loss of alignments
                 (attention.py, sequences.py)
    below     ─▶ fake tensors: shapes alone, and what else the kernels take (scratch.py)

Registered with the dispatcher, so that they hold wherever the operators are called from, under
activation checkpointing too. What is not lowered allocates the same on both: batch normalization,
other normalizations, activation functions, losses, convolutions but for their workspaces.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.library import Library

from advisor.predict.trace.attention import attend
from advisor.predict.trace.autocast import redirected_autocast, register_autocast
from advisor.predict.trace.sequences import GATES, lose_alignment, lower_recurrent
from advisor.training.data import Precision

NOTE_ATTENTION: Final = "attention as on an Ampere GPU or later, with every backend enabled"
NOTE_RECURRENT: Final = "cuDNN's reserve space for recurrent layers is an estimate"
NOTE_NO_WORKSPACE: Final = "cuDNN's workspaces for convolutions are not in the trace"
NOTE_WORKSPACE: Final = (
    "cuDNN's workspaces for convolutions are an estimate, since cudnn.benchmark tries algorithms"
)
NOTE_AUTOCAST: Final = "autocast by CUDA's lists of operators"


@contextmanager
def lower_to_cuda(precision: Precision) -> Iterator[tuple[str, ...]]:
    """Yield what a trace with CUDA's operators assumes; meanwhile fake CPU tensors have those.

    A user of real CPU tensors in the meantime gets no sensible result: the kernels exist for shapes
    only. Not reentrant.
    """
    kernels: dict[str, Callable[..., Any]] = {
        "scaled_dot_product_attention": attend,
        "dropout": _drop,
        "linear": _multiply,
        "ctc_loss.Tensor": lose_alignment,
        "ctc_loss.IntList": lose_alignment,
        **{f"{kind}.input": lower_recurrent(kind) for kind in GATES},
    }
    autocast = (NOTE_AUTOCAST,) if precision in {"bf16", "fp16"} else ()
    library = Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():  # the dispatcher warns that a kernel is replaced: it is
            warnings.simplefilter("ignore")
            for name, kernel in kernels.items():
                library.impl(name, kernel, "AutogradCPU")  # type: ignore[no-untyped-call]
            register_autocast(library)
        with redirected_autocast():
            tries = torch.backends.cudnn.benchmark
            workspace = NOTE_WORKSPACE if tries else NOTE_NO_WORKSPACE
            yield (NOTE_ATTENTION, workspace, NOTE_RECURRENT, *autocast)
    finally:
        library._destroy()  # type: ignore[no-untyped-call]  # noqa: SLF001 - the only way to take a registration back


def _multiply(source: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the linear layer's output; the bias is added in place, as it is to no fake tensor."""
    if bias is None or source.dim() < 3 or source.is_contiguous():
        product: Tensor = torch.ops.aten.linear.default.decompose(source, weight, bias)
        return product
    return torch.matmul(source, weight.t()).add_(bias)


def _drop(source: Tensor, p: float, train: bool) -> Tensor:
    """Return the input after dropout; keeps a mask of one byte for each value."""
    if not train or p == 0.0 or source.numel() == 0:
        return source
    if p == 1.0:
        return source * source.new_zeros(())
    dropped: Tensor = torch.ops.aten.native_dropout(source, p, train)[0]
    return dropped
