"""Whether a loss is a mean, by the operations behind it."""

import pytest
import torch
from torch.nn import functional

from advisor.training.script.passes import is_plain_mean


@pytest.mark.parametrize(
    ("make", "is_mean"),
    [
        (lambda y: y.square().mean(), True),
        (lambda y: functional.mse_loss(y, torch.zeros_like(y)) / 4, True),
        (lambda y: functional.cross_entropy(y, torch.tensor([0, 1])) + y.mean() * 0.1, True),
        (lambda y: functional.mse_loss(y, torch.zeros_like(y), reduction="sum"), False),
        (lambda y: y.square().sum() / 2, False),  # the figures have to tell
        (lambda y: y.square().mean() + y.square().sum(), False),
        (lambda y: y[0, 0] * 1.0, False),
    ],
)
def test_a_mean_is_told_from_a_sum(make, is_mean):
    assert is_plain_mean(make(torch.randn(2, 3, requires_grad=True))) == is_mean
