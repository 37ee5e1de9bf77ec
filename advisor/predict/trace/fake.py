"""Three training steps under fake tensors: every allocation in order, without memory.

model, built for real ─▶ its tensors become fake ─▶ optimizer ─▶ batch ─▶ three steps
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from advisor.memory.data import MEMORY_PROBE_STEPS
from advisor.predict.memory_trace import Operators
from advisor.predict.trace.checkpointing import checkpoint_repeated_blocks
from advisor.predict.trace.corrections import SizeCorrections
from advisor.predict.trace.ledger import SizeTrace
from advisor.predict.trace.storage import StorageTracker
from advisor.training.model_file.batches import map_tensors, tensors_of
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

NOTE_SCALER = "the steps of fp16 are traced as if no gradient overflowed"


class UntraceableError(Exception):
    """The workload cannot be traced under fake tensors; the text says why in one clause."""


def trace_steps(
    workload: Workload,
    batch: Any,
    size: int,
    *,
    operators: Operators,
    checkpoint_blocks: bool,
    foreach: bool | None,
) -> SizeTrace:
    """Return the allocations of three training steps, run under fake tensors on the CPU.

    Args:
        workload: On the CPU.
        batch: Real tensors of `size` samples.
        size: Samples of the batch.
        operators: Whose operators; those of CUDA need no GPU.
        checkpoint_blocks: Whether repeated blocks recompute their activations.
        foreach: Whether the optimizer works on all tensors at once; None is the default of the
            device whose operators are traced.

    Raises:
        UntraceableError: The step is the user's own, or the optimizer needs a closure.
    """
    if workload.is_step_only:
        raise UntraceableError("make_step hides the model and the optimizer")
    model, checkpointed = make_plain_model(workload, checkpoint_blocks=checkpoint_blocks)
    notes: tuple[str, ...] = ()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with ExitStack() as stack:
        if operators == "cuda":
            from advisor.predict.trace.lowering import lower_to_cuda  # noqa: PLC0415 - only for CUDA

            notes += tuple(stack.enter_context(lower_to_cuda(workload.spec.precision)))
        stack.enter_context(replaced_tensors(model, mode.from_tensor))
        fake_batch = map_tensors(batch, mode.from_tensor)
        stack.enter_context(mode)
        stack.enter_context(SizeCorrections())
        tracker = StorageTracker(model, operators=operators)
        stack.enter_context(tracker)
        training = hold_training(workload, model, tracker, operators=operators, foreach=foreach)
        if training.needs_closure:
            raise UntraceableError("LBFGS evaluates the loss as often as its values ask for")
        if training.skip_overflow_check():
            notes += (NOTE_SCALER,)
        run_steps(training, fake_batch, tracker)
        trace = tracker.finish(size, notes)
    return msgspec.structs.replace(trace, checkpointed=checkpointed)


def make_plain_model(
    workload: Workload, *, checkpoint_blocks: bool
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a real model whose loss is known, and the names of its checkpointed blocks."""
    model = workload.make_model()
    workload.loss(model)  # found with real tensors, and kept by the workload
    return model, checkpoint_repeated_blocks(model) if checkpoint_blocks else ()


def hold_training(
    workload: Workload,
    model: nn.Module,
    tracker: StorageTracker,
    *,
    operators: Operators,
    foreach: bool | None,
) -> Training:
    """Return the training of this model, its parameters, buffers and optimizer state recorded."""
    tracker.hold(model.parameters(), "parameter")
    tracker.hold(model.buffers(), "parameter")
    tracker.hold(tensors_of([list(_plain_values(each)) for each in model.modules()]), "parameter")
    optimizer = workload.make_optimizer(model)
    choose_foreach(optimizer, operators=operators, foreach=foreach)
    _hold_state(optimizer, tracker)
    return Training(
        model=model,
        optimizer=optimizer,
        loss_function=workload.loss(model).function,
        device=torch.device("cpu"),
        precision=workload.spec.precision,
        compile_model=False,
    )


