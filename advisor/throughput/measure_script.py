"""Blocks of steps of the user's own script, one size in one process: its loop as it is.

start | first steps | windows until two agree | block | block ...
"""

import time

import torch
from msgspec.structs import replace

from advisor.engine.worker.entry import Emitter, describe
from advisor.memory.measure import MESSAGE_LENGTH
from advisor.throughput.data import ThroughputTask
from advisor.throughput.measure import (
    MOST_WARMUP_WINDOWS,
    STEADY_FRACTION,
    WARMUP_FRACTION,
    BlockTimer,
    Timed,
    make_probe,
)
from advisor.throughput.measure_calibration import count_product_flops, time_product
from advisor.training.devices import resolve_device
from advisor.training.observer import Step
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.script.running import ScriptRun
from advisor.training.script.stream import StepStream

#: The first steps create the optimizer's state, and workers fill their queues.
_UNTIMED = 2


class LoopBlocks:
    """Warms up by windows of steps, then times blocks of them.

    Attributes:
        timed: What was timed.
        waited_s, counted_s: Of the blocks: for data, and in all.
        stream: Of the script; tells what its optimizer takes.
    """

    stream: StepStream

    def __init__(self, device: torch.device, task: ThroughputTask) -> None:
        self.timed = Timed()
        self.waited_s = self.counted_s = 0.0
        self._device, self._task = device, task
        self._timer: BlockTimer | None = None
        self._windows = self._steps = 0
        self._previous_s = self._optimizer_s = self._waited_s = 0.0
        self._ends_s = 0.0

    def before_step(self, step: Step) -> None:
        """See nothing."""

    def after_step(self, step: Step) -> bool:
        """Time the step; return False after the last block."""
        if step.number < _UNTIMED:
            return True
        if self._timer is None:
            self._ends_s = time.perf_counter() + self._task.budget_s
            self._begin(1)
            return True
        self._optimizer_s += self.stream.step_s
        self._waited_s += step.waited_s
        if self._timer.after_step(step):
            return True
        is_late = time.perf_counter() > self._ends_s
        if self.timed.is_steady is None:
            self._warm_up(is_late=is_late)
            return True
        self._take()
        if len(self.timed.blocks) >= self._task.rounds or is_late:
            return False
        self._begin(self._steps)
        return True

    def _begin(self, steps: int) -> None:
        self._steps, self._optimizer_s, self._waited_s = steps, 0.0, 0.0
        self._timer = BlockTimer(self._device, steps)

    def _warm_up(self, *, is_late: bool) -> None:
        """Judge the last window, and begin another or the first block."""
        assert self._timer is not None
        step_s, block_s = self._timer.block.step_s, self._task.block_s
        self._windows += 1
        is_steady = abs(step_s - self._previous_s) <= STEADY_FRACTION * self._previous_s
        self._previous_s = step_s
        if is_steady or is_late or self._windows == MOST_WARMUP_WINDOWS:
            self.timed.is_steady = is_steady
            self._begin(max(1, round(block_s / step_s)))
        else:
            self._begin(max(1, round(block_s * WARMUP_FRACTION / step_s)))

    def _take(self) -> None:
        assert self._timer is not None
        block = self._timer.block
        self.timed.blocks.append(block)
        self.waited_s += self._waited_s
        self.counted_s += block.steps * block.step_s
        if self._device.type == "cpu":  # elsewhere a step is only issued when it returns
            optimizer_s = self._optimizer_s / block.steps
            self.timed.micro_step_times_s.append(block.step_s - optimizer_s)


def run(task: ThroughputTask, emit: Emitter) -> None:
    """Emit the Probe of the one size, and end the process."""
    (size,) = task.micro_batch_sizes
    device = resolve_device(task.workload.device)
    before_s = time_product(device)
    blocks = LoopBlocks(device, task)
    script = ScriptRun(
        task.workload,
        emit,
        observers=[blocks],
        samples=size,
    )
    blocks.stream = script.stream

    def finish() -> None:
        if not blocks.timed.blocks:
            return
        if script.sizes.workers:  # what they load comes in bursts: only the mean is the loop's
            blocks.timed.blocks = [b._replace(low_step_s=None) for b in blocks.timed.blocks]
        probe = make_probe(task, size, blocks.timed)
        emit(
            replace(
                probe,
                waiting_fraction=blocks.waited_s / blocks.counted_s,
                canary_times_s=(before_s, time_product(device)),
                canary_flops=count_product_flops(device),
            )
        )

    try:
        script.follow(finish)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        emit(make_probe(task, size, Timed(), message=describe(error)[:MESSAGE_LENGTH]))
        emit.leave()
