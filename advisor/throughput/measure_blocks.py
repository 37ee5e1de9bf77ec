"""Blocks of steps: how one is timed, the probe of a size's blocks, and what calibrates them.

How fast the machine is whatever the model does shows in a fixed product; a GPU must have warmed up.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from msgspec.structs import replace

from advisor.memory.data import Probe
from advisor.throughput.data import ThroughputTask
from advisor.training.devices import synchronise
from advisor.training.observer import Observer, Step

if sys.platform != "win32":
    from resource import RUSAGE_SELF, getrusage

#: Of the steps of a block: low, since what disturbs only slows, but no single lucky one.
_LOW_QUANTILE = 0.1
#: Rows and columns: large enough to run at the machine's full speed, small enough for some ms.
_WIDTHS = {"cpu": 512, "cuda": 4096, "mps": 2048}
#: Products that warm up caches and threads, and products that are timed.
_WARMUP_PRODUCTS, _PRODUCTS = 3, 9
#: Length of a window of work between two readings.
_WINDOW_S = 0.25
#: Readings in a row that must agree.
_READINGS = 4
#: Most that the clock may differ over them, as a share of the highest.
_CLOCK_FRACTION = 0.01


class Block(NamedTuple):
    """What one block of steps showed."""

    steps: int
    step_s: float
    #: When it began and ended, by the monotonic clock.
    span_s: tuple[float, float]
    #: What a tenth of the steps stayed below, CPUs only: neighbours speed none up.
    low_step_s: float | None = None
    #: That the host took to issue a step; GPUs only.
    enqueue_s: float | None = None
    #: Seconds of a step by the device's own events; CUDA only, as the peak.
    device_step_s: float | None = None
    peak_bytes: int | None = None
    #: Page faults, kernel and processor time of all threads; zero where the system does not tell.
    use: tuple[float, ...] = (0.0, 0.0, 0.0)


class BlockTimer(Observer):
    """Times the next `count` steps; it is begun just before the first of them."""

    #: Known once they are done.
    block: Block

    def __init__(self, device: torch.device, count: int) -> None:
        self._device, self._count = device, count
        self._edges: list[Any] = []
        self._ends_s: list[float] = []
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._edges = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
            self._edges[0].record()
        self._use, self._began_s = _read_use(), time.monotonic()
        synchronise(device)
        self._start_s = time.perf_counter()

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """Count the step; finish after the last one."""
        self._ends_s.append(time.perf_counter())
        if len(self._ends_s) < self._count:
            return True
        self.finish(self._ends_s)
        return False

    def finish(self, ends_s: list[float], *, every: int = 1) -> None:
        """Wait for the device and read the clock; `every` so many steps ended at these times."""
        issued_s = time.perf_counter()
        synchronise(self._device)
        done_s, use = time.perf_counter(), _read_use()
        self.block = Block(
            steps=self._count,
            step_s=(done_s - self._start_s) / self._count,
            span_s=(self._began_s, time.monotonic()),
        )
        if self._device.type == "cpu":
            steps_s = np.diff([self._start_s, *ends_s]) / every
            self.block = self.block._replace(
                low_step_s=float(np.quantile(steps_s, _LOW_QUANTILE)),
                use=tuple(np.subtract(use, self._use).tolist()),
            )
        else:
            issuing_s = issued_s - self._start_s
            self.block = self.block._replace(enqueue_s=issuing_s / self._count)
        if self._edges:
            self._edges[1].record()
            synchronise(self._device)
            self.block = self.block._replace(
                device_step_s=self._edges[0].elapsed_time(self._edges[1]) / 1000 / self._count,
                peak_bytes=torch.cuda.max_memory_allocated(self._device),
            )


def _read_use() -> tuple[float, float, float]:
    """Return page faults, kernel time and processor time of this process so far."""
    if sys.platform == "win32":
        return 0.0, 0.0, 0.0
    use = getrusage(RUSAGE_SELF)
    return use.ru_minflt, use.ru_stime, use.ru_stime + use.ru_utime


class Timed(msgspec.Struct):
    """What was timed at one size so far; `step_s` says how many steps make a block."""

    step_s: float = 0.0
    first_step_s: float | None = None
    is_steady: bool | None = None
    graphs: int = 0
    blocks: list[Block] = []
    micro_step_times_s: list[float] = []


def make_probe(task: ThroughputTask, size: int, timed: Timed, **more: Any) -> Probe:
    """Return the probe of a size, with what else is known of it."""
    blocks, steps = timed.blocks, sum(block.steps for block in timed.blocks)
    faults, kernel_s, processor_s = np.sum([(0.0, 0.0, 0.0), *(b.use for b in blocks)], axis=0)
    probe = Probe(
        stage="throughput",
        session=task.session,
        micro_batch_size=size,
        outcome="fit",
        steps=steps,
        step_times_s=tuple(block.step_s for block in blocks),
        block_spans_s=tuple(block.span_s for block in blocks),
        block_steps=tuple(block.steps for block in blocks),
        # A script's blocks are as long as its warm-up says: no fastest step is kept.
        fastest_step_s=timed.step_s or None if blocks and blocks[0].low_step_s else None,
        is_steady=timed.is_steady,
        recompiles=timed.graphs if task.workload.compile or timed.graphs else None,
        device_step_times_s=tuple(b.device_step_s for b in blocks if b.device_step_s is not None),
        low_step_times_s=tuple(b.low_step_s for b in blocks if b.low_step_s is not None),
        enqueue_times_s=tuple(block.enqueue_s for block in blocks if block.enqueue_s is not None),
        peak_allocated_bytes=blocks[-1].peak_bytes if blocks else None,
        micro_step_times_s=tuple(timed.micro_step_times_s),
        page_faults_per_step=float(faults / steps) if processor_s > 0.0 else None,
        kernel_time_fraction=float(kernel_s / processor_s) if processor_s > 0.0 else None,
    )
    return replace(probe, **more)


def make_product(device: torch.device) -> Callable[[], object]:
    """Return what issues one product of two float32 matrices on the device."""
    width = _WIDTHS[device.type]
    generator = torch.Generator(device).manual_seed(0)  # leaves the user's random numbers alone
    left, right = (
        torch.rand(width, width, generator=generator, dtype=torch.float32, device=device)
        for _ in range(2)
    )
    return lambda: torch.mm(left, right)


def count_product_flops(device: torch.device) -> int:
    """Return the operations of that product."""
    return 2 * int(_WIDTHS[device.type]) ** 3


def time_product(device: torch.device) -> float:
    """Return the median seconds of a product; nothing of it stays in memory."""
    multiply = make_product(device)
    for _ in range(_WARMUP_PRODUCTS):
        multiply()
    times_s = []
    for _ in range(_PRODUCTS):
        synchronise(device)
        started = time.perf_counter()
        multiply()
        synchronise(device)
        times_s.append(time.perf_counter() - started)
    return statistics.median(times_s)


def settle_device(
    work: Callable[[], object], device: torch.device, *, most_s: float
) -> bool | None:
    """Work until the clock is flat, and return whether it was in that time; None where none tells.

    A cold GPU starts at a high clock, so that the first blocks would be faster than the rest. On a
    CPU the windows of the warm-up alone judge.
    """
    if device.type == "cpu":
        return True
    if device.type != "cuda" or torch.version.hip or _read(device) is None:
        return None
    return is_settled(_readings(work, device, most_s))


def is_settled(clocks_mhz: Iterable[float | None]) -> bool | None:
    """Return whether readings of the clock in a row agree; None where one is missing before."""
    last: list[float] = []
    for clock_mhz in clocks_mhz:
        if clock_mhz is None:
            return None
        last = [*last, clock_mhz][-_READINGS:]
        if len(last) == _READINGS and max(last) - min(last) <= _CLOCK_FRACTION * max(last):
            return True
    return False


def _readings(
    work: Callable[[], object], device: torch.device, most_s: float
) -> Iterator[float | None]:
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        window_ends = time.monotonic() + _WINDOW_S
        while time.monotonic() < window_ends:
            for _ in itertools.repeat(None, 8):
                work()
            synchronise(device)
        yield _read(device)


def _read(device: torch.device) -> float | None:
    """Return the clock in MHz by torch's own view of the driver, None where it has none."""
    try:
        return float(torch.cuda.clock_rate(device))
    except Exception:  # noqa: BLE001 - pynvml's errors are made at run time; its absence is another
        return None
