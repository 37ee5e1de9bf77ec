"""The largest stable rate: quadratics on both sides of it, and the hint that it gives."""

from types import SimpleNamespace

import msgspec
import pytest
import torch

from advisor.rate.data import LearningRate
from advisor.sharpness.data import Sharpness
from advisor.sharpness.plan import conclude_sharpness, find_limit
from advisor.training.data import OptimizerFacts, WorkloadFacts
from tests.given import Derived, GivenConclusions
from tests.unit.samples import make_record

EIGENVALUES = (7.0, 3.0, 0.5)
STEPS = 4000

SGD_CASES = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.5},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.5, "weight_decay": 0.3},
    {"momentum": 0.99, "nesterov": True, "weight_decay": 0.1},
]


def minimise(make_optimizer, steps=STEPS):
    """Return how far from the minimum of a quadratic the steps end, 1 being the start."""
    curvatures = torch.tensor(EIGENVALUES, dtype=torch.float64)
    point = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = make_optimizer([point])
    for _ in range(steps):
        point.grad = curvatures * point.detach()
        optimizer.step()
        if float(point.detach().abs().max()) > 1e6:
            break
    return float(point.detach().abs().max())


def facts_of(name, **fields):
    return OptimizerFacts(name=name, learning_rate=0.1, **fields)


@pytest.mark.parametrize("fields", SGD_CASES)
def test_sgd_converges_below_the_limit_and_diverges_above(fields):
    facts = facts_of(
        "SGD",
        momentum=fields.get("momentum"),
        dampening=fields.get("dampening"),
        is_nesterov=fields.get("nesterov", False),
        weight_decay=fields.get("weight_decay"),
    )
    rate = find_limit(facts).find_rate(max(EIGENVALUES))

    def make(factor):
        return lambda parameters: torch.optim.SGD(parameters, lr=factor * rate, **fields)

    assert minimise(make(0.99)) < 1e-3
    assert minimise(make(1.01)) > 1e6


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_rmsprop_at_a_frozen_metric_likewise(momentum):
    moments = torch.tensor([4.0, 1.0, 9.0], dtype=torch.float64)
    epsilon = 0.1
    largest = max(
        value / (float(moment) ** 0.5 + epsilon)
        for value, moment in zip(EIGENVALUES, moments, strict=True)
    )
    limit = find_limit(facts_of("RMSprop", momentum=momentum))
    rate = limit.find_rate(largest)
    assert limit.is_preconditioned

    def make(factor):
        def build(parameters):
            optimizer = torch.optim.RMSprop(
                parameters, lr=factor * rate, alpha=1.0, eps=epsilon, momentum=momentum
            )
            optimizer.state[parameters[0]] = {
                "step": torch.tensor(0.0),
                "square_avg": moments.clone(),
                "momentum_buffer": torch.zeros(3, dtype=torch.float64),
            }
            return optimizer

        return build

    assert minimise(make(0.99)) < 1e-3
    assert minimise(make(1.01)) > 1e6


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_adam_at_a_frozen_metric_likewise(beta1):
    metric = (0.5, 2.0, 30.0)
    largest = max(p * value for p, value in zip(metric, EIGENVALUES, strict=True))
    rate = find_limit(facts_of("AdamW", beta1=beta1)).find_rate(largest)

    def run(factor):
        points, averages = [1.0] * 3, [0.0] * 3
        for _ in range(STEPS):
            for i, value in enumerate(EIGENVALUES):
                averages[i] = beta1 * averages[i] + (1.0 - beta1) * value * points[i]
                points[i] -= factor * rate * metric[i] * averages[i]
            if max(map(abs, points)) > 1e6:
                break
        return max(map(abs, points))

    assert run(0.99) < 1e-3
    assert run(1.01) > 1e6


def test_adams_limit_is_38_at_the_usual_beta():
    limit = find_limit(facts_of("Adam", beta1=0.9))
    assert limit.find_rate(1.0) == pytest.approx(38.0)


@pytest.mark.parametrize("name", ["Lion", "LBFGS", "NAdam", "Muon"])
def test_an_optimizer_without_a_derived_limit_has_none(name):
    assert find_limit(facts_of(name, momentum=0.9, beta1=0.9)) is None


def test_an_sgd_whose_momentum_never_moves_has_none():
    assert find_limit(facts_of("SGD", momentum=0.9, dampening=1.0)) is None


def test_a_loss_that_only_curves_down_limits_nothing():
    assert find_limit(facts_of("SGD")).find_rate(-2.0) is None


def workload(name="SGD", *, loss="mean", base=32, **fields):
    return WorkloadFacts(
        file="model.py",
        model_name="Net",
        how_model="",
        how_loss="",
        how_optimizer="",
        how_batch="",
        optimizer=facts_of(name, **fields),
        base_batch_size=base,
        loss_reduction=loss,
    )


