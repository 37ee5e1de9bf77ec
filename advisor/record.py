"""RunRecord and PredictRecord <-> versioned JSON: one codec, published schemas.

The document holds the measurements and, for other programs, the conclusions: of a run under
`derived`, of a prediction under `predictions`. Reading drops them: conclusions are computed again,
so an old file gains from a newer version.
"""

import os
import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from advisor.conclusions import Breakdown, Derived, DerivedLrRange, Prediction
from advisor.errors import UsageError
from advisor.measurements import (
    Environment,
    LoaderTiming,
    LrRangeCurve,
    NoiseBatches,
    NoiseLogEntry,
    Probe,
    Soak,
    Telemetry,
    TrialBranch,
    VariantRecord,
    VerificationRecord,
    WorkloadFacts,
)
from advisor.memory_trace import MemoryTrace, PredictedMemory, PredictedWhatIf, StepCost, WhatIf
from advisor.spec import Limits, Precision, Scenario

SCHEMA_VERSION = 1


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, as far as it bears on the figures.

    Attributes:
        memory_limit_bytes: The limit in force, the default resolved.
        headroom_bytes: Kept free below it, the default resolved.
        scenario: What to work out on paper.
    """

    argv: tuple[str, ...]
    seed: int
    precision: Precision
    compile: bool
    limits: Limits
    settings: dict[str, str] = {}
    memory_limit_bytes: int | None = None
    headroom_bytes: int = 0
    scenario: Scenario = Scenario()


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one run saw, in the order it ran.

    Attributes:
        created_at: ISO 8601, UTC.
        complete: False where the run was cut short.
        workload: None where the model file was not understood before the run ended.
        telemetry: Counters over the throughput sessions, one for each.
        predicted_memory: The peaks by the model's trace that led the memory search; None where
            there was none.
        step_cost: What a step must compute and move, by that trace.
        peak: What holds the memory at the advised size, by that trace; None where memory does not
            limit the advice.
        what_ifs: The peaks with the changes that save memory, likewise by traces.
        variants: The precisions and compilations that were asked for beside the run's own, that one
            first; empty where none was.
        verification: What `verify` trained to test the recommendation; None where it did not run.
        noise_log: What a real run measured of its gradients, as `--noise-log` gave it.
        lr_ranges: Curves of the range test, where no base rate is known.
        stopped_because: Why the run is incomplete.
        elapsed_s: Wall clock so far.
    """

    schema_version: int = SCHEMA_VERSION
    tool_version: str
    created_at: str
    complete: bool
    command: Command
    workload: WorkloadFacts | None = None
    environment: Environment | None = None
    probes: tuple[Probe, ...] = ()
    telemetry: tuple[Telemetry, ...] = ()
    noise_batches: tuple[NoiseBatches, ...] = ()
    loader_timings: tuple[LoaderTiming, ...] = ()
    trials: tuple[TrialBranch, ...] = ()
    lr_ranges: tuple[LrRangeCurve, ...] = ()
    soaks: tuple[Soak, ...] = ()
    predicted_memory: PredictedMemory | None = None
    step_cost: StepCost | None = None
    peak: Breakdown | None = None
    what_ifs: tuple[PredictedWhatIf, ...] = ()
    variants: tuple[VariantRecord, ...] = ()
    verification: VerificationRecord | None = None
    noise_log: tuple[NoiseLogEntry, ...] = ()
    stopped_because: str | None = None
    elapsed_s: float | None = None


class RunDocument(RunRecord, frozen=True, kw_only=True):
    """The JSON document: the record and what follows from it."""

    derived: Derived


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


def encode_lr_range(record: LrRangeRecord, derived: DerivedLrRange) -> bytes:
    """Return the JSON document, indented, with a final newline."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    document = LrRangeDocument(**fields, derived=derived)
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def write_lr_range(path: Path, record: LrRangeRecord, derived: DerivedLrRange) -> None:
    """Replace `path` with the document in one step, so that a reader never sees half of it."""
    _replace(path, encode_lr_range(record, derived))


def encode_document(record: RunRecord, derived: Derived) -> bytes:
    """Return the JSON document, indented, with a final newline."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    document = RunDocument(**fields, derived=derived)
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def encode_predictions(record: PredictRecord, predictions: tuple[Prediction, ...]) -> bytes:
    """Return the JSON document; not indented, since a trace has some ten thousand numbers."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return msgspec.json.encode(PredictDocument(**fields, predictions=predictions)) + b"\n"


def write_document(path: Path, record: RunRecord, derived: Derived) -> None:
    """Replace `path` with the document in one step, so that a reader never sees half of it."""
    _replace(path, encode_document(record, derived))


def write_predictions(
    path: Path, record: PredictRecord, predictions: tuple[Prediction, ...]
) -> None:
    """Replace `path` with the document in one step, likewise."""
    _replace(path, encode_predictions(record, predictions))


def _replace(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_record(path: Path) -> RunRecord:
    """Return the record of the run stored in `path`.

    Raises:
        UsageError: The file is missing, is not a run, or comes from a newer schema.
    """
    record = read_saved(path)
    if not isinstance(record, RunRecord):
        name = "prediction" if isinstance(record, PredictRecord) else "range test"
        raise UsageError(
            f"{path} is a {name}, not a run",
            next_step="Write a run with: bsadvisor probe MODEL --json FILE",
        )
    return record


def read_saved(path: Path) -> RunRecord | PredictRecord | LrRangeRecord:
    """Return the record stored in `path`, of a run, of a prediction or of a range test.

    Raises:
        UsageError: The file is missing, is none of them, or comes from a newer schema.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        head = msgspec.json.decode(content, type=_Head)
        version = head.schema_version
        if version > SCHEMA_VERSION:
            raise UsageError(
                f"{path} has schema version {version}; this bsadvisor reads up to {SCHEMA_VERSION}",
                next_step="Upgrade bsadvisor, or record the run again.",
            )
        if head.kind == "prediction":
            return msgspec.json.decode(content, type=PredictRecord)
        if head.kind == "lr-range":
            return msgspec.json.decode(content, type=LrRangeRecord)
        return msgspec.json.decode(content, type=RunRecord)
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is not a run written by bsadvisor: {error}",
            next_step="Write one with: bsadvisor probe MODEL --json FILE",
        ) from error


DocumentKind = Literal["run", "prediction", "lr-range"]

_DOCUMENTS: dict[DocumentKind, type[msgspec.Struct]] = {
    "run": RunDocument,
    "prediction": PredictDocument,
    "lr-range": LrRangeDocument,
}


def json_schema(kind: DocumentKind = "run") -> dict[str, object]:
    """Return the JSON Schema of the document."""
    return msgspec.json.schema(_DOCUMENTS[kind])


class _Head(msgspec.Struct):
    schema_version: int
    kind: str | None = None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
