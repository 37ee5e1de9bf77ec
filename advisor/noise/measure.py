"""Gradient moments along a real training run: the raw material of the noise scale.

At each point the parameters are frozen and gradients of fresh micro-batches are taken by plain
backward passes, in train mode, never clipped. Those of one of J groups add up, so a micro-batch
costs its forward and backward and one addition:

    train ... | point: group 0: m m m, group 1: m m m, ... at frozen parameters | train ... | point

Squared norms of the groups' sums, and their products with the sum of all, hold all that the
estimate needs. On a GPU a finished sum moves to the host, so that the device holds one at a time.
"""

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import torch

from advisor.device.cpu import available_memory_bytes
from advisor.engine.worker.entry import Emit
from advisor.noise.data import NoiseBatches, NoiseTask
from advisor.noise.group_sums import GroupSums
from advisor.noise.point import estimate_noise_point
from advisor.noise.preconditioner import trained_parameters
from advisor.rate.measure import step_on
from advisor.sharpness.measure import CurvatureMeter
from advisor.training.checkpoints import load_checkpoint
from advisor.training.data import TokenCount
from advisor.training.heap import keep_freed_memory
from advisor.training.model_file.buffers import preserve_buffers
from advisor.training.model_file.data import IndexStream
from advisor.training.model_file.workload import Workload
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.token_count import count_tokens
from advisor.training.training import Training

#: A point sees this many times the noise scale of its pilot round: the interval is then about a
#: factor of 2 wide (docs/method.md).
_ENOUGH_NOISE_SCALES = 5.0
#: Fewer groups do not carry a jackknife.
_LEAST_GROUPS = 8
#: Share of the stage's time that the curvature may take.
_CURVATURE_FRACTION = 0.15
#: Share of the host's free memory that the groups' sums may take.
_HOST_FRACTION = 0.25


def run(task: NoiseTask, emit: Emit[NoiseBatches]) -> None:
    """Emit one NoiseBatches for each point of the trajectory, or each checkpoint, in the budget.

    The trajectory ends early when the time is up, when memory runs out, or when training diverges.

    Raises:
        WorkloadError: A checkpoint does not fit the model file.
    """
    keep_freed_memory()
    workload = Workload(task.workload)
    try:
        if task.checkpoints:
            _visit(workload, task, emit)
        else:
            _follow(workload, task, emit)
    except Exception as error:
        if not is_out_of_memory(error):
            raise


def _follow(workload: Workload, task: NoiseTask, emit: Emit[NoiseBatches]) -> None:
    training = workload.make_training()
    meter = _make_meter(workload, training, task)
    stream = IndexStream(workload.batches.sampling_size, seed=task.workload.seed)
    split = (
        task.training_micro_batch_size or task.micro_batch_size,
        task.gradient_accumulation_steps,
    )
    deadline = time.perf_counter() + task.budget_s
    for step in range(task.steps + 1):
        if step in task.points:
            # Equal shares of the time left, so that the last point is as precise as the first.
            points_left = sum(1 for point in task.points if point >= step)
            share_s = (deadline - time.perf_counter()) / (points_left + 1)
            batches = _measure_point(workload, training, task, step, share_s, meter)
            if batches is None:
                return
            emit(msgspec.structs.replace(batches, training_batch_size=split[0] * split[1]))
        if time.perf_counter() > deadline:
            return
        if step < task.steps:
            step_on(workload, training, stream, split, loss_is_sum=task.loss_is_sum)


def _visit(workload: Workload, task: NoiseTask, emit: Emit[NoiseBatches]) -> None:
    """Measure at each checkpoint, in the order given; those that time is left for."""
    deadline = time.perf_counter() + task.budget_s
    for place, path in enumerate(task.checkpoints):
        if place and time.perf_counter() > deadline:
            return
        training = workload.make_training()
        step = load_checkpoint(path, training)
        share_s = (deadline - time.perf_counter()) / (len(task.checkpoints) - place)
        meter = _make_meter(workload, training, task)
        batches = _measure_point(workload, training, task, place, share_s, meter)
        if batches is None:
            return
        emit(
            msgspec.structs.replace(
                batches,
                at_step=place if step.number is None else step.number,
                step_source=step.source,
                from_checkpoint=path,
            )
        )


