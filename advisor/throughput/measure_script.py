"""Blocks of steps of the user's own script, one size in one process: its loop as it is.

start | first steps | windows until two agree | block | block ...
"""

import time

import torch
from msgspec.structs import replace

from advisor.engine.worker.emitter import Emitter
from advisor.engine.worker.failure import describe
from advisor.memory.measure import MESSAGE_LENGTH
from advisor.throughput.data import ThroughputTask
from advisor.throughput.measure import MOST_WARMUP_WINDOWS, STEADY_FRACTION, WARMUP_FRACTION
from advisor.throughput.measure_blocks import BlockTimer, Timed, make_probe
from advisor.throughput.measure_calibration import count_product_flops, time_product
from advisor.training.devices import resolve_device
from advisor.training.observer import Observer, Step
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.script.apart import Apart, watch_exchange
from advisor.training.script.running import ScriptRun
from advisor.training.script.stream import StepStream
from advisor.training.script.word import WordObserver

#: The first step creates the optimizer's state, and workers fill their queues.
_UNTIMED = 2
#: Time of the steps without an exchange among ranks over that of a block.
_APART_FRACTION = 0.5


class LoopBlocks(Observer):
    """Warms up by windows of steps, then times blocks of them.

    Attributes:
        timed: What was timed.
        waited_s, counted_s: Of the blocks: for data, and in all.
    """

    def __init__(self, device: torch.device, task: ThroughputTask, apart: "Apart | None") -> None:
        self.timed = Timed()
        self.waited_s = self.counted_s = 0.0
        self._device, self._task = device, task
        self._timer: BlockTimer | None = None
        self._windows = self._steps = 0
        self._previous_s = self._optimizer_s = self._waited_s = 0.0
        self._ends_s, self._began_s = 0.0, time.perf_counter()
        self._apart, self._is_apart = apart, False

    def attach(self, stream: StepStream) -> None:
        """Watch a stream."""
        self._stream = stream

    def after_step(self, step: Step) -> bool:
        """Time the step; return False after the last block."""
        if step.number < _UNTIMED:
            self.timed.first_step_s = time.perf_counter() - self._began_s
            return True
        if self._is_apart:
            assert self._apart is not None
            return self._apart.lead()
        if self._timer is None:
            self._ends_s = time.perf_counter() + self._task.budget_s
            self._begin(1)
            return True
        self._optimizer_s += self._stream.step_s
        self._waited_s += step.waited_s
        if self._timer.after_step(step):
            return True
        is_late = time.perf_counter() > self._ends_s
        if self.timed.is_steady is None:
            self._warm_up(is_late=is_late)
            return True
        self._take()
        if len(self.timed.blocks) < self._task.rounds and not is_late:
            self._begin(self._steps)
            return True
        self._is_apart = self._apart is not None
        if self._apart is not None:
            self._apart.begin()
        return self._is_apart

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


def _order(
    blocks: LoopBlocks, words: WordObserver | None, apart: Apart | None, emit: Emitter
) -> tuple[Observer | None, ...]:
    """Return who watches: the first rank times and decides, the others follow."""
    return (words, apart) if emit.goes_on else (blocks, words)


def run(task: ThroughputTask, emit: Emitter) -> None:
    """Emit the Probe of the one size, and end the process."""
    (size,) = task.micro_batch_sizes
    device = resolve_device(task.workload.device)
    before_s, least_s = time_product(device), _APART_FRACTION * task.block_s
    words = None if emit.words is None else WordObserver(emit.words, leads=not emit.goes_on)
    apart = None if words is None else Apart(device, words, watch_exchange(), least_s)
    blocks = LoopBlocks(device, task, apart)
    observers = [each for each in _order(blocks, words, apart, emit) if each is not None]
    script = ScriptRun(task.workload, emit, observers=observers, samples=size)
    blocks.attach(script.stream)

    def finish() -> None:
        if script.sizes.workers:  # what they load comes in bursts: only the mean is the loop's
            blocks.timed.blocks = [b._replace(low_step_s=None) for b in blocks.timed.blocks]
        probe = make_probe(task, size, blocks.timed)
        probe = replace(probe, rank_step_times_s=() if apart is None else apart.list_times())
        if blocks.timed.blocks:
            probe = replace(
                probe,
                first_step_s=blocks.timed.first_step_s,
                waiting_fraction=blocks.waited_s / blocks.counted_s,
                canary_times_s=(before_s, time_product(device)),
                canary_flops=count_product_flops(device),
            )
        if blocks.timed.blocks or emit.goes_on:
            emit(probe)

    try:
        script.follow(finish)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        emit(make_probe(task, size, Timed(), message=describe(error)[:MESSAGE_LENGTH]))
        emit.stop()
