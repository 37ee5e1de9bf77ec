"""What the gate sees of a training on one occasion, and what follows from two: the types."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from advisor.device.data import Environment
from advisor.engine.record import Series, Slot
from advisor.engine.task import WorkloadTask
from advisor.figures import Bytes, Count, Fraction, Seconds, Size
from advisor.statistics import Estimate
from advisor.training.data import Precision, WorkloadSpec

#: Standard deviation of sessions, on the log scale.
Spread = Annotated[float, msgspec.Meta(ge=0.0, le=10.0)]

Metric = Literal["throughput", "peak_memory", "largest_batch", "operators", "first_step"]
Level = Literal["off", "warn", "error"]
Outcome = Literal["pass", "improved", "fail", "inconclusive", "not_measured"]
Tier = Literal["identity", "stack"]
CauseKind = Literal["code", "machine", "stack", "unknown"]


class StepCount(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same in every run."""

    #: That torch launched in one optimizer step.
    operators: Count
    #: Of tensors, at once; CPUs only.
    peak_bytes: Bytes | None = None


class CountTask(WorkloadTask[StepCount], frozen=True, kw_only=True):
    """Count at a micro-batch size."""

    runs: ClassVar[str] = "advisor.gate.measure:run"
    runs_script: ClassVar[str] = "advisor.gate.measure_script:run"

    micro_batch_size: int


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What one process showed."""

    number: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0  # of both sides' together
    #: Seconds of an optimizer step, in each timed block.
    step_s: Annotated[tuple[Seconds, ...], msgspec.Meta(min_length=1)]
    #: Of a fixed matrix product before and after them: the machine's own speed.
    product_s: tuple[Seconds, ...] = ()
    #: From the load of the user's file to the end of the first step.
    first_step_s: Seconds | None = None
    #: Median over the blocks, GPUs only.
    sm_clock_mhz: Annotated[float, msgspec.Meta(ge=1.0, le=1e6)] | None = None
    foreign_cpu_fraction: Fraction | None = None
    #: By cause, share of the time that the clock was held down, GPUs only.
    held_fraction: dict[str, Fraction] = {}


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """The most memory of training steps at one micro-batch size; None where they did not fit."""

    micro_batch_size: Size
    peak_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**60)] | None


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """What of the user's repository was measured."""

    commit: str
    name: str = ""  # as the user typed it
    is_changed: bool = False  # in files that git tracks


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two that are compared; the workload names its checkout."""

    workload: WorkloadSpec
    revision: Revision | None = None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """All that a figure depends on beside the code."""

    target: str
    micro_batch_size: Size
    environment: Environment
    precision: Precision = "fp32"
    compile: bool = False
    #: Parameters of the model file's functions, by name; of a script, its arguments.
    settings: dict[str, str] = {}
    arguments: tuple[str, ...] = ()
    #: That train together; the figures are those of all of them.
    ranks: Size = 1


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen of one training at one time: what a baseline is made of."""

    recorded_at: str  # ISO 8601, UTC
    tool_version: str
    setting: Setting
    revision: Revision | None = None
    sessions: tuple[Session, ...] = ()
    peaks: tuple[Peak, ...] = ()
    operators: Count | None = None


def merge(side: Sequence[Occasion]) -> Occasion:
    """Return all that was seen on several occasions, one at least, as if on the first."""
    counts = (each.operators for each in side if each.operators is not None)
    return msgspec.structs.replace(
        side[0],
        sessions=tuple(session for each in side for session in each.sessions),
        peaks=tuple(peak for each in side for peak in each.peaks),
        operators=next(counts, None),
    )


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric may lose."""

    level: Level = "error"
    threshold: Annotated[float, msgspec.Meta(gt=0.0, le=10.0)] = 0.05  # relative, for the worse


#: What each may lose where nothing else is said. Memory and operators hardly differ from run to
#: run; the first step is one figure a process, of imports and compilers as well.
POLICIES: dict[Metric, Policy] = {
    "throughput": Policy(threshold=0.05),
    "peak_memory": Policy(threshold=0.01),
    "largest_batch": Policy(threshold=0.01),
    "operators": Policy(level="warn", threshold=0.01),
    "first_step": Policy(level="warn", threshold=0.25),
}


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """What is likely behind a change, and the figure that says so."""

    kind: CauseKind
    evidence: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of the new side against the old.

    Attributes:
        old, new: Samples/s, bytes, operators or seconds; medians over sessions.
        change: Relative, positive for the worse; its interval holds for all looks together.
        floor: By which this machine differs from itself: less is no change.
        smallest_change: That the sessions so far could have shown; None where nothing is noise.
    """

    metric: Metric
    outcome: Outcome
    policy: Policy
    old: float | None = None
    new: float | None = None
    change: Estimate | None = None
    floor: float = 0.0
    smallest_change: float | None = None
    cause: Cause | None = None
    remark: str = ""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which the two sides are not of the same setting."""

    tier: Tier
    name: str
    old: str
    new: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that follows from the two sides together."""

    outcome: Outcome
    verdicts: tuple[Verdict, ...]
    differences: tuple[Difference, ...] = ()
    sessions: tuple[int, int] = (0, 0)


#: What a baseline holds; the two sides of a comparison, of several files in `compare` several each.
OCCASIONS = Series("occasions", Occasion, "occasion")
OLD = Series("old", Occasion, "occasion")
NEW = Series("new", Occasion, "occasion")
POLICY: Slot[dict[Metric, Policy]] = Slot("policies", dict[Metric, Policy])
#: Whether a changed stack is gated all the same.
GATES_STACK = Slot("gates_stack", bool)
#: Whether both sides were measured in turns.
IN_TURNS = Slot("in_turns", bool)
#: Spread of sessions that `noise-floor` stored for this setting.
KNOWN_SPREAD = Slot("known_spread_fraction", float, Spread)
#: File that the old side comes from, or the revision.
OLD_NAME = Slot("old_name", str)