def rate(value=0.2, base=0.1, proposed=0.3):
    return LearningRate(
        value=value, rule="", base_value=base, base_batch_size=32, proposed=proposed
    )


def sharpness(step, value, own=None, **fields):
    given = {"converged": True, "preconditioned_converged": own is not None, **fields}
    return Sharpness(
        at_step=step,
        samples=512,
        micro_batch_size=64,
        largest_eigenvalue=value,
        preconditioned_eigenvalue=own,
        **given,
    )


def conclude(facts, *seen, rate=rate(), size=128, is_asked=True):
    record = make_record(facts, sharpness=is_asked)
    record = msgspec.structs.replace(record, sharpness=seen)
    advice = None if rate is None else SimpleNamespace(learning_rate=rate, global_batch_size=size)
    return conclude_sharpness(GivenConclusions(record, Derived(recommendation=advice)))


def test_both_rates_are_set_beside_the_limit_at_each_point():
    found = conclude(workload(), sharpness(0, 2.0), sharpness(50, 20.0))
    assert found.status == "measured"
    assert found.samples == 512
    assert [point.largest_stable_rate for point in found.points] == [1.0, 0.1]
    assert [point.base_rate_ratio for point in found.points] == pytest.approx([0.1, 1.0])
    assert [point.advised_rate_ratio for point in found.points] == pytest.approx([0.2, 2.0])
    assert "0.1 to 1 times" in found.hint
    assert "0.2 to 2 times" in found.hint
    assert "the trial decides" in found.hint
    assert "may settle" in found.hint


def test_a_rate_that_was_not_tried_is_compared_as_proposed():
    found = conclude(workload(), sharpness(0, 2.0), rate=rate(value=None))
    assert found.points[0].advised_rate_ratio == pytest.approx(0.3)
    assert "forbids neither" in found.hint


def test_adam_is_limited_in_its_own_metric_and_not_before_it_has_one():
    found = conclude(
        workload("AdamW", beta1=0.9), sharpness(0, 2.0), sharpness(9, 3.0, 380.0, converged=False)
    )
    first, second = found.points
    assert first.largest_stable_rate is None
    assert second.largest_stable_rate == pytest.approx(0.1)
    assert not second.is_lower_bound


def test_an_eigenvalue_that_has_not_settled_is_marked():
    assert conclude(workload(), sharpness(0, 2.0, converged=False)).points[0].is_lower_bound


def test_the_curvature_of_a_sum_grows_with_the_batch_for_sgd_alone():
    found = conclude(workload(loss="sum"), sharpness(0, 2.0)).points[0]
    assert found.largest_stable_rate is None
    assert found.base_rate_ratio == pytest.approx(3.2)
    assert found.advised_rate_ratio == pytest.approx(25.6)
    unknown = conclude(workload(loss="sum", base=None), sharpness(0, 2.0), size=None)
    assert unknown.points[0].advised_rate_ratio is None
    assert unknown.hint is None
    own = conclude(workload("Adam", loss="sum", beta1=0.9), sharpness(0, 2.0, 380.0)).points[0]
    assert own.largest_stable_rate == pytest.approx(0.1)


def test_without_a_limit_the_sharpness_stands_alone():
    found = conclude(workload("Lion"), sharpness(0, 2.0))
    assert found.points[0].sharpness == 2.0
    assert (found.formula, found.hint) == (None, None)


def test_without_advice_or_with_downward_curvature_there_is_no_hint():
    assert conclude(workload(), sharpness(0, 2.0), rate=None, size=None).hint is None
    assert conclude(workload(), sharpness(0, -2.0)).hint is None


def test_a_missing_measurement_keeps_its_reason():
    reason = "its backward cannot be differentiated again: RuntimeError"
    missing = sharpness(0, None, converged=False, reason=reason)
    found = conclude(workload(), missing, missing)
    assert (found.status, found.reason) == ("not_measured", reason)
    partly = conclude(workload(), missing, sharpness(9, 2.0))
    assert (partly.status, partly.reason) == ("measured", reason)
    assert partly.points[0].largest_stable_rate is None


def test_nothing_asked_is_nothing_concluded():
    assert conclude(workload(), is_asked=False) is None
    assert "make_dataset" in conclude(workload()).reason
    with_data = msgspec.structs.replace(workload(), has_dataset=True)
    assert "no time was left" in conclude(with_data).reason


def test_one_rate_for_both_is_named_once():
    found = conclude(workload(), sharpness(0, 2.0), rate=rate(value=0.1))
    assert "advised" not in found.hint
