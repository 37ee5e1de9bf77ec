"""Records <-> versioned JSON: one codec, published schemas."""

import os
import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from advisor.derived import Derived
from advisor.engine.record import Record as AnyRecord
from advisor.engine.run_record import RunDocument, RunRecord
from advisor.engine.version import SCHEMA_VERSION
from advisor.errors import UsageError
from advisor.noise_floor.question import KIND
from advisor.predict.question import KIND as PREDICTION
from advisor.rate.question import KIND as LR_RANGE

Record = RunRecord | AnyRecord

_NAMES: dict[type[msgspec.Struct], str] = {
    PREDICTION.record_type: PREDICTION.noun,
    LR_RANGE.record_type: LR_RANGE.noun,
    KIND.record_type: KIND.noun,
}


def encode_document(record: RunRecord, derived: Derived) -> bytes:
    """Return the JSON document, indented, with a final newline."""
    return _indent(_encode(RunDocument, record, derived=derived))


def write_document(path: Path, record: RunRecord, derived: Derived) -> None:
    """Replace `path` with the document in one step, so that a reader never sees half of it."""
    _replace(path, encode_document(record, derived))


def _encode(document: type[msgspec.Struct], record: Record, **conclusions: object) -> bytes:
    """Return the record with what follows from it, on one line."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return msgspec.json.encode(document(**fields, **conclusions)) + b"\n"


def _indent(document: bytes) -> bytes:
    return msgspec.json.format(document, indent=2) + b"\n"


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
        name = _NAMES[type(record)]
        raise UsageError(
            f"{path} is a {name}, not a run",
            next_step="Write a run with: bsadvisor probe MODEL --json FILE",
        )
    return record


def read_saved(path: Path) -> Record:
    """Return the record stored in `path`, of whatever kind.

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
        return msgspec.json.decode(content, type=_find_record_type(head.kind))
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is not a run written by bsadvisor: {error}",
            next_step="Write one with: bsadvisor probe MODEL --json FILE",
        ) from error


DocumentKind = Literal["run", "prediction", "lr-range", "self-comparison"]

_DOCUMENTS: dict[DocumentKind, type[msgspec.Struct]] = {
    "run": RunDocument,
    "prediction": PREDICTION.document_type,
    "lr-range": LR_RANGE.document_type,
    "self-comparison": KIND.document_type,
}


def json_schema(kind: DocumentKind = "run") -> dict[str, object]:
    """Return the JSON Schema of the document."""
    return msgspec.json.schema(_DOCUMENTS[kind])


def _find_record_type(kind: str | None) -> type[Record]:
    """Return the type of record; a run names no kind."""
    match kind:
        case "prediction":
            return PREDICTION.record_type
        case "lr-range":
            return LR_RANGE.record_type
        case "self-comparison":
            return KIND.record_type
        case _:
            return RunRecord


class _Head(msgspec.Struct):
    schema_version: int
    kind: str | None = None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
