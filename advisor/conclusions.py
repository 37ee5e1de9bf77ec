"""What follows from what was seen: the shapes of every derived result, recomputed on every load."""

from typing import Literal

import msgspec

from advisor.memory_trace import Category, Phase
from advisor.statistics import Estimate

LimitedBy = Literal["memory", "dataset", "cap", "budget"]
MemoryMethod = Literal["guided", "affine"]
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
        upper_bound: The smallest size proven not to fit above the largest that ran; None where none
            was seen.
        largest_without_retries: The largest size that ran without the caching allocator having to
            flush and try again; CUDA only.
        headroom_at_max_bytes: What the largest size leaves of the limit, by its measured peak.
        method: `guided` where a prediction from the model's trace led the search, `affine` where
            the probes alone did.
        disturbances: What the surroundings did to the search: a fact and what to do about it, each.
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
    upper_bound: int | None = None
    largest_without_retries: int | None = None
    headroom_at_max_bytes: int | None = None
    method: MemoryMethod = "affine"
    disturbances: tuple[str, ...] = ()


class SoakConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the advised micro-batch still fits after more than a few steps.

    Attributes:
        micro_batch_size: The size that was soaked last.
        holds: False where memory ran out or leaks; None where the soak was too short to tell.
        steps: Optimizer steps that ran.
        evaluations: Evaluation passes that ran between them.
        training_peak_bytes: Peak over the training steps, beyond the idle process.
        evaluation_peak_bytes: Peak over the evaluation passes, likewise; None where none ran.
        reserve_peak_bytes: Peak while the training state was copied; None where it was not.
        is_growth_tested: Whether enough steps ran to tell a leak from noise.
        growth_bytes_per_step: How fast memory rises; None where it does not, or was not tested.
        steps_until_full: Optimizer steps after which that fills the limit; None without growth or
            without a limit.
        evaluation_needs_more: Whether evaluating takes more memory than training.
        failed: Micro-batches that ran out of memory when soaked, in the order they ran.
        message: What the last failure said.
    """

    micro_batch_size: int
    holds: bool | None
    steps: int
    evaluations: int
    training_peak_bytes: int | None
    evaluation_peak_bytes: int | None
    reserve_peak_bytes: int | None
    is_growth_tested: bool
    growth_bytes_per_step: Estimate | None
    steps_until_full: int | None
    evaluation_needs_more: bool
    failed: tuple[int, ...] = ()
    message: str | None = None


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


class ModuleShare(msgspec.Struct, frozen=True, kw_only=True):
    """What the storages of one module, or of a group of repeated ones, hold at the peak.

    Attributes:
        name: Dotted; `*` stands for the numbers of repeated blocks. None for what was made outside
            of every module: the batch, the loss, the optimizer's work.
        count: Blocks that the group stands for; 1 where nothing repeats.
        size_bytes: Of all of them together.
        bytes_by_category: The same by what it holds, largest first.
        parts: The group by the modules inside its blocks, largest first; empty where it has none.
    """

    name: str | None
    count: int
    size_bytes: int
    bytes_by_category: dict[Category, int]
    parts: tuple["ModuleShare", ...] = ()


class PhaseLevel(msgspec.Struct, frozen=True, kw_only=True):
    """What is allocated over one phase: when it begins, at most, and when it ends."""

    phase: Phase
    step: int
    start_bytes: int
    peak_bytes: int
    end_bytes: int


class Breakdown(msgspec.Struct, frozen=True, kw_only=True):
    """What holds the memory at the moment of the allocated peak; by a trace, not run.

    Attributes:
        micro_batch_size: In samples.
        peak_bytes: Allocated, unrounded; categories and modules each sum to it.
        phase: In which the peak is first reached.
        step: Of it; 0 for the setup.
        bytes_by_category: Every category that holds anything, largest first.
        modules: Largest first.
        timeline: Every phase, in order.
    """

    micro_batch_size: int
    peak_bytes: int
    phase: Phase
    step: int
    bytes_by_category: dict[Category, int]
    modules: tuple[ModuleShare, ...]
    timeline: tuple[PhaseLevel, ...]


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """A change to the training code that saves memory: predicted by another trace, not run.

    Attributes:
        name: Such as `bf16 autocast`.
        how_to: One line of code to paste.
        max_micro_batch_size: The largest that fits with it; None where it is not known.
        peak_bytes: Allocated peak with it, at the size that the figures without it are for.
        note: What it costs, and what the prediction assumes.
    """

    name: str
    how_to: str
    max_micro_batch_size: int | None
    peak_bytes: int
    note: str = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The training as it is and with each remedy that helps, all by traces: predicted, not run.

    Attributes:
        micro_batch_size: The size that the peaks are for.
        max_micro_batch_size: The largest that fits as it is.
        peak_bytes: Allocated peak as it is.
        remedies: The one with the largest micro-batch first.
    """

    micro_batch_size: int
    max_micro_batch_size: int | None
    peak_bytes: int
    remedies: tuple[Remedy, ...]


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """Every conclusion of a run; a part that was not reached is None."""

    memory: MemoryConclusion | None = None
    throughput: ThroughputConclusion | None = None
    noise: NoiseConclusion | None = None
    soak: SoakConclusion | None = None
    recommendation: Recommendation | None = None
    what_would_change: Comparison | None = None
    schedule: tuple[()] = ()


