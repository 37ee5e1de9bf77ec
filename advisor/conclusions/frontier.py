"""Time against cost."""

import msgspec

from advisor.spec import Interconnect


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The least and the most that something can be; equal where it is known.

    Attributes:
        high: None where nothing bounds it.
    """

    low: float
    high: float | None

    @property
    def ranked(self) -> float:
        """The value to compare by: the most where known, so that no gain is taken on trust."""
        return self.low if self.high is None else self.high


class FrontierPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One way to train to the same loss: so many GPUs at so large a batch.

    Attributes:
        gpus: One is measured; more are on paper.
        micro_batch_size: On each GPU.
        global_batch_size: Over all GPUs.
        step_s: Seconds of an optimizer step.
        relative_time: Time to train over the least of all points.
        relative_cost: GPU time to train over the least of all points.
        relative_steps: Optimizer steps to train over those of an endless batch.
        relative_samples: Samples to train over those of the smallest batches.
        is_efficient: Whether no other point is better in time or cost and as good in the other.
        is_at_noise_scale: Whether its batch is nearest to the noise scale, among as many GPUs.
        has_short_epochs: Whether an epoch has very few steps.
        training_s: Of the whole run; None unless its length was stated.
        training_price: Likewise; None without a price.
    """

    gpus: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    global_batch_size: int
    step_s: Bounds
    relative_time: Bounds
    relative_cost: Bounds
    relative_steps: float
    relative_samples: float
    is_efficient: bool = False
    is_at_noise_scale: bool = False
    has_short_epochs: bool = False
    training_s: Bounds | None = None
    training_price: Bounds | None = None


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """Time against cost over batches and numbers of GPUs, by the noise scale.

    Attributes:
        points: All of them, by GPUs and batch; empty where there is a `reason`.
        fastest: The least time.
        balanced: The one whose worse ratio, of time and of cost, is least.
        cheapest: The least GPU time.
        noise_scale: In samples.
        gradient_bytes: That GPUs exchange at each step; None where unknown, or where nothing is
            exchanged.
        interconnect: As stated.
        reason: Why there is no frontier.
        notes: What the figures rest on or leave out, a sentence each.
    """

    points: tuple[FrontierPoint, ...] = ()
    fastest: FrontierPoint | None = None
    balanced: FrontierPoint | None = None
    cheapest: FrontierPoint | None = None
    noise_scale: float | None = None
    gradient_bytes: int | None = None
    interconnect: Interconnect | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
