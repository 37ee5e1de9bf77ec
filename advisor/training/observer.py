"""One stream of optimizer steps and who watches it; no observer knows where the steps come from."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


@dataclass(slots=True, kw_only=True)
class Step:
    """One optimizer step."""

    #: From 1.
    number: int
    #: Of all its micro-batches.
    samples: int
    #: Forward/backward passes.
    micro_batches: int
    #: For data.
    waited_s: float = 0.0
    #: Of the last micro-batch, as the loss has it; None where it is not known.
    batch: Any = None
    #: None in a step that is wholly the user's own.
    optimizer: Optimizer | None = None
    #: Of its micro-batches, on the device; none where they are not known.
    losses: list[Tensor] = field(default_factory=list)
    #: By which `.grad` is larger than the gradient (fp16's loss scaling).
    gradient_scale: float = 1.0
    #: Whether `.grad` is filled before the parameters move; not with a closure.
    has_gradients: bool = True


class Observer:
    """Watches steps; one that inherits says only what it looks at."""

    def before_step(self, step: Step) -> None:
        """See the gradients, before the parameters move."""

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """See the step done; return False once enough was seen."""
        return True