def _make_meter(workload: Workload, training: Training, task: NoiseTask) -> CurvatureMeter | None:
    sizes = task.curvature_sizes
    return CurvatureMeter(workload, training, task, sizes) if sizes else None


def _measure_point(
    workload: Workload,
    training: Training,
    task: NoiseTask,
    step: int,
    share_s: float,
    meter: CurvatureMeter | None,
) -> NoiseBatches | None:
    """Return the moments with the curvature, where it is to be measured."""
    gradients_s = share_s * (1.0 - _CURVATURE_FRACTION) if meter else share_s
    batches = _measure(workload, training, task, step, gradients_s)
    if batches is None or meter is None:
        return batches
    curvature = meter.measure(step, share_s * _CURVATURE_FRACTION)
    return msgspec.structs.replace(batches, curvature=curvature)


def _measure(
    workload: Workload, training: Training, task: NoiseTask, step: int, share_s: float
) -> NoiseBatches | None:
    """Return the moments at the present parameters, which are left as they are."""
    size, b, most = workload.batches.sampling_size, task.micro_batch_size, task.max_micro_batches
    if size is not None:
        most = min(most, size // b)  # beyond one pass nothing new is learnt
    groups = min(task.groups, most, _afford_groups(training, task.host_memory_bytes))
    if groups < _LEAST_GROUPS:
        return None
    deadline = time.perf_counter() + share_s

    def collect(rounds: int, seed: int) -> NoiseBatches | None:
        # An order of its own: within one pass over the data no sample comes twice.
        stream = IndexStream(size, seed=(task.workload.seed * 1_000_003 + step) * 2 + seed)
        batches = (workload.take(stream.next(b)) for _ in itertools.count())
        sums = GroupSums(training, groups, b)
        _fill(sums, rounds, deadline, batches, task.token_count)
        return sums.finish(step, per_sample_sum=task.loss_is_sum)

    with preserve_buffers(training.model):  # running statistics are part of the frozen state
        training.settle_gradient_scale(workload.take(range(b)))
        pilot = collect(1, seed=0)
        if pilot is None or time.perf_counter() > deadline:
            return pilot
        return collect(_choose_rounds(pilot, most // groups), seed=1)


def _fill(
    sums: GroupSums,
    rounds: int,
    deadline: float,
    batches: Iterator[Any],
    token_count: TokenCount | None,
) -> None:
    """Add `rounds` batches to each group; once the time is up, one to each of the least groups."""
    for group in range(sums.groups):
        for batch in itertools.islice(batches, rounds):
            weight = None if token_count is None else count_tokens(batch, token_count)
            sums.add(group, batch, weight)
            if time.perf_counter() > deadline:
                break
        if group + 1 >= _LEAST_GROUPS and time.perf_counter() > deadline:
            return


def _afford_groups(training: Training, host_memory_bytes: int | None) -> int:
    """Return how many gradients the host has room for, a container's limit included."""
    parameters = trained_parameters(training)
    is_double = any(parameter.dtype == torch.float64 for parameter in parameters)
    gradient_bytes = (8 if is_double else 4) * sum(p.numel() for p in parameters)
    room_bytes = available_memory_bytes()
    if host_memory_bytes is not None:
        room_bytes = min(room_bytes, host_memory_bytes)
    return int(_HOST_FRACTION * room_bytes / max(1, gradient_bytes))


def _choose_rounds(pilot: NoiseBatches, most: int) -> int:
    """Return the rounds worth measuring by a first round, which is then thrown away.

    Stopping by the same data that make the estimate would favour the moments at which it happens to
    be small: simulated, the median is then 5 to 12 % low (docs/method.md).
    """
    if len(pilot.micro_batch_sizes) < 2:
        return most
    point = estimate_noise_point(pilot)
    if point.gradient_sqnorm <= 0:
        return most
    noise_scale = point.gradient_cov_trace / point.gradient_sqnorm
    return max(1, min(most, math.ceil(_ENOUGH_NOISE_SCALES * noise_scale / point.samples)))
