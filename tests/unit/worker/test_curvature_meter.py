"""The time that the curvature takes: a share of each point, saved where that is too short."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from advisor.noise.data import NoiseTask
from advisor.sharpness import measure as curvature
from advisor.sharpness.measure import CurvatureMeter
from advisor.training.data import WorkloadSpec
from advisor.training.training import Training

POINTS = (0, 10, 20, 30)


def make_meter(*, seconds_per_sample=None, model=None, monkeypatch=None, sizes=(8, 64), size=256):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(size, 4, generator=generator)
    workload = SimpleNamespace(
        batches=SimpleNamespace(sampling_size=size, take=lambda indices: inputs[indices]),
        to_device=lambda batch: batch,
    )
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
    task = NoiseTask(
        workload=WorkloadSpec(target="model.py"),
        micro_batch_size=32,
        steps=30,
        points=POINTS,
        groups=8,
        max_micro_batches=64,
        budget_s=10.0,
        curvature_sizes=sizes,
    )
    meter = CurvatureMeter(workload, training, task, sizes)
    if seconds_per_sample is not None:
        monkeypatch.setattr(meter, "_time_product", lambda samples: samples * seconds_per_sample)
    return meter


def test_every_point_is_measured_over_the_same_samples_where_time_allows():
    meter = make_meter()
    found = [meter.measure(step, 10.0) for step in POINTS]
    assert [each.at_step for each in found] == list(POINTS)
    assert {(each.samples, each.micro_batch_size) for each in found} == {(256, 64)}
    assert len({each.largest_eigenvalue for each in found}) == 1  # nothing was trained between
    assert all(each.converged and each.reason is None for each in found)


def test_a_slow_model_saves_the_time_of_several_points(monkeypatch):
    # 15 products of 8 samples take 12 s: more than one point's 8 s, less than half of all 32 s.
    meter = make_meter(seconds_per_sample=0.1, monkeypatch=monkeypatch)
    found = [meter.measure(step, 8.0) for step in POINTS]
    assert found[0] is None
    assert found[1] is not None
    assert {each.samples for each in found if each is not None} == {8}


def test_a_model_that_is_too_slow_is_told_with_its_figure(monkeypatch):
    meter = make_meter(seconds_per_sample=1.0, monkeypatch=monkeypatch)
    found = meter.measure(0, 1.0)
    assert found.largest_eigenvalue is None
    assert found.reason.startswith("it would take about 1.2e+02 s for 8 samples")


def test_micro_batches_of_one_size_are_kept_where_the_size_is_fixed():
    found = make_meter(sizes=(32, 32)).measure(0, 10.0)
    assert found.micro_batch_size == 32
    assert found.samples == 256


def test_no_more_is_held_than_fits_beside_training(monkeypatch):
    monkeypatch.setattr(curvature, "MOST_BATCH_BYTES", 2 * 64 * 4 * 4)
    assert make_meter().measure(0, 10.0).samples == 2 * 64


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
    first, second = meter.measure(0, 10.0), meter.measure(10, 10.0)
    assert reason in first.reason
    assert second.reason == first.reason
    assert len(first.reason) < 300
    assert first.largest_eigenvalue is None


def test_no_time_for_two_products_is_a_reason(monkeypatch):
    meter = make_meter()
    monkeypatch.setattr(meter, "_prepare", lambda share_s: True)
    meter._size, meter._batches = 8, [torch.ones(8, 4)]
    assert meter.measure(0, -1.0).reason == "there was no time left for it"
