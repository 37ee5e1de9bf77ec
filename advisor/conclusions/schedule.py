"""Batches that grow during training."""

from typing import Literal

import msgspec


class ScheduleItem(msgspec.Struct, frozen=True, kw_only=True):
    """From here on, this batch and rate.

    Attributes:
        from_step: Optimizer steps of the scheduled run before.
        from_samples: Samples of it before.
        learning_rate: By rule, not run; None where no rule gives one.
    """

    from_step: int
    from_samples: int
    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float | None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to let the batch grow, and how.

    Attributes:
        kind: `noise`: doublings as the measured noise scale grows. `milestones`, `cosine`: the
            batch grows where the user's own schedule lowers the rate.
        items: Empty where no schedule is advised.
        gain_fraction: Predicted share of time saved, against the best constant batch for `noise`,
            else against the advised batch with the rate schedule as it was; None where unknown.
        gain_over_advised_fraction: For `noise`, the same against the advised batch.
        measured_from_step: First optimizer step of the trajectory that the noise was measured at.
        measured_to_step: The last one; nothing is known beyond.
        reason: Why it is advised or not, in a sentence.
        rate_note: Where the rates come from, and what happens to them between the items.
    """

    kind: Literal["noise", "milestones", "cosine"]
    items: tuple[ScheduleItem, ...] = ()
    gain_fraction: float | None = None
    gain_over_advised_fraction: float | None = None
    measured_from_step: int | None = None
    measured_to_step: int | None = None
    reason: str = ""
    rate_note: str = ""
