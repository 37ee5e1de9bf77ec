"""The learning rate that goes with a batch: what the rules propose. A trial decides.

Legend: η0 is the user's rate at the base batch B0, B the advised batch, κ = B/B0, φ the noise
scale in samples.

    family      rule                              source
    gradient    η = η0·κ·(φ+B0)/(φ+B)             McCandlish et al. 2018, Johnson et al. 2020
    adam        η = η0·sqrt(min(B,φ)/min(B0,φ))   Malladi et al. 2022, Li et al. 2024
    root        η = η0·sqrt(κ)                    Malladi et al. 2022
    heuristic   η = η0·sqrt(κ)                    none: by analogy with Adam

With φ unknown the first two become their limits for a large φ: η0·κ and η0·sqrt(κ).
"""

import math
from typing import Literal

from advisor.noise.data import get_working_noise_scale
from advisor.rate.data import LearningRate
from advisor.statistics import Estimate
from advisor.training.data import OptimizerFacts

Family = Literal["gradient", "adam", "root", "heuristic"]

_FAMILIES: dict[str, Family] = {
    "SGD": "gradient",
    "Adam": "adam",
    "AdamW": "adam",
    "NAdam": "adam",
    "RAdam": "adam",
    "SparseAdam": "adam",
    "FusedAdam": "adam",
    "Adam8bit": "adam",
    "AdamW8bit": "adam",
    "PagedAdamW": "adam",
    "RMSprop": "root",
    "Adagrad": "root",
    "Adamax": "heuristic",
    "Lion": "heuristic",
    "Muon": "heuristic",
    "SignSGD": "heuristic",
    "Signum": "heuristic",
}
_RULES: dict[Family, str] = {
    "gradient": "η = η0·κ·(φ+B0)/(φ+B), linear while B is far below φ (McCandlish 2018)",
    "adam": "η = η0·sqrt(min(B,φ)/min(B0,φ)), the square root while B is below φ (Malladi 2022)",
    "root": "η = η0·sqrt(κ) (Malladi 2022)",
    "heuristic": "η = η0·sqrt(κ), a heuristic",
}
_RULES_WITHOUT_NOISE: dict[Family, str] = {
    "gradient": "η = η0·κ, the limit of a noise scale far above the batch (Goyal 2017)",
    "adam": "η = η0·sqrt(κ), the limit of a noise scale above the batch (Malladi 2022)",
}

_SUM_NOTE = "; over κ, since the loss is a sum"
_NOT_RUN = "no rate is printed that has not been run"


def name_family(optimizer: OptimizerFacts) -> Family | None:
    """Return how the optimizer's rate follows the batch; None where no rule is known.

    Source: the papers in the module's table.
    """
    return _FAMILIES.get(optimizer.name)


def scale_rate(
    family: Family,
    base_rate: float,
    *,
    base_batch_size: int,
    global_batch_size: int,
    noise_scale: float,
) -> float:
    """Return the rule's rate.

    Args:
        family: Which rule.
        base_rate: η0.
        base_batch_size: B0.
        global_batch_size: B.
        noise_scale: φ in samples, at least 0; infinity gives the rule's limit.

    Source: McCandlish et al. 2018, arXiv:1812.06162, eq. 2.6, which is AdaScale's gain (Johnson
    et al. 2020, arXiv:2007.05105); Malladi et al. 2022, arXiv:2205.10287.
    """
    ratio = global_batch_size / base_batch_size
    if family in {"root", "heuristic"}:
        return base_rate * math.sqrt(ratio)
    if family == "gradient":
        if math.isinf(noise_scale):
            return base_rate * ratio
        damping = (noise_scale + base_batch_size) / (noise_scale + global_batch_size)
        return base_rate * ratio * damping
    if noise_scale <= 0.0:
        return base_rate
    used, used_base = min(global_batch_size, noise_scale), min(base_batch_size, noise_scale)
    return base_rate * math.sqrt(used / used_base)


