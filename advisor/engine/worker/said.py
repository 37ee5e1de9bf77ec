"""What the ranks of a task tell: at a store of their workers', as torchrun's agent has one."""

from datetime import timedelta
from pathlib import Path

import msgspec
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from advisor.engine.wire import Done, Failure, Message

_DECODER = msgspec.json.Decoder(Message)
#: For all to reach the store.
_MEET = timedelta(seconds=30.0)


class RankStore:
    """The store, in the process of its master; and the folder where ranks of this machine tell."""

    def __init__(self, folder: Path, host: str, port: int, *, is_master: bool = False) -> None:
        self.folder = folder
        self.store = TCPStore(
            host,
            port,
            is_master=is_master,
            timeout=_MEET,
            wait_for_workers=False,
            multi_tenant=port > 0,  # torch's agent has it as well
        )
        self._heard: dict[int, list[Message]] = {}

    def progress(self, rank: int) -> Path:
        """Return the file of a rank's process and steps."""
        return self.folder / f"{rank}.progress"

    def stack(self, rank: int) -> Path:
        """Return the file into which a rank writes where it stands when it is asked."""
        return self.folder / f"{rank}.stack"

    def say(self, rank: int, message: Message) -> None:
        """Have all know what a rank says; in what order ranks failed is known as well."""
        number = self.store.add(f"said/{rank}", 1)
        self.store.set(f"said/{rank}/{number}", msgspec.json.encode(message).decode())
        if isinstance(message, Failure) or (isinstance(message, Done) and message.is_early):
            self.store.set(f"failed/{self.store.add('failed', 1)}", str(rank))

    def hear(self, rank: int) -> list[Message]:
        """Return what a rank has said so far."""
        heard = self._heard.setdefault(rank, [])
        while self.store.check([key := f"said/{rank}/{len(heard) + 1}"]):
            heard.append(_DECODER.decode(self.store.get(key)))
        return heard

    def has_ended(self, rank: int) -> bool:
        """Return whether it has said all, or why not."""
        return any(isinstance(each, Done | Failure) for each in self.hear(rank))

    def list_failed(self) -> list[int]:
        """Return the ranks that have, the first one first."""
        ranks = list[int]()
        while self.store.check([key := f"failed/{len(ranks) + 1}"]):
            ranks.append(int(self.store.get(key)))
        return ranks
