"""What is asked of the advice and what follows: the types."""

from typing import Annotated, Literal

import msgspec

from advisor.device.data import Interconnect
from advisor.engine.record import Slot
from advisor.figures import Many, Size, Weight
from advisor.memory.split import GlobalBatch
from advisor.rate.data import Candidate, LearningRate, OptimizerChanges
from advisor.statistics import Estimate

LimitingFactor = Literal[
    "memory", "kernel", "throughput", "noise", "dataset", "script", "user", "model", "time"
]
#: Why this pair: it is surely faster than the user's own; the user's own, since nothing was surely
#: faster, or since nothing was trained; the batch that the user gave; what the range test found.
Basis = Literal["winner", "stay", "untried", "given", "ranged"]


#: Of a training, in steps or epochs; none has no length.
Length = Annotated[float, msgspec.Meta(ge=1e-9, le=1e12)]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A point of the user's own training run; steps count at the base batch."""

    at: Length
    unit: Literal["step", "epoch"] = "step"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What to work out on paper; None where it was not stated."""

    #: Numbers of GPUs like this one to compare; empty means one, as measured.
    gpus: tuple[Size, ...] = ()
    #: In any currency.
    price_per_gpu_hour: Weight | None = None
    interconnect: Interconnect | None = None
    #: That training takes at the base batch, or passes over the dataset; at most one of both.
    samples: Many | None = None
    epochs: Length | None = None
    #: Where the user's schedule cuts the rate, ascending, and what multiplies it at each.
    milestones: Annotated[tuple[Moment, ...], msgspec.Meta(max_length=100)] = ()
    gamma: Annotated[float, msgspec.Meta(ge=0.001, lt=1.0)] = 0.1
    #: Where the user's cosine schedule ends.
    cosine: Moment | None = None

    @property
    def asks_for_frontier(self) -> bool:
        """Whether the user asked for more than what one device shows by itself."""
        stated = (self.price_per_gpu_hour, self.interconnect, self.samples, self.epochs)
        return bool(self.gpus) or any(each is not None for each in stated)


SCENARIO = Slot("scenario", Scenario)


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A range of sizes; an unknown end is None."""

    low: int | None
    high: int | None


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """Time and cost of training over the base pair's, in the user's loop; below 1 is better."""

    #: As trained, or by the law where it was not; on one device the cost is the time.
    time_ratio: Estimate | None = None
    cost_ratio: Estimate | None = None
    #: Whether it comes from training in this run.
    is_measured: bool = False


class Recommendation(GlobalBatch, frozen=True, kw_only=True):
    """The one answer, with its reasons."""

    basis: Basis = "stay"
    data_parallel_size: int
    #: Global batches that trained within 1.05 × the advised one's time.
    interval: Interval
    learning_rate: LearningRate
    optimizer_changes: OptimizerChanges
    limiting_factor: LimitingFactor
    expected: Expected
    #: Plain sentences, the binding one first.
    reasons: tuple[str, ...]
    #: Likewise, each ending in what to do.
    warnings: tuple[str, ...]
    #: Of the warnings, those that would change what a reader does.
    cautions: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    #: What to set, a line each, in the names of the user's own tools.
    settings: tuple[str, ...] = ()
    #: Code to paste.
    snippet: str = ""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The least and the most that something can be; without a most it is None."""

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


class FrontierPoint(GlobalBatch, frozen=True, kw_only=True):
    """One way to train to the same loss: so many GPUs, of whose micro-batches the batch is."""

    #: One is measured; more are on paper.
    gpus: int
    step_s: Bounds
    #: Over the least of all points; the cost is GPU time.
    relative_time: Bounds
    relative_cost: Bounds
    #: To train, over those of an endless batch, and over those of the smallest batches.
    relative_steps: float
    relative_samples: float
    #: Whether no other point is better in time or cost and as good in the other.
    is_efficient: bool = False
    #: Whether its batch is nearest to the noise scale, among as many GPUs.
    is_at_noise_scale: bool = False
    #: Whether an epoch has very few steps.
    has_short_epochs: bool = False
    #: Of the whole run; None unless its length was stated, and a price.
    training_s: Bounds | None = None
    training_price: Bounds | None = None


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """Time against cost over batches and numbers of GPUs, by the noise scale."""

    #: By GPUs and batch; empty where there is a `reason`.
    points: tuple[FrontierPoint, ...] = ()
    fastest: FrontierPoint | None = None
    #: The one whose worse ratio, of time and of cost, is least.
    balanced: FrontierPoint | None = None
    cheapest: FrontierPoint | None = None
    #: In samples.
    noise_scale: float | None = None
    #: That GPUs exchange at each step; None where unknown, or where nothing is exchanged.
    gradient_bytes: int | None = None
    interconnect: Interconnect | None = None
    #: Why there is no frontier.
    reason: str | None = None
    #: What the figures rest on or leave out, a sentence each.
    notes: tuple[str, ...] = ()


class ScheduleItem(GlobalBatch, frozen=True, kw_only=True):
    """From here on, this batch and rate."""

    #: Optimizer steps of the scheduled run before, and samples.
    from_step: int
    from_samples: int
    #: By rule, or as trained; None where no rule gives one.
    learning_rate: float | None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to let the batch grow, and how."""

    #: `noise`: doublings as the measured noise scale grows. `trained`: a switch where curves that
    #: were trained cross. Else the batch grows where the user's own schedule lowers the rate.
    kind: Literal["noise", "trained", "milestones", "cosine"]
    #: Empty where no schedule is advised.
    items: tuple[ScheduleItem, ...] = ()
    #: Share of time saved, None where unknown. Trained, with its 95 % interval, against
    #: the best constant batch for `trained`, in starts that did not choose the switch; else against
    #: the advised pair beside it. By the law alone against the best constant batch for `noise`,
    #: else against the advised batch with the rate schedule as it was.
    gain_fraction: float | None = None
    gain_interval: Estimate | None = None
    #: For `noise`, the law's against the advised batch.
    gain_over_advised_fraction: float | None = None
    #: That it was planned over; None where unknown.
    samples: int | None = None
    #: Starts from which it was trained beside the advised pair.
    starts: int = 0
    #: Of what the law proposes, why it was not trained.
    untrained_because: str = ""
    #: First and last step at which the noise was measured; nothing is known beyond.
    measured_from_step: int | None = None
    measured_to_step: int | None = None
    #: Why it is advised or not, in a sentence.
    reason: str = ""
    #: Where the rates come from, and what happens to them between the items.
    rate_note: str = ""
