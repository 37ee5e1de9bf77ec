"""What was seen: raw results of workers, never conclusions."""

from advisor.measurements.loader import LoaderTiming
from advisor.measurements.machine import Counter, DeviceFacts, Environment, Telemetry
from advisor.measurements.probe import Outcome, Probe, Soak
from advisor.measurements.training import (
    Curvature,
    Evaluation,
    GradientMoments,
    NoiseBatches,
    TrialBranch,
)
from advisor.measurements.variants import VariantRecord
from advisor.measurements.workload import LossReduction, OptimizerFacts, WorkloadFacts

__all__ = [
    "Counter",
    "Curvature",
    "DeviceFacts",
    "Environment",
    "Evaluation",
    "GradientMoments",
    "LoaderTiming",
    "LossReduction",
    "NoiseBatches",
    "OptimizerFacts",
    "Outcome",
    "Probe",
    "Soak",
    "Telemetry",
    "TrialBranch",
    "VariantRecord",
    "WorkloadFacts",
]
