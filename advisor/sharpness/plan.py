"""The rate above which full-batch training leaves a point, by the curvature there: a hint.

Legend: H the Hessian of the mean loss, λ its largest eigenvalue; P = 1/(sqrt(v̂)+ε) of an Adam-like
optimizer, λ_P the largest eigenvalue of P^½ H P^½, which is that of PH; η the rate, m momentum,
d dampening, w coupled weight decay, which adds to H.

    optimizer            stable while
    SGD                  η < 2/(λ+w)
    heavy ball           η < 2(1+m)/((1−d)(λ+w))
    Nesterov (torch's)   η < 2(1+m)/((1+2m)(λ+w))
    Adam, AdamW          η < 2(1+β1)/((1−β1)·λ_P)
    RMSprop              η < 2(1+m)/λ_P
    Adagrad              η < 2/λ_P

Each is the limit of a linear recurrence on a quadratic, P held still. Training is none: curvature
falls where steps overshoot, so that runs settle at the limit (Cohen et al. 2021), and a stochastic
gradient has noise of its own. So it neither allows nor refuses a rate.
"""

from collections.abc import Sequence

import msgspec

from advisor.rate.data import LearningRate
from advisor.sharpness.data import Curvature, StabilityConclusion, StabilityPoint
from advisor.training.data import OptimizerFacts, WorkloadFacts

_ADAM = frozenset({"Adam", "AdamW", "FusedAdam"})
_OTHER_METRICS = frozenset({"RMSprop", "Adagrad"})
_NOT_ASKED = (
    "no point of the trajectory has it: no micro-batch for it was expected to fit, or no time was "
    "left"
)


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """The largest stable rate is `numerator` over (eigenvalue + `offset`).

    Attributes:
        formula: In symbols.
        is_preconditioned: Whether the eigenvalue is that in the optimizer's metric.
    """

    formula: str
    numerator: float
    offset: float = 0.0
    is_preconditioned: bool = False


def find_limit(optimizer: OptimizerFacts) -> Limit | None:
    """Return the optimizer's limit; None where none is derived for it.

    Adam's bias corrections are left out: they pass within some 1/(1−β1) steps, and no instability
    shows sooner.

    Source: Cohen et al. 2021, arXiv:2103.00065, for gradient descent, heavy ball and Nesterov;
    Cohen et al. 2022, arXiv:2207.14484, for Adam; dampening, weight decay, RMSprop and Adagrad are
    derived.
    """
    momentum, beta1 = optimizer.momentum or 0.0, optimizer.beta1 or 0.0
    if optimizer.name == "SGD":
        decay = optimizer.weight_decay or 0.0
        if momentum == 0.0:
            return Limit(formula="2/λ", numerator=2.0, offset=decay)
        if optimizer.is_nesterov:
            return Limit(
                formula="2(1+m)/((1+2m)λ)",
                numerator=2.0 * (1.0 + momentum) / (1.0 + 2.0 * momentum),
                offset=decay,
            )
        damping = 1.0 - (optimizer.dampening or 0.0)
        if damping <= 0.0:
            return None
        return Limit(formula="2(1+m)/λ", numerator=2.0 * (1.0 + momentum) / damping, offset=decay)
    if optimizer.name in _ADAM and beta1 < 1.0:
        return Limit(
            formula="2(1+β1)/((1−β1)λ)",
            numerator=2.0 * (1.0 + beta1) / (1.0 - beta1),
            is_preconditioned=True,
        )
    if optimizer.name in _OTHER_METRICS:
        return Limit(
            formula="2(1+m)/λ" if momentum else "2/λ",
            numerator=2.0 * (1.0 + momentum),
            is_preconditioned=True,
        )
    return None


def find_largest_stable_rate(limit: Limit, eigenvalue: float) -> float | None:
    """Return the largest rate at which a quadratic of this largest eigenvalue does not diverge.

    Args:
        limit: The optimizer's.
        eigenvalue: λ or λ_P, as the limit asks.

    Returns:
        None where no direction curves upwards: there is nothing to overshoot.

    Source: as for `find_limit`.
    """
    curvature = eigenvalue + limit.offset
    return limit.numerator / curvature if curvature > 0.0 else None


