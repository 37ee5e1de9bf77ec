"""Sizes that a model does not run whatever the memory, and which others may run all the same.

A queue that the batch must divide, a reshape to groups of samples or a table of fixed length refuse
sizes of their own. Where multiples of the size that ran first are refused too, only it times powers
of two is left: what divides a round number, or a limit, is then still found.
"""

from collections.abc import Iterable, Sequence

from advisor.memory.data import Probe

#: Refusals after which no further size is tried.
MOST_REFUSALS = 6


def list_refused(probes: Iterable[Probe]) -> list[int]:
    """Return the sizes at which the model's own code failed, in the order they were tried."""
    return [probe.micro_batch_size for probe in probes if probe.outcome == "refused"]


def find_multiple(probes: Sequence[Probe]) -> int:
    """Return of what sizes are to be multiples, so that they may run."""
    ran, refused = _list_ran(probes), list_refused(probes)
    return ran[0] if ran and refused else 1


def are_multiples_refused(probes: Sequence[Probe]) -> bool:
    """Return whether not every multiple of the first size that ran does."""
    multiple = find_multiple(probes)
    return any(size % multiple == 0 for size in list_refused(probes))


def may_run(size: int, probes: Sequence[Probe]) -> bool:
    """Return whether a size ran, or may by those that did and did not."""
    ran, refused = _list_ran(probes), list_refused(probes)
    if size in ran or not refused:
        return True
    if size in refused:
        return False
    if not are_multiples_refused(probes):
        return size % ran[0] == 0 or ran[0] % size == 0
    larger, smaller = max(size, ran[0]), min(size, ran[0])
    return size < max(ran) and larger % smaller == 0 and (larger // smaller).bit_count() == 1


def _list_ran(probes: Iterable[Probe]) -> list[int]:
    return [probe.micro_batch_size for probe in probes if probe.outcome == "fit"]
