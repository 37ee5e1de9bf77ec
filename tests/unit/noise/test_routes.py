"""Every route to the noise scale agrees on the same micro-batches; and logs of real runs."""

import math

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from advisor.noise.data import NoiseBatches, NoiseLogEntry
from advisor.noise.measure_moments import GroupSums
from advisor.noise.plan import conclude_noise
from advisor.noise.point import estimate_log_points, estimate_noise_point
from advisor.training.data import OptimizerFacts
from advisor.training.loop import train
from advisor.training.training import Training
from benchmarks.gaussian_regression import pool_moments
from tests.unit.noise.drawn import FACTS, along, draw_gradients, split

MICRO, COUNT = 8, 32


def micro_means(seed=0):
    gradients, _ = draw_gradients(MICRO * COUNT, noise_scale=30.0, seed=seed)
    return gradients.reshape(COUNT, MICRO, -1).mean(axis=1)


def as_log(means, sizes, step=0):
    """Return what a loop that accumulates these micro-batches would log of its step."""
    sizes = np.asarray(sizes, dtype=float)
    mean = sizes @ means / sizes.sum()
    return NoiseLogEntry(
        at_step=step,
        samples=sizes.sum(),
        micro_batches=len(sizes),
        micro_batch_sqnorm=float(sizes @ np.square(means).sum(axis=1) / sizes.sum()),
        mean_sqnorm=float(mean @ mean),
    )