def conclude_stability(
    facts: WorkloadFacts,
    curvatures: Sequence[Curvature | None],
    *,
    rate: LearningRate | None,
    global_batch_size: int | None,
) -> StabilityConclusion | None:
    """Return the sharpness along training and the hint; None where nothing was measured at all.

    Args:
        facts: For the optimizer, and how the loss treats its batch.
        curvatures: One for each point of the noise trajectory; None where it was not asked for.
        rate: The advice on the rate; its value, or else what the rule proposes, is compared.
        global_batch_size: The advised batch; where the loss is a sum, its curvature grows with it.

    Source: derived.
    """
    measured = [each for each in curvatures if each is not None]
    if not measured:
        return StabilityConclusion(status="not_measured", reason=_NOT_ASKED) if curvatures else None
    reasons = tuple(dict.fromkeys(each.reason for each in measured if each.reason))
    if all(each.largest_eigenvalue is None for each in measured):
        return StabilityConclusion(status="not_measured", reason="; ".join(reasons))
    limit = None if facts.optimizer is None else find_limit(facts.optimizer)
    base = _Rate(value=None if rate is None else rate.base_value, batch_size=facts.base_batch_size)
    advised = _Rate(value=_get_advised(rate), batch_size=global_batch_size)
    grows = facts.loss_reduction == "sum"
    points = tuple(_conclude_point(each, limit, base, advised, grows=grows) for each in measured)
    return StabilityConclusion(
        status="measured",
        reason="; ".join(reasons),
        formula=None if limit is None else limit.formula,
        samples=max(each.samples for each in measured),
        points=points,
        hint=_hint(points),
    )


class _Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A rate and the batch that it goes with."""

    value: float | None
    batch_size: int | None


def _get_advised(rate: LearningRate | None) -> float | None:
    if rate is None:
        return None
    return rate.proposed if rate.value is None else rate.value


def _conclude_point(
    curvature: Curvature, limit: Limit | None, base: _Rate, advised: _Rate, *, grows: bool
) -> StabilityPoint:
    point = StabilityPoint(
        at_step=curvature.at_step,
        sharpness=curvature.largest_eigenvalue,
        preconditioned_sharpness=curvature.preconditioned_eigenvalue,
    )
    if limit is None:
        return point
    eigenvalue, converged = curvature.largest_eigenvalue, curvature.converged
    if limit.is_preconditioned:  # the metric shrinks as the sum grows, so nothing is left to scale
        eigenvalue = curvature.preconditioned_eigenvalue
        converged, grows = curvature.preconditioned_converged, False
    if eigenvalue is None:
        return point
    return msgspec.structs.replace(
        point,
        is_lower_bound=not converged,
        largest_stable_rate=None if grows else find_largest_stable_rate(limit, eigenvalue),
        base_rate_ratio=_compare(base, limit, eigenvalue, grows=grows),
        advised_rate_ratio=_compare(advised, limit, eigenvalue, grows=grows),
    )


def _compare(rate: _Rate, limit: Limit, eigenvalue: float, *, grows: bool) -> float | None:
    """Return the rate over the largest stable one at its batch."""
    if rate.value is None or (grows and rate.batch_size is None):
        return None
    size = rate.batch_size if grows and rate.batch_size is not None else 1
    stable = find_largest_stable_rate(limit, eigenvalue * size)
    return None if stable is None else rate.value / stable


def _hint(points: Sequence[StabilityPoint]) -> str | None:
    """Return where the rates lie beside the limit along the trajectory."""
    base = [each.base_rate_ratio for each in points if each.base_rate_ratio is not None]
    advised = [each.advised_rate_ratio for each in points if each.advised_rate_ratio is not None]
    parts = []
    if base:
        parts.append(f"the base rate is {_span(base)} times the largest stable one")
    if advised and advised != base:
        parts.append(f"the advised one {'' if base else 'is '}{_span(advised)} times")
    if not parts:
        return None
    highest = max((*base, *advised))
    meaning = (
        "runs above 1 may settle where the curvature is lower, or diverge"
        if highest > 1.0
        else "this alone forbids neither, and does not show that they train"
    )
    return f"{', '.join(parts)}; {meaning}: a hint, the trial decides"


def _span(ratios: Sequence[float]) -> str:
    low, high = f"{min(ratios):.2g}", f"{max(ratios):.2g}"
    return low if low == high else f"{low} to {high}"
