"""The optimizer steps of the user's script, as its hooks see them, told to observers."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import OptState
from torch.optim import Optimizer

from advisor.training.device_failure import is_out_of_memory
from advisor.training.observer import Observer, Step
from advisor.training.optimizer_facts import find_given_rate, find_leading, to_number
from advisor.training.script.passes import is_plain_mean
from advisor.training.script.timed import TimedSteps, watch_closure


def _do_nothing(*_: object) -> None:
    """Where nobody listens."""


class StepStream:
    """Steps of one optimizer, the first that the script steps; told to observers in their order.

    Attributes:
        samples: Of each step.
        count, trained: Steps done, and those that were not frozen.
        passes, gathered_passes: Backward passes of the last step, and since it.
        others: Steps of further optimizers that were seen.
        is_frozen: Whether steps change nothing: their gradients are seen and taken away.
        timed: Steps that are timed, until the last of them has ended.
        find_factor: By what each group's rate is multiplied in a step; the script reads its own.
        on_enough: Called once an observer has seen enough, or `most_steps` are done.
        on_steps: Called with all steps done after each, or after those that were timed.
        on_timing: Called where these begin and after they end.
        on_out_of_memory: Called where memory ran out, before the script can catch that.
        failure: The last exception that passed through a forward or backward pass.
        most_norm, clips_values: To which the script clips gradients, or whether each element.
        is_mean: Whether the first loss is plainly a mean; None before it.
        scaler: The GradScaler that scaled the last loss.
    """

    def __init__(
        self, observers: Sequence[Observer], *, samples: int, most_steps: int | None
    ) -> None:
        self.count = self.trained = self.others = self.passes = 0
        self.samples = samples
        self.optimizer: Optimizer | None = None
        self.given_rates: tuple[Any, ...] = ()
        self.clips_values = self.is_frozen = False
        self.scaler: Any = None
        self.is_mean: bool | None = None
        self.most_norm: float | None = None
        self.failure: BaseException | None = None
        self.timed: TimedSteps | None = None
        self.find_factor: Callable[[], float] = lambda: 1.0
        self.on_pass: Callable[[], None] = _do_nothing
        self.on_enough: Callable[[], None] = _do_nothing
        self.on_timing: Callable[[], None] = _do_nothing
        self.on_out_of_memory: Callable[[], None] = _do_nothing
        self.on_steps: Callable[[int], None] = _do_nothing
        self._observers, self._most_steps = observers, most_steps
        self._stepping: Optimizer | None = None
        self._is_backward = False
        self._moved_rates, self._taken_gradients = ExitStack(), ExitStack()
        self._begin_gathering()

    def _begin_gathering(self) -> None:
        self._step = Step(number=0, samples=self.samples, micro_batches=1)
        self._is_told, self.gathered_passes = False, 0

    @property
    def given_rate(self) -> float | None:
        """The rate that the script gave the first group that trains, before any schedule."""
        rates = self.given_rates
        return to_number(rates[find_leading(rates)]) if rates else None

    @property
    def taken(self) -> int:
        """Steps done, with those that are being timed."""
        return self.count + (self.timed.count - self.timed.count_left() if self.timed else 0)

    def detach(self) -> None:
        """Have no observer see the steps that come."""
        self._observers, self._most_steps = (), None

    def time_steps(self, count: int, *, every: int = 1, splits: bool = False) -> TimedSteps:
        """Have the next steps timed and nothing else; observers hear of the last one."""
        assert self.optimizer is not None
        self.timed = TimedSteps(self.optimizer, count, every=every, splits=splits)
        self.on_timing()
        return self.timed

    def wait(self, seconds: float) -> None:
        """Count what the script waited for a batch."""
        self._step.waited_s += seconds

    def see_failure(self, error: BaseException) -> None:
        """Keep what passed through a pass; memory that ran out may end the script's start here."""
        self.failure = error
        if is_out_of_memory(error):
            self.on_out_of_memory()

    def run_backward(self, roots: Any, run: Callable[[], Any]) -> Any:
        """Return what a backward pass does, and count it; what a pass itself runs is part of it."""
        if self._is_backward:
            return run()
        self._is_backward = True
        try:
            result = run()
        except BaseException as error:
            self.see_failure(error)
            raise
        finally:
            self._is_backward = False
        self.gathered_passes += 1
        if self.is_mean is None:
            self.is_mean = isinstance(roots, Tensor) and is_plain_mean(roots)
        root = roots[0] if isinstance(roots, list | tuple) and len(roots) == 1 else roots
        if isinstance(root, Tensor) and root.numel() == 1:
            scale = getattr(root, "bsadvisor_scale", None)
            loss = root.detach()
            self._step.losses.append(loss if scale is None else loss / scale)
        self.on_pass()
        return result

    def see_clipping(self, most_norm: float | None) -> None:
        """Note that the gradients are about to be clipped; frozen ones are read before."""
        if most_norm is None:
            self.clips_values = True
        else:
            self.most_norm = most_norm
        if self.is_frozen and self.optimizer is not None and self.gathered_passes >= self.passes:
            self._tell_before(self.optimizer)  # of its last pass, where it clips after each

    def see_skipped(self, optimizer: Optimizer) -> None:
        """Note that a GradScaler left a step out, since its gradients were not finite."""
        if optimizer is self.optimizer or self.optimizer is None:
            self._begin_gathering()

    def begin_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        """See an optimizer about to step; return its arguments where its closure is watched."""
        # Itself: the script caught a step that failed. Another: the two make one optimizer.
        if self._stepping is not None and self._stepping is not optimizer:
            return None
        if self.optimizer is None:
            self.optimizer = optimizer
            self.given_rates = tuple(_find_own_rate(optimizer, g) for g in optimizer.param_groups)
        if optimizer is not self.optimizer:
            self.others += 1
            return None
        self._stepping = optimizer
        watched = watch_closure(args, kwargs, lambda: self._see_closed(optimizer))
        if watched is None:
            self._see_gradients(optimizer)
        _move_rates(optimizer, self.find_factor(), self._moved_rates)  # before a closure, too
        return watched

    def _see_gradients(self, optimizer: Optimizer) -> None:
        self._tell_before(optimizer)
        if self.is_frozen:
            _take_gradients(optimizer, self._taken_gradients)

    def _see_closed(self, optimizer: Optimizer) -> None:
        """See the gradients that a closure has made, of which the first are told."""
        was_told = self._is_told
        self._see_gradients(optimizer)
        if not was_told:  # an observer may have asked for other rates
            self._moved_rates.close()
            _move_rates(optimizer, self.find_factor(), self._moved_rates)

    def end_step(self, optimizer: Optimizer) -> None:
        """See an optimizer that has stepped."""
        if self.timed is not None:  # the last, with what all of them waited for data
            step, count, self.timed = self._step, self.timed.count, None
            step.number, step.micro_batches = self.count + count, self.passes
            step.optimizer = optimizer
            self.on_timing()
            self._tell_after(count)
        elif optimizer is self._stepping:
            self._stepping = None
            self._moved_rates.close()
            self._tell_before(optimizer, has_gradients=False)
            self._taken_gradients.close()
            self.passes = max(1, self.gathered_passes)
            self._tell_after(1)

    def _tell_after(self, count: int) -> None:
        step = self._step
        self._begin_gathering()
        self.count += count
        self.on_steps(self.count)
        self.trained += 0 if self.is_frozen else count
        goes_on = self.count != self._most_steps
        for observer in self._observers:
            goes_on &= observer.after_step(step)
        if not goes_on:
            self.on_enough()

    def _tell_before(self, optimizer: Optimizer, *, has_gradients: bool = True) -> None:
        """Tell the observers of a step's gradients, once."""
        if self._is_told:
            return
        self._is_told, step = True, self._step
        step.number, step.micro_batches = self.count + 1, max(1, self.gathered_passes)
        step.optimizer, step.has_gradients = optimizer, has_gradients
        step.gradient_scale = self._find_scale(optimizer)
        with ExitStack() as undo:
            if self.is_frozen:  # what sees them clears them; the script may still clip or log them
                _keep_gradients(optimizer, undo)
            for observer in self._observers:
                observer.before_step(step)

    def _find_scale(self, optimizer: Optimizer) -> float:
        """Return by what the loss's scale makes the gradients larger, as they are now."""
        if self.scaler is None:
            return 1.0
        scale = getattr(optimizer, "grad_scale", None)
        if isinstance(scale, Tensor):
            return float(scale)
        states = getattr(self.scaler, "_per_optimizer_states", {})
        state = states.get(id(optimizer))
        is_scaled = state is None or state["stage"] is OptState.READY
        return float(self.scaler.get_scale()) if is_scaled else 1.0


