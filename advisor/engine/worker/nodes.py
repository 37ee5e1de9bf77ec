"""What the workers of several nodes do about a task besides running their ranks of it.

    worker of node 0: the store, at which all ranks and workers meet: merge, emit
    other workers --(where their ranks wait, how they ended)--> worker of node 0

Torch's agents tell no other node of a rank that failed: whoever sees one sets `stop`, and every
worker ends its ranks.
"""

import contextlib
from datetime import timedelta

import msgspec
import psutil
from torch.distributed.launcher.api import LaunchConfig

from advisor.engine.wire import Place
from advisor.engine.worker.hanging import HangWatch, Watch
from advisor.engine.worker.said import RankStore
from advisor.training.data import Script

#: For the other nodes' workers to report in the end.
_REPORT = timedelta(seconds=3.0)
_PAUSE_S = 0.02
#: For all agents to meet, in seconds.
_MEET_S = 30


def configure(script: Script, place: Place) -> LaunchConfig:
    """Return how torch's agent starts the ranks of this node, beside those of the others."""
    count = -(-script.ranks // script.per_node)
    return LaunchConfig(
        min_nodes=count,
        max_nodes=count,
        nproc_per_node=len(script.list_ranks(place.node)),
        run_id=str(place.port),
        rdzv_backend="static",
        rdzv_endpoint=f"{place.host}:{place.port}",
        rdzv_configs={"rank": place.node, "timeout": _MEET_S},
    )


class AllNodes(Watch):
    """A context in which the ranks of this node end where those of another do, from a thread.

    `was_stopped`: they did, and not by themselves.
    """

    def __init__(self, script: Script, place: Place, said: RankStore, watch: HangWatch) -> None:
        self._node, self._store, self._watch = place.node, said.store, watch
        self._others = [node for node in range(1, script.ranks) if script.list_ranks(node)]
        self.was_stopped, self._told = False, ""
        super().__init__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        with contextlib.suppress(RuntimeError):  # the store went with node 0's worker
            self._store.set("stop", "")

    def _run(self) -> None:
        with contextlib.suppress(RuntimeError):  # as above
            while not self._store.check(["stop"]):
                self._tell_waits()
                if self._is_over.wait(_PAUSE_S):
                    return
        ranks = psutil.Process().children()
        with contextlib.suppress(psutil.Error):
            if any(rank.status() == psutil.STATUS_ZOMBIE for rank in ranks):
                return  # another node has heard of it first: how it ended is known in a moment
            self.was_stopped = True
            for rank in ranks:
                rank.kill()

    def _tell_waits(self) -> None:
        """Have node 0 know where the ranks of all wait, which ends one once there are no others."""
        waits = self._watch.waits
        if waits == self._told:
            return
        if self._node:
            self._store.set(f"waits/{self._node}", waits)
        else:
            keys = [f"waits/{node}" for node in self._others]
            told = [self._store.get(key).decode() for key in keys if self._store.check([key])]
            if not waits or len(told) < len(keys) or not all(told):
                return
            self._watch.end_deadlock(", ".join((waits, *told)))
        self._told = waits

    def exchange(self, codes: dict[int, int]) -> dict[int, int]:
        """Have node 0 know how ranks of this one ended; return how all did, as far as is known."""
        with contextlib.suppress(RuntimeError):  # node 0's worker has gone, or another is late
            if self._node:
                told = msgspec.json.encode(codes).decode()
                self._store.set(f"codes/{self._node}", told)
            elif self._others:
                keys = [f"codes/{node}" for node in self._others]
                self._store.wait(keys, _REPORT)
                for key in keys:
                    codes |= msgspec.json.decode(self._store.get(key), type=dict[int, int])
        return codes
