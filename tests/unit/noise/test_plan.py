import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.noise.data import NoiseBatches
from advisor.noise.plan import conclude_noise, explain_absence
from advisor.noise.point import estimate_noise_point
from advisor.noise.share import Share
from advisor.statistics import Estimate, jackknife_covariance, two_sided_t
from advisor.training.data import Script, ScriptFacts
from tests.unit.noise.drawn import FACTS, along, draw_gradients, split

RAGGED = [32, 32, 32, 7, 1, 16]


def assert_near(old, new):
    if isinstance(old, Estimate | Share):
        old, new = msgspec.structs.astuple(old), msgspec.structs.astuple(new)
    assert new == pytest.approx(old)


def ends(estimate):
    return (estimate.point, estimate.low, estimate.high)


def test_single_samples_give_the_textbook_variance():
    gradients, _ = draw_gradients(64)
    point = estimate_noise_point(split(gradients, [1] * 64))
    trace = gradients.var(axis=0, ddof=1).sum()
    mean = gradients.mean(axis=0)
    assert point.gradient_cov_trace == pytest.approx(trace)
    assert point.gradient_sqnorm == pytest.approx(mean @ mean - trace / 64)
    assert point.samples == 64


def test_the_sufficient_statistics_give_the_leave_one_group_out_values():
    gradients, _ = draw_gradients(400)
    sizes = (RAGGED * 3)[:18]
    batches = split(gradients, sizes, groups=6)
    cuts = np.split(gradients[: sum(sizes)], np.cumsum(sizes)[:-1])
    rows = []
    for group in range(6):
        kept = [part for index, part in enumerate(cuts) if index % 6 != group]
        rest = split(np.concatenate(kept), [len(part) for part in kept], groups=2)
        pair = estimate_noise_point(rest)
        rows.append((pair.gradient_cov_trace, pair.gradient_sqnorm))
    whole = estimate_noise_point(batches)
    shares = np.array([[trace / (trace + 32 * sqnorm)] for trace, sqnorm in rows])
    share = whole.gradient_cov_trace / (whole.gradient_cov_trace + 32 * whole.gradient_sqnorm)
    error = math.sqrt(jackknife_covariance(shares)[0, 0])
    assert whole.noise_share.value == pytest.approx(share)
    assert whole.noise_share.variance == pytest.approx(error**2)
    high = share + two_sided_t(0.95, 5) * error
    assert whole.noise_scale.high == pytest.approx(32 * high / (1 - high))


def test_ragged_sizes_need_the_weights_that_the_equal_size_formula_lacks():
    traces, naive = [], []
    for seed in range(400):
        gradients, sqnorm = draw_gradients(sum(RAGGED), seed=seed)
        cuts = np.split(gradients, np.cumsum(RAGGED)[:-1])
        means = np.stack([part.mean(axis=0) for part in cuts])
        traces.append(estimate_noise_point(split(gradients, RAGGED)).gradient_cov_trace)
        naive.append(np.mean(RAGGED) * means.var(axis=0, ddof=1).sum())
    truth = 60.0 * sqnorm
    assert np.mean(traces) == pytest.approx(truth, rel=0.08)
    assert np.mean(naive) > 3.0 * truth


def test_both_parts_are_unbiased():
    points = []
    for seed in range(600):
        gradients, sqnorm = draw_gradients(240, seed=seed)
        points.append(estimate_noise_point(split(gradients, RAGGED * 2)))
    traces = np.array([point.gradient_cov_trace for point in points]) / (60.0 * sqnorm)
    sqnorms = np.array([point.gradient_sqnorm for point in points]) / sqnorm
    assert abs(traces.mean() - 1.0) < 3.0 * traces.std() / math.sqrt(600)
    assert abs(sqnorms.mean() - 1.0) < 3.0 * sqnorms.std() / math.sqrt(600)


