"""Blocks of steps: how one is timed, and the probe of a size's blocks."""

import sys
import time
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


class Block(NamedTuple):
    """What one block of steps showed."""

    steps: int
    step_s: float
    #: When it began and ended, by the monotonic clock.
    span_s: tuple[float, float]
    #: What a tenth of the steps stayed below, CPUs only: a neighbour slows many steps and never
    #: speeds one up.
    low_step_s: float | None = None
    #: That the host took to issue a step; GPUs only.
    enqueue_s: float | None = None
    #: Seconds of a step by the device's own events; CUDA only, as the peak.
    device_step_s: float | None = None
    peak_bytes: int | None = None
    #: Page faults, kernel time and processor time, all threads together; zero on GPUs and where the
    #: system does not tell.
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
