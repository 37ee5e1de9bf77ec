"""Records <-> versioned JSON: one codec for every kind, published schemas."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from advisor.engine.conclusions import Conclusions
from advisor.engine.earlier import bring_up_to_date
from advisor.engine.question import Kind
from advisor.engine.record import SCHEMA_VERSION, Record, RecordKind
from advisor.errors import UsageError


class _Head(msgspec.Struct, kw_only=True):
    schema_version: int
    kind: RecordKind = "run"  # a run of the first version names no kind
    tool_version: str


def encode_document(kind: Kind, conclusions: Conclusions) -> bytes:
    """Return the record with what follows from it, with a final newline."""
    record = conclusions.record
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    derived = {topic.name: conclusions.of(topic) for topic in kind.topics}
    content = msgspec.json.encode({**fields, **(derived if kind.is_flat else {"derived": derived})})
    return (msgspec.json.format(content, indent=2) if kind.is_indented else content) + b"\n"


def read_record(path: Path, kinds: Mapping[RecordKind, Kind]) -> tuple[Kind, Record]:
    """Return the record stored in `path`, of whatever kind.

    Raises:
        UsageError: The file is missing, is none of them, or this version cannot read it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        head = msgspec.json.decode(content, type=_Head)
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is not a run written by bsadvisor: {error}",
            next_step="Write one with: bsadvisor probe MODEL --json FILE",
        ) from error
    kind = kinds[head.kind]
    if head.schema_version > SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema version {head.schema_version}; this bsadvisor reads up to "
            f"{SCHEMA_VERSION}",
            next_step="Upgrade bsadvisor, or record it again.",
        )
    try:
        document = bring_up_to_date(content, kind.name)
        return kind, msgspec.json.decode(document, type=kind.record_type)
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path}, written by bsadvisor {head.tool_version}, cannot be read as a {kind.noun}: "
            f"{error}",
            next_step=f"Write it again with: bsadvisor {kind.command} MODEL --json FILE",
        ) from error


def json_schema(kind: Kind) -> dict[str, Any]:
    """Return the JSON Schema of the document."""
    return msgspec.json.schema(kind.document_type)
