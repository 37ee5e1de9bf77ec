"""Words of the first rank on several nodes: through the store at which the workers of a task meet.

rank 0 --(store)--> worker of another node --(file)--> its ranks
"""

import contextlib
import itertools
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from advisor.engine.wire import Place
from advisor.training.script.word import WordFile

#: For all to reach the store, in seconds.
_MEET_S = 30.0
#: What others may be behind by, before a word is forgotten.
_KEPT_WORDS = 10_000


class SharedWords(WordFile):
    """Passes the words of the first rank to all nodes."""

    def __init__(self, path: Path, place: Place) -> None:
        super().__init__(path)
        self._place, self._said = place, 0
        self._store: TCPStore | None = None

    def write(self, said: bytes) -> None:
        """Write down what was said, here and on the other nodes."""
        super().write(said)
        if self._store is None:
            self._store = connect(self._place)
        self._store.set(f"word/{self._said}", said)  # type: ignore[arg-type] # bytes do
        if self._said >= _KEPT_WORDS:
            self._store.delete_key(f"word/{self._said - _KEPT_WORDS}")
        self._said += 1


def pass_words(place: Place, words: WordFile) -> None:
    """Write down on this node what the first rank says."""
    with contextlib.suppress(RuntimeError):  # its end
        store = connect(place)
        store.set_timeout(timedelta(days=1))
        for number in itertools.count():
            words.write(store.get(f"word/{number}"))


def connect(place: Place, *, is_master: bool = False) -> TCPStore:
    """Return the store of a task, which is in this process where it is the master."""
    return TCPStore(
        place.host,
        place.port,
        is_master=is_master,
        timeout=timedelta(seconds=_MEET_S),
        wait_for_workers=False,
    )
