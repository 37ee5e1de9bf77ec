"""The loss of an optimizer step, of the backward passes that the script made."""

import math

from advisor.training.observer import Step


def read_loss(step: Step, *, divides: bool = False) -> float | None:
    """Return the mean loss of a step's backward passes; None where it is no number.

    Args:
        step: Waits for the device.
        divides: Whether each loss was divided by how many passes there are.
    """
    if not step.losses:
        return None
    losses = [float(loss) for loss in step.losses]
    loss = math.fsum(losses) if divides else math.fsum(losses) / len(losses)
    return loss if math.isfinite(loss) else None
