"""Load the model file, run one small training step, and report what was found."""

import hashlib
import math
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from advisor.errors import DeviceError, UsageError, WorkloadError, shorten
from advisor.training.data import (
    USUAL_BATCH_SIZE,
    LossReduction,
    WorkloadFacts,
    WorkloadSpec,
    parse_target,
)
from advisor.training.device_failure import is_out_of_memory
from advisor.training.devices import find_allocator_cap_bytes, hash_device_uuid
from advisor.training.first_step import take_first_step
from advisor.training.loss_reduction import (
    classify_loss,
    find_token_count,
    measure_tokens_per_sample,
)
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.data import DatasetBatches
from advisor.training.model_file.foreign import parameters_in
from advisor.training.model_file.lightning import is_lightning_type
from advisor.training.model_file.own_loader import find_own_sampling
from advisor.training.model_file.scan import Scan, scan_samples
from advisor.training.model_file.workload import Workload
from advisor.training.optimizer_facts import describe_optimizer
from advisor.training.schedule import try_schedule
from advisor.training.training import Training
from advisor.units import render_bytes

#: The size of the first step: BatchNorm cannot run at 1.
_FIRST_SIZE = 2
#: Between two batches of which the larger holds more, though its collate function leaves some out.
_GROWTH = 8


def inspect_workload(
    spec: WorkloadSpec, *, batch_multiple: int, without_steps: bool
) -> WorkloadFacts:
    """Return what the model file was understood to be, after one small training step.

    Only multiples of `batch_multiple` are run; `without_steps` tells what can be told without any.
    DeviceError where not even the smallest batch fits.
    """
    path, digest = parse_target(spec.target).path, None
    if path is not None:  # before it is run: it may change the working directory
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    workload = Workload(spec)
    first = math.ceil(_FIRST_SIZE / batch_multiple) * batch_multiple
    try:
        facts = _inspect(workload, first, batch_multiple, without_steps=without_steps)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"{workload.target.text}: not even a batch of {first} fits on {workload.device}",
            next_step="Use a smaller model or a device with more memory.",
        ) from error
    workload.file.check_all_used()
    notes, cap_bytes = facts.notes, find_allocator_cap_bytes(workload.device)
    if cap_bytes is not None:
        cap = render_bytes(cap_bytes)
        notes += (f"the file caps torch's allocator at {cap}, which is the limit",)
    return replace(
        facts,
        file_sha256=digest,
        device_uuid_hash=hash_device_uuid(workload.device),
        allocator_cap_bytes=cap_bytes,
        notes=notes,
    )


def _inspect(
    workload: Workload, first: int, multiple: int, *, without_steps: bool
) -> WorkloadFacts:
    """Return the facts by a first batch of that size; by the base batch where only that runs."""
    if workload.is_step_only:
        return _inspect_step(workload, first, without_steps=without_steps)
    try:
        return _inspect_training(workload, first, multiple, without_steps=without_steps)
    except Exception as error:
        base = workload.data.base_batch_size or USUAL_BATCH_SIZE
        if is_out_of_memory(error) or isinstance(error, UsageError | DeviceError) or base <= first:
            raise
        failed = error
    workload.begin_again(base)
    try:
        facts = _inspect_training(workload, base, base, without_steps=without_steps)
    except Exception:  # noqa: BLE001 - then it is not the size
        raise failed from None
    note = _note_smallest(first, failed, base)
    return replace(facts, min_micro_batch_size=base, notes=(note, *facts.notes))


def _note_smallest(refused: int, error: Exception, smallest: int) -> str:
    why = f"a batch of {refused} does not run ({shorten(error, 120)})"
    return f"{why}, so {smallest} is the smallest size tried"


def _inspect_step(workload: Workload, first: int, *, without_steps: bool) -> WorkloadFacts:
    for _ in range(0 if without_steps else 2):
        workload.make_stepper(first).step(None)
    return WorkloadFacts(
        file=workload.target.text,
        model_name="make_step",
        how_model=workload.names.how_model,
        how_loss="inside make_step",
        how_optimizer="inside make_step",
        how_batch="inside make_step",
        is_step_only=True,
        base_batch_size=workload.data.base_batch_size,
    )


