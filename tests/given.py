"""Conclusions of a run by name, computed or made up, for tests that look at several."""

from typing import Any, TypeVar

import msgspec

from advisor.advice.data import Frontier, Recommendation, Schedule, ScheduleItem
from advisor.engine.record import Conclusions, Record, Topic, open_record
from advisor.engine.run import Run
from advisor.engine.spec import Spec
from advisor.loader.data import LoaderConclusion
from advisor.memory.data import MemoryConclusion
from advisor.noise.data import NoiseConclusion
from advisor.predict.data import MemorySavings
from advisor.questions import RUN
from advisor.race.data import Race
from advisor.ranks.data import RanksConclusion
from advisor.sharpness.data import SharpnessConclusion
from advisor.soak.data import SoakConclusion
from advisor.throughput.data import ThroughputConclusion
from advisor.variants.data import VariantConclusion
from advisor.verify.data import VerificationConclusion

T = TypeVar("T")


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
    ranks: RanksConclusion | None = None
    sharpness: SharpnessConclusion | None = None
    race: Race | None = None
    recommendation: Recommendation | None = None
    what_would_change: MemorySavings | None = None
    variants: tuple[VariantConclusion, ...] = ()
    verification: VerificationConclusion | None = None
    frontier: Frontier | None = None
    schedule: tuple[ScheduleItem, ...] = ()
    schedules: tuple[Schedule, ...] = ()


class GivenConclusions(Conclusions):
    """Conclusions that are known already."""

    def __init__(self, record: Record, derived: Derived) -> None:
        super().__init__(record)
        self._derived = derived

    def of(self, topic: Topic[T]) -> T | None:
        """Return what was given."""
        found: T | None = getattr(self._derived, topic.name)
        return found


def open_run(spec: Spec, **parts: Any) -> Run:
    """Return a run of a probe that has seen nothing yet."""
    record = open_record(RUN.record_type, spec, kind="run", argv=())
    return Run(spec, record=record, **parts)
