"""A question as the registry has it, and a kind of record as the questions that it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, get_origin

import msgspec

from advisor.engine.record import Conclusions, Key, Record, RecordKind, Topic
from advisor.engine.run import Run
from advisor.telling import Headline, Screen, Status, Told

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question: what it stores, what follows, what measures it, and what is told of it."""

    name: str
    keys: tuple[Key, ...] = ()
    topics: tuple[Topic[Any], ...] = ()
    #: Reads the files that the user gave, before any worker starts.
    read: Callable[[Run], None] | None = None
    #: Refuses what cannot be run, once the model file is known and before anything else.
    check: Callable[[Run], None] | None = None
    run: Callable[[Run], None] | None = None
    #: Called in turn with the others' after every `run`, while time is left: does one piece of work
    #: more where the question is open and can afford it, and returns whether it did.
    more: Callable[[Run], bool] | None = None
    tell: Callable[[Conclusions], Told] | None = None
    #: The one line of the first screen; None of a stage that was not asked for.
    brief: Callable[[Conclusions], Status | None] | None = None
    #: Whether what the others tell stands where it fails.
    fails_alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of record: its questions, in the order in which they run."""

    name: RecordKind
    #: As in "is a range test, not a run".
    noun: str
    #: Writes one.
    command: str
    questions: tuple[Question, ...]
    #: The answer of all questions together.
    headline: Callable[[Conclusions], Headline]
    #: Whether a record that this error cut short has something to print.
    is_worth_telling: Callable[[Record, BaseException], bool]
    #: The questions in the order of the report; empty where they are told as they run.
    told: tuple[Question, ...] = ()
    #: What decides, for the first screen; None where the report is that short.
    screen: Callable[[Conclusions], Screen] | None = None
    #: What would be answered now, in a line; empty where nothing would.
    so_far: Callable[[Conclusions], str] | None = None
    #: The model file is inspected without a training step.
    traces_only: bool = False
    #: The headline alone says nothing, so that `--quiet` leaves the rest as well.
    answers_in_rows: bool = False
    #: Its document is for people to read as well.
    is_indented: bool = True
    #: What follows stands beside the record's keys, not under `derived`.
    is_flat: bool = False

    @cached_property
    def record_type(self) -> type[Record]:
        """A record with every key of the questions; it is encoded and decoded as it stands."""
        keys = [key for question in self.questions for key in question.keys]
        return self._define("Record", [(k.name, k.stored, k.empty) for k in keys], Record)

    @cached_property
    def document_type(self) -> type[msgspec.Struct]:
        """The record with what follows from it, under `derived` or not: much may be missing."""
        fields: list[Any] = [
            (topic.name, topic.kind, ())
            if get_origin(topic.kind) is tuple
            else (topic.name, topic.kind | None, None)
            for topic in self.topics
        ]
        if not self.is_flat:
            derived = self._define("Derived", fields, msgspec.Struct)
            fields = [("derived", derived, msgspec.NODEFAULT)]
        own_name = ("kind", Literal[self.name], self.name)
        return self._define("Document", [own_name, *fields], self.record_type)

    @property
    def topics(self) -> tuple[Topic[Any], ...]:
        """Everything that may follow from such a record."""
        return tuple(topic for question in self.questions for topic in question.topics)

    def _define(self, part: str, fields: list[Any], base: type[S]) -> type[S]:
        name = "".join(word.capitalize() for word in self.name.split("-")) + part
        made = msgspec.defstruct(name, fields, bases=(base,), frozen=True, kw_only=True)
        assert issubclass(made, base)
        return made