def _find_own_rate(optimizer: Optimizer, group: dict[str, Any]) -> Any:
    """Return the rate that the script gave the group, whatever a schedule has made of it.

    A schedule of torch's writes it down; one by hand, as in a warm-up, leaves the constructor's.
    """
    if "max_lr" in group or "initial_lr" in group:
        return find_given_rate(group)
    rates = [to_number(each.get("lr")) for each in optimizer.param_groups]
    given = to_number(optimizer.defaults.get("lr"))
    return given if given and len({*rates}) == 1 else group.get("lr")


def _move_rates(optimizer: Optimizer, factor: float, undo: ExitStack) -> None:
    for group in optimizer.param_groups if factor != 1.0 else ():
        rate = group.get("lr")
        if rate is not None:
            undo.callback(group.__setitem__, "lr", rate)
            group["lr"] = rate * factor


def _keep_gradients(optimizer: Optimizer, undo: ExitStack) -> None:
    """Have whatever is undone leave the gradients that are there now."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                undo.callback(setattr, parameter, "grad", parameter.grad)


def _take_gradients(optimizer: Optimizer, undo: ExitStack) -> None:
    """Take the gradients away, until that is undone: a step without leaves everything as it is.

    An optimizer that is not torch's own may expect a gradient of each parameter: it gets none of
    these either.
    """
    _keep_gradients(optimizer, undo)
    is_torchs = type(optimizer).__module__.startswith("torch.optim")
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
        if not is_torchs:
            undo.callback(group.__setitem__, "params", group["params"])
            group["params"] = []
