"""The record of every command: what was asked and seen, by typed keys; and what follows from it.

A question names its keys once, in its `data.py`. The name is the key of the JSON document.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Literal, Self, TypeVar

import msgspec
from msgspec.structs import replace

from advisor import __version__
from advisor.device.data import Environment
from advisor.engine.spec import Limits, Spec
from advisor.figures import Bytes, Duration
from advisor.training.data import Precision, WorkloadFacts

#: Raised when an older reader would misread a newer file.
SCHEMA_VERSION = 1

RecordKind = Literal["run", "prediction", "lr-range", "self-comparison", "baseline", "check"]

T = TypeVar("T")


class Series(Generic[T]):
    """The key of measurements that come one after the other.

    The name is the key in the JSON document; by the noun, if any, a report counts them.
    """

    def __init__(self, name: str, kind: type[T], noun: str = "") -> None:
        self.name = name
        self.noun = noun
        self.stored: Any = tuple[kind, ...]  # type: ignore[valid-type]
        self.empty: tuple[T, ...] | None = ()


class Slot(Generic[T]):
    """The key of a value that is there at most once.

    `limited` is the same type as one of `advisor.figures`, where not every value can be.
    """

    def __init__(self, name: str, kind: type[T], limited: Any = None) -> None:
        self.name = name
        self.stored: Any = (limited or kind) | None
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
    memory_limit_bytes: Bytes | None = None
    headroom_bytes: Bytes = 0


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What ended a stage while the others went on."""

    #: Its name.
    stage: str
    message: str
    #: What the reader can do; None where nothing helps.
    next_step: str | None = None


#: Why a run stopped that the user stopped.
INTERRUPTED = "interrupted"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What every record holds; each kind adds a field for each of its keys (`Kind.record_type`)."""

    kind: RecordKind = "run"
    schema_version: int = SCHEMA_VERSION
    tool_version: str
    created_at: str  # ISO 8601, UTC
    complete: bool
    stopped_because: str | None = None
    elapsed_s: Duration | None = None
    command: Command
    workload: WorkloadFacts | None = None  # None before the model file was understood
    environment: Environment | None = None
    failures: tuple[Failure, ...] = ()
    #: That the user's script wrote while it was measured, and that are there still.
    written_files: tuple[str, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether something else than the user ended the run: a longer one would end so too."""
        return self.stopped_because not in {None, INTERRUPTED}

    @property
    def why_missing(self) -> str:
        """Why a part is not there."""
        if self.stopped_because:
            return self.stopped_because.rstrip(".")
        return "the run did not reach it" if self.complete else "the run was cut short"

    def all(self, series: Series[T]) -> tuple[T, ...]:
        """Return the measurements of a series, in the order they came."""
        items: tuple[T, ...] = getattr(self, series.name)
        return items

    def get(self, slot: Slot[T]) -> T | None:
        """Return the value of a slot, None where there is none."""
        value: T | None = getattr(self, slot.name)
        return value

    def replacing(self, key: Key, value: object) -> Self:
        """Return the record with other measurements in a series, or this value in a slot."""
        return replace(self, **{key.name: value})


R = TypeVar("R", bound=Record)


def open_record(record_type: type[R], spec: Spec, *, kind: RecordKind, argv: tuple[str, ...]) -> R:
    """Return the record of a command that has seen nothing yet."""
    workload = spec.workload
    return record_type(
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


@dataclass(frozen=True, eq=False)
class Topic(Generic[T]):
    """The key of one conclusion; the name is its key under `derived` in the JSON document.

    `conclude` is pure, and returns None where the record does not hold enough.
    """

    name: str
    kind: type[T]
    conclude: "Callable[[Conclusions], T | None]"


class Conclusions:
    """What follows from one record; a record that grows has new ones."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._known: dict[Topic[Any], Any] = {}

    def of(self, topic: Topic[T]) -> T | None:
        """Return the conclusion, None where the record does not hold enough for it."""
        if topic not in self._known:
            self._known[topic] = topic.conclude(self)
        found: T | None = self._known[topic]
        return found
