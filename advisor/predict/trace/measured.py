"""Three training steps really run on the CPU, their storages recorded as those of a fake trace."""

from typing import Any

import msgspec
import torch

from advisor.memory.data import MEMORY_PROBE_STEPS
from advisor.predict.trace.fake import hold_training, make_plain_model, quiet_collector, run_steps
from advisor.predict.trace.ledger import SizeTrace
from advisor.predict.trace.storage import StorageTracker
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training, UserStep

_NOTE_WHOLE = "forward, backward and optimizer cannot be told apart: all counts as forward"
_NOTE_CPU = "the operators are the CPU's: those of CUDA could not be traced"


def measure_steps(
    workload: Workload,
    batch: Any,
    size: int,
    *,
    checkpoint_blocks: bool = False,
    foreach: bool | None = None,
    cuda_asked: bool = False,
) -> SizeTrace:
    """Return the allocations of three training steps that were run.

    Args:
        workload: On the CPU.
        batch: Real tensors of `size` samples; None with `make_step`.
        size: Samples of the batch.
        checkpoint_blocks: As in `trace_steps`.
        foreach: As in `trace_steps`.
        cuda_asked: Whether a note must say that the operators are not CUDA's.
    """
    notes: tuple[str, ...] = (_NOTE_CPU,) if cuda_asked else ()
    if workload.is_step_only:
        return _measure_user_step(workload, size, notes)
    model, checkpointed = make_plain_model(workload, checkpoint_blocks=checkpoint_blocks)
    tracker = StorageTracker(model)
    with tracker:
        training = hold_training(workload, model, tracker, operators="cpu", foreach=foreach)
        if training.needs_closure:
            tracker.hold(tensors_of(batch), "input")
            _run_whole_steps(training, batch, tracker)
            notes += (_NOTE_WHOLE,)
        else:
            run_steps(training, batch, tracker)
        trace = tracker.finish(size, notes)
    return msgspec.structs.replace(trace, checkpointed=checkpointed)


def _measure_user_step(workload: Workload, size: int, notes: tuple[str, ...]) -> SizeTrace:
    tracker = StorageTracker()
    with tracker:
        stepper = workload.make_stepper(size)
        _run_whole_steps(stepper, None, tracker)
        return tracker.finish(size, (*notes, _NOTE_WHOLE))


def _run_whole_steps(stepper: Training | UserStep, batch: Any, tracker: StorageTracker) -> None:
    kept: list[torch.Tensor | None] = [None]
    with quiet_collector() as collect:
        for step in range(1, MEMORY_PROBE_STEPS + 1):
            tracker.mark("forward", step)
            kept[0] = stepper.step(batch)
            tracker.mark("backward", step)
            tracker.mark("optimizer", step)
            collect()
