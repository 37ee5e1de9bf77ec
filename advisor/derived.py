"""All conclusions of a run."""

import msgspec

from advisor.advice.data import Frontier, Recommendation, Schedule, ScheduleItem
from advisor.loader.data import LoaderConclusion
from advisor.memory.data import MemoryConclusion
from advisor.noise.data import NoiseConclusion
from advisor.predict.data import MemorySavings
from advisor.sharpness.data import SharpnessConclusion
from advisor.soak.data import SoakConclusion
from advisor.throughput.data import ThroughputConclusion
from advisor.variants.data import VariantConclusion
from advisor.verify.data import VerificationConclusion


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
    sharpness: SharpnessConclusion | None = None
    recommendation: Recommendation | None = None
    what_would_change: MemorySavings | None = None
    variants: tuple[VariantConclusion, ...] = ()
    verification: VerificationConclusion | None = None
    frontier: Frontier | None = None
    schedule: tuple[ScheduleItem, ...] = ()
    schedules: tuple[Schedule, ...] = ()
