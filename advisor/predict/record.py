"""What a prediction is asked and what it rests on."""

from typing import Literal

import msgspec

from advisor.device.data import Environment
from advisor.engine.version import SCHEMA_VERSION
from advisor.predict.data import Prediction, WhatIf
from advisor.predict.memory_trace import MemoryTrace
from advisor.training.data import Precision, WorkloadFacts


class PredictCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What a prediction was asked for.

    Attributes:
        gpus: Names of the catalogue, in full.
        gpu_memory_bytes: Cards of which only the memory was stated.
        headroom_bytes: As in `PredictSpec`; None is the default.
    """

    argv: tuple[str, ...]
    seed: int
    precision: Precision
    compile: bool = False
    settings: dict[str, str] = {}
    gpus: tuple[str, ...] = ()
    gpu_memory_bytes: tuple[int, ...] = ()
    micro_batch_size: int | None = None
    headroom_bytes: int | None = None
    expandable_segments: bool = False
    max_micro_batch_size: int | None = None
    batch_multiple: int = 1


class PredictRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a prediction rests on: the model's traces; nothing in it was run on the cards.

    Attributes:
        kind: Tells the document from that of a run.
        created_at: ISO 8601, UTC.
        complete: False where it was cut short.
        environment: The machine that traced the model, not the one that is predicted.
        traces: One for every size, or one for each size where no trace serves all.
        what_ifs: Traces with one change each that saves memory, for every size; none where `traces`
            has no such trace.
        stopped_because: Why the record is incomplete.
        elapsed_s: Wall clock so far.
    """

    kind: Literal["prediction"] = "prediction"
    schema_version: int = SCHEMA_VERSION
    tool_version: str
    created_at: str
    complete: bool
    command: PredictCommand
    workload: WorkloadFacts | None = None
    environment: Environment | None = None
    traces: tuple[MemoryTrace, ...] = ()
    what_ifs: tuple[WhatIf, ...] = ()
    stopped_because: str | None = None
    elapsed_s: float | None = None


class PredictDocument(PredictRecord, frozen=True, kw_only=True):
    """The JSON document: the record and the prediction for each card."""

    predictions: tuple[Prediction, ...]
