"""Blocks of steps of the user's own script, one size in one process: its loop as it is.

start | first steps | windows until two agree | block, its parts | block, its parts ...

Nothing is watched in a block. In the shorter window after it the optimizer and the waits for data
are timed, whose clocks would be the most of what the hooks of a short step cost.

Other ranks time the same steps by the word of the first, which it says before each block.
"""

import time
from typing import NamedTuple

import torch
from msgspec.structs import replace

from advisor.engine.worker.emitter import Emitter
from advisor.engine.worker.failure import describe
from advisor.memory.measure import MESSAGE_LENGTH
from advisor.throughput.data import ThroughputTask
from advisor.throughput.measure import MOST_WARMUP_WINDOWS, STEADY_FRACTION, WARMUP_FRACTION
from advisor.throughput.measure_blocks import BlockTimer, Timed, make_probe
from advisor.throughput.measure_calibration import count_product_flops, time_product
from advisor.training.device_failure import is_out_of_memory
from advisor.training.devices import resolve_device
from advisor.training.observer import Observer, Step
from advisor.training.script.apart import Apart, Following, count_apart, watch_exchange
from advisor.training.script.running import ScriptRun
from advisor.training.script.stream import StepStream
from advisor.training.script.timed import TimedSteps
from advisor.training.script.word import WordObserver

#: The first step creates the optimizer's state, and workers fill their queues.
_UNTIMED = 2
#: The clock is read after as many steps as take about so long: it costs some microseconds.
CLOCK_S = 0.001
#: Steps in which its parts are timed, as a share of a block's.
_PARTS_FRACTION = 0.25
#: Time of the steps without an exchange among ranks over that of a block.
_APART_FRACTION = 0.5


class Ranks(NamedTuple):
    """What several ranks have beside their blocks: the first one's word, and steps apart."""

    words: WordObserver
    apart: Apart


class LoopBlocks(Observer):
    """Warms up by windows of steps, then times blocks of them.

    Attributes:
        timed: What was timed.
    """

    def __init__(self, device: torch.device, task: ThroughputTask, ranks: Ranks | None) -> None:
        self.timed = Timed()
        self._waited_s = self._windows_s = 0.0
        self._device, self._task, self._ranks = device, task, ranks
        self._timer: BlockTimer | None = None
        self._windows = self._apart_steps = 0
        self._previous_s = 0.0
        self._ends_s, self._began_s = 0.0, time.perf_counter()

    @property
    def waiting_fraction(self) -> float | None:
        """Share of the windows after blocks in which the script waited for data."""
        return self._waited_s / self._windows_s if self._windows_s else None

    def attach(self, stream: StepStream) -> None:
        """Watch a stream."""
        self._stream = stream

    def after_step(self, step: Step) -> bool:
        """Take in a window or block that has ended; return False after all of them."""
        if step.number < _UNTIMED:
            self.timed.first_step_s = time.perf_counter() - self._began_s
            return True
        if self._apart_steps:
            return self._go_apart()
        if self._timer is None:
            self._ends_s = time.perf_counter() + self._task.budget_s
            self._begin(1)
            return True
        self._timer.finish(self._steps.ends_s, every=self._steps.every)
        is_late = time.perf_counter() > self._ends_s
        if self.timed.is_steady is None:
            self._warm_up(is_late=is_late)
        elif not self._steps.splits:
            self.timed.blocks.append(self._timer.block)
            self._begin(max(1, round(_PARTS_FRACTION * self._steps.count)), splits=True)
        else:
            self._take_parts(step)
            if len(self.timed.blocks) == self._task.rounds or is_late:
                return self._end_blocks()
            self._begin(self.timed.blocks[-1].steps)
        return True

    def _end_blocks(self) -> bool:
        """Have ranks go apart once more; return whether steps are still to come."""
        if self._ranks is None:
            return False
        least_s = _APART_FRACTION * self._task.block_s
        self._apart_steps = count_apart(self.timed.blocks[-1].step_s, least_s)
        # One step more together: in it no rank can have missed the word.
        self._ranks.words.hold(1 + self._apart_steps, apart=self._apart_steps)
        self._stream.time_steps(1)
        return True

    def _go_apart(self) -> bool:
        """Begin with the steps without an exchange; return False once they are over."""
        assert self._ranks is not None
        apart = self._ranks.apart
        if apart.has_begun:
            apart.conclude()
            return False
        apart.begin(self._stream, self._apart_steps)
        return True

    def _begin(self, steps: int, *, splits: bool = False) -> None:
        if self._ranks is not None:
            self._ranks.words.hold(steps)
        every = min(steps, max(1, round(CLOCK_S / self._previous_s))) if self._previous_s else 1
        self._steps: TimedSteps = self._stream.time_steps(steps, every=every, splits=splits)
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

    def _take_parts(self, last: Step) -> None:
        """Keep what a step's parts took, the optimizer's off the block before."""
        assert self._timer is not None
        window = self._timer.block
        self._waited_s += last.waited_s
        self._windows_s += window.steps * window.step_s
        if self._device.type == "cpu":  # elsewhere a step is only issued when it returns
            optimizer_s = self._steps.optimizer_s / window.steps
            self.timed.micro_step_times_s.append(self.timed.blocks[-1].step_s - optimizer_s)


def _list_observers(
    blocks: LoopBlocks, ranks: Ranks | None, emit: Emitter
) -> tuple[LoopBlocks | Following, list[Observer]]:
    """Return who times on this rank, and who watches: the first decides, the others follow it."""
    if ranks is None:
        return blocks, [blocks]
    if emit.goes_on:
        following = Following(*ranks)
        return following, [ranks.words, following]
    return blocks, [blocks, ranks.words]


def run(task: ThroughputTask, emit: Emitter) -> None:
    """Emit the Probe of the one size, and end the process."""
    (size,) = task.micro_batch_sizes
    device = resolve_device(task.workload.device)
    before_s, ranks = time_product(device), None
    if emit.words is not None:
        words = WordObserver(emit.words, leads=not emit.goes_on)
        ranks = Ranks(words, Apart(device, watch_exchange()))
    blocks = LoopBlocks(device, task, ranks)
    timing, observers = _list_observers(blocks, ranks, emit)
    script = ScriptRun(task.workload, emit, observers=observers, samples=size)
    timing.attach(script.stream)

    def finish() -> None:
        if script.sizes.workers:  # what they load comes in bursts: only the mean is the loop's
            blocks.timed.blocks = [b._replace(low_step_s=None) for b in blocks.timed.blocks]
        probe = make_probe(task, size, blocks.timed)
        probe = replace(probe, rank_step_times_s=() if ranks is None else ranks.apart.times_s)
        if blocks.timed.blocks:
            probe = replace(
                probe,
                first_step_s=blocks.timed.first_step_s,
                waiting_fraction=blocks.waiting_fraction,
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
