"""What a range test is asked and what it saw."""

from typing import Literal

import msgspec

from advisor.device.data import Environment
from advisor.engine.version import SCHEMA_VERSION
from advisor.rate.conclude import settle_ranged_rate
from advisor.rate.data import DerivedLrRange, LrRangeCurve, TrialBranch
from advisor.rate.range_test import conclude_lr_range
from advisor.training.data import Precision, WorkloadFacts


class LrRangeCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What a range test was asked for, the defaults resolved where they are known.

    Attributes:
        low_rate: Of the range, in the first parameter group.
        high_rate: Likewise.
        steps: Asked for; a curve's own may be fewer.
        seeds: Curves asked for.
    """

    argv: tuple[str, ...]
    seed: int
    precision: Precision
    settings: dict[str, str] = {}
    micro_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    global_batch_size: int | None = None
    low_rate: float | None = None
    high_rate: float | None = None
    steps: int
    seeds: int
    budget_s: float


class LrRangeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `bsadvisor lr-range` saw.

    Attributes:
        kind: Tells the document from that of a run.
        created_at: ISO 8601, UTC.
        complete: False where it was cut short.
        lr_ranges: One curve for each seed.
        trials: Training at constant rates, from the suggested one down.
        stopped_because: Why the record is incomplete.
        elapsed_s: Wall clock so far.
    """

    kind: Literal["lr-range"] = "lr-range"
    schema_version: int = SCHEMA_VERSION
    tool_version: str
    created_at: str
    complete: bool
    command: LrRangeCommand
    workload: WorkloadFacts | None = None
    environment: Environment | None = None
    lr_ranges: tuple[LrRangeCurve, ...] = ()
    trials: tuple[TrialBranch, ...] = ()
    stopped_because: str | None = None
    elapsed_s: float | None = None


class LrRangeDocument(LrRangeRecord, frozen=True, kw_only=True):
    """The JSON document: the record and what follows from it."""

    derived: DerivedLrRange


def derive_lr_range(record: LrRangeRecord) -> DerivedLrRange:
    """Return every conclusion that the record of a range test supports so far."""
    facts, size = record.workload, record.command.global_batch_size
    if facts is None or facts.optimizer is None or size is None:
        return DerivedLrRange()
    settled = settle_ranged_rate(facts, record.lr_ranges, record.trials, size, is_asked=True)
    return DerivedLrRange(
        lr_range=conclude_lr_range(record.lr_ranges), learning_rate=settled.learning_rate
    )
