import math
from pathlib import Path

import msgspec
import pytest
import torch

from advisor.errors import DeviceError
from advisor.rate import measure_range
from advisor.rate.range_data import LrRangeTask
from advisor.training.data import WorkloadSpec
from advisor.training.model_file.order import IndexStream, seed_everything
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

WORKLOADS = Path(__file__).parents[2] / "workloads" / "good"


def make_task(name="two_groups", **fields):
    settings = fields.pop("settings", {})
    workload = WorkloadSpec(target=str(WORKLOADS / f"{name}.py"), device="cpu", settings=settings)
    defaults = {
        "micro_batch_size": 16,
        "gradient_accumulation_steps": 1,
        "low_rate": 1e-5,
        "high_rate": 1e3,
        "steps": 80,
        "least_steps": 20,
        "seeds": (0, 1, 2),
        "budget_s": 100.0,
    }
    return LrRangeTask(workload=workload, **{**defaults, **fields})


def run(task):
    curves = []
    measure_range.run(task, curves.append)
    return curves


def test_each_seed_gives_a_curve_whose_rate_rises_by_one_factor():
    task = make_task(high_rate=1.0, steps=51)
    curves = run(task)
    assert [curve.seed for curve in curves] == [0, 1, 2]
    for curve in curves:
        assert curve.stopped_by == "range"
        assert curve.rates == pytest.approx([1e-5 * 10 ** (k / 10) for k in range(51)])
        assert len(curve.losses) == 51
        assert curve.losses[-1] < 0.5 * curve.losses[0]
    assert curves[0].losses != curves[1].losses


def test_the_same_seed_gives_the_same_curve():
    task = make_task(seeds=(5,))
    assert run(task) == run(task)


def test_a_loss_is_that_of_the_steps_own_batch_before_the_step():
    (curve,) = run(make_task(seeds=(3,), high_rate=1.0))
    workload = Workload(make_task().workload)
    seed_everything(3)
    training = workload.make_training()
    first = workload.take(IndexStream(256, seed=3).next(16))
    assert curve.losses[0] == pytest.approx(training.evaluate(first))


def test_a_rate_that_is_far_too_high_ends_the_curve():
    for curve in run(make_task()):
        assert curve.stopped_by == "divergence"
        assert len(curve.rates) == len(curve.losses) < 80
        assert curve.losses[-1] is None or curve.losses[-1] > 3.0 * min(curve.losses)


def test_groups_keep_their_ratio(monkeypatch):
    seen = []
    step = torch.optim.SGD.step

    def spy(self, *arguments, **options):
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    run(make_task(seeds=(0,), high_rate=1.0))
    assert len(seen) > 80
    assert all(second == pytest.approx(first / 10) for first, second in seen)


@pytest.mark.parametrize("name", ["two_groups", "sum_loss"])
def test_accumulated_micro_batches_give_the_curve_of_the_whole_batch(name):
    is_sum = name == "sum_loss"
    fields = {"seeds": (0,), "high_rate": 1e-3, "loss_is_sum": is_sum, "steps": 30}
    (whole,) = run(make_task(name, **fields))
    (split,) = run(make_task(name, micro_batch_size=4, gradient_accumulation_steps=4, **fields))
    assert split.global_batch_size == whole.global_batch_size == 16
    assert split.losses == pytest.approx(whole.losses, rel=1e-4)


def test_an_optimizer_that_wants_a_closure_is_followed():
    curves = run(make_task("lbfgs", high_rate=1e-2, seeds=(0,), steps=25))
    assert len(curves) == 1
    assert all(loss is not None and math.isfinite(loss) for loss in curves[0].losses)


def test_without_the_time_for_the_least_steps_nothing_is_run():
    assert run(make_task(budget_s=1e-6)) == []


def test_less_time_gives_fewer_steps_over_the_same_range(monkeypatch):
    monkeypatch.setattr(measure_range, "_choose_steps", lambda workload, task: 40)
    for curve in run(make_task(high_rate=1.0)):
        assert curve.steps == len(curve.rates) == 40
        assert curve.rates[-1] == pytest.approx(1.0)


def test_a_curve_that_the_time_cuts_short_says_so(monkeypatch):
    monkeypatch.setattr(measure_range, "_choose_steps", lambda workload, task: 10**6)
    curves = run(make_task(budget_s=0.2, low_rate=1e-9, high_rate=1e-8))
    assert curves[0].stopped_by == "budget"
    assert len(curves) < 3


def test_a_batch_that_does_not_fit_is_told_with_what_to_do(monkeypatch):
    def fail(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Training, "backward", fail)
    with pytest.raises(DeviceError, match="micro-batch 16 does not fit") as caught:
        run(make_task())
    assert "--global-batch-size" in caught.value.next_step


def test_a_user_error_over_weights_that_diverged_is_a_divergence(monkeypatch):
    backward, calls = Training.backward, []

    def refuse(training, batch, **options):
        if len(calls) > 30:
            with torch.no_grad():
                next(training.model.parameters()).fill_(math.nan)
            raise ValueError("expected finite weights")
        calls.append(batch)
        return backward(training, batch, **options)

    monkeypatch.setattr(Training, "backward", refuse)
    (curve,) = run(make_task(seeds=(0,), high_rate=1e-4))
    assert curve.stopped_by == "divergence"
    assert curve.losses[-1] is None


def test_a_user_error_over_finite_weights_is_the_users(monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("no such key")

    monkeypatch.setattr(measure_range, "_choose_steps", lambda workload, task: 40)
    monkeypatch.setattr(Training, "backward", refuse)
    with pytest.raises(ValueError, match="no such key"):
        run(make_task())


def test_a_curve_survives_its_json(tmp_path):
    (curve,) = run(make_task(seeds=(0,)))
    assert msgspec.json.decode(msgspec.json.encode(curve), type=type(curve)) == curve