def run_steps(training: Training, batch: Any, tracker: StorageTracker) -> None:
    """Run three training steps as a user's loop does, holding the last output and loss."""
    model, optimizer = training.model, training.optimizer
    kept: list[Any] = [None, None]
    tracker.hold(tensors_of(batch), "input")
    handle = model.register_forward_hook(partial(keep_output, kept))
    with quiet_collector() as collect:
        for step in range(1, MEMORY_PROBE_STEPS + 1):
            tracker.mark("forward", step)
            loss = training.loss(batch)
            tracker.mark("backward", step)
            training.differentiate(loss)
            kept[0] = loss
            del loss  # the next step's replaces the one that is kept, after its backward pass
            for parameter in model.parameters():
                if parameter.grad is not None:
                    tracker.hold([parameter.grad], "gradient", owner=parameter)
            tracker.mark("optimizer", step)
            training.update()
            _hold_state(optimizer, tracker)
            collect()
    handle.remove()


def _hold_state(optimizer: Optimizer, tracker: StorageTracker) -> None:
    for parameter, state in optimizer.state.items():
        tracker.hold(tensors_of(state), "optimizer_state", owner=parameter)


def keep_output(kept: list[Any], _model: object, _inputs: object, output: object) -> None:
    """Hold the output as the second of `kept`: a forward hook."""
    kept[1] = output


@contextmanager
def quiet_collector() -> Iterator[Callable[[], object]]:
    """Yield what frees garbage in cycles; nothing else does, so that two traces agree on when."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    gc.freeze()  # what is there already need not be looked at again
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def choose_foreach(optimizer: Optimizer, *, operators: Operators, foreach: bool | None) -> None:
    """Set whether the optimizer works on all tensors at once.

    Args:
        optimizer: Changed in place.
        operators: CUDA's default is to do so where the user left it open.
        foreach: Instead of the default, and of what the user chose.
    """
    for group in optimizer.param_groups:
        if "foreach" not in group:
            continue
        if foreach is not None:
            group["foreach"] = foreach
            group["fused"] = None
        elif operators == "cuda" and group["foreach"] is None and _may_default(group):
            group["foreach"] = True


def _may_default(group: Mapping[str, Any]) -> bool:
    """Return whether torch's own default applies: not where fused, differentiable or odd."""
    chosen = group.get("fused") or group.get("differentiable")
    return not (chosen or isinstance(group.get("lr"), Tensor))


@contextmanager
def replaced_tensors(model: nn.Module, convert: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Have `convert(tensor)` in place of every tensor of the model; tied ones stay tied."""
    known: dict[int, Tensor] = {}
    places: list[tuple[dict[str, Any], str, Any]] = []  # hold the old ones, so that ids stay theirs

    def swap(old: Tensor) -> Tensor:
        if id(old) not in known:
            known[id(old)] = _convert_one(old, convert)
        return known[id(old)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):  # noqa: SLF001
            places += [(tensors, name, old) for name, old in tensors.items() if old is not None]
        places += [(vars(module), name, old) for name, old in _plain_items(module)]
    for holder, name, old in places:
        holder[name] = map_tensors(old, swap)
    try:
        yield
    finally:
        for holder, name, old in places:
            holder[name] = old


def _convert_one(old: Tensor, convert: Callable[[Tensor], Tensor]) -> Tensor:
    new = convert(old.detach())
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    vars(new).update(vars(old))  # what the user noted on it
    return new


def _plain_items(module: nn.Module) -> list[tuple[str, Any]]:
    """Return the attributes that are tensors, or lists, tuples or dicts of nothing else."""
    return [
        (name, value)
        for name, value in vars(module).items()
        if name not in {"_parameters", "_buffers"} and _is_plain(value)
    ]


def _plain_values(module: nn.Module) -> Iterator[Any]:
    return (value for _, value in _plain_items(module))


def _is_plain(value: object) -> bool:
    if isinstance(value, Tensor):
        return True
    if not isinstance(value, list | tuple | dict) or not value:
        return False
    parts = value.values() if isinstance(value, dict) else value
    return all(isinstance(part, Tensor) for part in parts)
