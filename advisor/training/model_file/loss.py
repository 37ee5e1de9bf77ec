"""The loss of a batch: the user's, the model's own, or inferred by a rule that is printed."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from advisor.errors import WorkloadError, note_place
from advisor.training.model_file import lightning
from advisor.training.model_file.foreign import attribute_of, running

LossFunction = Callable[[nn.Module, Any], Any]

_NAME_LOSS = "Add a loss to the model file:\n    def loss_fn(model, batch):\n        ..."

_CALL_OF_LOSS = (
    "loss_fn is handed the model and a batch, as collate_fn made it: for example\n"
    "    def loss_fn(model, batch):\n"
    "        inputs, targets = batch\n"
    "        return nn.functional.cross_entropy(model(inputs), targets)"
)


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """A loss function and one sentence on where it came from."""

    function: LossFunction
    how: str


def find_loss(
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction | None,
    *,
    take_more: Callable[[], Any] | None = None,
) -> Loss:
    """Return the loss of the model file, else one inferred from the batch; WorkloadError if none.

    `take_more` returns a larger batch, where two samples may look alike by chance.
    """
    if loss_fn is not None:
        return Loss(function=_placed(loss_fn), how="loss_fn of the model file")
    if lightning.is_lightning_type(type(model)):
        return Loss(function=lightning.training_loss, how="training_step of the LightningModule")
    call = "model(**batch)" if isinstance(batch, Mapping) else "model(inputs)"
    targets = None if isinstance(batch, Mapping) else _split(batch)[1]
    with running(f"{call}, tried as the file has no loss_fn", _NAME_LOSS):
        output = _call(model, batch)
    if isinstance(output, Tensor) and isinstance(targets, Tensor):
        if not targets.is_floating_point() and not targets.is_complex() and output.dim() >= 2:
            if targets.shape == output.shape and take_more is not None:
                targets = _split(take_more())[1]
            _check_classes(output, targets)
            return Loss(
                function=_cross_entropy,
                how="inferred: integer targets, so cross-entropy of model(inputs)",
            )
        if targets.is_floating_point() and targets.shape == output.shape:
            return Loss(
                function=_mean_squared_error,
                how="inferred: float targets of the output's shape, so mean squared error",
            )
    return _from_output(output, call)


def _placed(loss_fn: LossFunction) -> LossFunction:
    """Return the function, whose failures say how it was called."""

    def call(model: nn.Module, batch: Any) -> Any:
        try:  # in every step that is timed
            return loss_fn(model, batch)
        except Exception as error:
            note_place(error, "loss_fn(model, batch)", _CALL_OF_LOSS)
            raise

    return call


def check_loss(loss: object) -> Tensor:
    """Return the loss as a scalar tensor with a gradient, or raise WorkloadError."""
    if not isinstance(loss, Tensor):
        problem, next_step = f"is a {type(loss).__name__}, not a tensor", _NAME_LOSS
    elif loss.numel() != 1:
        problem = f"has shape {tuple(loss.shape)}, not one number"
        next_step = "Return the mean over the batch, for example loss.mean(), from loss_fn."
    elif loss.is_complex():
        problem = "is a complex number"
        next_step = "Return a real one from loss_fn, for example loss.abs() or loss.real."
    elif not loss.requires_grad:
        problem = "has no gradient: nothing that requires_grad led to it"
        next_step = "Look for .detach(), torch.no_grad() or frozen parameters before the loss."
    else:
        return loss if loss.dim() == 0 else loss.reshape(())
    raise WorkloadError(f"the loss {problem}", next_step=next_step)


def _split(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, Tensor):
        return batch, None
    raise WorkloadError(
        f"the loss cannot be inferred from a batch of type {type(batch).__name__}"
        + (f" with {len(batch)} parts" if isinstance(batch, list | tuple) else ""),
        next_step=_NAME_LOSS,
    )


def _from_output(output: object, call: str) -> Loss:
    """Return the loss that the output holds, or is; WorkloadError where there is none."""
    if isinstance(attribute_of(output, "loss"), Tensor):
        return Loss(function=_loss_of_output, how=f"inferred: the .loss of {call}")
    if isinstance(output, Mapping) and isinstance(output.get("loss"), Tensor):
        return Loss(function=_loss_of_output, how=f"inferred: the 'loss' entry of {call}")
    if isinstance(output, Tensor) and output.numel() == 1:
        how = f"inferred: {call} is a scalar, taken as the loss"
        return Loss(function=_loss_of_output, how=how)
    kind, next_step = type(output).__name__, _NAME_LOSS
    if isinstance(output, Mapping) and "loss" not in output and "logits" in output:
        why = f"{kind} without a loss"
        next_step = "Put what the model computes its loss of into the batch, usually labels; or "
        next_step += f"{_NAME_LOSS[0].lower()}{_NAME_LOSS[1:]}"
    else:
        shape = f" of shape {tuple(output.shape)}" if isinstance(output, Tensor) else ""
        why = f"{kind}{shape}, and the targets fit neither cross-entropy nor mean squared error"
    raise WorkloadError(f"the loss cannot be inferred: {call} gave a {why}", next_step=next_step)


def _call(model: nn.Module, batch: Any) -> Any:
    return model(**batch) if isinstance(batch, Mapping) else model(_split(batch)[0])


def _loss_of_output(model: nn.Module, batch: Any) -> Any:
    output = _call(model, batch)
    if isinstance(output, Tensor):
        return output
    return output["loss"] if isinstance(output, Mapping) else output.loss


def _cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    inputs, targets = batch
    output = model(inputs)
    try:  # in every step that is timed
        return functional.cross_entropy(*_line_up(output, targets))
    except Exception as error:
        note_place(error, "the inferred cross-entropy of model(inputs)", _NAME_LOSS)
        raise


def _line_up(output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as the cross-entropy takes them: classes second or last, labels in 64 bits."""
    if targets.dim() == 1 and targets.dtype is torch.int64:  # in every step that is timed
        return output, targets
    if targets.shape == output.shape:  # one-hot classes are not integer labels
        return output, targets.to(output.dtype)
    if targets.dim() == output.dim():  # labels in a column, masks with a channel
        targets = targets.squeeze(1)
    if _has_classes_last(output, targets):
        output, targets = output.flatten(0, -2), targets.flatten()
    return output, targets.to(torch.int64)