def scale_rate_with_surge(
    base_rate: float, *, base_batch_size: int, global_batch_size: int, noise_scale: float
) -> float:
    """Return Adam's rate by the rule that peaks at B = φ and falls beyond, the lower curve.

    Args:
        base_rate: η0.
        base_batch_size: B0.
        global_batch_size: B.
        noise_scale: φ in samples, above 0.

    Source: Li et al. 2024, arXiv:2405.14578: η ∝ 2/(sqrt(φ/B) + sqrt(B/φ)).
    """

    def weigh(size: int) -> float:
        return math.sqrt(noise_scale / size) + math.sqrt(size / noise_scale)

    return base_rate * weigh(base_batch_size) / weigh(global_batch_size)


def propose_learning_rate(
    optimizer: OptimizerFacts | None,
    *,
    base_batch_size: int | None,
    global_batch_size: int,
    noise: Estimate | None,
    loss_is_sum: bool = False,
) -> LearningRate:
    """Return the rule's rate with its range over the noise interval; `value` waits for a trial.

    Args:
        optimizer: As the user built it; None with `make_step`.
        base_batch_size: B0; None where unknown.
        global_batch_size: B.
        noise: φ in samples; None where it was not estimated.
        loss_is_sum: Whether the loss sums over the batch, so that the gradient grows with it: SGD's
            rate is then that of the mean loss over κ, while Adam and its kin do not see the scale.

    Source: the papers in the module's table.
    """
    family = None if optimizer is None else name_family(optimizer)
    base_rate = None if optimizer is None else optimizer.learning_rate
    reason = _explain_absence(optimizer, family, base_batch_size)
    if reason is not None or family is None or base_rate is None or base_batch_size is None:
        return LearningRate(
            value=None,
            rule="" if family is None else _RULES[family],
            base_value=base_rate,
            base_batch_size=base_batch_size,
            reason=reason or "",
        )
    working = get_working_noise_scale(noise)
    is_summed = loss_is_sum and family == "gradient"
    # A gradient that is summed grows with the batch by itself.
    unit = base_rate * (base_batch_size / global_batch_size if is_summed else 1.0)
    sizes = {"base_batch_size": base_batch_size, "global_batch_size": global_batch_size}
    proposed, *ends = [
        scale_rate(family, unit, **sizes, noise_scale=scale)
        for scale in (math.inf if working is None else working, *_get_ends(noise))
    ]
    if family == "adam" and working is not None:
        ends.append(scale_rate_with_surge(unit, **sizes, noise_scale=working))
    rules = _RULES if working is not None else {**_RULES, **_RULES_WITHOUT_NOISE}
    return LearningRate(
        value=None,
        rule=rules[family] + (_SUM_NOTE if is_summed else ""),
        base_value=base_rate,
        base_batch_size=base_batch_size,
        proposed=proposed,
        low=min(proposed, *ends),
        high=max(proposed, *ends),
        reason=f"it was not tried, and {_NOT_RUN}",
    )


def _explain_absence(
    optimizer: OptimizerFacts | None, family: Family | None, base_batch_size: int | None
) -> str | None:
    """Return why no rate can be proposed, or None where one can."""
    if optimizer is None:
        return "make_step keeps its optimizer to itself"
    if not optimizer.learning_rate:
        return f"{optimizer.name} has no learning rate to scale"
    if base_batch_size is None:
        return (
            "the batch that the base rate was tuned for is not known: set BASE_BATCH_SIZE in the "
            "model file, or give --base-batch-size"
        )
    if family is None:
        return f"no rule is known for how the rate of {optimizer.name} follows the batch"
    return None


def _get_ends(noise: Estimate | None) -> tuple[float, float]:
    """Return the ends of the noise interval; an unknown one is where it can be at most."""
    if noise is None:
        return (0.0, math.inf)
    high = math.inf if noise.high is None else noise.high
    return (max(noise.low or 0.0, 0.0), max(high, 0.0))
