"""How a size ends whose error does not say so, and sizes that a model refuses whatever the memory.

A queue that the batch must divide, a reshape to groups of samples or a table of fixed length refuse
sizes of their own. Where multiples of the size that ran first are refused too, only it times powers
of two is left: what divides a round number, or a limit, is then still found.
"""

from collections.abc import Sequence
from typing import Literal

from advisor.memory.data import Probe, list_sizes

#: Refusals after which no further size is tried.
MOST_REFUSALS = 6
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
    """Return how a size ended whose error reads so, once a smaller one ran."""
    if any(text in message for text in _MEMORY):
        return "oom"
    return "kernel" if any(text in message for text in _KERNEL) else "refused"


def find_multiple(probes: Sequence[Probe]) -> int:
    """Return of what sizes are to be multiples, so that they may run."""
    ran = list_sizes(probes, "fit")
    return ran[0] if ran and list_sizes(probes, "refused") else 1


def are_multiples_refused(probes: Sequence[Probe]) -> bool:
    """Return whether not every multiple of the first size that ran does."""
    multiple = find_multiple(probes)
    return any(size % multiple == 0 for size in list_sizes(probes, "refused"))


def may_run(size: int, probes: Sequence[Probe]) -> bool:
    """Return whether a size ran, or may by those that did and did not."""
    ran, refused = list_sizes(probes, "fit"), list_sizes(probes, "refused")
    if size in ran or not refused:
        return True
    larger, smaller = max(size, ran[0]), min(size, ran[0])
    if size in refused or larger % smaller:
        return False
    is_power = (larger // smaller).bit_count() == 1
    return not are_multiples_refused(probes) or (size < max(ran) and is_power)
