"""Load the model file, run one small training step, and report what was found."""

import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from advisor.errors import DeviceError, WorkloadError
from advisor.measurements import OptimizerFacts, WorkloadFacts
from advisor.spec import InspectTask
from advisor.worker.entry import Emit
from advisor.worker.loss_reduction import classify_loss
from advisor.worker.out_of_memory import is_out_of_memory
from advisor.workload.batches import tensors_of
from advisor.workload.data import find_largest_samples, is_map_style
from advisor.workload.training import Training
from advisor.workload.workload import Workload

#: The size of the first step: BatchNorm cannot run at 1.
_FIRST_SIZE = 2


def run(task: InspectTask, emit: Emit) -> None:
    """Emit one WorkloadFacts."""
    workload = Workload(task.workload)
    try:
        facts = _inspect_step(workload) if workload.is_step_only else _inspect_training(workload)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"{workload.target.text}: not even a batch of {_FIRST_SIZE} fits on {workload.device}",
            next_step="Use a smaller model or a device with more memory.",
        ) from error
    workload.settings.check_all_used()
    emit(facts)


def _inspect_step(workload: Workload) -> WorkloadFacts:
    for _ in range(2):
        workload.make_stepper(_FIRST_SIZE).step(None)
    return WorkloadFacts(
        file=workload.target.text,
        model_name="make_step",
        how_model="make_step of the model file",
        how_loss="inside make_step",
        how_optimizer="inside make_step",
        how_batch="inside make_step",
        is_step_only=True,
        base_batch_size=workload.base_batch_size,
    )


def _inspect_training(workload: Workload) -> WorkloadFacts:
    _check_batch_grows(workload)
    size = workload.batches.size
    first = min(_FIRST_SIZE, size or _FIRST_SIZE)
    training = workload.make_training()
    loss = _first_step(workload, training, first)
    smallest, notes = _smallest_size(workload, training, first)
    parameters = list(training.model.parameters())
    largest = _largest_samples(workload)
    modules = list(training.model.modules())
    loss_facts = workload.loss(training.model)
    return WorkloadFacts(
        file=workload.target.text,
        model_name=type(training.model).__name__,
        how_model=workload.names.how_model,
        how_loss=loss_facts.how,
        how_optimizer=workload.how_optimizer(training.model),
        how_batch=workload.how_batch,
        parameter_count=sum(p.numel() for p in parameters),
        trainable_parameter_count=sum(p.numel() for p in parameters if p.requires_grad),
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        dataset_size=size,
        has_dataset=workload.dataset is not None,
        variable_length=bool(largest),
        largest_samples=largest,
        optimizer=_optimizer_facts(workload, training.optimizer),
        base_batch_size=workload.base_batch_size,
        min_micro_batch_size=smallest,
        has_batch_statistics=any(_mixes_samples(module) for module in modules),
        has_synchronised_statistics=any(isinstance(m, nn.SyncBatchNorm) for m in modules),
        loss_reduction=classify_loss(workload) if workload.dataset is not None else "unknown",
        first_loss=loss,
        notes=notes,
    )


def _first_step(workload: Workload, training: Training, size: int) -> float:
    """Return the loss of the first step at `size`.

    Raises:
        WorkloadError: It is not finite.
    """
    result = training.step(workload.take(range(size)))
    loss = math.nan if result is None else float(result)
    if not math.isfinite(loss):
        raise WorkloadError(
            f"{workload.target.text}: the loss is {loss} at the first step (batch of {size})",
            next_step="Look for a division by zero, log(0) or unscaled inputs before the loss.",
        )
    return loss


def _smallest_size(workload: Workload, training: Training, ran: int) -> tuple[int, tuple[str, ...]]:
    """Return 1 where a batch of one runs, else the size that ran, and a note why."""
    if ran == 1:
        return 1, ()
    try:
        training.step(workload.take(range(1)))
    except Exception as error:  # noqa: BLE001 - whatever a batch of one breaks, a batch of two ran
        text = " ".join(str(error).split())[:120]
        return ran, (f"a batch of 1 does not run ({text}), so {ran} is the smallest size tried",)
    return 1, ()


def _check_batch_grows(workload: Workload) -> None:
    """Raise WorkloadError where a larger batch holds no more than a smaller one."""
    if workload.batches.size == 1:
        return
    small, large = (
        sum(tensor.numel() for tensor in tensors_of(workload.batches.take(range(size))))
        for size in (1, 2)
    )
    if 0 < large <= small:
        raise WorkloadError(
            f"{workload.target.text}: the batch size is ignored: a batch of 2 holds as much as a "
            "batch of 1",
            next_step="Make make_batch(batch_size), or collate_fn, return batch_size samples.",
        )


def _largest_samples(workload: Workload) -> tuple[int, ...]:
    size = workload.batches.size
    if workload.dataset is None or size is None or not is_map_style(workload.dataset):
        return ()
    return find_largest_samples(workload.dataset, size)


def _mixes_samples(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or not module.track_running_stats)


def _optimizer_facts(workload: Workload, optimizer: Optimizer) -> OptimizerFacts:
    group = optimizer.param_groups[0]
    betas = group.get("betas")
    rate = group.get("lr")
    momentum = group.get("momentum")
    decay = group.get("weight_decay")
    return OptimizerFacts(
        name=type(optimizer).__name__,
        learning_rate=None if rate is None else float(rate),
        momentum=None if momentum is None else float(momentum),
        beta1=float(betas[0]) if betas else None,
        beta2=float(betas[1]) if betas and len(betas) > 1 else None,
        epsilon=float(group["eps"]) if "eps" in group else None,
        weight_decay=None if decay is None else float(decay),
        needs_closure=type(optimizer).__name__ == "LBFGS",
        is_default=workload.how_optimizer(nn.Module()).startswith("the model file has no"),
    )
