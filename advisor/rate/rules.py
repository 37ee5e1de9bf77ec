"""The learning rate that goes with a batch: what the rules propose. A trial decides.

Legend: η0 is the user's rate at the base batch B0, B the advised batch, κ = B/B0, φ the noise
scale in samples; unknown, it counts as large.
"""

import math
from typing import Literal, NamedTuple

from msgspec.structs import replace

from advisor.noise.data import get_working_noise_scale
from advisor.rate.data import LearningRate, OptimizerChanges, PairKey
from advisor.statistics import Estimate
from advisor.training.data import OptimizerFacts, WorkloadFacts

Family = Literal["gradient", "adam", "root", "heuristic"]

_OPTIMIZERS: dict[Family, str] = {
    "gradient": "SGD",
    "adam": "Adam AdamW NAdam RAdam SparseAdam FusedAdam Adam8bit AdamW8bit PagedAdamW",
    "root": "RMSprop Adagrad",
    "heuristic": "Adamax Lion Muon SignSGD Signum",  # by analogy with Adam
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

#: Optimizers whose weight decay acts on the weights, apart from the gradient.
_DECOUPLED_DECAY = frozenset({"AdamW", "AdamW8bit", "PagedAdamW"})
#: Adam's second beta is not moved below: fewer than 10 steps average nothing.
LEAST_BETA2 = 0.9
#: Share by which the weight decay must move to be worth a setting.
_LEAST_CHANGE_FRACTION = 0.05
NOT_RUN = "no rate is printed that has not been run"


def name_family(optimizer: OptimizerFacts) -> Family | None:
    """Return how the optimizer's rate follows the batch; None where no rule is known.

    A subclass follows the rule of its nearest ancestor that has one.
    """
    known = {name: family for family, names in _OPTIMIZERS.items() for name in names.split()}
    names = optimizer.class_names or (optimizer.name,)
    return next((known[name] for name in names if name in known), None)


class Rule(NamedTuple):
    """How the rate follows the batch, from a pair that was run."""

    family: Family
    base_batch_size: int
    base_rate: float
    #: Whether the loss sums over its batch: SGD's rate is that of the mean loss over κ.
    is_summed: bool = False

    def scale(self, global_batch_size: int, noise_scale: float = math.inf) -> float:
        """Return the rate at a batch; an infinite noise scale gives the rule's limit.

        Source: McCandlish et al. 2018, arXiv:1812.06162, eq. 2.6, which is AdaScale's gain (Johnson
        et al. 2020, arXiv:2007.05105); Malladi et al. 2022, arXiv:2205.10287.
        """
        base = self.base_batch_size
        ratio = global_batch_size / base
        if self.family == "gradient":
            rate = self.base_rate if self.is_summed else self.base_rate * ratio
            if math.isinf(noise_scale):
                return rate
            return rate * (noise_scale + base) / (noise_scale + global_batch_size)
        if self.family == "adam":
            if noise_scale <= 0.0:
                return self.base_rate
            ratio = min(global_batch_size, noise_scale) / min(base, noise_scale)
        return self.base_rate * math.sqrt(ratio)

    def scale_with_surge(self, global_batch_size: int, noise_scale: float) -> float:
        """Return Adam's rate by the rule that peaks at B = φ > 0 and falls beyond, the lower curve.

        Source: Li et al. 2024, arXiv:2405.14578: η ∝ 2/(sqrt(φ/B) + sqrt(B/φ)).
        """

        def weigh(size: int) -> float:
            return math.sqrt(noise_scale / size) + math.sqrt(size / noise_scale)

        return self.base_rate * weigh(self.base_batch_size) / weigh(global_batch_size)


def find_rule(
    optimizer: OptimizerFacts | None,
    batch_size: int,
    rate: float | None,
    *,
    is_summed: bool = False,
) -> Rule | None:
    """Return the rule from this pair; None without a rate, or where no rule is known."""
    family = None if optimizer is None else name_family(optimizer)
    return None if family is None or rate is None else Rule(family, batch_size, rate, is_summed)


def propose_learning_rate(
    facts: WorkloadFacts, global_batch_size: int, noise: Estimate | None
) -> LearningRate:
    """Return the rule's rate with its range over the noise interval; `value` waits for a trial."""
    optimizer, base_batch_size = facts.optimizer, facts.base_batch_size
    known = None if optimizer is None else name_family(optimizer)
    family: Family = known or "heuristic"
    base_rate = None if optimizer is None else optimizer.learning_rate
    rate = LearningRate(
        rule="" if optimizer is None else _RULES[family],
        base_value=base_rate,
        base_batch_size=base_batch_size,
        reason=_explain_absence(optimizer, base_batch_size),
    )
    if base_rate and base_batch_size == global_batch_size:
        return replace(
            rate,
            rule="the base batch keeps its rate",
            proposed=base_rate,
            low=base_rate,
            high=base_rate,
            reason=f"it was not tried, and {NOT_RUN}",
        )
    if rate.reason or base_rate is None or base_batch_size is None:
        return rate
    working, ends = get_working_noise_scale(noise), [0.0, math.inf]
    if noise is not None:  # an unknown end is where it can be at most
        high = math.inf if noise.high is None else noise.high
        ends = [max(noise.low or 0.0, 0.0), max(high, 0.0)]
    is_summed = facts.loss_reduction == "sum" and family == "gradient"
    rule = Rule(family, base_batch_size, base_rate, is_summed)
    proposed, *ends = [
        rule.scale(global_batch_size, scale)
        for scale in (math.inf if working is None else working, *ends)
    ]
    if family == "adam" and working is not None:
        ends.append(rule.scale_with_surge(global_batch_size, working))
    rules = _RULES if working is not None else {**_RULES, **_RULES_WITHOUT_NOISE}
    return replace(
        rate,
        rule=rules[family] + ("; over κ, since the loss is a sum" if is_summed else ""),
        proposed=proposed,
        low=min(proposed, *ends),
        high=max(proposed, *ends),
        reason=f"it was not tried, and {NOT_RUN}",
    )


def _explain_absence(optimizer: OptimizerFacts | None, base_batch_size: int | None) -> str:
    """Return why no rate can be proposed; empty where one can."""
    if optimizer is None:
        return "make_step keeps its optimizer to itself"
    if optimizer.learning_rate is None:
        return f"{optimizer.name} has no learning rate to scale"
    if not optimizer.learning_rate:
        return (
            f"the rate of {optimizer.name} is 0, as at the start of a warm-up: nothing is trained; "
            "have make_optimizer give the rate that the warm-up ends at"
        )
    if base_batch_size is None:
        return (
            "the batch that the base rate was tuned for is not known: set BASE_BATCH_SIZE in the "
            "model file, or give --base-batch-size"
        )
    return ""


def propose_optimizer_changes(
    optimizer: OptimizerFacts | None, base: PairKey, pair: PairKey
) -> OptimizerChanges:
    """Return the settings that keep their meaning in samples from the base pair to another.

    β2^κ averages, and a weight decay of λκη0/η' forgets, over as many samples as before. A warm-up
    at a larger batch takes 2/(1−β2) steps, until Adam's second moment holds more than noise.

    Source: Malladi et al. 2022, arXiv:2205.10287 (β2); Wang and Aitchison 2024, arXiv:2405.13698
    (λ); Ma and Yarats 2021, arXiv:1910.04209 (warm-up).
    """
    if optimizer is None or not pair[1]:
        return OptimizerChanges()
    family, ratio, beta2 = name_family(optimizer), pair[0] / base[0], None
    if family == "adam" and optimizer.beta2 is not None:
        # A β2 that is below the range already stays where it is.
        beta2 = max(float(optimizer.beta2**ratio), min(LEAST_BETA2, optimizer.beta2))
    decay = None
    if optimizer.weight_decay and base[1] and family in {"adam", "gradient"}:
        factor = ratio * base[1] / pair[1]
        is_forgetting = family == "gradient" or bool(
            _DECOUPLED_DECAY & {optimizer.name, *optimizer.class_names}
        )
        if is_forgetting and abs(factor - 1.0) > _LEAST_CHANGE_FRACTION:
            decay = optimizer.weight_decay * factor
    return OptimizerChanges(
        beta2=None if beta2 == optimizer.beta2 else beta2,
        weight_decay=decay,
        # The hair keeps 2/(1−0.9) = 20.000000000000004 from becoming 21.
        warmup_steps=math.ceil(2.0 / (1.0 - beta2) - 1e-6) if beta2 and ratio > 1.0 else None,
    )
