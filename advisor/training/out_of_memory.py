"""Every text by which a library says that memory ran out; the rest are errors of the model."""

from collections.abc import Iterator

import torch

_TEXTS = (
    "CUDA error: out of memory",
    "CUDA out of memory",
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "_ALLOC_FAILED",  # of cuBLAS, cuDNN, cuFFT, cuSOLVER ...
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "Cuda failure 2",
    "HIP out of memory",
    "MPS backend out of memory",
    "DefaultCPUAllocator: can't allocate memory",
    "not enough memory: you tried to allocate",
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory object",
    "Unable to allocate",  # numpy
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error, or one that led to it, says that memory ran out."""
    return any(
        isinstance(each, torch.OutOfMemoryError | MemoryError)
        or (isinstance(each, RuntimeError) and any(text in str(each) for text in _TEXTS))
        for each in chain(error)
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