@pytest.mark.parametrize("sizes", [[8] * 32, [1] * 256, [4, 12] * 16])
def test_the_interval_covers_the_closed_form(sizes):
    covered = 0
    for seed in range(120):
        gradients, _ = draw_gradients(256, seed=seed)
        estimate = estimate_noise_point(split(gradients, sizes)).noise_scale
        above = estimate.low is None or estimate.low <= 60.0
        covered += above and (estimate.high is None or estimate.high >= 60.0)
    # 95 % nominal; three standard errors of 120 draws are 6 %.
    assert covered / 120 >= 0.89


@given(
    sizes=st.lists(st.integers(1, 9), min_size=4, max_size=24),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 99),
)
def test_scaling_all_gradients_leaves_the_noise_scale(sizes, scale, seed):
    gradients, _ = draw_gradients(sum(sizes), noise_scale=30.0, seed=seed)
    one = estimate_noise_point(split(gradients, sizes))
    other = estimate_noise_point(split(gradients * scale, sizes))
    assert other.gradient_cov_trace == pytest.approx(one.gradient_cov_trace * scale**2)
    for left, right in zip(ends(one.noise_scale), ends(other.noise_scale), strict=True):
        assert right == (None if left is None else pytest.approx(left, rel=1e-5))


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12), order=st.randoms(), seed=st.just(0)
)
def test_the_order_of_micro_batches_does_not_matter(sizes, order, seed):
    gradients, _ = draw_gradients(sum(sizes), noise_scale=30.0, seed=seed)
    cuts = np.split(gradients, np.cumsum(sizes)[:-1])
    one = estimate_noise_point(split(gradients, sizes))
    order.shuffle(cuts)
    other = estimate_noise_point(split(np.concatenate(cuts), [len(part) for part in cuts]))
    assert other.gradient_cov_trace == pytest.approx(one.gradient_cov_trace)
    assert other.gradient_sqnorm == pytest.approx(one.gradient_sqnorm, abs=1e-9)


@given(st.integers(2, 40))
def test_identical_gradients_have_no_noise(count):
    point = estimate_noise_point(split(np.ones((count * 2, 3)), [2] * count))
    assert point.gradient_cov_trace == pytest.approx(0.0, abs=1e-9)
    assert point.gradient_sqnorm == pytest.approx(3.0)


def test_a_gradient_lost_in_noise_gives_a_lower_bound_and_its_negative_square_norm():
    noise = np.random.default_rng(5).standard_normal((256, 4000))
    noise -= noise.mean(axis=0)
    point = estimate_noise_point(split(noise, [8] * 32))
    assert point.gradient_sqnorm < 0.0
    assert point.noise_scale.point is None
    assert point.noise_scale.high is None
    assert point.noise_scale.low is None or point.noise_scale.low > 0.0


def test_two_micro_batches_give_moments_without_an_interval():
    gradients, _ = draw_gradients(4000, noise_scale=30.0)
    point = estimate_noise_point(split(gradients, [2000, 2000]))
    assert point.gradient_cov_trace > 0.0
    assert ends(point.noise_scale) == (None, None, None)


def test_one_group_gives_no_interval():
    gradients, _ = draw_gradients(400, noise_scale=30.0)
    estimate = estimate_noise_point(split(gradients, [40] * 10, groups=1)).noise_scale
    assert (estimate.low, estimate.high) == (None, None)


def test_two_micro_batches_without_a_gradient_give_nothing():
    gradients = np.array([[1.0, 0.0], [-1.0, 0.0]])
    estimate = estimate_noise_point(split(gradients, [1, 1])).noise_scale
    assert ends(estimate) == (None, None, None)


def test_one_micro_batch_is_refused():
    with pytest.raises(ValueError, match="two micro-batches"):
        estimate_noise_point(split(np.ones((4, 2)), [4]))


