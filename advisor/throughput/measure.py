"""One process of a throughput session: batch sizes timed in blocks, interleaved.

canary | round 1: [size 64 | warm-up, block] [size 8 | warm-up, block] ... | round 2: ... | canary
block:   sync | step step step ... | sync      the clock is read only at the edges

The order of the sizes is shuffled in every round. The canary is a product of fixed matrices: what
it takes depends on the machine alone. Under torch.compile each size is compiled for itself, as in a
loop of that one size, and never within a window or a block that counts.
"""

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec
import torch

from advisor.engine.worker.entry import Emit, describe
from advisor.memory.data import Probe
from advisor.throughput.calibration import count_product_flops, make_product, time_product
from advisor.throughput.data import ThroughputTask
from advisor.throughput.processor_use import ProcessorUse, read_processor_use
from advisor.throughput.steadiness import settle_device
from advisor.training.compilation import compile_each_shape, count_graphs, run_compiled
from advisor.training.device_clock import release_cached_memory, synchronise
from advisor.training.model_file.workload import Workload
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.training import Training, UserStep

#: Two successive warm-up windows that differ by less than this count as steady.
_STEADY_FRACTION = 0.05
#: Windows after which warming up ends all the same; the blocks' spread then shows the unrest.
_MOST_WARMUP_WINDOWS = 10
#: Length of a warm-up window as a share of a block.
_WARMUP_FRACTION = 0.25
#: Steps that re-fill caches after a change of size; one where a step is longer than a block.
_SETTLING_STEPS = 2
#: Length of a block of forward and backward alone as a share of a full block.
_MICRO_FRACTION = 0.5
#: Most of the session's time that the device may take to settle.
_SETTLE_SHARE = 0.1


class _Timed(msgspec.Struct):
    """What was timed at one size so far."""

    step_s: float
    is_steady: bool | None = None
    step_times_s: list[float] = []
    spans_s: list[tuple[float, float]] = []
    block_steps: list[int] = []
    device_step_times_s: list[float] = []
    enqueue_times_s: list[float] = []
    micro_step_times_s: list[float] = []
    steps: int = 0
    graphs: int = 0
    peak_bytes: int | None = None
    use: ProcessorUse = ProcessorUse()


class _Block(NamedTuple):
    """What one block of full steps showed."""

    step_s: float
    enqueue_s: float
    span_s: tuple[float, float]
    device_step_s: float | None = None
    peak_bytes: int | None = None
    use: ProcessorUse = ProcessorUse()


def run(task: ThroughputTask, emit: Emit[Probe]) -> None:
    """Emit one Probe for each size once its blocks are done."""
    workload = Workload(task.workload)
    compile_each_shape()
    order = random.Random(task.workload.seed * 7919 + task.session)  # noqa: S311 - an order, no secret
    sizes = list(task.micro_batch_sizes)
    timed: dict[int, _Timed] = {}
    seed = task.workload.seed + task.session
    generator = torch.Generator().manual_seed(seed)
    training = None if workload.is_step_only else workload.make_training()
    device = workload.device
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
                _time_size(
                    workload,
                    stepper,
                    timed,
                    size=size,
                    block_s=task.block_s,
                    generator=generator,
                )
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                emit(_make_probe(task, size, timed.pop(size, None), describe(error)[:500]))
                sizes.remove(size)
            release_cached_memory(device)
    canary_times_s.append(time_product(device))
    for size in sorted(sizes):
        probe = _make_probe(task, size, timed[size])
        emit(
            msgspec.structs.replace(
                probe,
                is_steady=probe.is_steady and settled,
                canary_times_s=tuple(canary_times_s),
                canary_flops=count_product_flops(device),
            )
        )


