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
import psutil

from advisor.analysis.noise import estimate_noise_point
from advisor.measurements import NoiseBatches
from advisor.spec import NoiseTask
from advisor.worker.curvature import CurvatureMeter
from advisor.worker.entry import Emit
from advisor.worker.group_sums import GroupSums
from advisor.worker.heap import keep_freed_memory
from advisor.worker.out_of_memory import is_out_of_memory
from advisor.worker.preconditioner import trained_parameters
from advisor.workload.buffers import preserve_buffers
from advisor.workload.data import IndexStream
from advisor.workload.training import Training
from advisor.workload.workload import Workload

#: A point sees this many times the noise scale of its pilot round: the interval is then about a
#: factor of 2 wide (docs/method.md).
_ENOUGH_NOISE_SCALES = 5.0
#: Fewer groups do not carry a jackknife.
_LEAST_GROUPS = 8
#: Share of the stage's time that the curvature may take.
_CURVATURE_FRACTION = 0.15
#: Share of the host's free memory that the groups' sums may take.
_HOST_FRACTION = 0.25


def run(task: NoiseTask, emit: Emit) -> None:
    """Emit one NoiseBatches for each point of the trajectory that the budget allows.

    The trajectory ends early when the time is up, when memory runs out, or when training diverges.
    """
    keep_freed_memory()
    workload = Workload(task.workload)
    try:
        _follow(workload, task, emit)
    except Exception as error:
        if not is_out_of_memory(error):
            raise


def _follow(workload: Workload, task: NoiseTask, emit: Emit) -> None:
    training = workload.make_training()
    sizes = task.curvature_sizes
    meter = CurvatureMeter(workload, training, task, sizes) if sizes else None
    stream = IndexStream(workload.batches.sampling_size, seed=task.workload.seed)
    deadline = time.perf_counter() + task.budget_s
    for step in range(task.steps + 1):
        if step in task.points:
            # Equal shares of the time left, so that the last point is as precise as the first.
            points_left = sum(1 for point in task.points if point >= step)
            share_s = (deadline - time.perf_counter()) / (points_left + 1)
            gradients_s = share_s * (1.0 - _CURVATURE_FRACTION) if meter else share_s
            batches = _measure(workload, training, task, step, gradients_s)
            if batches is None:
                return
            curvature = meter and meter.measure(step, share_s * _CURVATURE_FRACTION)
            emit(msgspec.structs.replace(batches, curvature=curvature))
        if time.perf_counter() > deadline:
            return
        if step < task.steps:
            training.step(workload.take(stream.next(task.micro_batch_size)))


def _measure(
    workload: Workload, training: Training, task: NoiseTask, step: int, share_s: float
) -> NoiseBatches | None:
    """Return the moments at the present parameters, which are left as they are."""
    size, b, most = workload.batches.sampling_size, task.micro_batch_size, task.max_micro_batches
    if size is not None:
        most = min(most, size // b)  # beyond one pass nothing new is learnt
    groups = min(task.groups, most, _afford_groups(training))
    if groups < _LEAST_GROUPS:
        return None
    deadline = time.perf_counter() + share_s

    def collect(rounds: int, seed: int) -> NoiseBatches | None:
        # An order of its own: within one pass over the data no sample comes twice.
        stream = IndexStream(size, seed=(task.workload.seed * 1_000_003 + step) * 2 + seed)
        batches = (workload.take(stream.next(b)) for _ in itertools.count())
        sums = GroupSums(training, groups, b)
        _fill(sums, rounds, deadline, batches)
        return sums.finish(step, per_sample_sum=task.loss_is_sum)

    with preserve_buffers(training.model):  # running statistics are part of the frozen state
        pilot = collect(1, seed=0)
        if pilot is None or time.perf_counter() > deadline:
            return pilot
        return collect(_choose_rounds(pilot, most // groups), seed=1)


def _fill(
    sums: GroupSums,
    rounds: int,
    deadline: float,
    batches: Iterator[Any],
) -> None:
    """Add `rounds` batches to each group; once the time is up, one to each of the least groups."""
    for group in range(sums.groups):
        for batch in itertools.islice(batches, rounds):
            sums.add(group, batch)
            if time.perf_counter() > deadline:
                break
        if group + 1 >= _LEAST_GROUPS and time.perf_counter() > deadline:
            return


def _afford_groups(training: Training) -> int:
    """Return how many float32 gradients the host has room for."""
    gradient_bytes = 4 * sum(p.numel() for p in trained_parameters(training))
    return int(_HOST_FRACTION * psutil.virtual_memory().available / max(1, gradient_bytes))


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
