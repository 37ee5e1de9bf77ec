"""All conclusions of a run."""

import msgspec

from advisor.conclusions.loader import LoaderConclusion
from advisor.conclusions.memory import MemoryConclusion, SoakConclusion
from advisor.conclusions.noise import NoiseConclusion
from advisor.conclusions.peak import Comparison
from advisor.conclusions.recommendation import Recommendation
from advisor.conclusions.stability import StabilityConclusion
from advisor.conclusions.throughput import ThroughputConclusion
from advisor.conclusions.variants import VariantConclusion


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """Every conclusion of a run; a part that was not reached is None."""

    memory: MemoryConclusion | None = None
    throughput: ThroughputConclusion | None = None
    noise: NoiseConclusion | None = None
    loader: LoaderConclusion | None = None
    soak: SoakConclusion | None = None
    stability: StabilityConclusion | None = None
    recommendation: Recommendation | None = None
    what_would_change: Comparison | None = None
    variants: tuple[VariantConclusion, ...] = ()
    schedule: tuple[()] = ()
