"""Records <-> versioned JSON: one codec for every kind and layout, published schemas."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from advisor.engine.question import Kind
from advisor.engine.record import SCHEMA_VERSION, Conclusions, Record, RecordKind
from advisor.errors import UsageError

#: More than any run: who made a larger file is not to fill the memory.
_MOST_BYTES = 64 << 20

T = TypeVar("T")
R = TypeVar("R", bound=Record)


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
    """Return the record stored in `path`, of whatever kind; UsageError where it holds none."""
    content, head = _read_head(path)
    kind = kinds[head.kind]
    return kind, _decode_record(path, content, head, kind.record_type, kind.noun, kind.command)


def read_as(path: Path, name: RecordKind, record_type: type[R], *, noun: str, command: str) -> R:
    """Return the record stored in `path`, of this kind; UsageError where it holds none."""
    content, head = _read_head(path)
    if head.kind != name:
        raise UsageError(
            f"{path} is a {head.kind}, not a {noun}",
            next_step=f"Write one with: bsadvisor {command} MODEL",
        )
    return _decode_record(path, content, head, record_type, noun, command)


def _read_head(path: Path) -> tuple[bytes, _Head]:
    content = read_untrusted(path)
    head = decode_untrusted(
        content,
        _Head,
        f"{path} is not a run written by bsadvisor",
        next_step="Write one with: bsadvisor probe MODEL --json FILE",
    )
    if head.schema_version > SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema version {head.schema_version}; this bsadvisor reads up to "
            f"{SCHEMA_VERSION}",
            next_step="Upgrade bsadvisor, or record it again.",
        )
    return content, head


def _decode_record(
    path: Path, content: bytes, head: _Head, record_type: type[R], noun: str, command: str
) -> R:
    return decode_untrusted(
        bring_up_to_date(content, head.kind),
        record_type,
        f"{path}, written by bsadvisor {head.tool_version}, cannot be read as a {noun}",
        next_step=f"Write it again with: bsadvisor {command} MODEL --json FILE",
    )


def read_untrusted(path: Path) -> bytes:
    """Return what a file holds that others may have written.

    A pipe is read to its end; nobody is waited for who would open its other one.

    Raises:
        UsageError: It cannot be read, is larger than any result, or is no text.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) <= _MOST_BYTES:
            content.decode()  # also what no field takes is text
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {why}") from error
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than {_MOST_BYTES >> 20} MiB, which no result is")
    return content


def _open_at_once(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    os.set_blocking(descriptor, True)
    return descriptor


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


#: The key of what a command alone is asked, and the field of `command` in which it stood; None
#: where its fields stood there one by one.
_MOVED: dict[RecordKind, tuple[str, str | None]] = {
    "run": ("scenario", "scenario"),
    "lr-range": ("range", None),
    "prediction": ("cards", None),
    "self-comparison": ("micro_batch_size", "micro_batch_size"),
}
#: The limits that stood there likewise.
_LIMITS = ("budget_s", "max_micro_batch_size", "batch_multiple")


def bring_up_to_date(content: bytes, kind: RecordKind) -> bytes:
    """Return the document in today's layout, byte for byte where it has that, or none at all."""
    faults = (AttributeError, KeyError, TypeError, msgspec.MsgspecError, RecursionError)
    with contextlib.suppress(*faults):  # whoever reads it next says where
        document = msgspec.json.decode(content, type=dict[str, Any])
        command = document.get("command", {})
        if kind in _MOVED and ("scenario" in command or "limits" not in command):
            return msgspec.json.encode(_move(document, command, *_MOVED[kind]))
    return content


def _move(
    document: dict[str, Any], command: dict[str, Any], key: str, field: str | None
) -> dict[str, Any]:
    """Return the document with what its command alone is asked, and the limits, in their places."""
    limits = {name: command[name] for name in _LIMITS if name in command}
    kept = dict(command, limits=command.get("limits", limits))
    if kept.get("headroom_bytes") is None:
        kept.pop("headroom_bytes", None)
    seen = (batches.get("curvature") for batches in document.get("noise_batches", ()))
    sharpness = [each for each in seen if each]
    asked = {key: command.get(field) if field else command}
    return {**document, **asked, "sharpness": sharpness, "command": kept}