class MemoryShare(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of the training state takes at the peak.

    Attributes:
        part: Such as `parameters` or `context`.
        size_bytes: Unrounded sizes of the storages; the allocator's rounding is a part of its own.
    """

    part: str
    size_bytes: int


class ThroughputBound(msgspec.Struct, frozen=True, kw_only=True):
    """What no implementation can exceed on the card; a bound, not an estimate.

    Attributes:
        samples_per_s: The lower of the two below.
        limited_by: Which of them that is.
        arithmetic_per_s: At the dense peak of the data sheet; None where either is unknown.
        bandwidth_per_s: At the bandwidth of the data sheet, likewise.
    """

    samples_per_s: float
    limited_by: Literal["arithmetic", "bandwidth"]
    arithmetic_per_s: float | None
    bandwidth_per_s: float | None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Training on one card that is not here: predicted, not run.

    Attributes:
        gpu: Name of the card.
        memory_bytes: All of its memory.
        memory_source: `driver-reported`, `nominal` or `stated`.
        usable_bytes: What CUDA programs can get of it.
        headroom_bytes: Kept free.
        capacity_bytes: What is left for tensors: usable, less context and headroom.
        max_micro_batch_size: The largest that fits; 0 where not even the smallest does.
        limited_by: What ends it.
        micro_batch_size: The size that the figures below are for: the one asked for, else the
            largest; None where there is none.
        fits: Whether that size fits; None where the interval holds both.
        allocated_bytes: Peak of all tensors.
        reserved_bytes: Peak of the caching allocator.
        device_used_bytes: Peak of the process as the driver sees it, the context included.
        breakdown: What the peak consists of.
        bound: On the speed at that size; None where nothing bounds it.
        at_peak: What holds the memory at that size; None where no trace holds for it.
        what_would_change: What usual remedies would change; None where none was traced.
    """

    gpu: str
    memory_bytes: int
    memory_source: str
    usable_bytes: int
    headroom_bytes: int
    capacity_bytes: int
    max_micro_batch_size: Estimate
    limited_by: LimitedBy
    micro_batch_size: int | None = None
    fits: bool | None = None
    allocated_bytes: Estimate | None = None
    reserved_bytes: Estimate | None = None
    device_used_bytes: Estimate | None = None
    breakdown: tuple[MemoryShare, ...] = ()
    bound: ThroughputBound | None = None
    at_peak: Breakdown | None = None
    what_would_change: Comparison | None = None
