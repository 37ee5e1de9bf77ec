"""How much of the processors' time others took: neighbours slow a timed step down."""

import os
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from advisor.device.data import Counter
from advisor.device.processes import list_tree
from advisor.device.reading import Reader, lack

#: Least time that a share is taken over: the kernel counts in ticks of 10 ms.
LEAST_WINDOW_S = 0.1


class _Reading(NamedTuple):
    """Processor time spent since some time in the past."""

    at_s: float
    all_s: float
    busy_s: float
    own_s: float


class ForeignLoad:
    """The share of the processors' time that other processes took since the reading before.

    Counted are the processors that this process may run on, where the system names them (Linux:
    the container's or `taskset`'s set), else all of the machine's. On these, everything counts that
    is not our own tree's, in other containers too, and what a hypervisor gave to other machines.
    A limit on a container's share of time (a CFS quota) is not seen.

    Args:
        own_pids: Processes that are our own with all that they start; this one always is.
    """

    def __init__(self, own_pids: Iterable[int] = ()) -> None:
        self._roots = {os.getpid(), *own_pids}
        self._own: dict[int, Any] = {}
        self._readings = [self._take()]

    def read_fraction(self) -> float:
        """Return the share since the reading before, or since an earlier one if that is too near.

        Raises:
            ValueError: There is no earlier reading at least `LEAST_WINDOW_S` ago.
        """
        now = self._take()
        earlier = [each for each in self._readings if now.at_s - each.at_s >= LEAST_WINDOW_S]
        if not earlier:
            raise ValueError("the first reading is too near")
        since = earlier[-1]
        self._readings = [since, now]
        return _share(since, now)

    def _take(self) -> _Reading:
        all_s, busy_s = _measure_processors()
        return _Reading(time.monotonic(), all_s, busy_s, self._measure_own())

    def _measure_own(self) -> float:
        """Return what our processes used, those included that ended and were waited for.

        A process once seen stays known while it lives: a listing may miss one while others end.
        """
        import psutil  # noqa: PLC0415 - loaded where a run needs it

        total_s = 0.0
        for pid in list_tree(self._roots) | self._own.keys():
            try:
                if pid not in self._own:
                    self._own[pid] = psutil.Process(pid)
                times = self._own[pid].cpu_times()
            except psutil.Error:
                self._own.pop(pid, None)
                continue
            total_s += times.user + times.system + times.children_user + times.children_system
        return total_s


def open_foreign_load(name: str, own_pids: Iterable[int] = ()) -> Reader:
    """Return a reader of the share, under the name; its first reading must wait a little."""
    load = ForeignLoad(own_pids)

    def read() -> tuple[Counter, ...]:
        try:
            return (Counter(name=name, value=load.read_fraction(), unit="fraction"),)
        except (OSError, ValueError):
            return lack((name,), "not_supported")

    return Reader((name,), read)


def _measure_processors() -> tuple[float, float]:
    """Return all the time and the busy time of the processors that we may run on, in seconds."""
    import psutil  # noqa: PLC0415 - loaded where a run needs it

    times = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        # Processors that are switched off are left out, which shifts the others' numbers.
        if max(allowed) < len(times):
            times = [times[number] for number in sorted(allowed)]
    all_s = sum(_sum_all(each) for each in times)
    return all_s, all_s - sum(each.idle + getattr(each, "iowait", 0.0) for each in times)


def _sum_all(times: Any) -> float:
    """Return the sum; a guest's time is part of its host process's."""
    fields = times._asdict()
    return float(sum(value for field, value in fields.items() if not field.startswith("guest")))


def _share(since: _Reading, now: _Reading) -> float:
    all_s = now.all_s - since.all_s
    if all_s <= 0:
        return 0.0
    foreign_s = (now.busy_s - since.busy_s) - (now.own_s - since.own_s)
    return min(1.0, max(0.0, foreign_s / all_s))
