"""What follows from what was seen: the shapes of every derived result, recomputed on every load."""

from advisor.conclusions.derived import Derived
from advisor.conclusions.frontier import Bounds, Frontier, FrontierPoint
from advisor.conclusions.loader import LoaderConclusion, LoaderPoint, LoaderStatus
from advisor.conclusions.lr_range import (
    DerivedLrRange,
    LrRangeConclusion,
    LrRangeSeed,
    LrRangeStatus,
)
from advisor.conclusions.memory import LimitedBy, MemoryConclusion, MemoryMethod, SoakConclusion
from advisor.conclusions.noise import (
    NoiseConclusion,
    NoisePoint,
    NoiseStatus,
    NoiseTrend,
    TrendDirection,
)
from advisor.conclusions.peak import Breakdown, Comparison, ModuleShare, PhaseLevel, Remedy
from advisor.conclusions.prediction import MemoryShare, Prediction, ThroughputBound
from advisor.conclusions.recommendation import (
    Expected,
    Interval,
    LearningRate,
    LimitingFactor,
    OptimizerChanges,
    Recommendation,
    TradeoffPoint,
)
from advisor.conclusions.schedule import Schedule, ScheduleItem
from advisor.conclusions.self_comparison import SelfComparison
from advisor.conclusions.stability import (
    StabilityConclusion,
    StabilityPoint,
    StabilityStatus,
)
from advisor.conclusions.throughput import (
    Saturation,
    SaturationStatus,
    SpeedLimit,
    SpeedLimitKind,
    ThroughputConclusion,
    ThroughputFall,
    ThroughputPoint,
)
from advisor.conclusions.variants import LossAtEnd, VariantConclusion
from advisor.conclusions.verification import (
    BatchStanding,
    CriticalBatch,
    CriticalBatchStatus,
    CurvePoint,
    Verdict,
    VerdictStatus,
    VerificationConclusion,
    VerifiedBatch,
)

__all__ = [
    "BatchStanding",
    "Bounds",
    "Breakdown",
    "Comparison",
    "CriticalBatch",
    "CriticalBatchStatus",
    "CurvePoint",
    "Derived",
    "DerivedLrRange",
    "Expected",
    "Frontier",
    "FrontierPoint",
    "Interval",
    "LearningRate",
    "LimitedBy",
    "LimitingFactor",
    "LoaderConclusion",
    "LoaderPoint",
    "LoaderStatus",
    "LossAtEnd",
    "LrRangeConclusion",
    "LrRangeSeed",
    "LrRangeStatus",
    "MemoryConclusion",
    "MemoryMethod",
    "MemoryShare",
    "ModuleShare",
    "NoiseConclusion",
    "NoisePoint",
    "NoiseStatus",
    "NoiseTrend",
    "OptimizerChanges",
    "PhaseLevel",
    "Prediction",
    "Recommendation",
    "Remedy",
    "Saturation",
    "SaturationStatus",
    "Schedule",
    "ScheduleItem",
    "SelfComparison",
    "SoakConclusion",
    "SpeedLimit",
    "SpeedLimitKind",
    "StabilityConclusion",
    "StabilityPoint",
    "StabilityStatus",
    "ThroughputBound",
    "ThroughputConclusion",
    "ThroughputFall",
    "ThroughputPoint",
    "TradeoffPoint",
    "TrendDirection",
    "VariantConclusion",
    "Verdict",
    "VerdictStatus",
    "VerificationConclusion",
    "VerifiedBatch",
]
