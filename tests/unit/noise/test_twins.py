"""What the noise pass measures, against slow twins that take gradients one by one in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from advisor.noise.data import NoiseBatches
from advisor.noise.measure_moments import GroupSums
from advisor.noise.point import estimate_noise_point
from advisor.training.data import TokenCount
from advisor.training.loop import train
from advisor.training.training import Training
from benchmarks.gaussian_regression import pool_moments

GROUPS, MICRO, ROUNDS = 8, 4, 3
SAMPLES = GROUPS * MICRO * ROUNDS
PADDING = -100
LABELS = TokenCount(tensor=1, ignored=PADDING)


def mean_loss(model, batch):
    return functional.mse_loss(model(batch[0]), batch[1])


def sum_loss(model, batch):
    return functional.mse_loss(model(batch[0]), batch[1], reduction="none").mean(1).sum()


def token_loss(model, batch):
    return functional.cross_entropy(model(batch[0]).transpose(1, 2), batch[1])


def make_training(model, loss=mean_loss, optimizer=None, precision="fp32"):
    return Training(
        model=model,
        optimizer=optimizer or torch.optim.SGD(model.parameters(), lr=0.05),
        loss_function=loss,
        device=torch.device("cpu"),
        precision=precision,
        compile_model=False,
    )


def data(seed=3):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SAMPLES, 6, generator=generator)
    weights = torch.randn(6, 4, generator=generator)
    noise = torch.randn(SAMPLES, 4, generator=generator)
    return inputs, inputs @ weights + 0.5 * noise


def ragged_data():
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randint(0, 11, (SAMPLES, 9), generator=generator)
    targets = torch.randint(0, 11, (SAMPLES, 9), generator=generator)
    lengths = torch.randint(1, 10, (SAMPLES, 1), generator=generator)
    return inputs, targets.masked_fill(torch.arange(9) >= lengths, PADDING)


def parts():
    return [slice(k * MICRO, (k + 1) * MICRO) for k in range(GROUPS * ROUNDS)]


def collect(training, batch, *, rule=None, per_sample_sum=False):
    sums = GroupSums(training, GROUPS, MICRO, rounds=ROUNDS, token_count=rule)
    micros = (tuple(tensor[part] for tensor in batch) for part in parts())
    train(training, micros, [sums], micro_batch_size=MICRO, is_frozen=True)
    return sums.finish(0, per_sample_sum=per_sample_sum)


def gradient_of(model, loss, batch):
    """Return the gradient of one batch as one float64 row."""
    model.zero_grad()
    loss(model, batch).backward()
    rows = [p.grad.flatten() for p in model.parameters() if p.requires_grad]
    return torch.cat(rows).numpy().copy()


def double(batch):
    return tuple(t.double() if t.is_floating_point() else t for t in batch)


def twin(model, loss, batch, cuts, weights=None, root=1.0):
    """Return the estimate from gradients taken one by one in float64, in the same groups.

    Args:
        cuts: For each group, the slices whose gradients are taken one by one.
        weights: Of each slice; None takes its samples.
    """
    exact, exact_batch = copy.deepcopy(model).double().train(), double(batch)
    sums, sizes = [], []
    for group in cuts:
        total, size = 0.0, 0.0
        for part in group:
            weight = part.stop - part.start if weights is None else weights[part.start]
            micro = tuple(tensor[part] for tensor in exact_batch)
            total = total + weight * gradient_of(exact, loss, micro)
            size += weight
        sums.append(total / size)
        sizes.append(size)
    samples = [sum(part.stop - part.start for part in group) for group in cuts]
    groups = range(len(cuts))
    return estimate_noise_point(
        NoiseBatches(
            at_step=0,
            loss=0.0,
            micro_batch_sizes=tuple(samples),
            groups=tuple(groups),
            plain=pool_moments(np.stack(sums) * root, sizes, groups),
            weights=() if weights is None else tuple(sizes),
        )
    )


def sample_by_sample():
    """Return each group's samples as slices of one."""
    width = MICRO * ROUNDS
    return [[slice(i, i + 1) for i in range(g * width, (g + 1) * width)] for g in range(GROUPS)]


def batch_by_batch():
    return [parts()[g * ROUNDS : (g + 1) * ROUNDS] for g in range(GROUPS)]


