"""Loops as users write them, and what torch's allocator counts of them."""

import importlib.util
import itertools
import os
from typing import ClassVar

import msgspec
import torch
from torch.nn import functional

from advisor.device.data import Environment
from advisor.device.measure import see_environment
from advisor.engine.task import Task, WorkloadTask
from advisor.training.devices import resolve_device


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What a loop took; a peak of None where it ran out of memory."""

    allocated_bytes: int | None
    reserved_bytes: int | None


class LoopTask(Task[Counted], frozen=True, kw_only=True):
    """Train some steps by hand.

    Attributes:
        holds_output: As a loop whose variables live until they are assigned again; else each is
            deleted at the end of a step.
        limit_bytes: Of the caching allocator.
    """

    runs: ClassVar[str] = "tests.cuda.by_hand:run"

    path: str
    batch_size: int
    precision: str = "fp32"
    accumulation: int = 1
    steps: int = 4
    holds_output: bool = True
    limit_bytes: int | None = None


def run(task, emit):
    spec = importlib.util.spec_from_file_location("by_hand_model", task.path)
    user = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(user)
    device = torch.device("cuda", 0)
    if task.limit_bytes is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(task.limit_bytes / total, device)
    try:
        train(user, task, device)
    except torch.OutOfMemoryError:
        emit(Counted(allocated_bytes=None, reserved_bytes=None))
        return
    emit(
        Counted(
            allocated_bytes=torch.cuda.max_memory_allocated(device),
            reserved_bytes=torch.cuda.max_memory_reserved(device),
        )
    )


def train(user, task, device):
    model = user.make_model().to(device)
    optimizer = user.make_optimizer(model)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(task.precision)
    scaler = torch.amp.GradScaler("cuda", enabled=task.precision == "fp16")
    loss_of = getattr(
        user, "loss_fn", lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1])
    )
    for _ in range(task.steps):
        for _ in range(task.accumulation):
            batch = tuple(part.to(device) for part in user.make_batch(task.batch_size))
            with torch.autocast("cuda", dtype=kind, enabled=kind is not None):
                if task.holds_output:
                    output = model(batch[0])
                    loss = functional.cross_entropy(output, batch[1])
                else:
                    loss = loss_of(model, batch)
            scaler.scale(loss / task.accumulation).backward()
            if not task.holds_output:
                del loss, batch
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


class SeenTask(Task[Environment], frozen=True, kw_only=True):
    """Report the device where the user shows CUDA these cards."""

    runs: ClassVar[str] = "tests.cuda.by_hand:report_seen"

    visible: str


def report_seen(task, emit):
    os.environ["CUDA_VISIBLE_DEVICES"] = task.visible
    emit(see_environment(resolve_device("cuda")))


class RowsTask(WorkloadTask[int], frozen=True, kw_only=True):
    """Report what the sums of eight groups of gradients take on the device."""

    runs: ClassVar[str] = "tests.cuda.by_hand:report_rows"

    place: str


def report_rows(task, emit):
    from advisor.noise.measure_moments import GroupSums
    from advisor.training.loop import train
    from advisor.training.model_file.workload import Workload

    workload = Workload(task.workload)
    training = workload.make_training()
    before = torch.cuda.memory_allocated()
    sums = GroupSums(training, 8, 4, rounds=2, place=task.place)
    emit(torch.cuda.memory_allocated() - before)
    batches = itertools.repeat(workload.take(range(4)))
    train(training, batches, [sums], micro_batch_size=4, is_frozen=True)
    sums.finish(0, per_sample_sum=False)  # numbers mean nothing here
