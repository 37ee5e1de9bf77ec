"""What is asked of throughput and what follows; what was seen is `memory.data.Probe`."""

import random
from typing import ClassVar, Literal

import msgspec

from advisor.device.data import Telemetry
from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.memory.data import Probe
from advisor.predict.data import LimitedBy
from advisor.statistics import Estimate
from advisor.throughput.step_law import StepLaw

SaturationStatus = Literal[
    "saturated", "rising", "memory_limited", "host_bound", "retrograde", "inconclusive"
]
#: The data sheet, or a matrix product that was timed on this machine.
PeakSource = Literal["data sheet", "matrix product"]
SpeedLimitKind = Literal["host", "heap", "fixed", "arithmetic", "bandwidth", "neither"]


class ThroughputTask(WorkloadTask[Probe], frozen=True, kw_only=True):
    """Time blocks of training steps at several micro-batch sizes, interleaved, in one process."""

    runs: ClassVar[str] = "advisor.throughput.measure:run"
    runs_script: ClassVar[str] = "advisor.throughput.measure_script:run"
    merges_ranks: ClassVar[str] = "advisor.throughput.plan:merge_ranks"

    micro_batch_sizes: tuple[int, ...]
    session: int
    block_s: float
    #: Steps of a block where they take longer than that.
    least_steps: int = 1
    rounds: int
    #: No new round is started after this long, once one is complete.
    budget_s: float
    #: Sizes that never ran: where the model's own code fails at one, it refuses the size.
    untried: tuple[int, ...] = ()

    def make_order(self) -> random.Random:
        """Return what shuffles the sizes, in one process or over several."""
        return random.Random(self.workload.seed * 7919 + self.session)  # noqa: S311 - no secret


class ThroughputPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Speed at one micro-batch size: medians over sessions; what is not known is None."""

    micro_batch_size: int
    samples_per_s: Estimate
    step_s: Estimate
    #: Of forward and backward alone.
    micro_step_s: float | None
    sessions: int
    energy_per_sample_j: Estimate | None = None
    #: Operations each second over the device's peak (MFU on a GPU).
    flops_fraction: float | None = None
    #: Bytes that a step must move each second over the memory's bandwidth, at the least.
    bandwidth_fraction: float | None = None
    #: Of training at this size, measured.
    peak_bytes: int | None = None
    #: The same where it was not: between measured sizes, or by the law.
    predicted_peak_bytes: float | None = None


class Saturation(msgspec.Struct, frozen=True, kw_only=True):
    """Where larger batches stop being faster, or by how much they still are."""

    #: The smallest timed size that no larger one beats by the tolerance; None where there is none.
    batch_size: int | None
    low: int | None
    #: Upper end of its interval; None where the curve may rise to its end.
    high: int | None
    status: SaturationStatus
    #: The range end from which on the last doubling would gain no more; None where far beyond.
    needed_batch_size: int | None = None
    #: What doubling the batch to the largest one gains in throughput, as a share.
    last_gain: Estimate | None = None
    range_end: LimitedBy | None = None
    #: Whether that is before there are sizes enough to show a curve, however long they are timed.
    is_range_short: bool = False


class ThroughputFall(msgspec.Struct, frozen=True, kw_only=True):
    """By how much the largest size timed is slower than the fastest."""

    peak_micro_batch_size: int
    micro_batch_size: int
    slower_fraction: Estimate


class SpeedLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What holds the speed of training at one size, with the figures that show it."""

    micro_batch_size: int
    #: `host`: issuing takes all the time. `heap`: the kernel takes back and gives again what the C
    #: heap had returned. `fixed`: most of a step is the same at any size. `arithmetic` and
    #: `bandwidth`: at least half of a peak is reached. `neither`: both are far. None: not known.
    kind: SpeedLimitKind | None
    #: What the operations are compared with.
    peak: PeakSource | None = None
    flops_fraction: float | None = None
    bandwidth_fraction: float | None = None
    #: Share of a step in which the host issued work; GPUs only.
    enqueue_fraction: float | None = None
    #: Share of a step that the fitted law puts down to no sample.
    fixed_fraction: float | None = None
    #: Pages that the kernel gave the process in a step; CPUs only.
    page_faults_per_step: float | None = None
    #: Share of the processors' time that the kernel took; CPUs only.
    kernel_time_fraction: float | None = None


class ThroughputConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The throughput curve and its law t(b) = fixed_s + per_sample_s·b."""

    points: tuple[ThroughputPoint, ...]
    #: Fixed_s / per_sample_s, where throughput is half its limit.
    half_saturation_batch_size: Estimate
    fixed_s: float | None
    per_sample_s: float | None
    #: Of one optimizer step beyond forward and backward.
    optimizer_step_s: float | None
    saturation: Saturation
    #: Of all sizes, paired within sessions; what advice goes by.
    step_law: StepLaw | None = None
    optimizer_step_error_s: float | None = None
    #: Half the range of sessions over their median, worst size.
    session_spread_fraction: float | None
    #: Whose throughput the answer rests on: the saturation batch, else the largest size timed.
    decisive_micro_batch_size: int | None = None
    #: Of that throughput's interval; None where an end is unknown.
    half_width_fraction: float | None = None
    cheapest_micro_batch_size: int | None = None
    speed_limit: SpeedLimit | None = None
    fall: ThroughputFall | None = None
    discarded_blocks: dict[str, int] = {}
    disturbances: tuple[str, ...] = ()


TELEMETRY = Series("telemetry", Telemetry)