def assert_same(found, expected, tolerance=1e-4):
    assert found.gradient_cov_trace == pytest.approx(expected.gradient_cov_trace, rel=tolerance)
    scale = abs(expected.gradient_sqnorm) + expected.gradient_cov_trace / SAMPLES
    assert found.gradient_sqnorm == pytest.approx(expected.gradient_sqnorm, abs=tolerance * scale)


def make_model(*middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.Linear(8, 4))


class TestAgainstTheTwin:
    def test_plain_gradients(self):
        model = make_model(nn.Tanh())
        found = estimate_noise_point(collect(make_training(model), data()))
        assert_same(found, twin(model, mean_loss, data(), sample_by_sample()))

    def test_a_sum_is_the_mean_of_its_samples(self):
        model = make_model(nn.Tanh())
        batches = collect(make_training(model, sum_loss), data(), per_sample_sum=True)
        expected = twin(model, mean_loss, data(), sample_by_sample())
        assert_same(estimate_noise_point(batches), expected)

    def test_batch_norm_has_the_noise_of_its_micro_batches(self):
        model = make_model(nn.BatchNorm1d(8))
        found = estimate_noise_point(collect(make_training(model), data()))
        assert_same(found, twin(model, mean_loss, data(), batch_by_batch()), 1e-3)

    def test_frozen_parameters_have_no_part(self):
        model = make_model(nn.Tanh())
        model[0].requires_grad_(requires_grad=False)
        found = estimate_noise_point(collect(make_training(model), data()))
        assert_same(found, twin(model, mean_loss, data(), sample_by_sample()))

    def test_tied_weights_count_once(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 4))
        model[2].weight = model[0].weight
        found = estimate_noise_point(collect(make_training(model), data()))
        assert_same(found, twin(model, mean_loss, data(), sample_by_sample()))

    def test_parameters_that_the_optimizer_does_not_move_have_no_part(self):
        model = make_model(nn.Tanh())
        optimizer = torch.optim.SGD(model[2].parameters(), lr=0.05)
        found = estimate_noise_point(collect(make_training(model, optimizer=optimizer), data()))
        frozen = copy.deepcopy(model)
        frozen[0].requires_grad_(requires_grad=False)
        assert_same(found, twin(frozen, mean_loss, data(), sample_by_sample()))

    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_reduced_precision_is_unscaled_and_near(self, precision):
        model = make_model(nn.Tanh())
        training = make_training(model, precision=precision)
        training.settle_gradient_scale(tuple(tensor[:MICRO] for tensor in data()))
        found = estimate_noise_point(collect(training, data()))
        assert_same(found, twin(model, mean_loss, data(), sample_by_sample()), 0.05)

    def test_ignored_tokens_do_not_count(self):
        torch.manual_seed(0)
        model, batch = nn.Sequential(nn.Embedding(11, 5), nn.Linear(5, 11)), ragged_data()
        batches = collect(make_training(model, token_loss), batch, rule=LABELS)
        tokens = (batch[1] != PADDING).sum(1).double().tolist()
        assert sum(batches.weights) == sum(tokens)
        found = estimate_noise_point(batches)
        assert_same(found, twin(model, token_loss, batch, sample_by_sample(), weights=tokens))
        assert found.samples == SAMPLES


def test_the_unit_of_the_weights_does_not_matter():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 5), nn.Linear(5, 11))
    found = collect(make_training(model, token_loss), ragged_data(), rule=LABELS)
    halved = copy.deepcopy(found)
    halved = NoiseBatches(
        at_step=0,
        loss=0.0,
        micro_batch_size=found.micro_batch_size,
        micro_batch_sizes=found.micro_batch_sizes,
        groups=found.groups,
        weights=tuple(weight / 2 for weight in found.weights),
        plain=type(found.plain)(
            sqnorms=found.plain.sqnorms,
            group_sqnorms=tuple(value / 4 for value in found.plain.group_sqnorms),
            group_dots=tuple(value / 4 for value in found.plain.group_dots),
            total_sqnorm=found.plain.total_sqnorm / 4,
        ),
    )
    one, other = estimate_noise_point(found), estimate_noise_point(halved)
    assert other.noise_scale.point == pytest.approx(one.noise_scale.point)
    assert other.noise_scale.low == pytest.approx(one.noise_scale.low)


