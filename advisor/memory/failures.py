"""Errors that mean the size although they do not say so: known once a smaller size ran."""

from typing import Literal

#: By a library that found no memory for a workspace, or for itself.
_MEMORY = (
    "unable to find an engine to execute this computation",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_NOT_SUPPORTED",
)
#: By a kernel whose grid or whose 32-bit indices end, however much memory there is.
_KERNEL = (
    "invalid configuration argument",
    "32-bit index math",
    "canUse32BitIndexMath",
    "INT_MAX",
    "integer out of range",
    "exceeds the grid limit",
)


def judge_failure(message: str) -> Literal["oom", "kernel", "refused"]:
    """Return how a size ended whose error reads so; an error of the model's refuses it."""
    if any(text in message for text in _MEMORY):
        return "oom"
    return "kernel" if any(text in message for text in _KERNEL) else "refused"
