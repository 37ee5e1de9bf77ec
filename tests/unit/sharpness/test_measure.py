"""The time that the sharpness takes, and what stands in its way."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from advisor.sharpness import measure as sharpness
from advisor.sharpness.measure import SharpnessMeter
from advisor.training.training import Training

POINTS = (0, 10, 20, 30)


def make_meter(*, product_s=None, model=None, monkeypatch=None, micro_batch_size=64, **options):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 4, generator=generator)
    batches = SimpleNamespace(take=lambda indices: inputs[indices])
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    training = Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        loss_function=lambda m, batch: m(batch).square().mean(),
        device=torch.device("cpu"),
        precision="fp32",
        compile_model=False,
    )
    workload = SimpleNamespace(batches=batches)
    meter = SharpnessMeter(
        workload, training, range(256), micro_batch_size, loss_is_sum=False, **options
    )
    if product_s is not None:
        monkeypatch.setattr(meter, "_time_product", lambda: product_s)
    return meter


def test_every_point_is_measured_over_the_same_samples_where_time_allows():
    meter = make_meter()
    found = [meter.measure(step, 60.0) for step in POINTS]
    assert [each.at_step for each in found] == list(POINTS)
    assert {(each.samples, each.micro_batch_size) for each in found} == {(256, 64)}
    assert len({each.largest_eigenvalue for each in found}) == 1  # nothing was trained between
    assert all(each.converged and each.reason is None for each in found)


def test_a_slow_model_is_measured_over_fewer_samples_unless_all_are_asked_for(monkeypatch):
    # 25 products of one micro-batch are expected to take 30 s.
    few = make_meter(product_s=1.2, monkeypatch=monkeypatch).measure(0, 70.0)
    assert (few.samples, few.reason) == (128, None)
    whole = make_meter(product_s=1.2, monkeypatch=monkeypatch, takes_all=True).measure(0, 70.0)
    assert whole.largest_eigenvalue is None
    assert whole.reason.startswith("it would take about 1.2e+02 s for 256 samples")


def test_a_point_whose_time_is_too_short_leaves_the_next_to_be_measured(monkeypatch):
    meter = make_meter(product_s=0.6, monkeypatch=monkeypatch)
    first, second = meter.measure(0, 8.0), meter.measure(10, 16.0)
    assert first.largest_eigenvalue is None
    assert first.reason.startswith("it would take about 15 s for 64 samples")
    assert second.largest_eigenvalue is not None
    assert second.samples == 64


def test_what_is_not_expected_to_fit_is_not_tried():
    found = make_meter(micro_batch_size=None).measure(0, 60.0)
    assert found.reason == "differentiating its gradient is not expected to fit into memory"


def test_no_more_is_held_than_fits_beside_training(monkeypatch):
    monkeypatch.setattr(sharpness, "MOST_BATCH_BYTES", 2 * 64 * 4 * 4)
    assert make_meter().measure(0, 60.0).samples == 2 * 64


class Raising(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1))
        self.error = error

    def forward(self, inputs):
        output = inputs @ self.weight
        output.register_hook(self.refuse)
        return output

    def refuse(self, gradient):
        if torch.is_grad_enabled():  # as it is where the gradient is to be differentiated again
            raise self.error
        return gradient


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("no derivative of it " + "x" * 300),
            "cannot be differentiated again: Runtime",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), "needs more memory than there is"),
    ],
)
def test_whatever_goes_wrong_is_a_reason_at_every_point(error, reason):
    meter = make_meter(model=Raising(error))
    first, second = meter.measure(0, 60.0), meter.measure(10, 60.0)
    assert reason in first.reason
    assert second.reason == first.reason
    assert len(first.reason) < 300
    assert first.largest_eigenvalue is None


def test_no_time_for_two_products_is_a_reason(monkeypatch):
    meter = make_meter(product_s=1e-9, monkeypatch=monkeypatch)
    assert meter.measure(0, 1.0, patience=-1.0).reason == "there was no time left for it"
