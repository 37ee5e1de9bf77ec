"""What is asked of advice, what was seen of it, and what follows: the types."""

from typing import Literal

import msgspec

from advisor.device.data import Interconnect
from advisor.engine.record import Slot
from advisor.rate.data import LearningRate, OptimizerChanges


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A point of the user's own training run.

    Attributes:
        at: Optimizer steps at the base batch, or epochs.
    """

    at: float
    unit: Literal["step", "epoch"] = "step"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What to work out on paper.

    Attributes:
        gpus: Numbers of GPUs like this one to compare; empty means one, as measured.
        price_per_gpu_hour: In any currency; None leaves costs in GPU time.
        interconnect: Between the GPUs; None where it was not stated.
        samples: That training takes at the base batch; None where not stated.
        epochs: The same in passes over the dataset; at most one of both is given.
        milestones: Where the user's schedule cuts the learning rate, ascending.
        gamma: What it multiplies the rate with at each of them.
        cosine: Where the user's cosine schedule ends; None where there is none.
    """

    gpus: tuple[int, ...] = ()
    price_per_gpu_hour: float | None = None
    interconnect: Interconnect | None = None
    samples: int | None = None
    epochs: float | None = None
    milestones: tuple[Moment, ...] = ()
    gamma: float = 0.1
    cosine: Moment | None = None

    @property
    def asks_for_frontier(self) -> bool:
        """Whether the user asked for more than what one device shows by itself."""
        return bool(
            self.gpus
            or self.price_per_gpu_hour is not None
            or self.interconnect is not None
            or self.samples is not None
            or self.epochs is not None
        )


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

    def scale(self, factor: float) -> "Bounds":
        """Return both multiplied."""
        high = None if self.high is None else self.high * factor
        return Bounds(low=self.low * factor, high=high)


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


LimitingFactor = Literal["memory", "throughput", "noise", "dataset", "user"]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A range of sizes; an unknown end is None."""

    low: int | None
    high: int | None


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """Training time and cost relative to the base batch size; below 1 is better.

    Attributes:
        time_ratio: Predicted from noise scale and step time.
        cost_ratio: Likewise.
        trial_time_ratio: Measured in the trial: the time to the loss that the base pair ended on,
            over the base pair's own.
    """

    time_ratio: float | None = None
    cost_ratio: float | None = None
    trial_time_ratio: float | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to make an optimizer step.

    Attributes:
        relative_time: Predicted time to train over the best candidate's, at the noise's point.
        relative_samples: Predicted samples to train over those of the smallest batch.
    """

    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    step_s: float
    relative_time: float | None = None
    relative_samples: float | None = None

    @property
    def sample_s(self) -> float:
        """Seconds for each sample."""
        return self.step_s / self.global_batch_size


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """The one answer, with its reasons.

    Attributes:
        interval: Global batches within 5 % of the optimum, over the noise interval's ends as well.
        candidates: The trade-off curve behind the choice.
        reasons: Plain sentences, the binding one first.
        warnings: Plain sentences, each ending in what to do.
        snippet: Code to paste.
    """

    micro_batch_size: int
    gradient_accumulation_steps: int
    data_parallel_size: int
    global_batch_size: int
    interval: Interval
    learning_rate: LearningRate
    optimizer_changes: OptimizerChanges
    limiting_factor: LimitingFactor
    expected: Expected
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()
    snippet: str = ""


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


SCENARIO = Slot("scenario", Scenario)
