"""Blocks of steps of the user's own script, one size in one process: its loop as it is.

start | first steps | windows until two agree | block, its parts | block, its parts ...

In the short window after a block the optimizer and the waits for data are timed, whose clocks would
be the most of what the hooks of a short step cost. Other ranks time the same steps by the word of
the first.
"""

import time
from collections.abc import Generator

import torch

from advisor.engine.worker.emitter import Emitter
from advisor.engine.worker.failure import describe
from advisor.memory.measure import MESSAGE_LENGTH
from advisor.throughput.data import ThroughputTask
from advisor.throughput.measure import MOST_WARMUP_WINDOWS, STEADY_FRACTION, WARMUP_FRACTION
from advisor.throughput.measure_blocks import (
    Block,
    BlockTimer,
    Timed,
    count_product_flops,
    make_probe,
    time_product,
)
from advisor.training.device_failure import is_out_of_memory
from advisor.training.devices import resolve_device
from advisor.training.observer import Observer, Step
from advisor.training.script.apart import Apart, Following, count_apart, watch_exchange
from advisor.training.script.running import ScriptRun
from advisor.training.script.stream import StepStream
from advisor.training.script.timed import TimedSteps
from advisor.training.script.word import WordObserver
from advisor.units import count_of

#: The clock is read after as many steps as take about so long: it costs some microseconds.
CLOCK_S = 0.001
#: Steps in which its parts are timed, as a share of a block's.
_PARTS_FRACTION = 0.25
#: Time of the steps without an exchange among ranks over that of a block.
_APART_FRACTION = 0.5


#: What several ranks have beside their blocks: the first one's word, and steps apart.
Ranks = tuple[WordObserver, Apart]


class LoopBlocks(Observer):
    """Warms up by windows of steps, then times blocks of them.

    Attributes:
        timed: What was timed.
        waiting_fraction: Share of the windows after blocks in which the script waited for data.
    """

    def __init__(self, device: torch.device, task: ThroughputTask, ranks: Ranks | None) -> None:
        self.timed = Timed()
        self.waiting_fraction: float | None = None
        self._device, self._task, self._ranks = device, task, ranks
        self._window_s, self._began_s = 0.0, time.perf_counter()
        self._course = self._follow()
        next(self._course)

    def attach(self, stream: StepStream) -> None:
        """Watch a stream."""
        self._stream = stream

    def after_step(self, step: Step) -> bool:
        """Take in the step that ends what is timed; return False after all of it."""
        try:
            self._course.send(step)
        except StopIteration:
            return False
        return True

    def _follow(self) -> Generator[None, Step, None]:
        """See the start, then everything that is timed, in order."""
        yield
        self.timed.first_step_s = time.perf_counter() - self._began_s
        yield  # the first step creates the optimizer's state, and workers fill their queues
        ends_s = time.perf_counter() + self._task.budget_s
        yield from self._warm_up(ends_s)
        steps, waited_s, windows_s = max(1, round(self._task.block_s / self._window_s)), 0.0, 0.0
        while len(self.timed.blocks) < self._task.rounds:
            block, _, _ = yield from self._time(steps)
            self.timed.blocks.append(block)
            parts = max(1, round(_PARTS_FRACTION * steps))
            window, timed, last = yield from self._time(parts, splits=True)
            waited_s, windows_s = waited_s + last.waited_s, windows_s + parts * window.step_s
            self.waiting_fraction = waited_s / windows_s
            passes_s = block.step_s - timed.optimizer_s / parts  # of two windows: may be disturbed
            # Elsewhere than on the CPU a step is only issued when it returns.
            if self._device.type == "cpu" and passes_s > 0.0:
                self.timed.micro_step_times_s.append(passes_s)
            if time.perf_counter() > ends_s:
                break
        if self._ranks is not None:
            yield from self._go_apart(*self._ranks)

    def _warm_up(self, ends_s: float) -> Generator[None, Step, None]:
        steps, windows = 1, 0
        while self.timed.is_steady is None:
            block, _, _ = yield from self._time(steps)
            windows += 1
            change_s, most_s = abs(block.step_s - self._window_s), STEADY_FRACTION * self._window_s
            self._window_s = block.step_s
            steps = max(1, round(self._task.block_s * WARMUP_FRACTION / block.step_s))
            is_over = time.perf_counter() > ends_s or windows == MOST_WARMUP_WINDOWS
            if change_s <= most_s or is_over:
                self.timed.is_steady = change_s <= most_s

    def _time(
        self, steps: int, *, splits: bool = False
    ) -> Generator[None, Step, tuple[Block, TimedSteps, Step]]:
        """Have the next steps timed, and return what they showed, the last of them beside it."""
        if self._ranks is not None:
            self._ranks[0].hold(steps)
        every = min(steps, max(1, round(CLOCK_S / self._window_s))) if self._window_s else 1
        timed = self._stream.time_steps(steps, every=every, splits=splits)
        timer = BlockTimer(self._device, steps)
        last = yield
        timer.finish(timed.ends_s, every=every)
        return timer.block, timed, last

    def _go_apart(self, words: WordObserver, apart: Apart) -> Generator[None, Step, None]:
        """Have ranks take steps without an exchange."""
        least_s = _APART_FRACTION * self._task.block_s
        steps = count_apart(self.timed.blocks[-1].step_s, least_s)
        # One step more together: in it no rank can have missed the word.
        words.hold(1 + steps, apart=steps)
        self._stream.time_steps(1)
        yield
        apart.begin(self._stream, steps)
        yield
        apart.conclude()


def run(task: ThroughputTask, emit: Emitter) -> None:
    """Emit the Probe of the one size, and end the process."""
    (size,) = task.micro_batch_sizes
    device = resolve_device(task.workload.device)
    before_s, ranks = time_product(device), None
    if emit.words is not None:
        words = WordObserver(emit.words, leads=not emit.goes_on)
        ranks = (words, Apart(device, watch_exchange()))
    blocks = LoopBlocks(device, task, ranks)
    # The first rank decides, the others follow its word.
    timing = Following(*ranks) if ranks is not None and emit.goes_on else blocks
    observers = [*(ranks or ())[:1], timing]
    script = ScriptRun(
        task.workload, emit, observers=observers if emit.goes_on else observers[::-1], samples=size
    )
    timing.attach(script.stream)

    def finish() -> None:
        timed = blocks.timed
        if script.sizes.workers:  # what they load comes in bursts: only the mean is the loop's
            timed.blocks = [block._replace(low_step_s=None) for block in timed.blocks]
        if not timed.blocks and not emit.goes_on:
            message = f"{task.workload.file} ended after {count_of(script.stream.taken, 'step')}"
            emit(make_probe(task, size, timed, outcome="error", message=message))
            return
        probe = make_probe(
            task,
            size,
            timed,
            first_step_s=timed.first_step_s,
            waiting_fraction=blocks.waiting_fraction,
            canary_times_s=(before_s, time_product(device)),
            canary_flops=count_product_flops(device),
            rank_step_times_s=ranks[1].times_s if ranks else (),
        )
        emit(probe)

    try:
        script.follow(finish)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = describe(error)[:MESSAGE_LENGTH]
        emit(make_probe(task, size, Timed(), outcome="oom", message=message))
        emit.stop()