def test_a_micro_batch_without_tokens_changes_nothing():
    torch.manual_seed(0)
    model, batch = nn.Sequential(nn.Embedding(11, 5), nn.Linear(5, 11)), ragged_data()
    training = make_training(model, token_loss)
    sums = GroupSums(training, 3, MICRO, rounds=2, token_count=LABELS)
    empty = (batch[0][:MICRO], torch.full_like(batch[1][:MICRO], PADDING))
    micros = [tuple(tensor[part] for tensor in batch) for part in parts()[:5]]
    stream = iter([*micros[:3], empty, *micros[3:]])
    train(training, stream, [sums], micro_batch_size=MICRO, is_frozen=True)
    found = sums.finish(0, per_sample_sum=False)
    assert found.dropped == 0
    assert np.isfinite(found.plain.total_sqnorm)


def test_fp16_finds_a_scale_that_does_not_overflow():
    model = make_model(nn.Tanh())
    training = make_training(model, lambda m, b: 1e4 * mean_loss(m, b), precision="fp16")
    before = [parameter.clone() for parameter in model.parameters()]
    training.backward(data())
    assert not all(p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad()
    training.settle_gradient_scale(tuple(tensor[:MICRO] for tensor in data()))
    assert training.gradient_scale() < 65536.0
    assert collect(training, data()).dropped == 0
    for parameter, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old)


@pytest.mark.slow
def test_the_interval_holds_the_truth_under_dropout():
    """Truth: mean and variance over samples and masks, by thousands of masks in float64."""
    model = make_model(nn.Tanh(), nn.Dropout(0.3))
    exact, (inputs, targets) = copy.deepcopy(model).double().train(), double(data())
    torch.manual_seed(1)
    rows = np.stack(
        [
            gradient_of(exact, mean_loss, (inputs[i % SAMPLES, None], targets[i % SAMPLES, None]))
            for i in range(60 * SAMPLES)
        ]
    )
    truth = rows.var(axis=0, ddof=1).sum() / np.square(rows.mean(axis=0)).sum()
    generator, covered = torch.Generator().manual_seed(2), 0
    for _ in range(40):
        chosen = torch.randint(SAMPLES, (SAMPLES,), generator=generator)
        batch = tuple(tensor[chosen] for tensor in data())
        scale = estimate_noise_point(collect(make_training(model), batch)).noise_scale
        above = scale.low is None or scale.low <= truth
        covered += above and (scale.high is None or scale.high >= truth)
    # 95 % nominal; three standard errors of 40 draws are 10 %.
    assert covered / 40 >= 0.85


def centred(state, step):
    return state["square_avg"] - state["grad_avg"] ** 2


def largest(state, step):
    return state["max_exp_avg_sq"] / (1 - 0.999**step)


@pytest.mark.parametrize(
    ("make_optimizer", "second_moment"),
    [
        (lambda p: torch.optim.RMSprop(p, eps=1e-3), lambda state, _: state["square_avg"]),
        (lambda p: torch.optim.RMSprop(p, eps=1e-3, centered=True), centred),
        (lambda p: torch.optim.Adagrad(p, eps=1e-3), lambda state, _: state["sum"]),
        (lambda p: torch.optim.Adam(p, eps=1e-3, amsgrad=True), largest),
        (
            lambda p: torch.optim.Adam(p, eps=1e-3),
            lambda state, step: state["exp_avg_sq"] / (1 - 0.999**step),
        ),
    ],
)
def test_the_metric_is_that_of_the_optimizer(make_optimizer, second_moment):
    model = make_model(nn.Tanh())
    optimizer = make_optimizer(model.parameters())
    training = make_training(model, optimizer=optimizer)
    for seed in range(4):
        training.step(data(seed))
    roots = [
        (second_moment(optimizer.state[p], 4).double().sqrt() + 1e-3).rsqrt().flatten()
        for p in model.parameters()
    ]
    found = collect(training, data())
    expected = twin(
        model, mean_loss, data(), sample_by_sample(), root=torch.cat(roots).detach().numpy()
    )
    point = estimate_noise_point(found).preconditioned_noise_scale
    assert point.point == pytest.approx(expected.noise_scale.point, rel=1e-3)


@pytest.mark.parametrize("name", ["LBFGS", "Adadelta", "Rprop", "SGD"])
def test_an_optimizer_without_such_a_metric_has_plain_gradients_only(name):
    model = make_model(nn.Tanh())
    training = make_training(model, optimizer=getattr(torch.optim, name)(model.parameters()))
    for seed in range(3):
        training.step(data(seed))
    found = collect(training, data())
    assert found.preconditioned is None
    assert np.isfinite(found.plain.total_sqnorm)
