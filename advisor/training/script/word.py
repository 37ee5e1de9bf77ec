"""What the first rank decides for the step that comes, so that all ranks do the same in it."""

from datetime import timedelta
from typing import NamedTuple

from torch.distributed import Store  # type: ignore[attr-defined]

from advisor.errors import WorkloadError
from advisor.training.observer import Observer, Step

#: The first rank was not heard of for so long: it failed, or takes no more steps.
_SILENCE = timedelta(minutes=10)
#: What others may be behind by, before a word is forgotten.
_KEPT = 10_000


class Word(NamedTuple):
    """Of the steps up to this one; frozen steps belong to a visit and a group of it.

    A negative visit trains; in the last steps, so many `apart`, the ranks exchange no gradients.
    """

    step: int
    visit: int = -1
    group: int = 0
    apart: int = 0

    @property
    def is_frozen(self) -> bool:
        """Whether the step leaves everything as it is."""
        return self.visit >= 0


class Words:
    """Passes words among ranks, through a store at which all of them meet."""

    def __init__(self, store: Store) -> None:
        self._store, self._number = store, 0

    def say(self, word: Word) -> None:
        """Have all ranks hear a word."""
        self._store.set(f"word/{self._number}", " ".join(str(int(part)) for part in word))
        if self._number >= _KEPT:
            self._store.delete_key(f"word/{self._number - _KEPT}")
        self._number += 1

    def hear(self, step: int) -> Word:
        """Return the word of a step once it was said; WorkloadError where it was not."""
        word = Word(step=-1)
        while word.step < step:
            key = f"word/{self._number}"
            try:
                self._store.wait([key], _SILENCE)
            except RuntimeError as error:
                raise WorkloadError(
                    "the first rank takes no more steps, while others wait for it"
                ) from error
            word = Word(*map(int, self._store.get(key).split()))
            self._number += 1
        return word


class WordObserver(Observer):
    """Says what the first rank decides after each step, or has the other ranks hear it.

    It is the last observer of the first rank, and the first of all others.
    """

    def __init__(self, words: Words, *, leads: bool) -> None:
        self._words, self._leads = words, leads
        self.word, self._holds, self._known = Word(1), 1, 0

    def hold(self, steps: int, *, apart: int = 0) -> None:
        """Have the next word be of so many steps, in the last of which nothing is exchanged."""
        self.word, self._holds = self.word._replace(apart=apart), steps

    def after_step(self, step: Step) -> bool:
        """Say or hear the word of the next step, where that is not known."""
        if step.number < self._known:
            return True
        if self._leads:
            self.word, self._holds = self.word._replace(step=step.number + self._holds), 1
            self._words.say(self.word)
        else:
            self.word = self._words.hear(step.number + 1)
        self._known = self.word.step
        return True
