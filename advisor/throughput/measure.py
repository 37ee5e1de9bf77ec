"""One process of a throughput session: batch sizes timed in blocks, interleaved.

canary | round 1: [size 64 | warm-up, block] [size 8 | warm-up, block] ... | round 2: ... | canary
block:   sync | step step step ... | sync      the clock is read only at the edges
"""

import itertools
import math
import time
from typing import Any, NamedTuple

import torch

from advisor.engine.worker.emitter import Emit
from advisor.engine.worker.failure import describe
from advisor.memory.data import Probe
from advisor.memory.measure import MESSAGE_LENGTH, catch_out_of_memory
from advisor.throughput.data import ThroughputTask
from advisor.throughput.measure_blocks import (
    Block,
    BlockTimer,
    Timed,
    count_product_flops,
    make_probe,
    make_product,
    settle_device,
    time_product,
)
from advisor.training.compilation import compile_each_shape, count_graphs, run_compiled
from advisor.training.device_failure import is_out_of_memory
from advisor.training.devices import release_cached_memory
from advisor.training.loop import train
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training, UserStep

#: Two successive warm-up windows that differ by less than this count as steady.
STEADY_FRACTION = 0.05
#: Windows after which warming up ends all the same; the blocks' spread then shows the unrest.
MOST_WARMUP_WINDOWS = 10
#: Length of a warm-up window as a share of a block.
WARMUP_FRACTION = 0.25
#: Steps that re-fill caches after a change of size; one where a step is longer than a block.
_SETTLING_STEPS = 2
#: Length of a block of forward and backward alone as a share of a full block.
_MICRO_FRACTION = 0.5
#: Least length of a block by its fastest steps, as a share of the wanted one, and attempts at it.
_LEAST_BLOCK, _MOST_ATTEMPTS = 0.5, 4
#: Most of the session's time that the device may take to settle.
_SETTLE_SHARE = 0.1


class _Bench(NamedTuple):
    """A batch of one size before a stepper."""

    stepper: Training | UserStep
    batch: Any
    size: int
    device: torch.device

    def time_block(self, steps: int, *, passes: int | None = None) -> Block:
        """Return what a block of full steps showed, or of one made of `passes` alone."""

        def run_block() -> Block:
            timer = BlockTimer(self.device, steps)
            train(
                self.stepper,
                itertools.repeat(self.batch),
                [timer],
                micro_batch_size=self.size,
                accumulation=passes or 1,
                loss_is_sum=True,  # undivided: the pass of a whole step
                is_frozen=passes is not None,
            )
            return timer.block

        return run_compiled(run_block)

    def warm_up(self, window_s: float) -> Timed:
        """Return the fastest window's seconds of a step, and whether two successive ones agreed."""
        steps, previous_s, warm = 1, 0.0, Timed(step_s=math.inf, is_steady=False)
        for _ in range(MOST_WARMUP_WINDOWS):
            block = self.time_block(steps)
            step_s = block.step_s
            warm.first_step_s = warm.first_step_s or step_s
            warm.step_s = min(block.low_step_s or step_s, warm.step_s)
            if previous_s and abs(step_s - previous_s) <= STEADY_FRACTION * previous_s:
                warm.is_steady = True
                break
            previous_s, steps = step_s, max(1, round(window_s / step_s))
        return warm


def run(task: ThroughputTask, emit: Emit[Probe]) -> None:
    """Emit one Probe for each size once its blocks are done."""
    began_s = time.perf_counter()
    workload = Workload(task.workload)
    compile_each_shape()
    order, sizes = task.make_order(), list(task.micro_batch_sizes)
    timed: dict[int, Timed] = {}
    seed = task.workload.seed + task.session
    generator = torch.Generator("cpu").manual_seed(seed)
    training = None if workload.is_step_only else workload.make_training()
    device, loaded_s = workload.device, time.perf_counter() - began_s
    settled = settle_device(make_product(device), device, most_s=_SETTLE_SHARE * task.budget_s)
    canary_times_s = [time_product(device)]
    started = time.perf_counter()
    for round_number in range(task.rounds):
        if round_number and time.perf_counter() - started > task.budget_s:
            break
        order.shuffle(sizes)
        for size in tuple(sizes):
            if task.workload.compile:  # the same batch in every round: others may need other graphs
                generator.manual_seed(seed)
            stepper = training or workload.make_stepper(size)
            try:
                bench = _Bench(stepper, workload.draw(size, generator), size, device)
                _time_size(bench, timed, task)
            except Exception as error:
                is_refused = size in task.untried and not is_out_of_memory(error)
                if not (is_refused or is_out_of_memory(error)):
                    raise
                outcome = "refused" if is_refused else "oom"
                failed, message = timed.pop(size, Timed()), describe(error)[:MESSAGE_LENGTH]
                emit(make_probe(task, size, failed, outcome=outcome, message=message))
                sizes.remove(size)
            release_cached_memory(device)
    with catch_out_of_memory():  # a neighbour may have come meanwhile
        canary_times_s.append(time_product(device))
    for size in sorted(sizes):
        probe = make_probe(
            task,
            size,
            timed[size],
            is_steady=timed[size].is_steady and settled,
            first_step_s=loaded_s + (timed[size].first_step_s or 0.0),
            canary_times_s=tuple(canary_times_s),
            canary_flops=count_product_flops(device),
        )
        emit(probe)


def _time_size(bench: _Bench, timed: dict[int, Timed], task: ThroughputTask) -> None:
    """Add one block of full steps, and one of forward and backward alone, to what was timed."""
    block_s = task.block_s
    graphs, figures, stepper = count_graphs(), timed.get(bench.size), bench.stepper
    if figures is None:
        figures = timed[bench.size] = bench.warm_up(block_s * WARMUP_FRACTION)
    else:
        for _ in range(_SETTLING_STEPS if figures.step_s < block_s else 1):
            stepper.step(bench.batch)
    for _ in range(_MOST_ATTEMPTS):  # steps that were disturbed made too short a block
        steps = max(task.least_steps, round(block_s / figures.step_s))
        block = bench.time_block(steps)
        figures.step_s = min(figures.step_s, block.low_step_s or block.step_s)
        if steps * figures.step_s >= _LEAST_BLOCK * block_s:
            break
    figures.blocks.append(block)
    if isinstance(stepper, Training) and not stepper.needs_closure:
        passes = max(1, round(block.steps * _MICRO_FRACTION))
        with catch_out_of_memory():  # a size that fits may not fit beside held gradients
            stepper.backward(bench.batch)  # the gradients' buffers are there, as in accumulation
            micro_s = bench.time_block(1, passes=passes).step_s / passes
            figures.micro_step_times_s.append(micro_s)
        stepper.optimizer.zero_grad()
    figures.graphs += count_graphs() - graphs
