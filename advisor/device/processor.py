"""What can be counted of the processors: their energy, and how much of their time others took."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from advisor.device.counters import read_counter
from advisor.device.data import Counter

#: Least time that a share is taken over: the kernel counts in ticks of 10 ms.
LEAST_WINDOW_S = 0.1
#: Time over which a report takes the share of others.
_WINDOW_S = 0.2
_POWERCAP = Path("/sys/class/powercap")
_PROC = Path("/proc")
_J_PER_UJ = 1e-6


def read_processor_counters() -> tuple[Counter, ...]:
    """Return the energy of the packages and the share of processor time that others take now.

    Takes a moment: a share needs two readings.
    """
    load = ForeignLoad()
    time.sleep(_WINDOW_S)
    return (
        read_counter("foreign_cpu", load.read_fraction, "fraction"),
        read_counter("cpu_energy", PackageEnergy().read_j, "J"),
    )


def list_tree(roots: Iterable[int]) -> frozenset[int]:
    """Return the processes and all that they started, directly or not, as far as they still live.

    Linux keeps the children of every thread at hand; elsewhere all processes are looked through.
    """
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(_children(pid))
    return frozenset(found)


def _children(pid: int) -> list[int]:
    import psutil  # noqa: PLC0415 - loaded where a run needs it

    with suppress(OSError):  # the process ended, or the kernel keeps no such files
        lists = [file.read_text() for file in (_PROC / str(pid)).glob("task/*/children")]
        if lists:
            return [int(child) for text in lists for child in text.split()]
    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


class _Reading(NamedTuple):
    """Processor time spent since some time in the past."""

    at_s: float
    all_s: float
    busy_s: float
    own_s: float


class ForeignLoad:
    """The share of the processors' time that other processes took since the reading before.

    Counted are the processors that this process may run on, where the system names them (Linux: the
    container's or `taskset`'s set), else all of the machine's. On these, everything counts that is
    not our own tree's, in other containers too, and what a hypervisor gave to other machines. A
    limit on a container's share of time (a CFS quota) is not seen. This process and `own_pids` are
    our own, with all that they start.
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
        self._readings = [earlier[-1], now]
        return _share(earlier[-1], now)

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


def _measure_processors() -> tuple[float, float]:
    """Return all the time and the busy time of the processors that we may run on, in seconds."""
    import psutil  # noqa: PLC0415 - loaded where a run needs it

    times = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        # Processors that are switched off are left out, which shifts the others' numbers.
        if max(allowed) < len(times):
            times = [times[number] for number in sorted(allowed)]
    fields = [each._asdict() for each in times]  # a guest's time is part of its host process's
    all_s = sum(s for each in fields for name, s in each.items() if not name.startswith("guest"))
    return all_s, all_s - sum(each["idle"] + each.get("iowait", 0.0) for each in fields)


def _share(since: _Reading, now: _Reading) -> float:
    all_s = now.all_s - since.all_s
    foreign_s = (now.busy_s - since.busy_s) - (now.own_s - since.own_s)
    return min(1.0, max(0.0, foreign_s / all_s)) if all_s > 0 else 0.0


class PackageEnergy:
    """The joules of all packages since some time in the past; never falls while it is read.

    Intel's and AMD's both stand under `powercap` as `intel-rapl`. Their parts (cores, memory) and
    the platform are left out, for they would count the same energy twice. The counters start again
    at zero beyond their range, within half an hour under load; a turn is seen as long as readings
    come more often than that.
    """

    def __init__(self, root: Path = _POWERCAP) -> None:
        self._root = root
        self._last_uj: dict[Path, int] = {}
        self._turns_uj = 0

    def read_j(self) -> float:
        """Return the energy; OSError where there are no counters, or none for this user."""
        readings = {
            zone: int((zone / "energy_uj").read_text())
            for zone in self._root.glob("intel-rapl:*")
            if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package")
        }
        if not readings:
            raise FileNotFoundError("no package has an energy counter")
        for zone, now_uj in readings.items():
            if now_uj < self._last_uj.get(zone, 0):
                self._turns_uj += int((zone / "max_energy_range_uj").read_text())
        self._last_uj = readings
        return (sum(readings.values()) + self._turns_uj) * _J_PER_UJ
