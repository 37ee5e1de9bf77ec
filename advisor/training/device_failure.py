"""What a GPU says where it, and not the user's code, is why nothing runs."""

import torch

from advisor.training.out_of_memory import chain, is_out_of_memory

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
    return is_out_of_memory(error) and any(
        isinstance(each, torch.OutOfMemoryError)
        or (isinstance(each, RuntimeError) and ("CUDA" in str(each) or "CUBLAS" in str(each)))
        for each in chain(error)
    )


def _read_texts(error: BaseException) -> str:
    return " ".join(str(each) for each in chain(error) if isinstance(each, RuntimeError))
