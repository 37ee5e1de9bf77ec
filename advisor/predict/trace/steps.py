"""Three training steps, every allocation in order: under fake tensors, or really run.

model, built for real ─▶ its tensors become fake ─▶ optimizer ─▶ batch ─▶ three steps
"""

import gc
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from msgspec.structs import replace
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from advisor.predict.data import TraceTask
from advisor.predict.memory_trace import TRACED_STEPS
from advisor.predict.trace.checkpointing import checkpoint_repeated_blocks
from advisor.predict.trace.fake import (
    SizeCorrections,
    Unfilled,
    UntraceableError,
    plain_tensors,
    replaced_tensors,
)
from advisor.predict.trace.ledger import SizeTrace
from advisor.predict.trace.storage import StorageTracker
from advisor.training.model_file.batches import arrive, map_tensors, tensors_of
from advisor.training.model_file.order import seed_everything
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training, UserStep

NOTE_SCALER = "the steps of fp16 are traced as if no gradient overflowed"
_NOTE_WHOLE = "forward, backward and optimizer cannot be told apart: all counts as forward"
_NOTE_CPU = "the operators are the CPU's: those of CUDA could not be traced"


def trace_steps(workload: Workload, size: int, task: TraceTask) -> SizeTrace:
    """Return the allocations of three training steps, run under fake tensors on the CPU.

    Raises UntraceableError where the step is the user's own, or the optimizer needs a closure.
    """
    if workload.is_step_only:
        raise UntraceableError("make_step hides the model and the optimizer")
    batch, model, checkpointed = _prepare(workload, size, task, making=Unfilled())
    notes: tuple[str, ...] = ()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with ExitStack() as stack:
        if task.operators == "cuda":
            from advisor.predict.trace.lowering import lower_to_cuda  # noqa: PLC0415 - only for CUDA

            notes = stack.enter_context(lower_to_cuda(workload.spec.precision))
        stack.enter_context(replaced_tensors(model, mode.from_tensor))
        batch = map_tensors(batch, mode.from_tensor)
        # A probe repeats one batch on the CPU; on a GPU each arrives while the last is held.
        batches = arrive(batch) if task.operators == "cuda" else itertools.repeat(batch)
        del batch
        stack.enter_context(mode)
        stack.enter_context(SizeCorrections())  # type: ignore[no-untyped-call]
        tracker = stack.enter_context(StorageTracker(model, operators=task.operators))
        training = hold_training(workload, model, tracker, task)
        if training.needs_closure:
            raise UntraceableError("the optimizer evaluates the loss as often as it likes")
        if training.skip_overflow_check():
            notes += (NOTE_SCALER,)
        _held = run_steps(training, batches, tracker)
        return tracker.finish(size, notes=notes, checkpointed=checkpointed)


def measure_steps(workload: Workload, size: int, task: TraceTask) -> SizeTrace:
    """Return the allocations of three training steps that were run, with the CPU's operators."""
    notes: tuple[str, ...] = () if task.operators == "cpu" else (_NOTE_CPU,)
    task = replace(task, operators="cpu")
    if workload.is_step_only:
        seed_everything(task.workload.seed)
        with StorageTracker() as tracker:
            stepper = workload.make_stepper(size)  # alive until the trace is finished
            _run_whole_steps(stepper, None, tracker)
            return tracker.finish(size, notes=(*notes, _NOTE_WHOLE))
    batch, model, checkpointed = _prepare(workload, size, task, making=nullcontext())
    with StorageTracker(model) as tracker:
        training = hold_training(workload, model, tracker, task)
        if training.needs_closure:
            tracker.hold(tensors_of(batch), "input")
            _run_whole_steps(training, batch, tracker)
            notes += (_NOTE_WHOLE,)
        else:
            _held = run_steps(training, itertools.repeat(batch), tracker)
        return tracker.finish(size, notes=notes, checkpointed=checkpointed)


