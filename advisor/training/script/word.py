"""What the first rank decides for the step that comes, so that all ranks do the same in it."""

import os
import struct
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from advisor.errors import WorkloadError
from advisor.training.observer import Observer, Step

#: A word, and what shows that all of it was written.
_FORMAT = struct.Struct("<4qI")
#: The first rank was not heard of for so long, in seconds: it failed, or takes no more steps.
_SILENCE_S = 600.0
_PAUSE_S = 0.0002


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


class WordFile:
    """Passes words between the ranks of one machine."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def say(self, word: Word) -> None:
        """Have all ranks hear a word."""
        self.write(_FORMAT.pack(*word, _check(word)))

    def write(self, said: bytes) -> None:
        """Write down what was said, here or on another machine."""
        os.pwrite(self._file, said, 0)

    def hear(self, step: int) -> Word:
        """Return the word of a step once it was said; WorkloadError where it was not."""
        ends_s = time.monotonic() + _SILENCE_S
        while time.monotonic() < ends_s:
            said = os.pread(self._file, _FORMAT.size, 0)
            if len(said) == _FORMAT.size:
                *numbers, check = _FORMAT.unpack(said)
                if check == _check(numbers) and numbers[0] >= step:
                    return Word(*numbers)
            time.sleep(_PAUSE_S)
        raise WorkloadError("the first rank takes no more steps, while others wait for it")


def _check(numbers: Iterable[int]) -> int:
    return zlib.crc32(repr([*map(int, numbers)]).encode())


class WordObserver(Observer):
    """Says what the first rank decides after each step, or has the other ranks hear it.

    It is the last observer of the first rank, and the first of all others.
    """

    def __init__(self, words: WordFile, *, leads: bool) -> None:
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
