"""What was seen: raw results of workers, never conclusions."""

from advisor.measurements.loader import LoaderTiming
from advisor.measurements.machine import Counter, DeviceFacts, Environment, Telemetry
from advisor.measurements.probe import Outcome, Probe, Soak
from advisor.measurements.training import (
    Curvature,
    Evaluation,
    GradientMoments,
    LrRangeCurve,
    NoiseBatches,
    NoiseLogEntry,
    StepSource,
    TrialBranch,
)
from advisor.measurements.variants import VariantRecord
from advisor.measurements.verification import (
    HeldOutEvaluation,
    VerificationBranch,
    VerificationRecord,
)
from advisor.measurements.workload import LossReduction, OptimizerFacts, WorkloadFacts

__all__ = [
    "Counter",
    "Curvature",
    "DeviceFacts",
    "Environment",
    "Evaluation",
    "GradientMoments",
    "HeldOutEvaluation",
    "LoaderTiming",
    "LossReduction",
    "LrRangeCurve",
    "NoiseBatches",
    "NoiseLogEntry",
    "OptimizerFacts",
    "Outcome",
    "Probe",
    "Soak",
    "StepSource",
    "Telemetry",
    "TrialBranch",
    "VariantRecord",
    "VerificationBranch",
    "VerificationRecord",
    "WorkloadFacts",
]
