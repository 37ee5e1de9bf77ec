"""How many samples at a time the curvature of the noise stage may take."""

import math

from advisor.advice.derive import derive
from advisor.engine.run import Run
from advisor.memory.data import MemoryConclusion
from advisor.training.data import WorkloadFacts

#: The graph of a gradient that is differentiated again holds this many times what training holds
#: for a sample: 2.0 to 3.4 times in two transformers, a convnet and a perceptron.
_ACTIVATIONS = 4.0
#: Vectors of the size of the parameters: Lanczos' three, the metric, the product, the gradient, and
#: what differentiating it holds.
_PARAMETER_COPIES = 8
#: Samples beyond which a product's fixed cost is small, and below which the curvature of a few
#: samples says nothing of the whole.
_MOST, _LEAST = 512, 8


def choose_curvature_sizes(run: Run, micro_batch_size: int) -> tuple[int, int] | None:
    """Return the least and the most samples of one micro-batch of the products; None if none fits.

    Under BatchNorm it is the micro-batch of training or nothing: the curvature is that of batches.

    Args:
        run: With its memory known, where it can be.
        micro_batch_size: Of the noise stage.
    """
    facts, memory = run.facts, derive(run.record).memory
    multiple = run.spec.limits.batch_multiple
    room = find_room(facts, memory)
    most = _MOST if room is None else min(_MOST, room)
    if facts.dataset_size is not None:
        most = min(most, facts.dataset_size)
    least = math.ceil(max(_LEAST, facts.min_micro_batch_size) / multiple) * multiple
    if facts.has_batch_statistics:
        most = micro_batch_size if room is None or micro_batch_size <= room else 0
        least = micro_batch_size
    return (least, most // least * least) if most >= least else None


def find_room(facts: WorkloadFacts, memory: MemoryConclusion | None) -> int | None:
    """Return the samples of a product that should fit; None where the memory is not known."""
    if memory is None or memory.max_micro_batch_size is None:
        return None
    if (
        facts.parameter_bytes is None
        or memory.capacity_bytes is None
        or memory.fixed_bytes is None
        or not memory.bytes_per_sample
    ):
        return int(memory.max_micro_batch_size / _ACTIVATIONS)
    copies_bytes = _PARAMETER_COPIES * facts.parameter_bytes
    free_bytes = memory.capacity_bytes - memory.fixed_bytes - copies_bytes
    return max(0, int(free_bytes / (_ACTIVATIONS * memory.bytes_per_sample)))
