"""What follows from what was seen: the shapes of every derived result, recomputed on every load."""

from advisor.conclusions.derived import Derived
from advisor.conclusions.loader import LoaderConclusion, LoaderPoint, LoaderStatus
from advisor.conclusions.memory import LimitedBy, MemoryConclusion, MemoryMethod, SoakConclusion
from advisor.conclusions.noise import NoiseConclusion, NoisePoint, NoiseStatus
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
    ThroughputConclusion,
    ThroughputPoint,
)
from advisor.conclusions.variants import LossAtEnd, VariantConclusion

__all__ = [
    "Breakdown",
    "Comparison",
    "Derived",
    "Expected",
    "Interval",
    "LearningRate",
    "LimitedBy",
    "LimitingFactor",
    "LoaderConclusion",
    "LoaderPoint",
    "LoaderStatus",
    "LossAtEnd",
    "MemoryConclusion",
    "MemoryMethod",
    "MemoryShare",
    "ModuleShare",
    "NoiseConclusion",
    "NoisePoint",
    "NoiseStatus",
    "OptimizerChanges",
    "PhaseLevel",
    "Prediction",
    "Recommendation",
    "Remedy",
    "Saturation",
    "SaturationStatus",
    "SelfComparison",
    "SoakConclusion",
    "SpeedLimit",
    "StabilityConclusion",
    "StabilityPoint",
    "StabilityStatus",
    "ThroughputBound",
    "ThroughputConclusion",
    "ThroughputPoint",
    "TradeoffPoint",
    "VariantConclusion",
]
