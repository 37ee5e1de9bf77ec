"""The group sums against a slow twin that takes the gradient of every sample on its own."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advisor.noise.measure_moments import GroupSums
from advisor.training.loop import train
from advisor.training.training import Training

SAMPLES, GROUPS, MICRO = 48, 8, 3


class Tied(nn.Module):
    """Two layers that share one weight, and one frozen layer."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(4, 5)
        self.first = nn.Linear(5, 5, bias=False)
        self.second = nn.Linear(5, 5, bias=False)
        self.second.weight = self.first.weight
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(requires_grad=False)

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(self.frozen(inputs))))


class SparseModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 5, sparse=True)

    def forward(self, inputs):
        return self.embedding((inputs[:, 0].abs() * 10).long() % 11)


def mean_loss(model, batch):
    return functional.mse_loss(model(batch[0]), batch[1])


def sum_loss(model, batch):
    return functional.mse_loss(model(batch[0]), batch[1], reduction="none").mean(1).sum()


def make_training(model, loss, optimizer=None):
    return Training(
        model=model,
        optimizer=optimizer or torch.optim.SGD(model.parameters(), lr=0.1),
        loss_function=loss,
        device=torch.device("cpu"),
        precision="fp32",
        compile_model=False,
    )


def data():
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(SAMPLES, 4, generator=generator),
        torch.randn(SAMPLES, 5, generator=generator),
    )


def twin_gradients(model, root=None):
    """Return (SAMPLES, P): each sample's own gradient, in float64, in the metric root²."""
    inputs, targets = data()
    rows = []
    for i in range(SAMPLES):
        model.zero_grad()
        mean_loss(model, (inputs[i : i + 1], targets[i : i + 1])).backward()
        row = []
        for parameter in model.parameters():
            if parameter.requires_grad:
                gradient = parameter.grad
                row.append((gradient.to_dense() if gradient.is_sparse else gradient).flatten())
        rows.append(torch.cat(row).double())
    model.zero_grad()
    stacked = torch.stack(rows)
    return stacked if root is None else stacked * root


def collect(training, *, per_sample_sum=False):
    inputs, targets = data()
    sums = GroupSums(training, GROUPS, MICRO, rounds=SAMPLES // MICRO // GROUPS)
    micros = zip(inputs.split(MICRO), targets.split(MICRO), strict=True)
    train(training, micros, [sums], micro_batch_size=MICRO, is_frozen=True)
    return sums.finish(7, per_sample_sum=per_sample_sum)


def expected_group_sums(rows):
    sums = torch.zeros(GROUPS, rows.shape[1], dtype=torch.float64)
    for i in range(SAMPLES):
        sums[i * GROUPS // SAMPLES] += rows[i]
    return sums


@pytest.mark.parametrize("model_type", [Tied, SparseModel, lambda: nn.Linear(4, 5)])
@pytest.mark.parametrize("loss", [mean_loss, sum_loss])
def test_group_sums_equal_the_per_sample_twin(model_type, loss):
    torch.manual_seed(0)
    model = model_type()
    sums = expected_group_sums(twin_gradients(model))
    found = collect(make_training(model, loss), per_sample_sum=loss is sum_loss)
    total = sums.sum(0)
    assert found.at_step == 7
    assert found.micro_batch_sizes == (SAMPLES // GROUPS,) * GROUPS
    assert found.plain.group_sqnorms == pytest.approx((sums**2).sum(1).tolist(), rel=1e-5)
    assert found.plain.group_dots == pytest.approx((sums @ total).tolist(), rel=1e-4, abs=1e-6)
    assert found.plain.total_sqnorm == pytest.approx(float(total @ total), rel=1e-5)
    assert found.preconditioned is None


def test_adam_metric_equals_the_twin_under_its_second_moment():
    torch.manual_seed(0)
    model = nn.Linear(4, 5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.95), eps=1e-3)
    training = make_training(model, mean_loss, optimizer)
    for _ in range(5):
        training.step(data())
    roots = []
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        second = state["exp_avg_sq"].double() / (1 - 0.95 ** float(state["step"]))
        roots.append((1 / (second.sqrt() + 1e-3)).sqrt().flatten())
    sums = expected_group_sums(twin_gradients(model, torch.cat(roots)))
    found = collect(training)
    assert found.preconditioned is not None
    assert found.preconditioned.group_sqnorms == pytest.approx((sums**2).sum(1).tolist(), rel=1e-5)


def test_the_gradients_and_parameters_are_left_as_they_were():
    torch.manual_seed(0)
    model = nn.Linear(4, 5)
    before = [parameter.clone() for parameter in model.parameters()]
    collect(make_training(model, mean_loss))
    assert all(parameter.grad is None for parameter in model.parameters())
    for parameter, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old)


def test_a_gradient_that_is_not_finite_is_dropped_and_counted():
    model = nn.Linear(4, 5)
    training = make_training(model, mean_loss)
    inputs, targets = data()
    sums = GroupSums(training, 3, MICRO)
    scales = (1.0, float("inf"), 1.0)
    micros = ((inputs[:MICRO] * scale, targets[:MICRO]) for scale in scales)
    train(training, micros, [sums], micro_batch_size=MICRO, is_frozen=True)
    found = sums.finish(0, per_sample_sum=False)
    assert found.dropped == 1
    assert len(found.plain.group_sqnorms) == 2
    assert found.plain.total_sqnorm < float("inf")
