"""The loss of an optimizer step, of the backward passes that the script made."""

import math
from collections import deque
from typing import Any

from torch import Tensor

from advisor.training.observer import Step

#: Operations that are looked at behind a loss.
_MOST_NODES = 64
#: As torch saves `reduction="mean"`.
_MEAN = 1


def read_loss(step: Step) -> float | None:
    """Return the mean loss of a step's backward passes; None where it is no number.

    It waits for the device.
    """
    losses = [float(loss) for loss in step.losses]
    loss = math.fsum(losses) / len(losses) if losses else math.nan
    return loss if math.isfinite(loss) else None


def is_plain_mean(loss: Tensor) -> bool:
    """Return whether the operations behind a loss show a mean, and no sum before it."""
    waiting, has_mean = deque[Any]([loss.grad_fn]), False
    for _ in range(_MOST_NODES):
        if not waiting:
            break
        node = waiting.popleft()
        name = type(node).__name__
        reduction = getattr(node, "_saved_reduction", None)
        if name.startswith("Sum") or reduction not in {None, _MEAN}:
            return False
        if name.startswith("Mean") or reduction == _MEAN:
            has_mean = True
        elif node is not None:
            waiting.extend(following for following, _ in node.next_functions)
    return has_mean
