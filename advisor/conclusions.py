"""What follows from what was seen: the shapes of every derived result, recomputed on every load."""

from typing import Literal

import msgspec

from advisor.statistics import Estimate

LimitedBy = Literal["memory", "dataset", "cap", "budget"]
SaturationStatus = Literal[
    "saturated", "memory_limited", "host_bound", "retrograde", "inconclusive"
]
NoiseStatus = Literal["estimated", "lower_bound", "not_estimated"]
LimitingFactor = Literal["memory", "throughput", "noise", "dataset", "user"]


class MemoryConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The largest micro-batch and what ends it.

    Attributes:
        max_micro_batch_size: The largest size that ran all its steps.
        verified: True only where that size ran and the next one was seen not to fit, or where
            something other than memory limits.
        limited_by: What ends the search.
        fixed_bytes: Memory at batch size zero in the phase that binds.
        bytes_per_sample: Its slope.
        capacity_bytes: The enforced limit, headroom already taken off.
        headroom_bytes: Kept free below the limit.
        smallest_failed: The smallest size seen not to fit.
        probes: Probes run.
        ooms: How many of them ran out of memory.
    """

    max_micro_batch_size: int | None
    verified: bool
    limited_by: LimitedBy
    fixed_bytes: float | None
    bytes_per_sample: float | None
    capacity_bytes: int | None
    headroom_bytes: int
    smallest_failed: int | None
    probes: int
    ooms: int


class ThroughputPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Speed at one micro-batch size.

    Attributes:
        samples_per_s: Median over sessions, with its interval.
        step_s: Seconds of one full optimizer step, likewise.
        micro_step_s: Seconds of forward and backward alone.
        sessions: Processes behind the figure.
        peak_bytes: Measured peak of training at this size; None where it was not measured.
        predicted_peak_bytes: The same by the fitted law of memory, where it was not measured.
    """

    micro_batch_size: int
    samples_per_s: Estimate
    step_s: Estimate
    micro_step_s: float | None
    sessions: int
    peak_bytes: int | None = None
    predicted_peak_bytes: float | None = None


class Saturation(msgspec.Struct, frozen=True, kw_only=True):
    """Where larger batches stop being faster.

    Attributes:
        batch_size: The smallest measured size whose throughput is within the tolerance of every
            larger one; None where the data do not tell.
        low: Lower end of its interval.
        high: Upper end of its interval; None where no measured size bounds it.
        status: Why the curve ends.
        needed_batch_size: The size the fitted law puts saturation at, where memory ends before it.
    """

    batch_size: int | None
    low: int | None
    high: int | None
    status: SaturationStatus
    needed_batch_size: int | None = None


class ThroughputConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The throughput curve and its law t(b) = fixed_s + per_sample_s·b.

    Attributes:
        half_saturation_batch_size: fixed_s / per_sample_s, where throughput is half its limit.
        optimizer_step_s: Seconds of one optimizer step beyond forward and backward.
        session_spread_fraction: Half the range of sessions over their median, worst size.
    """

    points: tuple[ThroughputPoint, ...]
    half_saturation_batch_size: Estimate
    fixed_s: float | None
    per_sample_s: float | None
    optimizer_step_s: float | None
    saturation: Saturation
    session_spread_fraction: float | None


class NoisePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The noise scale at one point of the trajectory."""

    at_step: int
    loss: float
    samples: int
    noise_scale: Estimate
    preconditioned_noise_scale: Estimate | None
    gradient_sqnorm: float
    gradient_cov_trace: float


class NoiseConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The noise scale of the run.

    Attributes:
        status: `lower_bound` where the upper end is unknown.
        reason: One sentence.
        noise_scale: Step-average of tr Σ / |G|², in samples.
        preconditioned_noise_scale: The same in the optimizer's metric; None for plain SGD.
        gradient_sqnorm: |G|² at the last point.
        gradient_cov_trace: tr Σ at the last point.
        at_step: Step of the last point.
        micro_batch_size: Samples of each gradient behind the estimate.
        points: The trajectory.
    """

    status: NoiseStatus
    reason: str
    noise_scale: Estimate | None = None
    preconditioned_noise_scale: Estimate | None = None
    gradient_sqnorm: float | None = None
    gradient_cov_trace: float | None = None
    at_step: int | None = None
    micro_batch_size: int | None = None
    points: tuple[NoisePoint, ...] = ()

    @property
    def decisive(self) -> Estimate | None:
        """The noise scale that the advice follows, in the optimizer's metric where there is one."""
        return self.preconditioned_noise_scale or self.noise_scale


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
    reason: str = ""


class OptimizerChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Other settings that go with the batch; None means: leave as it is."""

    beta2: float | None = None
    weight_decay: float | None = None
    warmup_steps: int | None = None


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted training time and cost relative to the base batch size; below 1 is better."""

    time_ratio: float | None = None
    cost_ratio: float | None = None


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


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """Every conclusion of a run; a part that was not reached is None."""

    memory: MemoryConclusion | None = None
    throughput: ThroughputConclusion | None = None
    noise: NoiseConclusion | None = None
    recommendation: Recommendation | None = None
    schedule: tuple[()] = ()