def test_a_group_without_micro_batches_changes_nothing():
    gradients, _ = draw_gradients(256)
    batches = split(gradients, [8] * 32, groups=8)
    wider = msgspec.structs.replace(
        batches,
        plain=msgspec.structs.replace(
            batches.plain,
            group_sqnorms=(*batches.plain.group_sqnorms, 0.0),
            group_dots=(*batches.plain.group_dots, 0.0),
        ),
    )
    assert estimate_noise_point(wider) == estimate_noise_point(batches)


def test_a_file_of_before_reads_as_one_of_today():
    gradients, _ = draw_gradients(256)
    before = split(gradients, [16] * 16)
    assert len(before.plain.sqnorms) == len(before.groups) == 16
    written = msgspec.to_builtins(before) | {"ended_because": "ended early"}
    read = msgspec.convert(written, NoiseBatches)
    plain = msgspec.structs.replace(before.plain, sqnorms=())
    today = msgspec.structs.replace(before, groups=(), plain=plain)
    for old, new in zip(
        msgspec.structs.astuple(estimate_noise_point(read)),
        msgspec.structs.astuple(estimate_noise_point(today)),
        strict=True,
    ):
        assert_near(old, new)


def test_the_preconditioned_noise_scale_is_that_of_the_scaled_gradients():
    gradients, _ = draw_gradients(512)
    metric = np.linspace(0.1, 9.0, gradients.shape[1])
    both = estimate_noise_point(split(gradients, [16] * 32, metric=metric))
    scaled = estimate_noise_point(split(gradients * np.sqrt(metric), [16] * 32))
    assert ends(both.preconditioned_noise_scale) == pytest.approx(ends(scaled.noise_scale))
    assert both.noise_scale != both.preconditioned_noise_scale
    assert both.gradient_sqnorm != scaled.gradient_sqnorm


def test_the_training_set_has_the_noise_scale_of_its_own_gradient():
    gradients, _ = draw_gradients(320)
    mean = gradients.mean(axis=0)
    truth = gradients.var(axis=0, ddof=1).sum() / (mean @ mean)
    whole = estimate_noise_point(split(gradients, [1] * 320), dataset_size=320)
    assert whole.noise_scale.point == pytest.approx(truth)
    # A second pass over the data adds nothing to take off.
    again = estimate_noise_point(split(np.tile(gradients, (2, 1)), [1] * 640), dataset_size=320)
    assert again.noise_scale.point == pytest.approx(truth, rel=0.01)


def test_a_finite_training_set_is_estimated_from_a_part_of_it():
    ratios = []
    for seed in range(60):
        gradients, _ = draw_gradients(1200, seed=seed)
        mean = gradients.mean(axis=0)
        truth = gradients.var(axis=0, ddof=1).sum() / (mean @ mean)
        part = estimate_noise_point(split(gradients, [10] * 60), dataset_size=1200)
        ratios.append(part.noise_scale.point / truth)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.15)


def test_a_finite_training_set_leaves_the_population_figures_alone():
    gradients, _ = draw_gradients(256)
    batches = split(gradients, [8] * 32)
    finite, endless = estimate_noise_point(batches, dataset_size=300), estimate_noise_point(batches)
    assert finite.gradient_sqnorm == endless.gradient_sqnorm
    assert finite.noise_scale.point < endless.noise_scale.point


# The whole run


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"has_dataset": False}, "make_dataset"),
        ({"has_dataset": False, "is_step_only": True}, "make_step"),
        ({"loss_reduction": "coupled"}, "couples the samples"),
        ({"has_synchronised_statistics": True}, "synchronised"),
        ({"dataset_size": 1}, "the dataset has 1 sample, too few"),  # a script trains on it again
        ({"dataset_size": 15, "min_micro_batch_size": 2}, "too few: gradients of 8 batches of 2"),
    ],
)
def test_where_no_noise_scale_exists_the_reason_is_named(change, word):
    conclusion = conclude_noise(msgspec.structs.replace(FACTS, **change), along([40.0]))
    assert conclusion.status == "not_estimated"
    assert word in conclusion.reason
    assert conclusion.noise_scale is None


