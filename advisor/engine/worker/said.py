"""What the ranks of a task tell, each in files of its own."""

from pathlib import Path

import msgspec

from advisor.engine.wire import Done, Failure, Message

_DECODER = msgspec.json.Decoder(Message)


class RankFiles:
    """Of all ranks: what they send, their steps, where they stand, and the first one's word."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.word = folder, folder / "word"
        self._heard: dict[int, tuple[int, list[Message]]] = {}

    def said(self, rank: int) -> Path:
        """Return the file of what a rank sends, a line each."""
        return self.folder / f"{rank}.jsonl"

    def progress(self, rank: int) -> Path:
        """Return the file of a rank's process and steps."""
        return self.folder / f"{rank}.progress"

    def stack(self, rank: int) -> Path:
        """Return the file into which a rank writes where it stands when it is asked."""
        return self.folder / f"{rank}.stack"

    def hear(self, rank: int) -> list[Message]:
        """Return what a rank has said so far."""
        path = self.said(rank)
        size = path.stat().st_size if path.exists() else 0
        if self._heard.get(rank, (0, []))[0] != size:
            lines = path.read_bytes().splitlines(keepends=True)
            said = [_DECODER.decode(line) for line in lines if line.endswith(b"\n")]
            self._heard[rank] = size, said
        return self._heard.get(rank, (0, []))[1]

    def has_ended(self, rank: int) -> bool:
        """Return whether it has said all, or why not."""
        return any(isinstance(each, Done | Failure) for each in self.hear(rank))

    def has_failed(self, rank: int) -> bool:
        """Return whether its last word can have no other go on."""
        last = next(reversed(self.hear(rank)), None)
        return isinstance(last, Failure) or (isinstance(last, Done) and last.is_early)