class Direction(nn.Module):
    """A model whose gradient, for the loss `(weight * row).sum()`, is the row it is given."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, dtype=torch.float64))

    def forward(self, rows):
        return (rows @ self.weight).mean()


def test_all_routes_agree_on_the_same_micro_batches():
    means = micro_means()
    sizes = [MICRO] * COUNT
    pooled = estimate_noise_point(
        NoiseBatches(
            at_step=0,
            loss=0.0,
            micro_batch_sizes=tuple(sizes),
            groups=tuple(range(COUNT)),
            plain=pool_moments(means, sizes, range(COUNT)),
        )
    )
    model = Direction(means.shape[1])
    training = Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        loss_function=lambda m, batch: m(batch),
        device=torch.device("cpu"),
        precision="fp32",
        compile_model=False,
    )
    sums = GroupSums(training, COUNT, MICRO)
    rows = (torch.tensor(row)[None] for row in means)
    train(training, rows, [sums], micro_batch_size=MICRO, is_frozen=True)
    worker = estimate_noise_point(sums.finish(0, per_sample_sum=False))
    (logged,) = estimate_log_points([as_log(means, sizes)] * 8)
    mean = means.mean(axis=0)
    # McCandlish et al. 2018, A.1, with the micro-batch as the small and all of them as the big one.
    small, big = np.square(means).sum(axis=1).mean(), float(mean @ mean)
    b, n = MICRO, MICRO * COUNT
    trace, sqnorm = (small - big) / (1 / b - 1 / n), (n * big - b * small) / (n - b)
    for point in (pooled, worker, logged):
        assert point.gradient_cov_trace == pytest.approx(trace, rel=1e-9)
        assert point.gradient_sqnorm == pytest.approx(sqnorm, rel=1e-9)
    assert worker.noise_scale.low == pytest.approx(pooled.noise_scale.low, rel=1e-9)


def test_single_samples_and_groups_of_them_estimate_the_same():
    gradients, sqnorm = draw_gradients(4096, noise_scale=30.0)
    one = estimate_noise_point(split(gradients, [1] * 4096))
    grouped = estimate_noise_point(split(gradients, [256] * 16))
    assert one.gradient_cov_trace == pytest.approx(30.0 * sqnorm, rel=0.1)
    assert grouped.gradient_cov_trace == pytest.approx(one.gradient_cov_trace, rel=0.5)
    assert grouped.gradient_sqnorm == pytest.approx(one.gradient_sqnorm, rel=0.5)


# Logs of real runs


def log_of(scales, sizes=(16, 16, 16, 7, 1), first_seed=0):
    """Return one entry for each noise scale, of a step of ragged micro-batches."""
    entries = []
    for step, scale in enumerate(scales):
        count = sum(sizes)
        gradients, _ = draw_gradients(count, noise_scale=scale, seed=first_seed + step)
        cuts = np.split(gradients, np.cumsum(sizes)[:-1])
        means = np.stack([cut.mean(axis=0) for cut in cuts])
        entries.append(as_log(means, sizes, step))
    return entries


def test_the_interval_of_a_log_covers_the_closed_form():
    covered = 0
    for seed in range(60):
        (point,) = estimate_log_points(log_of([60.0] * 15, first_seed=1000 * seed))
        scale = point.noise_scale
        covered += (scale.low is None or scale.low <= 60.0) and (
            scale.high is None or scale.high >= 60.0
        )
    # 95 % nominal; three standard errors of 60 draws are 8 %.
    assert covered / 60 >= 0.87


def test_a_long_log_is_cut_into_points_by_step():
    points = estimate_log_points(list(reversed(log_of([40.0] * 50))))
    assert len(points) == 6
    assert [point.at_step for point in points] == sorted(point.at_step for point in points)
    assert sum(point.samples for point in points) == 50 * 56
    assert all(point.loss is None for point in points)


def test_a_short_log_says_nothing():
    assert estimate_log_points(log_of([40.0] * 7)) == ()


def test_the_losses_of_a_window_are_averaged():
    entries = [
        msgspec.structs.replace(entry, loss=loss)
        for entry, loss in zip(log_of([40.0] * 8), [1.0, 3.0, *[None] * 6], strict=True)
    ]
    assert estimate_log_points(entries)[0].loss == 2.0


def test_a_finite_training_set_lowers_the_noise_scale_of_a_log():
    entries = log_of([40.0] * 12)
    endless = estimate_log_points(entries)[0].noise_scale.point
    finite = estimate_log_points(entries, dataset_size=100)[0].noise_scale.point
    assert finite == pytest.approx(1.0 / (1.0 / endless + 1.0 / 100))


def test_the_conclusion_of_a_log_is_its_own():
    facts = msgspec.structs.replace(FACTS, has_dataset=False, is_step_only=True)
    log = log_of([30.0 * 10 ** (step / 200) for step in range(200)], sizes=(64,) * 8)
    conclusion = conclude_noise(facts, along([30.0]), log)
    assert conclusion.status == "estimated"
    assert len(conclusion.points) == 6
    assert conclusion.trend.direction == "rose"
    assert conclusion.micro_batch_size == 512
    assert conclusion.preconditioned_noise_scale is None
    assert conclusion.reason.startswith("from the log of 200 steps between step 0 and 199; it rose")


def test_a_log_that_is_too_short_is_no_estimate():
    conclusion = conclude_noise(FACTS, (), log_of([40.0] * 5))
    assert conclusion.status == "not_estimated"
    assert "5 steps" in conclusion.reason


def test_a_coupled_loss_has_no_noise_scale_in_a_log_either():
    facts = msgspec.structs.replace(FACTS, loss_reduction="coupled")
    assert conclude_noise(facts, (), log_of([40.0] * 9)).status == "not_estimated"


# What the sentence says of where the measurement came from


def at_checkpoints(scales, sources=("steps",), steps=None):
    return [
        msgspec.structs.replace(
            batches,
            from_checkpoint=f"{place}.pt",
            step_source=sources[place % len(sources)],
        )
        for place, batches in enumerate(along(scales, steps=steps))
    ]


def test_checkpoints_are_ordered_by_the_steps_that_they_name():
    batches = at_checkpoints([60.0, 30.0], steps=[500, 100])
    conclusion = conclude_noise(FACTS, batches)
    assert [point.at_step for point in conclusion.points] == [100, 500]
    assert conclusion.reason.startswith("measured at 2 checkpoints, up to step 500")


@pytest.mark.parametrize("sources", [("order",), ("steps", "order"), ("steps", "epochs")])
def test_checkpoints_whose_steps_cannot_be_compared_count_by_their_order(sources):
    conclusion = conclude_noise(FACTS, at_checkpoints([60.0, 30.0], sources, steps=[500, 100]))
    assert [point.at_step for point in conclusion.points] == [0, 1]
    assert "not all name their step" in conclusion.reason


def test_epochs_are_called_epochs():
    assert "epoch 3" in conclude_noise(FACTS, at_checkpoints([60.0], ["epochs"], [3])).reason


@pytest.mark.parametrize(
    ("optimizer", "batches", "log", "sentence"),
    [
        ("SGD", along([60.0]), (), None),
        ("LBFGS", along([60.0]), (), "the metric of LBFGS is not known"),
        ("AdamW", along([60.0]), (), "AdamW has no metric before its first step"),
        ("AdamW", at_checkpoints([60.0]), (), "the checkpoint holds no state of AdamW"),
        ("AdamW", (), log_of([40.0] * 12), "all that a log holds"),
        ("AdamW", along([60.0], metric=np.ones(20)), (), None),
    ],
)
def test_why_the_optimizers_metric_is_missing_is_said(optimizer, batches, log, sentence):
    facts = msgspec.structs.replace(FACTS, optimizer=OptimizerFacts(name=optimizer))
    reason = conclude_noise(facts, batches, log).reason
    assert ("plain gradients" in reason) is (sentence is not None)
    assert sentence is None or sentence in reason


def test_the_weights_are_said_to_be_tokens():
    batches = msgspec.structs.replace(along([60.0])[0], weights=(16.0 * 5,) * 100)
    facts = msgspec.structs.replace(FACTS, loss_reduction="weighted")
    conclusion = conclude_noise(facts, [batches], sample_unit="token")
    assert "tokens that its loss counts" in conclusion.reason
    assert conclusion.tokens_per_sample == pytest.approx(5.0)
    assert conclusion.sample_unit == "token"
    assert "count alike" in conclude_noise(facts, along([60.0])).reason


def test_logs_are_no_more_biased_than_their_pairs():
    entries = [entry for seed in range(40) for entry in log_of([30.0] * 8, first_seed=8 * seed)]
    _, sqnorm = draw_gradients(8, noise_scale=30.0)
    points = [estimate_log_points(entries[8 * k : 8 * k + 8])[0] for k in range(40)]
    traces = np.array([point.gradient_cov_trace for point in points]) / (30.0 * sqnorm)
    assert abs(traces.mean() - 1.0) < 4.0 * traces.std() / math.sqrt(40)
