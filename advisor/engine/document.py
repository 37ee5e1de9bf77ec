"""Records <-> versioned JSON: one codec for every kind, published schemas."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from advisor.engine.conclusions import Conclusions
from advisor.engine.earlier import bring_up_to_date
from advisor.engine.question import Kind
from advisor.engine.record import SCHEMA_VERSION, Record, RecordKind
from advisor.errors import UsageError

#: More than any run: who made a larger file is not to fill the memory.
_MOST_BYTES = 64 << 20

T = TypeVar("T")


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
    content = read_untrusted(path)
    next_step = "Write one with: bsadvisor probe MODEL --json FILE"
    head = decode_untrusted(
        content, _Head, f"{path} is not a run written by bsadvisor", next_step=next_step
    )
    kind = kinds[head.kind]
    if head.schema_version > SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema version {head.schema_version}; this bsadvisor reads up to "
            f"{SCHEMA_VERSION}",
            next_step="Upgrade bsadvisor, or record it again.",
        )
    document = bring_up_to_date(content, kind.name)
    what = f"{path}, written by bsadvisor {head.tool_version}, cannot be read as a {kind.noun}"
    next_step = f"Write it again with: bsadvisor {kind.command} MODEL --json FILE"
    return kind, decode_untrusted(document, kind.record_type, what, next_step=next_step)


def read_untrusted(path: Path) -> bytes:
    """Return what a file holds that others may have written.

    Raises:
        UsageError: It cannot be read, or is larger than any result.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {why}") from error
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than {_MOST_BYTES >> 20} MiB, which no result is")
    return content


def decode_untrusted(
    content: bytes, kind: type[T], what: str, *, next_step: str | None = None
) -> T:
    """Return the JSON as the type says; nothing in it is run, and what does not fit is refused.

    Raises:
        UsageError: It is no such document; `what`, and where in it the fault is.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise UsageError(f"{what}: {error}", next_step=next_step) from error


def json_schema(kind: Kind) -> dict[str, Any]:
    """Return the JSON Schema of the document."""
    return msgspec.json.schema(kind.document_type)
