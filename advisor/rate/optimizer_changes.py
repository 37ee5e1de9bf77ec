"""Optimizer settings besides the rate that go with a batch: they keep their meaning in samples."""

import math

from advisor.rate.data import LearningRate, OptimizerChanges
from advisor.rate.rules import name_family
from advisor.training.data import OptimizerFacts

#: Optimizers whose weight decay acts on the weights, apart from the gradient.
_DECOUPLED_DECAY = frozenset({"AdamW", "AdamW8bit", "PagedAdamW"})
#: Adam's second beta is not moved out of this range: below, its average spans fewer than 10 steps
#: and the square root under it becomes noise; above, it outlasts a short training run.
BETA2_RANGE = (0.9, 0.9999)


def propose_optimizer_changes(
    optimizer: OptimizerFacts | None, learning_rate: LearningRate, global_batch_size: int
) -> OptimizerChanges:
    """Return the settings that keep their meaning in samples at the advised batch.

    Adam's second beta becomes β2^κ, which averages over as many samples as before. AdamW's weight
    decay becomes λκη0/η', which forgets over as many samples. A warm-up at a larger batch takes at
    least 2/(1−β2) steps, until Adam's second moment holds more than noise.

    Args:
        optimizer: As the user built it.
        learning_rate: The proposal; without one nothing changes.
        global_batch_size: The advised batch.

    Source: Malladi et al. 2022, arXiv:2205.10287 (β2); Wang and Aitchison 2024, arXiv:2405.13698
    (λ); Ma and Yarats 2021, arXiv:1910.04209 (warm-up). The clamp is derived.
    """
    base, proposed = learning_rate.base_batch_size, learning_rate.proposed
    if optimizer is None or base is None or not proposed or global_batch_size == base:
        return OptimizerChanges()
    if name_family(optimizer) != "adam" or optimizer.beta2 is None:
        return OptimizerChanges()
    ratio = global_batch_size / base
    beta2 = _scale_beta2(optimizer.beta2, ratio)
    decay = optimizer.weight_decay
    scaled_decay = None
    if decay and learning_rate.base_value and optimizer.name in _DECOUPLED_DECAY:
        scaled_decay = decay * ratio * learning_rate.base_value / proposed
    # The hair keeps 2/(1−0.9) = 20.000000000000004 from becoming 21.
    warmup_steps = math.ceil(2.0 / (1.0 - beta2) - 1e-6) if ratio > 1.0 else None
    return OptimizerChanges(
        beta2=None if beta2 == optimizer.beta2 else beta2,
        weight_decay=scaled_decay,
        warmup_steps=warmup_steps,
    )


def _scale_beta2(beta2: float, ratio: float) -> float:
    """Return β2^κ within the range; a β2 that is outside of it already stays where it is."""
    low, high = min(BETA2_RANGE[0], beta2), max(BETA2_RANGE[1], beta2)
    scaled: float = beta2**ratio
    return min(max(scaled, low), high)