def test_without_usable_measurements_nothing_is_concluded():
    lonely = split(np.ones((4, 2)), [4])
    overflowed = along([40.0])[0]
    overflowed = msgspec.structs.replace(
        overflowed, plain=msgspec.structs.replace(overflowed.plain, total_sqnorm=math.inf)
    )
    conclusion = conclude_noise(FACTS, (lonely, overflowed))
    assert conclusion.status == "not_estimated"
    assert "no gradient measurement" in conclusion.reason


def test_gradients_that_are_all_0_have_no_noise_scale():
    conclusion = conclude_noise(FACTS, (split(np.zeros((64, 2)), [4] * 16),) * 3)
    assert (conclusion.status, conclusion.noise_scale) == ("not_estimated", None)
    assert "every gradient that was measured is exactly 0" in conclusion.reason


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"dataset_size": 5}, "the dataset has 5 samples, too few: gradients of 8 batches of 1"),
        (
            {"dataset_size": 200, "has_batch_statistics": True, "base_batch_size": 32},
            "the dataset has 200 samples, too few: gradients of 8 batches of 32",
        ),
        ({"dataset_size": 200, "base_batch_size": 32}, "no gradient measurement"),
    ],
)
def test_a_dataset_of_too_few_samples_is_told_as_such(facts, words):
    assert words in conclude_noise(msgspec.structs.replace(FACTS, **facts), ()).reason


def test_the_run_has_the_step_average_of_a_rising_noise_scale():
    conclusion = conclude_noise(FACTS, list(reversed(along([40.0, 80.0, 160.0], samples=3200))))
    assert conclusion.status == "estimated"
    # Weights of 1/4, 1/2, 1/4 over 1 + φ/16: (40·0.071 + 80·0.083 + 160·0.023) / 0.177.
    assert conclusion.noise_scale.low < 74.1 < conclusion.noise_scale.high
    assert [point.at_step for point in conclusion.points] == [0, 50, 100]
    assert conclusion.at_step == 100
    assert conclusion.micro_batch_size == 16
    assert conclusion.gradient_sqnorm == conclusion.points[-1].gradient_sqnorm
    assert conclusion.preconditioned_noise_scale is None
    assert conclusion.decisive == conclusion.noise_scale
    assert conclusion.reason.startswith("measured at 3 points along 100 steps; it rose from ")
    assert conclusion.trend.direction == "rose"
    assert conclusion.trend.factor.low < 4.0 < conclusion.trend.factor.high


def test_a_fall_is_called_a_fall():
    assert "it fell from" in conclude_noise(FACTS, along([200.0, 30.0], samples=3200)).reason


def test_a_change_within_the_intervals_is_not_called_a_rise():
    assert "within its intervals" in conclude_noise(FACTS, along([60.0, 62.0])).reason


def test_a_single_point_speaks_for_itself():
    conclusion = conclude_noise(FACTS, along([60.0]))
    assert conclusion.noise_scale == conclusion.points[0].noise_scale
    assert conclusion.reason.startswith("measured at step 0; it is ")


def test_the_status_follows_the_optimizers_metric():
    metric = np.full(20, 2.0)
    batches = [*along([60.0]), *along([60.0, 70.0], metric=metric, steps=[50, 100])]
    conclusion = conclude_noise(FACTS, batches)
    assert conclusion.decisive == conclusion.preconditioned_noise_scale
    assert conclusion.points[0].preconditioned_noise_scale is None
    assert conclusion.status == "estimated"


def test_too_little_data_gives_a_lower_bound():
    conclusion = conclude_noise(FACTS, along([2000.0, 2000.0], samples=320))
    assert conclusion.status == "lower_bound"
    assert conclusion.noise_scale.high is None
    assert conclusion.noise_scale.low > 0.0
    assert "at least" in conclusion.reason
    assert "upper end" in conclusion.reason


