"""The advice."""

from typing import Literal

import msgspec

LimitingFactor = Literal["memory", "throughput", "noise", "dataset", "user"]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A range of sizes; an unknown end is None."""

    low: int | None
    high: int | None


class LearningRate(msgspec.Struct, frozen=True, kw_only=True):
    """The advised rate.

    Attributes:
        value: A rate that was tried; None where none can be advised.
        rule: The scaling rule, in words and symbols.
        proposed: What the rule alone gives.
        low: The rule at the lower end of the noise interval.
        high: The rule at its upper end.
        capped_by: `trial` where a trial lowered the rule's value.
        raised_by: `trial` where a trial raised it.
        reason: Why the value is what it is, or why there is none.
    """

    value: float | None
    rule: str
    base_value: float | None
    base_batch_size: int | None
    proposed: float | None = None
    low: float | None = None
    high: float | None = None
    capped_by: Literal["trial"] | None = None
    raised_by: Literal["trial"] | None = None
    reason: str = ""


class OptimizerChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Other settings that go with the batch; None means: leave as it is.

    Attributes:
        warmup_steps: The least length of a warm-up, for a training that has one.
    """

    beta2: float | None = None
    weight_decay: float | None = None
    warmup_steps: int | None = None


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


class TradeoffPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate global batch.

    Attributes:
        relative_time: Predicted time to train over the best candidate's, at the noise's point.
        relative_samples: Predicted samples to train over those of the smallest batch.
    """

    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    step_s: float
    relative_time: float | None
    relative_samples: float | None


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
    candidates: tuple[TradeoffPoint, ...] = ()
    snippet: str = ""
