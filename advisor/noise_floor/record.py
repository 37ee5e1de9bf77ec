"""What a model compared with itself was asked and what it saw."""

from typing import Literal

import msgspec

from advisor.device.data import Environment, Telemetry
from advisor.engine.version import SCHEMA_VERSION
from advisor.memory.data import Probe
from advisor.noise_floor.data import SelfComparison
from advisor.training.data import Precision, WorkloadFacts


class SelfComparisonCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What `doctor --aa` was asked for: the configuration that is timed.

    Attributes:
        micro_batch_size: In samples; the default is filled in once the model file is known.
    """

    argv: tuple[str, ...]
    seed: int
    precision: Precision
    compile: bool = False
    settings: dict[str, str] = {}
    micro_batch_size: int | None = None
    budget_s: float


class SelfComparisonRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `bsadvisor doctor --aa` saw.

    Attributes:
        kind: Tells the document from that of a run.
        created_at: ISO 8601, UTC.
        complete: False where it was cut short.
        probes: One for each session.
        telemetry: Counters over the sessions.
        stopped_because: Why the record is incomplete.
        elapsed_s: Wall clock so far.
    """

    kind: Literal["self-comparison"] = "self-comparison"
    schema_version: int = SCHEMA_VERSION
    tool_version: str
    created_at: str
    complete: bool
    command: SelfComparisonCommand
    workload: WorkloadFacts | None = None
    environment: Environment | None = None
    probes: tuple[Probe, ...] = ()
    telemetry: tuple[Telemetry, ...] = ()
    stopped_because: str | None = None
    elapsed_s: float | None = None


class SelfComparisonDocument(SelfComparisonRecord, frozen=True, kw_only=True):
    """The JSON document: the record and what follows from it, None where nothing was timed."""

    derived: SelfComparison | None
