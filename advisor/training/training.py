"""A workload ready to train: the model on its device, its loss, its optimizer, and one step."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.utils.hooks import RemovableHandle

from advisor.errors import UsageError, note_place
from advisor.training.compilation import compile_in_place
from advisor.training.data import ClosureUse, Precision
from advisor.training.device_failure import is_out_of_memory
from advisor.training.model_file import lightning
from advisor.training.model_file.batches import hand_out, map_tensors
from advisor.training.model_file.buffers import CarriedState, restore_buffers
from advisor.training.model_file.foreign import parameters_in, parameters_of, running
from advisor.training.model_file.loss import LossFunction, check_loss

#: By how much other batches' gradients may exceed one batch's without overflow in fp16.
_SCALE_MARGIN = 8.0
_BACKWARD_ONCE = (
    "Leave backward() and the optimizer's step out of loss_fn, and detach what the model or "
    "loss_fn keeps from one batch to the next."
)
_STEP_OF_OWN = (
    "The optimizer is stepped by optimizer.step() after one backward pass, or by "
    "optimizer.step(closure) where it cannot step without; write make_step(batch_size, device) "
    "where it needs another loop."
)
_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Training:
    """A model in train mode on the device and its optimizer, stepped as a user's loop does."""

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        loss_function: LossFunction,
        device: torch.device,
        precision: Precision,
        compile_model: bool,
        clip_grad_norm: float | None = None,
        closure: ClosureUse | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.device = device
        if compile_model:
            compile_in_place(model)
        self._loss_function = loss_function
        self._born = CarriedState(model)
        self._clip_grad_norm = clip_grad_norm
        self._autocast_type = _AUTOCAST_TYPES.get(precision)
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        argument = (parameters_of(optimizer.step) or {}).get("closure")
        self.takes_closure = argument is not None  # it may evaluate the loss itself
        is_required = argument is not None and argument.default is argument.empty
        if closure is None:
            closure = "alone" if is_required or isinstance(optimizer, LBFGS) else "none"
        self.closure, self.needs_closure = closure, closure != "none"
        if self.needs_closure and self._scaler.is_enabled():
            raise UsageError(
                f"--precision fp16 scales the loss: {type(optimizer).__name__} does not allow that",
                next_step="Use --precision bf16 or fp32.",
            )

    def list_parameters(self) -> list[nn.Parameter]:
        """Return the model's parameters, tied ones once."""
        return list(parameters_in(self.model))

    def loss(self, batch: Any) -> Tensor:
        """Return the loss of the batch under the chosen precision, checked to be trainable."""
        with self._autocast():
            return check_loss(self._run_loss(batch))

    def evaluate(self, batch: Any) -> float:
        """Return the loss of the batch as a number, in whatever mode the model is."""
        try:
            with torch.no_grad(), self._autocast():
                return float(self._run_loss(batch))
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            with self._autocast():  # a loss with a gradient inside, as in a gradient penalty
                return float(self._run_loss(batch).detach())

    def watch_output(self, watch: Callable[[Any], None]) -> RemovableHandle | None:
        """Have each output of the model told; None for a scripted one, which takes no hooks."""
        if isinstance(self.model, torch.jit.ScriptModule):
            return None
        return self.model.register_forward_hook(lambda _model, _inputs, output: watch(output))

    def forget(self) -> bool:
        """Drop the state that the model carries from batch to batch; return whether there was."""
        lightning.restart(self.model)
        return self._born.restore(counts=True)

    def _run_loss(self, batch: Any) -> Any:
        try:
            return self._loss_function(self.model, hand_out(batch))
        except Exception as error:  # a carried state fits one batch size; a loop has one alone
            if is_out_of_memory(error) or not self.forget():
                raise
        return self._loss_function(self.model, hand_out(batch))

    def backward(self, batch: Any, *, divisor: float = 1.0) -> Tensor:
        """Add the gradient of loss/divisor to `.grad` and return the loss."""
        loss = self.loss(batch)
        self.differentiate(loss, divisor=divisor)
        return loss

    def differentiate(self, loss: Tensor, *, divisor: float = 1.0) -> None:
        """Add the gradient of loss/divisor to `.grad`."""
        scaled = loss if divisor == 1.0 else loss / divisor
        try:
            torch.autograd.backward(self._scaler.scale(scaled))
        except RuntimeError as error:
            if "backward through the graph a second time" in str(error):
                note_place(error, "the backward pass", _BACKWARD_ONCE)
            raise

    def update(self) -> None:
        """Clip the gradients that `backward` left as the user does, step on them, clear them."""
        self._clip()
        try:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        except Exception as error:
            note_place(error, f"the step of {type(self.optimizer).__name__}", _STEP_OF_OWN)
            raise
        self.optimizer.zero_grad()

    def step(self, batch: Any) -> Tensor | None:
        """Run one full training step and return the loss; None where none was evaluated."""
        if self.needs_closure:
            losses: list[Tensor] = []  # what the optimizer returns may be anything
            with running(f"the step of {type(self.optimizer).__name__}", _STEP_OF_OWN):
                if self.closure == "after_backward":
                    self._closure(batch, losses)
                self.optimizer.step(lambda: self._closure(batch, losses))  # type: ignore[arg-type,return-value]
            return losses[0] if losses else None
        loss = self.backward(batch)
        self.update()
        return loss

    def _closure(self, batch: Any, losses: list[Tensor]) -> Tensor:
        self.optimizer.zero_grad()
        losses.append(self.backward(batch))
        self._clip()
        return losses[-1]

    def _clip(self) -> None:
        if self._clip_grad_norm is not None:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(parameters_in(self.model), self._clip_grad_norm)

    def moves_before_closure(self, batch: Any) -> bool:
        """Step after a backward pass; return whether weights had moved when the closure was called.

        Such an optimizer steps along the gradient that is there, which a closure alone leaves out.
        """

        def measure() -> list[float]:
            return [float(each.detach().norm()) for each in parameters_in(self.model)]

        def closure() -> Tensor:
            seen.append(measure())
            return self._closure(batch, [])

        before, seen = measure(), list[list[float]]()
        self.backward(batch)
        self.optimizer.step(closure)  # type: ignore[arg-type]
        return bool(seen) and seen[0] != before

    def copy_state(self) -> "TrainingState":
        """Return a copy of the weights, buffers, optimizer and loss scale, on the host."""
        state = TrainingState(
            model=self.model.state_dict(),
            buffers=dict(self.model.named_buffers()),
            optimizer=self.optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
        )
        copied: TrainingState = map_tensors(state, lambda t: t.detach().to("cpu", copy=True))
        return copied

    def restore_state(self, state: "TrainingState") -> None:
        """Go back to a copied state; the copy stays good for the next time."""
        self.model.load_state_dict(state.model)
        restore_buffers(self.model, state.buffers)
        self.optimizer.load_state_dict(copy.deepcopy(state.optimizer))
        self.optimizer.zero_grad()
        self._scaler.load_state_dict(state.scaler)

    def gradient_scale(self) -> float:
        """Return the factor by which `.grad` is larger than the gradient (fp16's loss scaling)."""
        return float(self._scaler.get_scale())

    def settle_gradient_scale(self, batch: Any) -> None:
        """Lower fp16's loss scale until such gradients as the batch's are finite, with a margin.

        A run's first steps do so by being skipped. The parameters stay as they are.
        """
        while self._scaler.is_enabled():
            self.backward(batch)
            finite = all(
                bool(p.grad.isfinite().all())
                for p in parameters_in(self.model)
                if p.grad is not None and not p.grad.is_sparse
            )
            self.model.zero_grad()
            if finite or self.gradient_scale() <= 1.0:
                self._scaler.update(max(1.0, self.gradient_scale() / _SCALE_MARGIN))
                return
            self._scaler.update(self.gradient_scale() / 2.0)

    def skip_overflow_check(self) -> bool:
        """Step whatever the gradients hold, which fake ones cannot tell; False without scaling."""
        scaler: Any = self._scaler
        scaler._maybe_opt_step = lambda optimizer, _, *args, **named: optimizer.step(*args, **named)  # noqa: SLF001
        return self._scaler.is_enabled()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._autocast_type is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._autocast_type)


class TrainingState(NamedTuple):
    """What `Training.copy_state` copied; all tensors are on the host."""

    model: dict[str, Any]
    buffers: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]


class UserStep:
    """The user's own step of `make_step`: nothing of it can be told apart."""

    def __init__(self, step: Callable[[], Any]) -> None:
        self._step = step

    def step(self, batch: Any) -> None:  # noqa: ARG002
        """Run the user's step; the batch is the user's own."""
        next_step = "It is called without arguments, and runs one training step."
        with running("the step that make_step returned", next_step):
            self._step()
