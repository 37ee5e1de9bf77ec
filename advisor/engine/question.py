"""A question as the registry has it, and a kind of record as the questions that it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from advisor.engine.conclusions import Conclusions, Topic
from advisor.engine.record import Key, RecordKind
from advisor.engine.run import Run
from advisor.telling import Headline, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question: what it stores, what follows, what measures it, and what is told of it."""

    name: str
    keys: tuple[Key, ...] = ()
    topics: tuple[Topic[Any], ...] = ()
    run: Callable[[Run], None] | None = None
    tell: Callable[[Conclusions], Told] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of record: its questions, in the order in which they run and are told."""

    name: RecordKind
    #: What a reader calls it, as in "is a range test, not a run".
    noun: str
    #: The command that writes one.
    command: str
    questions: tuple[Question, ...]
    headline: Callable[[Conclusions], Headline]

    @property
    def keys(self) -> tuple[Key, ...]:
        """Everything that such a record may hold."""
        return tuple(key for question in self.questions for key in question.keys)

    @property
    def topics(self) -> tuple[Topic[Any], ...]:
        """Everything that may follow from it."""
        return tuple(topic for question in self.questions for topic in question.topics)
