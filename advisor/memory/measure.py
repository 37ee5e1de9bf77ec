"""One memory probe: full training steps at one size under an enforced limit.

idle | model, batch | step 1 ........... | step 2 ........... | step 3
                      forward, backward | optimizer
                      peak A              peak B               (the counter is reset between)
"""

import gc
import itertools
import time
from functools import partial
from typing import Any

import msgspec
import torch

from advisor.device.cpu import available_memory_bytes
from advisor.engine.worker.entry import Emit, describe
from advisor.memory.data import MemoryTask, Probe
from advisor.memory.limit import MemoryGauge
from advisor.training.compilation import load_compiler
from advisor.training.device_clock import synchronise
from advisor.training.model_file.workload import Workload
from advisor.training.model_file.worst_batch import take_worst_batch
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.training import Training, UserStep

#: Characters of a failure's message that are kept: CUDA's names every process on the device.
_MESSAGE_LENGTH = 1000
#: Growth of what is held after a step, as a share of the peak, above which a leak is suspected.
_LEAK_FRACTION = 0.005
#: Growth below this is the page granularity of the heap.
_LEAK_BYTES = 1 << 18
#: Further steps that confirm or clear a suspected leak.
_LEAK_STEPS = 6


def run(task: MemoryTask, emit: Emit[Probe]) -> None:
    """Emit one Probe, `fit` or `oom`; any other failure is the model's and is raised."""
    workload = Workload(task.workload)
    if not workload.is_step_only:
        _ = workload.batches.size  # the dataset is the host's, not part of what training takes
    available_bytes = _read_available_bytes(workload.device)
    if task.workload.compile and workload.device.type == "cpu":
        load_compiler()  # it is the host's as well
    gauge = MemoryGauge(workload.device, task.capacity_bytes)
    probe = Probe(
        stage="memory",
        session=0,
        micro_batch_size=task.micro_batch_size,
        outcome="fit",
        capacity_bytes=task.capacity_bytes,
        available_bytes=available_bytes,
    )
    message = None
    try:
        probe = _run_steps(workload, task, gauge, probe)
    except Exception as error:  # a library may wrap the failed allocation in an error of its own
        if not is_out_of_memory(error):
            raise
        message = describe(error)[:_MESSAGE_LENGTH]
    if message is not None:  # outside the handler, whose frames hold the tensors
        gc.collect()
        probe = msgspec.structs.replace(probe, outcome="oom", message=message)
    emit(probe)


def _run_steps(workload: Workload, task: MemoryTask, gauge: MemoryGauge, probe: Probe) -> Probe:
    stepper = workload.make_stepper(task.micro_batch_size)
    batch = take_worst_batch(workload, task.micro_batch_size, task.largest_samples)
    phases, held, times = [], [], []
    kept: list[Any] = [None, None]  # a user's loop holds the last loss and output in variables
    if isinstance(stepper, Training):
        stepper.model.register_forward_hook(partial(_keep_output, kept))
    for _ in range(task.steps):
        gauge.reset()
        start = time.perf_counter()
        phases.append(_run_step(stepper, batch, gauge, kept))
        synchronise(workload.device)
        times.append(time.perf_counter() - start)
        held.append(gauge.current_bytes())
    forward_backward, optimizer = (_find_largest(*values) for values in zip(*phases, strict=True))
    peak = _find_largest(forward_backward, optimizer)
    most_bytes = max(held) if peak is None else peak
    growth = _growth_bytes_per_step(stepper, batch, gauge, kept, held, most_bytes)
    is_cuda = workload.device.type == "cuda"
    limit_peak = gauge.limit_peak_bytes()
    counted = peak if limit_peak is None else limit_peak
    over = counted is not None and task.capacity_bytes is not None and counted > task.capacity_bytes
    return msgspec.structs.replace(
        probe,
        outcome="oom" if over else "fit",
        message="the measured peak is above the limit" if over else None,
        steps=len(times),
        step_times_s=tuple(times),
        forward_backward_peak_bytes=forward_backward,
        optimizer_peak_bytes=optimizer,
        growth_bytes_per_step=growth,
        peak_allocated_bytes=peak if is_cuda else None,
        peak_reserved_bytes=torch.cuda.max_memory_reserved(workload.device) if is_cuda else None,
        peak_device_used_bytes=_device_used_bytes(workload.device, peak),
        limit_peak_bytes=limit_peak,
        swapped_bytes=gauge.swapped_bytes(),
        alloc_retries=_count_retries(workload.device),
    )


def _run_step(
    stepper: Training | UserStep,
    batch: Any,
    gauge: MemoryGauge,
    kept: list[Any],
) -> tuple[int | None, int | None]:
    """Return the peaks of forward/backward and of the optimizer; `kept` holds the loss."""
    if isinstance(stepper, UserStep) or stepper.needs_closure:
        kept[0] = stepper.step(batch)
        peak = gauge.peak_bytes()
        return peak, peak
    kept[0] = stepper.backward(batch)
    forward_backward = gauge.peak_bytes()
    gauge.reset()
    stepper.update()
    return forward_backward, gauge.peak_bytes()


def _find_largest(*peaks: int | None) -> int | None:
    """Return the largest of the known peaks, None where none is known."""
    return max((peak for peak in peaks if peak is not None), default=None)


def _keep_output(kept: list[Any], _model: object, _inputs: object, output: object) -> None:
    kept[1] = output


def _growth_bytes_per_step(
    stepper: Training | UserStep,
    batch: Any,
    gauge: MemoryGauge,
    kept: list[Any],
    held: list[int],
    most_bytes: int,
) -> int | None:
    """Return by how much each step leaves more memory taken, None where it does not.

    The steps after the first are compared: the first creates the optimizer's state.
    """
    least = max(_LEAK_BYTES, int(_LEAK_FRACTION * most_bytes))
    if len(held) < 3 or held[-1] - held[-2] < least:
        return None
    for _ in range(_LEAK_STEPS):
        _run_step(stepper, batch, gauge, kept)
        held.append(gauge.current_bytes())
    steps = [later - earlier for earlier, later in itertools.pairwise(held[1:])]
    return sorted(steps)[len(steps) // 2] if min(steps) >= least // 2 else None


def _read_available_bytes(device: torch.device) -> int | None:
    """Return the device's free memory, None where it cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory_bytes() if device.type == "cpu" else None


def _count_retries(device: torch.device) -> int | None:
    """Return how often the caching allocator flushed and tried again, None where it does not."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.memory_stats(device).get("num_alloc_retries", 0))


def _device_used_bytes(device: torch.device, peak_bytes: int | None) -> int | None:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free
    return peak_bytes if device.type == "cpu" else None