def _prepare(
    workload: Workload, size: int, task: TraceTask, making: AbstractContextManager[object]
) -> tuple[Any, nn.Module, tuple[str, ...]]:
    """Return a real batch, a real model whose loss is known, and its checkpointed blocks."""
    seed_everything(task.workload.seed)
    batch = workload.take_worst(size, task.largest_samples)
    with making:
        model = workload.make_model()
    workload.loss(model)  # found with real tensors, and kept by the workload
    return batch, model, checkpoint_repeated_blocks(model) if task.checkpoint_blocks else ()


def hold_training(
    workload: Workload, model: nn.Module, tracker: StorageTracker, task: TraceTask
) -> Training:
    """Return the training of this model, its parameters, buffers and optimizer state recorded."""
    tracker.hold(model.parameters(), "parameter")
    tracker.hold(model.buffers(), "parameter")
    for module in model.modules():
        tracker.hold(tensors_of(plain_tensors(module)), "parameter")
    optimizer = workload.make_optimizer(model)
    choose_foreach(optimizer, task)
    _hold_state(optimizer, tracker)
    return workload.assemble(model, optimizer)


def run_steps(training: Training, batches: Iterator[Any], tracker: StorageTracker) -> object:
    """Run three training steps as a user's loop does, holding the last batch, output and loss.

    They are returned, since a next step would find them there.
    """
    model, optimizer = training.model, training.optimizer
    kept: dict[str, Any] = {}
    batch = next(batches)
    tracker.hold(tensors_of(batch), "input")
    handle = training.watch_output(lambda output: kept.update(output=output))
    with _quiet_collector() as collect:
        for step in range(1, TRACED_STEPS + 1):
            tracker.mark("forward", step)
            if step > 1:
                batch = next(batches)
                tracker.hold(tensors_of(batch), "input")
            loss = training.loss(batch)
            tracker.mark("backward", step)
            training.differentiate(loss)
            kept["loss"] = loss
            del loss  # the next step's replaces the one that is kept, after its backward pass
            for parameter in model.parameters():
                if parameter.grad is not None:
                    tracker.hold([parameter.grad], "gradient", owner=parameter)
            tracker.mark("optimizer", step)
            training.update()
            _hold_state(optimizer, tracker)
            collect()
    if handle is not None:
        handle.remove()
    return batch, kept


def _run_whole_steps(stepper: Training | UserStep, batch: Any, tracker: StorageTracker) -> None:
    with _quiet_collector() as collect:
        for step in range(1, TRACED_STEPS + 1):
            tracker.mark("forward", step)
            _kept = stepper.step(batch)
            tracker.mark("backward", step)
            tracker.mark("optimizer", step)
            collect()


def _hold_state(optimizer: Optimizer, tracker: StorageTracker) -> None:
    for parameter, state in optimizer.state.items():
        tracker.hold(tensors_of(state), "optimizer_state", owner=parameter)


@contextmanager
def _quiet_collector() -> Iterator[Callable[[], object]]:
    """Yield what frees garbage in cycles; nothing else does, so that two traces agree on when."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    gc.freeze()  # what is there already need not be looked at again, nor by the next trace
    try:
        yield gc.collect
    finally:
        if enabled:
            gc.enable()


def choose_foreach(optimizer: Optimizer, task: TraceTask) -> None:
    """Set whether the optimizer works on all tensors at once: as the task says, else the user.

    Left open, CUDA does so, but where the optimizer is fused, differentiable or its rate a tensor.
    """
    for group in optimizer.param_groups:
        if "foreach" not in group:
            continue
        if task.foreach is not None:
            group["foreach"] = task.foreach
            group["fused"] = None
        elif task.operators == "cuda" and group["foreach"] is None:
            special = group.get("fused") or group.get("differentiable")
            group["foreach"] = None if special or isinstance(group.get("lr"), Tensor) else True
