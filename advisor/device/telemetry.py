"""Counters of the device and the machine while a worker is timed, sampled outside of it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from advisor.device.cpu_load import LEAST_WINDOW_S, open_foreign_load
from advisor.device.data import Counter, DeviceFacts, Telemetry
from advisor.device.nvml.counters import GPU_COUNTERS, missing_gpu_reason, opened_gpu
from advisor.device.rapl import open_package_energy
from advisor.device.reading import Reader, lack, lacking

#: Time between two samples. On the CPU the sampler runs on the processors that are being timed.
_INTERVAL_S = {"cpu": 0.25, "cuda": 0.2, "mps": 0.25}
#: A driver that does not answer is not waited for any longer.
_JOIN_S = 1.0
_SLOWDOWN = "slowdown_"
#: Counters that sum up; one that falls was set back, and its differences would be wrong.
_CUMULATIVE = ("energy", _SLOWDOWN)


class _Sources(NamedTuple):
    """What is read, and what is to be said of it in the end."""

    readers: tuple[Reader, ...]
    remarks: Callable[[], tuple[Counter, ...]]


@contextmanager
def sampled(
    device: DeviceFacts, *, session: int, own_pid: int, interval_s: float | None = None
) -> Iterator[Callable[[], Telemetry]]:
    """Sample until the block is left, and yield a function that returns the telemetry so far.

    One sample is taken before the block and one at its end; each call within the block takes one
    as well. Enter it before the worker touches the device: where the driver does not list our
    processes, memory of others is what was in use then. A counter that fails once is left out
    altogether, with the reason.

    Args:
        device: As the environment names it.
        session: Number of the worker process.
        own_pid: Its process and all that it starts are not counted as others, nor is this one.
        interval_s: Time between two samples.
    """
    with ExitStack() as stack:
        sources = stack.enter_context(_opened(device, own_pid))
        time.sleep(LEAST_WINDOW_S)  # for the first share of the processors' time
        sampler = _Sampler(session, sources)
        sampler.sample()
        stop = threading.Event()
        period_s = interval_s or _INTERVAL_S[device.kind]
        thread = threading.Thread(
            target=_sample_until, args=(stop, sampler, period_s), name="telemetry", daemon=True
        )
        thread.start()
        try:
            yield sampler.read
        finally:
            stop.set()
            thread.join(_JOIN_S)
            sampler.close()


@contextmanager
def _opened(device: DeviceFacts, own_pid: int) -> Iterator[_Sources]:
    """Open the sources of the device, energy first: it is the one whose moment matters most."""
    load = open_foreign_load("foreign_cpu", (own_pid,))
    if device.kind == "cuda" and device.vendor != "amd":
        with opened_gpu(device.uuid_hash, device.index, (os.getpid(), own_pid)) as gpu:
            yield _Sources((*gpu.readers, load), gpu.remarks)
        return
    reason = missing_gpu_reason(device.kind)
    names = tuple(name for name in GPU_COUNTERS if name != "energy" or device.kind != "cpu")
    packages = (open_package_energy("energy"),) if device.kind == "cpu" else ()
    yield _Sources((*packages, load, lacking(names, reason)), lambda: ())


def _sample_until(stop: threading.Event, sampler: "_Sampler", interval_s: float) -> None:
    while not stop.wait(interval_s):
        sampler.sample()


class _Sampler:
    """Columns of one value a sample for each counter that never failed."""

    def __init__(self, session: int, sources: _Sources) -> None:
        self._session = session
        self._sources = sources
        self._reading = threading.Lock()  # one sample at a time, however long it takes
        self._lock = threading.Lock()  # of the columns
        self._at_s: list[float] = []
        self._columns: dict[str, list[float]] = {
            name: [] for reader in sources.readers for name in reader.names
        }
        self._missing: dict[str, Counter] = {}
        self._is_open = True

    def sample(self) -> None:
        """Add a value to every column, and drop those that have none."""
        if not self._reading.acquire(timeout=_JOIN_S):
            return  # the driver does not answer
        try:
            at_s = time.monotonic()
            counters = [counter for reader in self._live_readers() for counter in _read(reader)]
        finally:
            self._reading.release()
        with self._lock:
            if self._is_open:
                self._at_s.append(at_s)
                for counter in counters:
                    self._put(counter)

    def read(self) -> Telemetry:
        """Return the telemetry up to now."""
        if self._is_open:
            self.sample()
        with self._lock:
            return self._telemetry()

    def close(self) -> None:
        """Take a last sample."""
        self.sample()
        with self._lock:
            self._is_open = False

    def _live_readers(self) -> tuple[Reader, ...]:
        with self._lock:
            return tuple(
                reader
                for reader in self._sources.readers
                if any(name in self._columns for name in reader.names)
            )

    def _put(self, counter: Counter) -> None:
        column = self._columns.get(counter.name)
        if column is None:
            return
        if counter.value is None:
            self._drop(counter.name, counter.missing_because or "not_supported")
        elif column and counter.name.startswith(_CUMULATIVE) and counter.value < column[-1]:
            self._drop(counter.name, "was_reset")
        else:
            column.append(counter.value)

    def _drop(self, name: str, reason: str) -> None:
        del self._columns[name]
        self._missing[name] = Counter(name=name, missing_because=reason)

    def _telemetry(self) -> Telemetry:
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
            counters=(*self._missing.values(), *self._sources.remarks()),
        )


def _read(reader: Reader) -> tuple[Counter, ...]:
    """Return a counter for each of the reader's names, whatever the reader does."""
    try:
        counters = {counter.name: counter for counter in reader.read()}
    except Exception as error:  # noqa: BLE001 - a counter must not end the run that it watches
        return lack(reader.names, type(error).__name__)
    return tuple(
        counters.get(name) or Counter(name=name, missing_because="not_supported")
        for name in reader.names
    )
