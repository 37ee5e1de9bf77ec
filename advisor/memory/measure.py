"""Memory of training steps under an enforced limit: the peaks of each phase, and what stays taken.

idle | model, batch | step 1 ........... | step 2 ........... | step 3 | step of two batches
                      forward, backward | optimizer
                      peak A              peak B               (the counter is reset between)

The loop is a user's: a batch arrives while the last one is held, and so is the model's output.
"""

import gc
import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from msgspec.structs import replace

from advisor.engine.task import WorkloadTask
from advisor.engine.worker.emitter import Emit
from advisor.engine.worker.failure import describe
from advisor.memory.data import MemoryTask, Probe, find_largest
from advisor.memory.measure_limit import MemoryGauge
from advisor.training.broken_sample import naming_broken_sample
from advisor.training.compilation import load_compiler
from advisor.training.device_failure import is_device_full, is_out_of_memory
from advisor.training.devices import synchronise
from advisor.training.loop import train
from advisor.training.model_file.batches import arrive
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Observer, Step
from advisor.training.training import Training, UserStep

#: Characters of a failure's message that are kept: CUDA's names every process on the device.
MESSAGE_LENGTH = 1000
OVER_LIMIT = "the measured peak is above the limit"
#: Growth of what is held after a step, as a share of the peak, above which a leak is suspected.
_LEAK_FRACTION = 0.005
#: Growth below this is the page granularity of the heap.
_LEAK_BYTES = 1 << 18
#: Further steps that clear a suspected leak; where each of them adds as much, steps go on until one
#: does not, as where a cache is full, up to so many and for so long.
_LEAK_STEPS, _MOST_LEAK_STEPS, _LEAK_S = 6, 256, 4.0

#: Steps in which the caching allocator takes nothing more before it is settled, and most of them.
_STILL_STEPS, _MOST_SETTLING_STEPS = 2, 16


class PeakObserver(Observer):
    """Sees peaks, what stays taken and seconds of each step; no peak where the device counts none.

    The gauge is reset between the phases and after each step; `begin` comes before the first.
    """

    def __init__(self, gauge: MemoryGauge) -> None:
        self.forward_backward_bytes: int | None = None
        self.optimizer_bytes: int | None = None
        self.held_bytes: list[int] = []
        self.times_s: list[float] = []
        self.gauge = gauge
        self._start_s = 0.0

    @property
    def peak_bytes(self) -> int | None:
        """The largest peak so far."""
        return find_largest(self.forward_backward_bytes, self.optimizer_bytes)

    def begin(self) -> None:
        """Forget what came before: what follows is a step."""
        self.gauge.reset()
        self._start_s = time.perf_counter()

    def before_step(self, step: Step) -> None:
        """Read the peak of forward and backward where the step comes apart."""
        if step.has_gradients:
            self.see_failure()
            self.gauge.reset()

    def see_failure(self) -> None:
        """Count what a step reached that is not over, as one that failed."""
        peak = self.gauge.peak_bytes()
        self.forward_backward_bytes = find_largest(self.forward_backward_bytes, peak)

    def after_step(self, step: Step) -> bool:
        """Read the peak of the optimizer, or of the whole step."""
        if not step.has_gradients:
            self.see_failure()
        self.optimizer_bytes = find_largest(self.optimizer_bytes, self.gauge.peak_bytes())
        synchronise(self.gauge.device)
        self.times_s.append(time.perf_counter() - self._start_s)
        self.held_bytes.append(self.gauge.held_bytes())
        self.begin()
        return True


def run(task: MemoryTask, emit: Emit[Probe]) -> None:
    """Emit one Probe, `fit` or `oom`; any other failure is the model's and is raised."""
    probe = task.end("oom")
    try:
        workload, gauge = prepare(task, task.capacity_bytes)
    except Exception as error:
        if not is_device_full(error):
            raise
        message = describe(error)[:MESSAGE_LENGTH]  # it says nothing of the size
        emit(replace(probe, available_bytes=0, message=message))
        return
    probe = replace(probe, available_bytes=gauge.available_bytes)
    with (
        catch_out_of_memory() as failure,
        naming_broken_sample(workload, task.micro_batch_size, task.largest_samples),
    ):
        probe = _run_steps(workload, PeakObserver(gauge), task, probe)
    if failure:
        gc.collect()
        probe = replace(probe, message=failure[0])
    emit(probe)


def prepare(task: WorkloadTask[Any], capacity_bytes: int | None) -> tuple[Workload, MemoryGauge]:
    """Return the workload and its enforced limit.

    What the host takes for the dataset and the compiler does not count against the limit.
    """
    workload = Workload(task.workload)
    if not workload.is_step_only:
        _ = workload.batches.size
    if task.workload.compile and workload.device.type == "cpu":
        load_compiler()
    return workload, MemoryGauge(workload.device, capacity_bytes)