def _inspect_training(
    workload: Workload, first: int, multiple: int, *, without_steps: bool
) -> WorkloadFacts:
    """Return the facts; the steps add what they show and may find how the optimizer is stepped."""
    _check_batch_grows(workload, multiple)
    first = min(first, workload.batches.size or first)
    training, smallest = workload.make_training(), multiple
    optimizer = describe_optimizer(training.optimizer)  # before a step, which may change its rate
    notes: list[str] = []
    seen: dict[str, Any] = {}
    if not without_steps:
        training, loss, has_zero_gradient = take_first_step(workload, training, first)
        seen = {"first_loss": loss, "has_zero_gradient": has_zero_gradient}
        smallest = _find_smallest(workload, training, first, multiple, notes)
    scan = _look_at_samples(workload, notes)
    has_scheduler = try_schedule(
        lambda total_steps: workload.make_scheduler(training, total_steps), training.optimizer
    )
    if not without_steps:
        seen |= _see_loss(workload, multiple, notes)
    model, names, data = training.model, workload.names, workload.data
    parameters, modules = list(parameters_in(model)), list(model.modules())
    is_lightning = is_lightning_type(type(model))
    return WorkloadFacts(
        file=workload.target.text,
        model_name=type(model).__name__,
        how_model=names.how_model,
        how_loss=workload.loss(model).how,
        how_optimizer=workload.how_optimizer(model),
        how_batch=data.how_batch,
        parameter_count=sum(p.numel() for p in parameters),
        trainable_parameter_count=sum(p.numel() for p in parameters if p.requires_grad),
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        dataset_size=workload.batches.size,
        has_dataset=data.dataset is not None,
        is_lightning=is_lightning,
        variable_length=bool(scan and scan.largest),
        largest_samples=scan.largest if scan else (),
        optimizer=replace(
            optimizer,
            is_default=names.make_optimizer is None and not is_lightning,
            needs_closure=training.needs_closure,
            needs_backward=training.closure == "after_backward",
        ),
        has_scheduler=has_scheduler,
        clip_grad_norm=names.clip_grad_norm,
        base_batch_size=data.base_batch_size,
        not_finite_sample=scan.not_finite if scan else None,
        min_micro_batch_size=smallest,
        has_batch_statistics=any(
            isinstance(m, _BatchNorm) and (m.training or not m.track_running_stats) for m in modules
        ),
        has_synchronised_statistics=any(isinstance(m, nn.SyncBatchNorm) for m in modules),
        notes=tuple(notes),
        **seen,
    )


def _find_smallest(
    workload: Workload, training: Training, ran: int, multiple: int, notes: list[str]
) -> int:
    """Return the multiple where a batch of it runs, else the size that ran, and note why."""
    if ran <= multiple:
        return ran
    try:
        training.step(workload.take(range(multiple)))
    except Exception as error:  # noqa: BLE001 - whatever a batch of one breaks, a batch of two ran
        notes.append(_note_smallest(multiple, error, ran))
        return ran
    return multiple


def _see_loss(workload: Workload, multiple: int, notes: list[str]) -> dict[str, Any]:
    """Return how the loss treats its batch, and note where data is there but it is unknown."""
    if workload.data.dataset is None:
        return {}
    why = "too few samples, or losses that are zero or not finite"
    reduction: LossReduction = "unknown"
    try:
        reduction = classify_loss(workload, multiple)
    except Exception as error:  # noqa: BLE001 - a model may train and yet not run in eval mode
        why = shorten(error, 120)
    if reduction == "unknown":
        note = f"how the loss combines the samples of a batch could not be told ({why})"
        notes.append(f"{note}, so the noise takes it for a mean")
    return {
        "loss_reduction": reduction,
        "token_count": find_token_count(workload, multiple) if reduction == "weighted" else None,
        "tokens_per_sample": measure_tokens_per_sample(workload),
    }


def _check_batch_grows(workload: Workload, multiple: int) -> None:
    """Raise WorkloadError where a larger batch holds no more than a smaller one."""
    sizes = (multiple, _GROWTH * multiple)
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


def _look_at_samples(workload: Workload, notes: list[str]) -> Scan | None:
    """Return what the samples showed, None without a dataset, and note what else is to be known."""
    batches = workload.batches
    if not isinstance(batches, DatasetBatches):
        return None
    scan = scan_samples(batches)
    if scan.left_out:
        share = scan.left_out / scan.looked_at
        notes.append(
            f"collate_fn leaves {share:.0%} of the samples out: batches hold fewer than they draw"
        )
    if scan.looked_at != batches.size:
        total = "a stream" if batches.size is None else f"{batches.size}"
        notes.append(f"{scan.looked_at} samples of {total} were looked at for the largest ones")
    own_sampling = find_own_sampling(workload.data.own_loader)
    if own_sampling is not None:
        notes.append(
            f"the loader's {own_sampling} is used where the loader is timed; noise, trial and "
            "verification draw samples uniformly without replacement (--noise-log takes the noise "
            "of your own training)"
        )
    return scan
