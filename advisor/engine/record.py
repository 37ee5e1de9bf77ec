"""The record of every command: what was asked, and what was seen by typed keys; nothing concluded.

A question names its keys once, in its `data.py`. The name is the key of the JSON document.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec

from advisor import __version__
from advisor.device.data import Environment
from advisor.engine.spec import Limits, Spec
from advisor.training.data import Precision, WorkloadFacts

#: Raised when an older reader would misread a newer file.
SCHEMA_VERSION = 1

RecordKind = Literal["run", "prediction", "lr-range", "self-comparison"]

T = TypeVar("T")


class Series(Generic[T]):
    """The key of measurements that come one after the other."""

    def __init__(self, name: str, kind: type[T]) -> None:
        self.name = name
        self.stored: Any = tuple[kind, ...]  # type: ignore[valid-type]
        self.empty: tuple[T, ...] | None = ()


class Slot(Generic[T]):
    """The key of a value that is there at most once."""

    def __init__(self, name: str, kind: type[T]) -> None:
        self.name = name
        self.stored: Any = kind | None
        self.empty: T | None = None


Key = Series[Any] | Slot[Any]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What every command is asked, as far as it bears on the figures."""

    argv: tuple[str, ...]
    seed: int
    precision: Precision
    compile: bool = False
    settings: dict[str, str] = {}
    limits: Limits = Limits()
    #: The limits in force, the device's defaults filled in.
    memory_limit_bytes: int | None = None
    headroom_bytes: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a command saw, in the order it ran."""

    kind: RecordKind = "run"
    schema_version: int = SCHEMA_VERSION
    tool_version: str
    created_at: str  # ISO 8601, UTC
    complete: bool
    stopped_because: str | None = None
    elapsed_s: float | None = None
    command: Command
    workload: WorkloadFacts | None = None  # None before the model file was understood
    environment: Environment | None = None
    seen: dict[str, Any] = {}

    def all(self, series: Series[T]) -> tuple[T, ...]:
        """Return the measurements of a series, in the order they came."""
        items: tuple[T, ...] = self.seen.get(series.name, ())
        return items

    def get(self, slot: Slot[T]) -> T | None:
        """Return the value of a slot, None where there is none."""
        return self.seen.get(slot.name)

    def adding(self, series: Series[T], *items: T) -> "Record":
        """Return the record with more measurements in a series."""
        return self._with(series, (*self.all(series), *items))

    def replacing(self, series: Series[T], items: tuple[T, ...]) -> "Record":
        """Return the record with other measurements in a series."""
        return self._with(series, items)

    def setting(self, slot: Slot[T], value: T | None) -> "Record":
        """Return the record with this value in a slot."""
        return self._with(slot, value)

    def _with(self, key: Key, value: object) -> "Record":
        return msgspec.structs.replace(self, seen={**self.seen, key.name: value})


def open_record(spec: Spec, *, kind: RecordKind, argv: tuple[str, ...]) -> Record:
    """Return the record of a command that has seen nothing yet."""
    workload = spec.workload
    return Record(
        kind=kind,
        tool_version=__version__,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        complete=False,
        command=Command(
            argv=argv,
            seed=workload.seed,
            precision=workload.precision,
            compile=workload.compile,
            settings=workload.settings,
            limits=spec.limits,
        ),
    )


def encode_fields(record: Record, keys: tuple[Key, ...]) -> Iterator[tuple[str, object]]:
    """Yield the fields of the JSON document: the head, then every key, empty ones too."""
    for name in record.__struct_fields__:
        if name != "seen":
            yield name, getattr(record, name)
    for key in keys:
        yield key.name, record.seen.get(key.name, key.empty)


def decode_fields(content: bytes, keys: tuple[Key, ...]) -> Record:
    """Return the record of a JSON document.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    head = msgspec.json.decode(content, type=Record)
    raw = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    seen = {
        key.name: msgspec.json.decode(raw[key.name], type=key.stored)
        for key in keys
        if key.name in raw
    }
    return msgspec.structs.replace(head, seen=seen)
