"""What a library says where memory ran out, or where the GPU and not the user's code is at fault.

Every other error is one of the model.
"""

from collections.abc import Iterator

import torch

#: Of memory that ran out.
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
_OTHER_DEVICE = "or choose another device with --device"
#: Texts of the error; what it means; what to do. The first that is found counts.
_FAILURES = (
    (
        ("busy or unavailable",),
        "another process has the GPU to itself (its compute mode is exclusive)",
        f"End that process, {_OTHER_DEVICE}.",
    ),
    (
        ("driver on your system is too old", "driver version is insufficient"),
        "its driver is too old for this build of torch",
        f"Update the driver, or install a torch for an older CUDA, {_OTHER_DEVICE}.",
    ),
    (
        ("No CUDA GPUs are available",),
        "torch sees no GPU any more",
        f"Run `bsadvisor doctor` to see what it sees, {_OTHER_DEVICE}.",
    ),
)
#: In the text of each call to a GPU that failed.
_CALL_FAILED = "CUDA error"
#: Of a card that no longer answers, where no line of the user's is at fault.
_LOST = ("unspecified launch failure", "unknown error", "uncorrectable", "fallen off the bus")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error, or one that led to it, says that memory ran out."""
    return any(
        isinstance(each, torch.OutOfMemoryError | MemoryError)
        or (isinstance(each, RuntimeError) and any(text in str(each) for text in _TEXTS))
        for each in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def explain_device_failure(error: BaseException, *, is_users: bool) -> tuple[str, str] | None:
    """Return what is wrong with the device and what to do; None where it is not the device.

    `is_users`: it came out of the user's code, which a failed kernel then belongs to.
    """
    if is_device_full(error):
        return (
            "its memory is full",
            f"Stop what else uses it (nvidia-smi lists that), {_OTHER_DEVICE}.",
        )
    texts = _read_texts(error)
    for known, what, next_step in _FAILURES:
        if any(text in texts for text in known):
            return what, next_step
    if not is_users and _CALL_FAILED in texts and any(text in texts for text in _LOST):
        return "it no longer answers", "Look for Xid in the kernel's log (dmesg), and reset it."
    return None


def is_device_call(error: BaseException) -> bool:
    """Return whether a call to a GPU failed: from then on the process has no use of it."""
    return _CALL_FAILED in _read_texts(error)


def is_device_full(error: BaseException) -> bool:
    """Return whether a GPU, and not the host, ran out of memory."""
    texts = _read_texts(error)
    return is_out_of_memory(error) and (
        any(isinstance(each, torch.OutOfMemoryError) for each in _chain(error))
        or "CUDA" in texts
        or "CUBLAS" in texts
    )


def _read_texts(error: BaseException) -> str:
    return " ".join(str(each) for each in _chain(error) if isinstance(each, RuntimeError))