def test_a_point_that_bounds_nothing_only_widens_the_answer():
    batches = [*along([60.0]), split(draw_gradients(32, seed=9)[0], [16] * 2, at_step=50)]
    conclusion = conclude_noise(FACTS, batches)
    alone = conclusion.points[0].noise_scale
    assert conclusion.noise_scale.low < alone.low
    assert conclusion.noise_scale.high is None
    assert conclusion.status == "lower_bound"
    assert "it is " in conclusion.reason


def test_two_micro_batches_alone_are_not_an_estimate():
    conclusion = conclude_noise(FACTS, [split(draw_gradients(32)[0], [16, 16])])
    assert conclusion.status == "not_estimated"
    assert "too few samples" in conclusion.reason
    assert len(conclusion.points) == 1


def test_batch_statistics_tie_the_answer_to_its_micro_batch():
    facts = msgspec.structs.replace(FACTS, has_batch_statistics=True, sample_unit="image")
    reason = conclude_noise(facts, along([60.0])).reason
    assert "images" in reason
    assert reason.endswith("batch statistics tie it to this micro-batch size")


def test_the_size_of_the_training_set_is_taken_into_account():
    batches = along([60.0])
    finite = conclude_noise(msgspec.structs.replace(FACTS, dataset_size=2000), batches)
    assert finite.noise_scale.point < conclude_noise(FACTS, batches).noise_scale.point


def cut(scale, *, size=800, batch=16, **stands):
    gradients, _ = draw_gradients(size, noise_scale=scale, seed=stands.get("seed", 3))
    batches = split(gradients, [16] * (size // 16), at_step=stands.get("at_step", 0))
    return msgspec.structs.replace(
        batches, training_batch_size=batch, stands_for=stands.get("stands_for")
    )


def test_iterates_of_a_span_are_one_point_and_count_by_its_steps():
    batches = [
        cut(60.0, at_step=0, stands_for=(0, 10), seed=1),
        cut(60.0, at_step=6, stands_for=(0, 10), seed=2),
        cut(60.0, at_step=12, stands_for=(10, 40), seed=3),
    ]
    conclusion = conclude_noise(FACTS, batches)
    assert [point.span_steps for point in conclusion.points] == [10, 30]
    assert [point.at_step for point in conclusion.points] == [3, 12]
    assert conclusion.points[0].samples == 1600
    first, last = (point.noise_share.value for point in conclusion.points)
    share = (10 * first + 30 * last) / 40
    assert conclusion.noise_scale.point == pytest.approx(16 * share / (1 - share))
    assert conclusion.batch_size == 16
    assert conclusion.reason.startswith("measured at 3 iterates in 2 spans of 40 steps")


def test_a_span_averages_shares_not_ratios_of_sums():
    pair = [cut(20.0, stands_for=(0, 2), seed=1), cut(500.0, stands_for=(0, 2), seed=2)]
    alone = [estimate_noise_point(each).noise_share.value for each in pair]
    assert estimate_noise_point(*pair).noise_share.value == pytest.approx(np.mean(alone))


def test_gradients_of_the_whole_dataset_hold_no_noise_but_rounding():
    facts = msgspec.structs.replace(FACTS, dataset_size=10)
    gradients, _ = draw_gradients(160)
    batches = split(gradients, [16] * 10)
    conclusion = conclude_noise(facts, [batches])
    assert conclusion.status == "not_estimated"
    assert "whole dataset" in conclusion.reason


def test_gradients_that_are_all_zero_and_a_script_without_noise_say_why():
    facts = FACTS
    assert explain_absence(facts) is None
    zero = msgspec.structs.replace(facts, has_zero_gradient=True)
    assert explain_absence(zero).startswith("every gradient is exactly 0 at the start")
    why = "the optimizer takes no step that is seen"
    known = ScriptFacts(script=Script(), counted_by="it", start_s=1.0, why_untrained=why)
    scripted = msgspec.structs.replace(facts, script=known)
    assert explain_absence(scripted) == why
    for each in (zero, scripted):  # a log has the noise of a loop that trains
        assert explain_absence(each, has_log=True) is None
