"""All conclusions of a run."""

import msgspec

from advisor.conclusions.frontier import Frontier
from advisor.conclusions.loader import LoaderConclusion
from advisor.conclusions.memory import MemoryConclusion, SoakConclusion
from advisor.conclusions.noise import NoiseConclusion
from advisor.conclusions.peak import Comparison
from advisor.conclusions.recommendation import Recommendation
from advisor.conclusions.schedule import Schedule, ScheduleItem
from advisor.conclusions.stability import StabilityConclusion
from advisor.conclusions.throughput import ThroughputConclusion
from advisor.conclusions.variants import VariantConclusion
from advisor.conclusions.verification import VerificationConclusion


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """Every conclusion of a run; a part that was not reached is None.

    Attributes:
        schedule: The one to follow; empty where none is advised.
        schedules: Each that was considered, with its predicted gain.
    """

    memory: MemoryConclusion | None = None
    throughput: ThroughputConclusion | None = None
    noise: NoiseConclusion | None = None
    loader: LoaderConclusion | None = None
    soak: SoakConclusion | None = None
    stability: StabilityConclusion | None = None
    recommendation: Recommendation | None = None
    what_would_change: Comparison | None = None
    variants: tuple[VariantConclusion, ...] = ()
    verification: VerificationConclusion | None = None
    frontier: Frontier | None = None
    schedule: tuple[ScheduleItem, ...] = ()
    schedules: tuple[Schedule, ...] = ()