def _time_size(
    workload: Workload,
    stepper: Training | UserStep,
    timed: dict[int, _Timed],
    *,
    size: int,
    block_s: float,
    generator: torch.Generator,
) -> None:
    """Add one block of full steps, and one of forward and backward alone, to what was timed."""
    batch = workload.draw(size, generator)
    device, graphs = workload.device, count_graphs()
    if size not in timed:
        step_s, is_steady = _warm_up(stepper, batch, device, block_s * _WARMUP_FRACTION)
        timed[size] = _Timed(step_s=step_s, is_steady=is_steady)
    else:
        for _ in range(_SETTLING_STEPS if timed[size].step_s < block_s else 1):
            stepper.step(batch)
    figures = timed[size]
    count = max(1, round(block_s / figures.step_s))
    block = run_compiled(partial(_time_full_block, stepper, batch, count, device))
    figures.spans_s.append(block.span_s)
    figures.block_steps.append(count)
    if block.device_step_s is not None:
        figures.device_step_times_s.append(block.device_step_s)
        figures.peak_bytes = block.peak_bytes
    figures.use = figures.use.plus(block.use)
    figures.step_times_s.append(block.step_s)
    figures.steps += count
    figures.step_s = min(figures.step_s, block.step_s)  # a disturbed one must not shorten the next
    if device.type != "cpu":
        figures.enqueue_times_s.append(block.enqueue_s)
    if isinstance(stepper, Training) and not stepper.needs_closure:
        micro_count = max(1, round(count * _MICRO_FRACTION))
        stepper.backward(batch)  # the gradients' buffers are there from now on, as in accumulation
        micro_s, _ = run_compiled(
            lambda: time_block(lambda: stepper.backward(batch), micro_count, device)
        )
        stepper.optimizer.zero_grad()
        figures.micro_step_times_s.append(micro_s)
    figures.graphs += count_graphs() - graphs


def _time_full_block(
    stepper: Training | UserStep, batch: Any, count: int, device: torch.device
) -> _Block:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        edges = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        edges[0].record()
    used, began_s = read_processor_use(), time.monotonic()
    step_s, enqueue_s = time_block(lambda: stepper.step(batch), count, device)
    block = _Block(
        step_s=step_s,
        enqueue_s=enqueue_s,
        span_s=(began_s, time.monotonic()),
        use=used.until(read_processor_use()),
    )
    if device.type != "cuda":
        return block
    edges[1].record()
    synchronise(device)
    return block._replace(
        device_step_s=edges[0].elapsed_time(edges[1]) / 1000 / count,
        peak_bytes=torch.cuda.max_memory_allocated(device),
    )


def time_block(step: Callable[[], Any], count: int, device: torch.device) -> tuple[float, float]:
    """Return the mean seconds of a step, and of issuing one, over `count` steps."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    issued = time.perf_counter()
    synchronise(device)
    done = time.perf_counter()
    return (done - start) / count, (issued - start) / count


def _warm_up(
    stepper: Training | UserStep,
    batch: Any,
    device: torch.device,
    window_s: float,
) -> tuple[float, bool]:
    """Return the last window's seconds of a step, and whether two successive windows agreed."""
    previous = 0.0
    for step_s in _windows(stepper, batch, device, window_s):
        if previous and abs(step_s - previous) <= _STEADY_FRACTION * previous:
            return step_s, True
        previous = step_s
    return previous, False


def _windows(
    stepper: Training | UserStep,
    batch: Any,
    device: torch.device,
    window_s: float,
) -> Iterator[float]:
    count = 1
    for _ in range(_MOST_WARMUP_WINDOWS):
        step_s, _ = run_compiled(partial(time_block, lambda: stepper.step(batch), count, device))
        yield step_s
        count = max(1, round(window_s / step_s))


def _make_probe(
    task: ThroughputTask, size: int, timed: _Timed | None, message: str | None = None
) -> Probe:
    figures = timed or _Timed(step_s=0.0)
    use = figures.use
    is_known = use.processor_s > 0.0 and not figures.enqueue_times_s
    return Probe(
        stage="throughput",
        session=task.session,
        micro_batch_size=size,
        outcome="fit" if message is None else "oom",
        steps=figures.steps,
        step_times_s=tuple(figures.step_times_s),
        block_spans_s=tuple(figures.spans_s),
        block_steps=tuple(figures.block_steps),
        is_steady=figures.is_steady,
        recompiles=figures.graphs if task.workload.compile or figures.graphs else None,
        device_step_times_s=tuple(figures.device_step_times_s),
        enqueue_times_s=tuple(figures.enqueue_times_s),
        peak_allocated_bytes=figures.peak_bytes,
        micro_step_times_s=tuple(figures.micro_step_times_s),
        page_faults_per_step=use.page_faults / figures.steps if is_known else None,
        kernel_time_fraction=use.kernel_s / use.processor_s if is_known else None,
        message=message,
    )
