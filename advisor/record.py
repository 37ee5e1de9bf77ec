"""RunRecord <-> versioned JSON: one codec, one published schema.

The document holds the measurements and, for other programs, the conclusions under `derived`.
Reading drops `derived`: conclusions are computed again, so an old file gains from a newer version.
"""

import os
import tempfile
from pathlib import Path

import msgspec

from advisor.conclusions import Derived
from advisor.errors import UsageError
from advisor.measurements import Environment, NoiseBatches, Probe, TrialBranch, WorkloadFacts
from advisor.spec import Limits, Precision

SCHEMA_VERSION = 1


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, as far as it bears on the figures.

    Attributes:
        memory_limit_bytes: The limit in force, the default resolved.
        headroom_bytes: Kept free below it, the default resolved.
    """

    argv: tuple[str, ...]
    seed: int
    precision: Precision
    compile: bool
    limits: Limits
    settings: dict[str, str] = {}
    memory_limit_bytes: int | None = None
    headroom_bytes: int = 0


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one run saw, in the order it ran.

    Attributes:
        created_at: ISO 8601, UTC.
        complete: False where the run was cut short.
        workload: None where the model file was not understood before the run ended.
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
    noise_batches: tuple[NoiseBatches, ...] = ()
    trials: tuple[TrialBranch, ...] = ()
    stopped_because: str | None = None
    elapsed_s: float | None = None


class RunDocument(RunRecord, frozen=True, kw_only=True):
    """The JSON document: the record and what follows from it."""

    derived: Derived


def encode_document(record: RunRecord, derived: Derived) -> bytes:
    """Return the JSON document, indented, with a final newline."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    document = RunDocument(**fields, derived=derived)
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def write_document(path: Path, record: RunRecord, derived: Derived) -> None:
    """Replace `path` with the document in one step, so that a reader never sees half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(encode_document(record, derived))
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_record(path: Path) -> RunRecord:
    """Return the record stored in `path`.

    Raises:
        UsageError: The file is missing, is not a run, or comes from a newer schema.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        version = msgspec.json.decode(content, type=_Versioned).schema_version
        if version > SCHEMA_VERSION:
            raise UsageError(
                f"{path} has schema version {version}; this bsadvisor reads up to {SCHEMA_VERSION}",
                next_step="Upgrade bsadvisor, or record the run again.",
            )
        return msgspec.json.decode(content, type=RunRecord)
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is not a run written by bsadvisor: {error}",
            next_step="Write one with: bsadvisor probe MODEL --json FILE",
        ) from error


def json_schema() -> dict[str, object]:
    """Return the JSON Schema of the document."""
    return msgspec.json.schema(RunDocument)


class _Versioned(msgspec.Struct):
    schema_version: int


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
