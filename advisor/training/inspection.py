"""Load the model file, run one small training step, and report what was found."""

import math
from typing import Any

import msgspec
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from advisor.errors import DeviceError, WorkloadError
from advisor.training.data import LossReduction, OptimizerFacts, WorkloadFacts, WorkloadSpec
from advisor.training.loss_reduction import (
    classify_loss,
    find_token_count,
    measure_tokens_per_sample,
)
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.data import DatasetBatches, find_largest_samples
from advisor.training.model_file.loader import find_own_sampling
from advisor.training.model_file.workload import Workload
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.training import Training

#: The size of the first step: BatchNorm cannot run at 1.
_FIRST_SIZE = 2


def inspect_workload(
    spec: WorkloadSpec, *, batch_multiple: int, without_steps: bool
) -> WorkloadFacts:
    """Return what the model file was understood to be, after one small training step.

    Args:
        spec: What to load.
        batch_multiple: Only multiples of this size are run.
        without_steps: Tell what can be told without a step.

    Raises:
        DeviceError: Not even the smallest batch fits.
    """
    workload = Workload(spec)
    multiple = batch_multiple
    first = math.ceil(_FIRST_SIZE / multiple) * multiple
    try:
        facts = (
            _inspect_step(workload, first, without_steps=without_steps)
            if workload.is_step_only
            else _inspect_training(workload, first, multiple, without_steps=without_steps)
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"{workload.target.text}: not even a batch of {first} fits on {workload.device}",
            next_step="Use a smaller model or a device with more memory.",
        ) from error
    workload.settings.check_all_used()
    return facts


def _inspect_step(workload: Workload, first: int, *, without_steps: bool) -> WorkloadFacts:
    for _ in range(0 if without_steps else 2):
        workload.make_stepper(first).step(None)
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


def _inspect_training(
    workload: Workload, first: int, multiple: int, *, without_steps: bool
) -> WorkloadFacts:
    _check_batch_grows(workload, multiple)
    first = min(first, workload.batches.size or first)
    training = workload.make_training()
    if without_steps:
        return _describe(workload, training, smallest=multiple)
    loss = _first_step(workload, training, first)
    smallest, size_notes = _smallest_size(workload, training, first, multiple)
    facts = _describe(workload, training, smallest=smallest)
    reduction, loss_notes = _loss_reduction(workload, multiple)
    return msgspec.structs.replace(
        facts,
        loss_reduction=reduction,
        first_loss=loss,
        token_count=find_token_count(workload, multiple) if reduction == "weighted" else None,
        tokens_per_sample=measure_tokens_per_sample(workload),
        notes=size_notes + facts.notes + loss_notes,
    )


def _describe(workload: Workload, training: Training, *, smallest: int) -> WorkloadFacts:
    """Return all that needs no step."""
    parameters = list(training.model.parameters())
    largest, scan_notes = _largest_samples(workload)
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
        dataset_size=workload.batches.size,
        has_dataset=workload.dataset is not None,
        variable_length=bool(largest),
        largest_samples=largest,
        optimizer=_optimizer_facts(workload, training),
        base_batch_size=workload.base_batch_size,
        min_micro_batch_size=smallest,
        has_batch_statistics=any(_mixes_samples(module) for module in modules),
        has_synchronised_statistics=any(isinstance(m, nn.SyncBatchNorm) for m in modules),
        notes=scan_notes + _note_sampling(workload),
    )


def _note_sampling(workload: Workload) -> tuple[str, ...]:
    """Return a note where the user's own loader draws its samples otherwise than the tool does."""
    own = find_own_sampling(workload)
    if own is None:
        return ()
    note = (
        f"the loader's {own} is used where the loader is timed; noise, trial and verification draw "
        "samples uniformly without replacement (--noise-log takes the noise of your own training)"
    )
    return (note,)


def _first_step(workload: Workload, training: Training, size: int) -> float:
    """Return the loss of the first step at `size`, which must be finite."""
    result = training.step(workload.take(range(size)))
    loss = math.nan if result is None else float(result.detach())
    if not math.isfinite(loss):
        raise WorkloadError(
            f"{workload.target.text}: the loss is {loss} at the first step (batch of {size})",
            next_step="Look for a division by zero, log(0) or unscaled inputs before the loss.",
        )
    return loss


def _smallest_size(
    workload: Workload, training: Training, ran: int, multiple: int
) -> tuple[int, tuple[str, ...]]:
    """Return the multiple where a batch of it runs, else the size that ran, and a note why."""
    if ran <= multiple:
        return ran, ()
    try:
        training.step(workload.take(range(multiple)))
    except Exception as error:  # noqa: BLE001 - whatever a batch of one breaks, a batch of two ran
        why = f"a batch of {multiple} does not run ({_short(error)})"
        return ran, (f"{why}, so {ran} is the smallest size tried",)
    return multiple, ()


def _loss_reduction(workload: Workload, multiple: int) -> tuple[LossReduction, tuple[str, ...]]:
    """Return how the loss treats its batch, and a note where data is there but it is unknown."""
    if workload.dataset is None:
        return "unknown", ()
    why = "too few samples, or losses that are zero or not finite"
    try:
        reduction = classify_loss(workload, multiple)
    except Exception as error:  # noqa: BLE001 - a model may train and yet not run in eval mode
        reduction, why = "unknown", _short(error)
    if reduction != "unknown":
        return reduction, ()
    note = f"how the loss combines the samples of a batch could not be told ({why})"
    return reduction, (f"{note}, so the noise takes it for a mean",)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _check_batch_grows(workload: Workload, multiple: int) -> None:
    """Raise WorkloadError where a larger batch holds no more than a smaller one."""
    sizes = (multiple, 2 * multiple)
    if (workload.batches.size or sizes[1]) < sizes[1]:
        return
    small, large = (
        sum(tensor.numel() for tensor in tensors_of(workload.batches.take(range(size))))
        for size in sizes
    )
    if 0 < large <= small:
        raise WorkloadError(
            f"{workload.target.text}: the batch size is ignored: a batch of {sizes[1]} holds as "
            f"much as a batch of {sizes[0]}",
            next_step="Make make_batch(batch_size), or collate_fn, return batch_size samples.",
        )


def _largest_samples(workload: Workload) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the largest samples, and a note where not all samples were looked at."""
    batches = workload.batches
    if not isinstance(batches, DatasetBatches):
        return (), ()
    largest, looked_at = find_largest_samples(batches)
    if looked_at == batches.size:
        return largest, ()
    total = "a stream" if batches.size is None else f"{batches.size}"
    return largest, (f"{looked_at} samples of {total} were looked at for the largest ones",)


def _mixes_samples(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or not module.track_running_stats)


def _optimizer_facts(workload: Workload, training: Training) -> OptimizerFacts:
    group = training.optimizer.param_groups[0]
    betas: tuple[Any, ...] = tuple(group.get("betas") or ())
    beta1, beta2, *_ = (*betas, None, None)

    def number(value: Any) -> float | None:
        return None if value is None else float(value)

    return OptimizerFacts(
        name=type(training.optimizer).__name__,
        learning_rate=number(group.get("lr")),
        momentum=number(group.get("momentum")),
        beta1=number(beta1),
        beta2=number(beta2),
        epsilon=number(group.get("eps")),
        weight_decay=number(group.get("weight_decay")),
        needs_closure=training.needs_closure,
        is_default=not workload.has_own_optimizer(training.model),
        dampening=number(group.get("dampening")),
        is_nesterov=bool(group.get("nesterov", False)),
    )