@contextmanager
def catch_out_of_memory() -> Iterator[list[str]]:
    """Catch memory that ran out, and put into a list what was said of it."""
    said: list[str] = []
    try:
        yield said
    except Exception as error:  # a library may wrap the failed allocation in an error of its own
        if not is_out_of_memory(error):
            raise
        said.append(describe(error)[:MESSAGE_LENGTH])


def hold_output(stepper: Training | UserStep) -> None:
    """Hold the model's last output until the next, as a variable of a user's loop does."""
    kept: deque[Any] = deque(maxlen=1)
    if isinstance(stepper, Training):
        stepper.watch_output(kept.append)


def _run_steps(workload: Workload, observer: PeakObserver, task: MemoryTask, probe: Probe) -> Probe:
    device, size = workload.device, task.micro_batch_size
    is_cuda, stepper = device.type == "cuda", workload.make_stepper(size)
    began_s = time.perf_counter()
    batch = workload.take_worst(size, task.largest_samples)
    batch_s = time.perf_counter() - began_s
    if isinstance(stepper, Training):  # steps that overflow are skipped, and make no state
        stepper.settle_gradient_scale(batch)
    if is_cuda:
        torch.cuda.empty_cache()  # so that the steps find the allocator as a loop's would
    batches = itertools.repeat(batch) if device.type == "cpu" else arrive(batch)
    del batch
    hold_output(stepper)
    run_steps = partial(train, stepper, batches, (observer,), micro_batch_size=size)
    observer.begin()
    run_steps(most_steps=1)
    if is_cuda and task.steps > 1:  # libraries that try their algorithms do so in the first step
        observer.forward_backward_bytes = observer.optimizer_bytes = None
    run_steps(most_steps=task.steps - 1)
    if is_cuda:
        _settle_allocator(lambda: run_steps(most_steps=1), device)
    growth = _find_growth(observer, lambda steps: run_steps(most_steps=steps))
    probe = replace(
        probe,
        steps=task.steps,
        step_times_s=tuple(observer.times_s[: task.steps]),
        growth_bytes_per_step=growth,
        batch_s=batch_s,
    )
    probe = add_peaks(probe, observer)
    if isinstance(stepper, UserStep) or stepper.needs_closure or device.type == "cpu":
        return probe  # no step is made of several, or later stages have no limit
    with catch_out_of_memory() as failure:  # gradients are held meanwhile
        train(stepper, batches, (), micro_batch_size=size, accumulation=2, most_steps=1)
    return replace(probe, accumulates=not failure)


def add_peaks(probe: Probe, observer: PeakObserver) -> Probe:
    """Return the probe with what was seen of its memory, `oom` where that is above the limit."""
    peak, gauge, device = observer.peak_bytes, observer.gauge, observer.gauge.device
    over = gauge.is_over(peak)
    probe = replace(
        probe,
        forward_backward_peak_bytes=observer.forward_backward_bytes,
        optimizer_peak_bytes=observer.optimizer_bytes,
        outcome="oom" if over else "fit",
        message=OVER_LIMIT if over else None,
        peak_device_used_bytes=peak,
        limit_peak_bytes=gauge.limit_peak_bytes(),
        swapped_bytes=gauge.swapped_bytes(),
    )
    if device.type != "cuda":
        return probe
    free, total = torch.cuda.mem_get_info(device)
    return replace(
        probe,
        peak_allocated_bytes=peak,
        peak_reserved_bytes=torch.cuda.max_memory_reserved(device),
        peak_device_used_bytes=total - free,
        alloc_retries=_count_retries(device),
    )


def _count_retries(device: torch.device) -> int:
    """Return how often the caching allocator had to give back its cache and try again."""
    return int(torch.cuda.memory_stats(device).get("num_alloc_retries", 0))


def _settle_allocator(run_step: Callable[[], None], device: torch.device) -> None:
    """Run steps until the caching allocator takes no more: pieces of memory come step by step.

    One that has to give back its cache may do so every few steps, and fail at any.
    """
    still = 0
    for _ in range(_MOST_SETTLING_STEPS):
        before = torch.cuda.memory_reserved(device)
        run_step()
        still = 0 if torch.cuda.memory_reserved(device) > before else still + 1
        if still >= _STILL_STEPS and not _count_retries(device):
            return


def _find_growth(observer: PeakObserver, run_steps: Callable[[int], None]) -> int | None:
    """Return by how much each step leaves more memory taken; None where that ends.

    The steps after the first are compared, which creates the optimizer's state.
    """
    held, peak = observer.held_bytes, observer.peak_bytes
    least = max(_LEAK_BYTES, int(_LEAK_FRACTION * (max(held) if peak is None else peak)))
    if len(held) < 3 or held[-1] - held[-2] < least:
        return None
    most, ends_s = len(held) + _MOST_LEAK_STEPS, time.perf_counter() + _LEAK_S
    with catch_out_of_memory():  # as what the steps leave taken may fill the memory
        while len(held) < most and time.perf_counter() < ends_s:
            run_steps(_LEAK_STEPS)
            if min(_list_rises(held)) < least // 2:
                return None
    return statistics.median_high(_list_rises(held))


def _list_rises(held: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise(held[1:])]
