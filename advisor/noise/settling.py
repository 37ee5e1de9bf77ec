"""From which noise scale on the advised batch stays the same, whatever its upper end."""

from advisor.advice.decide import decide
from advisor.memory.data import MemoryConclusion
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputConclusion
from advisor.training.data import WorkloadFacts

#: Noise scales tried, in samples, one for each doubling; beyond the last no run is known.
_DOUBLINGS = 30


def find_settling_noise_scale(
    facts: WorkloadFacts, memory: MemoryConclusion, throughput: ThroughputConclusion
) -> float | None:
    """Return the noise scale, a power of two, from which on the advised batch is the same.

    None where no size was timed, or where the batch still changes at 2³⁰ samples.
    """

    def choose(scale: float) -> int | None:
        decision = decide(facts, memory, throughput, Estimate(scale, scale, scale))
        return None if decision is None else decision.chosen.global_batch_size

    last, settled = choose(2.0**_DOUBLINGS), None
    if last is None:
        return None
    for doubling in reversed(range(_DOUBLINGS)):
        if choose(2.0**doubling) != last:
            return settled
        settled = 2.0**doubling
    return settled
