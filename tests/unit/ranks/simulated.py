"""A communicator on paper: ranks that compute, then exchange gradients in a ring."""

import dataclasses
import random

from advisor.memory.data import Probe
from advisor.ranks.data import RankProbe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ring:
    """What a step of N ranks takes.

    Attributes:
        compute_s: Of one rank, on average.
        jitter: Standard deviation of a rank's own speed, as a share.
        gradient_bytes: That each rank exchanges.
        bytes_per_s: Of the slowest link.
        latency_s: Of one message.
        hidden: Share of the compute behind which the exchange may hide.
        slow: Rank -> how many times slower it is.
    """

    compute_s: float
    gradient_bytes: float
    bytes_per_s: float
    latency_s: float = 0.0
    jitter: float = 0.0
    hidden: float = 0.0
    slow: dict[int, float] = dataclasses.field(default_factory=dict)

    def exchange_s(self, ranks: int) -> float:
        """Return the seconds of a ring all-reduce: 2(N-1) messages of 1/N of the gradient."""
        messages = 2 * (ranks - 1)
        return messages * (self.latency_s + self.gradient_bytes / ranks / self.bytes_per_s)

    def step(self, ranks: int, seed: int) -> tuple[float, tuple[float, ...]]:
        """Return the seconds of a step of all ranks, and of each rank alone."""
        generator = random.Random(seed)
        alone = tuple(
            self.compute_s * self.slow.get(rank, 1.0) * (1.0 + self.jitter * generator.gauss(0, 1))
            for rank in range(ranks)
        )
        exposed = max(0.0, self.exchange_s(ranks) - self.hidden * self.compute_s)
        return max(alone) + exposed, alone

    def probe(self, ranks: int, *, samples: int = 32, turn: int = 0) -> RankProbe:
        """Return what a turn of timing so many ranks would be seen as."""
        step_s, alone_s = self.step(ranks, seed=1000 * turn + ranks)
        probe = Probe(
            stage="throughput",
            session=turn,
            micro_batch_size=samples * ranks,
            outcome="fit",
            step_times_s=(step_s,),
            rank_step_times_s=alone_s,
        )
        return RankProbe(ranks=ranks, turn=turn, probe=probe)