def _check_classes(output: Tensor, targets: Tensor) -> None:
    """Raise WorkloadError where integer targets are neither labels nor one-hot rows of classes."""
    what = f"the integer targets are of shape {tuple(targets.shape)}"
    if (output.shape[-1] if _has_classes_last(output, targets) else output.shape[1]) == 1:
        fits, what = False, "it has one column, and cross-entropy of one class is always zero"
    elif targets.shape[1:] == output.shape[1:]:
        fits = bool(((targets == 0) | (targets == 1)).all() & (targets.sum(1) == 1).all())
        what = "the integer targets are rows of independent labels, not of one class each"
    else:
        labels = targets.squeeze(1) if targets.dim() == output.dim() else targets
        fits = labels.shape in {output.shape[:1] + output.shape[2:], output.shape[:-1]}
    if not fits:
        raise WorkloadError(
            f"the loss cannot be inferred: model(inputs) is of shape {tuple(output.shape)}; {what}",
            next_step=f"{_NAME_LOSS}\nFor two classes or independent labels, "
            "binary_cross_entropy_with_logits(output, targets.float()) is usual.",
        )


def _has_classes_last(output: Tensor, targets: Tensor) -> bool:
    """Return whether the output is (batch, position, class), as language models have it."""
    return output.dim() == targets.dim() + 1 and output.shape[:-1] == targets.shape


def _mean_squared_error(model: nn.Module, batch: Any) -> Tensor:
    inputs, targets = batch
    return functional.mse_loss(model(inputs), targets)
