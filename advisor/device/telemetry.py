"""Counters of the device and the machine while a worker is timed, sampled outside of it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from advisor.device.counters import Sources, read_counter, refuse
from advisor.device.data import Counter, DeviceFacts, Telemetry
from advisor.device.nvml.counters import GPU_COUNTERS, missing_gpu_reason, opened_gpu
from advisor.device.processor import LEAST_WINDOW_S, ForeignLoad, PackageEnergy

#: Time between two samples. On the CPU the sampler runs on the processors that are being timed.
_INTERVAL_S = {"cpu": 0.25, "cuda": 0.2, "mps": 0.25}
#: A driver that does not answer is not waited for any longer.
_JOIN_S = 1.0
_SLOWDOWN = "slowdown_"
#: Counters that sum up; one that falls was set back, and its differences would be wrong.
_CUMULATIVE = ("energy", _SLOWDOWN)


@contextmanager
def sampled(
    device: DeviceFacts, *, session: int, own_pid: int, interval_s: float | None = None
) -> Iterator[Callable[[], Telemetry]]:
    """Sample until the block is left, and yield a function that returns the telemetry so far.

    One sample is taken before the block and one at its end; each call within the block takes one as
    well. Enter it before the worker touches the device: where the driver does not list our
    processes, memory of others is what was in use then. A counter that fails once is left out
    altogether, with the reason. The own process and all that it starts are not counted as others,
    nor is this one.
    """
    with _opened(device, own_pid) as sources:
        time.sleep(LEAST_WINDOW_S)  # for the first share of the processors' time
        sampler = _Sampler(session, sources)
        sampler.sample()
        stop = threading.Event()
        period_s = interval_s or _INTERVAL_S[device.kind]

        def work() -> None:
            while not stop.wait(period_s):
                sampler.sample()

        thread = threading.Thread(target=work, name="telemetry", daemon=True)
        thread.start()
        try:
            yield sampler.read
        finally:
            stop.set()
            thread.join(_JOIN_S)
            sampler.close()


@contextmanager
def _opened(device: DeviceFacts, own_pid: int) -> Iterator[Sources]:
    """Open the sources of the device, energy first: it is the one whose moment matters most."""
    load = ForeignLoad((own_pid,)).read_fraction
    if device.kind == "cuda" and device.vendor != "amd":
        with opened_gpu(device.uuid_hash, (os.getpid(), own_pid)) as gpu:
            reads = {name: gpu.reads[name] for name in GPU_COUNTERS}
            yield Sources({**reads, "foreign_cpu": load}, gpu.remarks)
        return
    reads = refuse(GPU_COUNTERS, missing_gpu_reason(device.kind))
    if device.kind == "cpu":
        reads["energy"] = PackageEnergy().read_j
    yield Sources({**reads, "foreign_cpu": load})


class _Sampler:
    """Columns of one value a sample for each counter that never failed."""

    def __init__(self, session: int, sources: Sources) -> None:
        self._session, self._sources = session, sources
        self._reading = threading.Lock()  # one sample at a time, however long it takes
        self._lock = threading.Lock()  # of the columns
        self._at_s: list[float] = []
        self._columns: dict[str, list[float]] = {name: [] for name in sources.reads}
        self._missing: list[Counter] = []
        self._is_open = True

    def sample(self) -> None:
        """Add a value to every column, and drop those that have none."""
        if not self._reading.acquire(timeout=_JOIN_S):
            return  # the driver does not answer
        try:
            at_s = time.monotonic()
            with self._lock:
                live = list(self._columns)
            counters = [read_counter(name, self._sources.reads[name]) for name in live]
        finally:
            self._reading.release()
        with self._lock:
            if self._is_open:
                self._at_s.append(at_s)
                for counter in counters:
                    self._put(counter)

    def _put(self, counter: Counter) -> None:
        name, value, column = counter.name, counter.value, self._columns.get(counter.name, [])
        if value is not None and name.startswith(_CUMULATIVE) and column and value < column[-1]:
            counter, value = Counter(name=name, missing_because="was_reset"), None
        if value is not None:
            column.append(value)
        elif self._columns.pop(name, None) is not None:
            self._missing.append(counter)

    def read(self) -> Telemetry:
        """Return the telemetry up to now."""
        if self._is_open:
            self.sample()
        with self._lock:
            columns = {name: tuple(values) for name, values in self._columns.items()}
            return Telemetry(
                session=self._session,
                at_s=tuple(self._at_s),
                energy_j=columns.get("energy", ()),
                power_w=columns.get("power", ()),
                sm_clock_mhz=columns.get("sm_clock", ()),
                temperature_c=columns.get("temperature", ()),
                foreign_memory_bytes=tuple(map(int, columns.get("foreign_memory", ()))),
                foreign_cpu_fraction=columns.get("foreign_cpu", ()),
                slowdown_s={
                    name.removeprefix(_SLOWDOWN): values
                    for name, values in columns.items()
                    if name.startswith(_SLOWDOWN)
                },
                counters=(*self._missing, *self._sources.remarks()),
            )

    def close(self) -> None:
        """Take a last sample."""
        self.sample()
        with self._lock:
            self._is_open = False
