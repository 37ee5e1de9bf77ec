"""The optimizer steps of the user's script, as its hooks see them, told to observers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import OptState
from torch.optim import Optimizer

from advisor.training.device_failure import is_out_of_memory
from advisor.training.observer import Observer, Step
from advisor.training.optimizer_facts import find_given_rate, find_leading, to_number
from advisor.training.script.losses import is_plain_mean
from advisor.training.script.moving import MovedRates, TakenGradients
from advisor.training.script.timed import TimedSteps, replace_closure


@dataclass(slots=True)
class _Gathered:
    """What was seen since the last optimizer step."""

    losses: list[Tensor] = field(default_factory=list)
    passes: int = 0
    waited_s: float = 0.0


class StepStream:
    """Steps of one optimizer, the first that the script steps; told to observers.

    Args:
        observers: In the order in which they watch.
        samples: Of each step.
        most_steps: After which enough was seen.

    Attributes:
        count, trained: Steps done, and those that were not frozen.
        is_frozen: Whether steps change nothing: their gradients are seen and taken away.
        timed: Steps that are timed, until the last of them has ended.
        on_steps: Called with all steps done after each, or after those that were timed.
        on_timing: Called where these begin and after they end.
        find_factor: Returns by what each group's rate is multiplied in a step; the script reads its
            own.
        others: Steps of further optimizers that were seen.
        passes: Backward passes of the last step.
        most_norm: To which the script clips the gradient's norm.
        clips_values: Whether it clips each element.
        is_mean: Whether the first loss is plainly a mean; None before it.
        scaler: The GradScaler that scaled the last loss.
        failure: The last exception that passed through a forward or backward pass.
        on_out_of_memory: Called where that is memory that ran out, before the script can catch it.
    """

    def __init__(
        self, observers: Sequence[Observer], *, samples: int, most_steps: int | None
    ) -> None:
        self.count = self.trained = self.others = self.passes = 0
        self.samples = samples
        self._most_steps = most_steps
        self.find_factor: Callable[[], float] = lambda: 1.0
        self.optimizer: Optimizer | None = None
        self.given_rates: tuple[Any, ...] = ()
        self.clips_values = self.is_frozen = False
        self.scaler: Any = None
        self.is_mean: bool | None = None
        self.most_norm: float | None = None
        self.failure: BaseException | None = None
        self.on_out_of_memory: Callable[[], None] | None = None
        self.timed: TimedSteps | None = None
        self.on_timing: Callable[[], None] = lambda: None
        self.on_steps: Callable[[int], None] = lambda _steps: None
        self._observers = observers
        self._gathered = _Gathered()
        self._step: Step | None = None
        self._stepping: Optimizer | None = None
        self._is_backward = False
        self._rates = MovedRates()
        self._gradients = TakenGradients()

    @property
    def given_rate(self) -> float | None:
        """The rate that the script gave the first group that trains, before any schedule."""
        rates = self.given_rates
        return to_number(rates[find_leading(rates)]) if rates else None

    @property
    def gathered_passes(self) -> int:
        """Backward passes since the last step."""
        return self._gathered.passes

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
        self._gathered.waited_s += seconds

    def see_failure(self, error: BaseException) -> None:
        """Keep what passed through a pass; memory that ran out may end the script's start here."""
        self.failure = error
        if self.on_out_of_memory is not None and is_out_of_memory(error):
            self.on_out_of_memory()

    def run_backward(self, roots: Any, run: Callable[[], Any]) -> tuple[Any, bool]:
        """Run a backward pass and count it; what a pass itself runs is part of it.

        Returns:
            What it returns, and whether it was counted.
        """
        if self._is_backward:
            return run(), False
        self._is_backward = True
        try:
            result = run()
        except BaseException as error:
            self.see_failure(error)
            raise
        finally:
            self._is_backward = False
        self._count_pass(roots)
        return result, True

    def _count_pass(self, roots: Any) -> None:
        gathered = self._gathered
        gathered.passes += 1
        if self.is_mean is None:
            self.is_mean = isinstance(roots, Tensor) and is_plain_mean(roots)
        root = roots[0] if isinstance(roots, list | tuple) and len(roots) == 1 else roots
        if isinstance(root, Tensor) and root.numel() == 1:
            scale = getattr(root, "bsadvisor_scale", None)
            loss = root.detach()
            gathered.losses.append(loss if scale is None else loss / scale)

    def see_clipping(self, most_norm: float | None) -> None:
        """Note that the gradients are about to be clipped; frozen ones are read before."""
        if most_norm is None:
            self.clips_values = True
        else:
            self.most_norm = most_norm
        if self.is_frozen and self.optimizer is not None and self.gathered_passes >= self.passes:
            self._tell_before()  # of its last pass, where it clips after each

    def see_skipped(self, optimizer: Optimizer) -> None:
        """Note that a GradScaler left a step out, since its gradients were not finite."""
        if optimizer is self.optimizer or self.optimizer is None:
            self._gathered, self._step = _Gathered(), None

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
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if callable(closure):
            # Some read them before they run the closure.
            self._rates.move(optimizer, self.find_factor())
            return replace_closure(args, kwargs, self._watch(closure))
        self._tell_before()
        if self.is_frozen:
            self._gradients.take(optimizer)
        self._rates.move(optimizer, self.find_factor())
        return None

    def _watch(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return the closure of a step, after whose first run the gradients are there."""

        def watched() -> Any:
            loss, optimizer = closure(), self.optimizer
            assert optimizer is not None
            if self._step is None:
                self._tell_before()
                self._rates.put_back(optimizer)  # an observer may have asked for others
                self._rates.move(optimizer, self.find_factor())
            if self.is_frozen:
                self._gradients.take(optimizer)
            return loss

        return watched

    def end_step(self, optimizer: Optimizer) -> bool:
        """See an optimizer that has stepped; return False once an observer has seen enough."""
        if self.timed is not None:
            return self._end_timed(optimizer, self.timed.count)
        if optimizer is not self._stepping:
            return True
        self._stepping = None
        self._rates.put_back(optimizer)
        if self._step is None:
            self._tell_before(has_gradients=False)
        step = self._step
        assert step is not None
        self._gradients.put_back()
        self.passes = max(1, self._gathered.passes)
        self._gathered, self._step = _Gathered(), None
        return self._tell_after(step, 1)

    def _end_timed(self, optimizer: Optimizer, count: int) -> bool:
        """Tell the last of the steps that were timed, with what all of them waited for data."""
        step = Step(
            number=self.count + count,
            samples=self.samples,
            micro_batches=self.passes,
            waited_s=self._gathered.waited_s,
            optimizer=optimizer,
        )
        self._gathered, self.timed = _Gathered(), None
        self.on_timing()
        return self._tell_after(step, count)

    def _tell_after(self, step: Step, count: int) -> bool:
        """Tell the observers that so many steps are done; return whether all of them go on."""
        self.count += count
        self.on_steps(self.count)
        self.trained += 0 if self.is_frozen else count
        goes_on = self.count != self._most_steps
        for observer in self._observers:
            goes_on &= observer.after_step(step)
        return goes_on

    def _tell_before(self, *, has_gradients: bool = True) -> None:
        """Tell the observers of a step's gradients, once."""
        if self._step is not None:
            return
        gathered, optimizer = self._gathered, self.optimizer
        assert optimizer is not None
        passes = max(1, gathered.passes)
        self._step = Step(
            number=self.count + 1,
            samples=self.samples,
            micro_batches=passes,
            waited_s=gathered.waited_s,
            optimizer=optimizer,
            losses=gathered.losses,
            gradient_scale=self._find_scale(optimizer),
            has_gradients=has_gradients,
        )
        if self.is_frozen:  # what sees them clears them; the script may still clip or log them
            self._gradients.keep(optimizer)
        for observer in self._observers:
            observer.before_step(self._step)
        self._gradients.put_back()

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
