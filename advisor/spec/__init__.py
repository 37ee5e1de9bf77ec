"""What is asked: the workload, the limits, and the tasks handed to a worker process."""

from advisor.spec.commands import Limits, PredictSpec, ProbeSpec
from advisor.spec.tasks import (
    MEMORY_PROBE_STEPS,
    EnvironmentTask,
    InspectTask,
    LoaderTask,
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
    Variant,
    WorkloadSpec,
    name_variant,
    parse_target,
)

__all__ = [
    "MEMORY_PROBE_STEPS",
    "EnvironmentTask",
    "InspectTask",
    "Limits",
    "LoaderTask",
    "MemoryTask",
    "NoiseTask",
    "Precision",
    "PredictSpec",
    "ProbeSpec",
    "SoakTask",
    "Target",
    "Task",
    "ThroughputTask",
    "TraceTask",
    "TrialTask",
    "Variant",
    "VerificationTask",
    "VerifySpec",
    "WorkloadSpec",
    "name_variant",
    "parse_target",
]
