"""What is asked: the workload, the limits, and the tasks handed to a worker process."""

from advisor.spec.commands import (
    Limits,
    LrRangeSpec,
    PredictSpec,
    ProbeSpec,
    SelfComparisonSpec,
)
from advisor.spec.scenario import Interconnect, Moment, Scenario
from advisor.spec.tasks import (
    MEMORY_PROBE_STEPS,
    EnvironmentTask,
    InspectTask,
    LoaderTask,
    LrRangeTask,
    MemoryTask,
    NoiseTask,
    SoakTask,
    Task,
    ThroughputTask,
    TraceTask,
    TrialTask,
    VerificationTask,
)
from advisor.spec.verification import VerifySpec
from advisor.spec.workload import (
    Precision,
    Target,
    TokenCount,
    Variant,
    WorkloadSpec,
    name_variant,
    parse_target,
)

__all__ = [
    "MEMORY_PROBE_STEPS",
    "EnvironmentTask",
    "InspectTask",
    "Interconnect",
    "Limits",
    "LoaderTask",
    "LrRangeSpec",
    "LrRangeTask",
    "MemoryTask",
    "Moment",
    "NoiseTask",
    "Precision",
    "PredictSpec",
    "ProbeSpec",
    "Scenario",
    "SelfComparisonSpec",
    "SoakTask",
    "Target",
    "Task",
    "ThroughputTask",
    "TokenCount",
    "TraceTask",
    "TrialTask",
    "Variant",
    "VerificationTask",
    "VerifySpec",
    "WorkloadSpec",
    "name_variant",
    "parse_target",
]
