"""The critical batch and the verdict on branches whose truth is known."""

import math
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.rate.curves import find_samples_to, has_diverged, read_loss
from advisor.statistics import estimate_mean
from advisor.throughput.step_time import estimate_step_s, read_throughput
from advisor.verify.groups import (
    BatchBranches,
    find_common_samples,
    group_branches,
    measure_margin,
)
from advisor.verify.judgement import judge_batches
from advisor.verify.plan import conclude_verification
from tests.unit.verify.verified_branches import (
    SAMPLES,
    SIZES,
    START,
    add_held_out,
    loss_at,
    make_all,
    make_branch,
    make_record,
    make_throughput,
)


def judge(branches):
    groups = group_branches(branches)
    return judge_batches(groups, find_common_samples(groups))


def find_truth(noise_scale, sizes=SIZES):
    """Return the largest batch within the margin, of the means of the same readings."""
    ends = {}
    for size in sizes:
        readings = [loss_at(SAMPLES * share, size, noise_scale) for share in (0.9, 0.95, 1.0)]
        ends[size] = sum(readings) / 3
    lowest = min(ends.values())
    margin = measure_margin(START, lowest)
    return max(size for size, end in ends.items() if end <= lowest + margin), margin


def conclude(branches, throughput=None, recommended=128):
    found = conclude_verification(make_record(branches, recommended), throughput)
    assert found is not None
    return found


def test_nothing_follows_from_no_branches():
    assert conclude_verification(None, None) is None
    assert conclude_verification(make_record([]), None) is None


@given(st.floats(20.0, 20_000.0))
@settings(max_examples=60)
def test_without_noise_the_critical_batch_is_exact(noise_scale):
    truth, _ = find_truth(noise_scale)
    _, critical = judge(make_all(noise_scale))
    assert critical.batch_size == truth
    expected = {SIZES[-1]: "at_least", SIZES[0]: "at_most"}.get(truth, "measured")
    assert critical.status == expected


def test_with_noise_the_interval_holds_the_critical_batch():
    rng = random.Random(7)
    held = told = 0
    for _ in range(400):
        noise_scale = 2 ** rng.uniform(5, 13)
        truth, margin = find_truth(noise_scale)
        _, critical = judge(make_all(noise_scale, margin * rng.uniform(0.05, 0.4), rng=rng))
        if critical.status == "inconclusive":
            continue
        told += 1
        above = critical.low is None or truth >= critical.low
        below = critical.high is None or truth < critical.high
        held += above and below
    assert told > 250
    assert held >= 0.95 * told


def test_noise_above_the_margin_is_inconclusive_and_says_how_many_seeds_would_tell():
    _, margin = find_truth(400.0)
    rng = random.Random(1)
    _, critical = judge(make_all(400.0, 3.0 * margin, rng=rng))
    assert critical.status == "inconclusive"
    assert critical.batch_size is None
    assert "noise over seeds" in critical.reason
    rng = random.Random(1)
    _, found = judge(make_all(400.0, 1.2 * margin, rng=rng))
    assert found.status == "inconclusive"
    assert found.needed_seeds is not None
    _, more = judge(make_all(400.0, 1.2 * margin, seeds=3 * found.needed_seeds, rng=rng))
    assert more.status != "inconclusive"


def test_one_seed_decides_nothing():
    _, critical = judge(make_all(seeds=1))
    assert critical.status == "inconclusive"
    assert critical.needed_seeds is None


def test_a_batch_that_diverged_fails():
    branches = make_all(20_000.0)
    branches = [
        make_branch(512, b.seed, diverged=b.seed == 1) if b.global_batch_size == 512 else b
        for b in branches
    ]
    standings, critical = judge(branches)
    assert standings[512].standing == "diverged"
    assert critical.status == "measured"
    assert (critical.batch_size, critical.high) == (256, 512)


def test_nothing_is_told_where_all_diverged_or_nothing_was_learnt():
    standings, critical = judge([make_branch(32, 0, diverged=True)])
    assert critical.status == "inconclusive"
    assert standings[32].standing == "diverged"
    flat = [
        msgspec.structs.replace(
            branch,
            evaluations=tuple(msgspec.structs.replace(one, loss=1.0) for one in branch.evaluations),
        )
        for branch in make_all()
    ]
    _, critical = judge(flat)
    assert critical.status == "inconclusive"
    assert "no batch lowered the loss" in critical.reason


def test_the_margin_is_a_share_of_the_loss_or_of_its_fall():
    assert measure_margin(3.2, 3.0) == pytest.approx(0.03)
    assert measure_margin(1.0, 0.001) == pytest.approx(0.04995)


@given(st.floats(0.01, 100.0), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_neither_the_unit_of_the_loss_nor_the_order_of_branches_matters(factor, shuffler):
    branches = make_all(spread=0.004, rng=random.Random(3))
    _, before = judge(branches)
    scaled = [
        msgspec.structs.replace(
            branch,
            evaluations=tuple(
                msgspec.structs.replace(one, loss=factor * one.loss) for one in branch.evaluations
            ),
        )
        for branch in branches
    ]
    shuffler.shuffle(scaled)
    _, after = judge(scaled)
    assert (after.status, after.batch_size, after.low, after.high) == (
        before.status,
        before.batch_size,
        before.low,
        before.high,
    )
    assert after.margin == pytest.approx(factor * before.margin)


def test_of_several_rates_of_a_batch_the_best_one_counts():
    good = [make_branch(32, seed, rate=0.1) for seed in range(2)]
    bad = [make_branch(32, seed, noise_scale=10.0, rate=0.2) for seed in range(2)]
    wild = [make_branch(32, seed, rate=0.4, diverged=True) for seed in range(2)]
    for branches in ([*good, *bad, *wild], [*wild, *bad, *good]):
        (group,) = group_branches(branches)
        assert group.branches[0].learning_rate == 0.1


def test_a_loss_that_rises_clearly_counts_as_diverged():
    branch = make_branch(32, 0)
    rising = tuple(
        msgspec.structs.replace(one, loss=1.0 + one.samples) for one in branch.evaluations
    )
    assert has_diverged(msgspec.structs.replace(branch, evaluations=rising))
    assert has_diverged(msgspec.structs.replace(branch, evaluations=()))
    assert not has_diverged(branch)


def test_losses_are_read_between_evaluations():
    branch = make_branch(32, 0)
    first, second = branch.evaluations[:2]
    middle = (first.samples + second.samples) / 2
    assert read_loss(branch, middle) == pytest.approx((first.loss + second.loss) / 2)
    assert read_loss(branch, -1) == first.loss
    assert read_loss(branch, 10 * SAMPLES) == branch.evaluations[-1].loss
    assert find_samples_to(branch.evaluations, (first.loss + second.loss) / 2) == pytest.approx(
        middle
    )
    assert find_samples_to(branch.evaluations, first.loss) == 0.0
    assert find_samples_to(branch.evaluations, 0.0) is None


def test_the_interval_of_one_value_is_unknown():
    assert estimate_mean([1.0]).high is None
    assert estimate_mean([1.0, 2.0, 3.0]).point == 2.0


def test_without_step_times_there_is_a_critical_batch_and_no_verdict():
    found = conclude(make_all())
    assert found.critical_batch.status == "measured"
    assert found.verdict.status == "inconclusive"
    assert "did not time" in found.verdict.reason
    assert found.batches[0].step_s is None
    assert found.batches[0].curve[-1].time_s is None


def test_the_recommendation_holds_where_no_batch_is_further_after_equal_time():
    # Nearly free samples: the larger the batch the faster, but only up to about φ.
    throughput = make_throughput(fixed_s=0.01, sample_s=1e-6)
    found = conclude(make_all(400.0), throughput, recommended=512)
    assert found.verdict.status == "holds"
    assert found.verdict.best_batch_size == 512
    assert found.verdict.target_loss == pytest.approx(found.batches[-1].loss_at_equal_time.point)
    times = [each.time_to_target_s.point for each in found.batches if each.time_to_target_s]
    assert times == sorted(times, reverse=True)


def test_the_recommendation_is_beaten_where_another_batch_is_clearly_further():
    throughput = make_throughput(fixed_s=0.01, sample_s=1e-6)
    found = conclude(make_all(400.0), throughput, recommended=32)
    assert found.verdict.status == "beaten"
    assert found.verdict.best_batch_size == 512
    assert "batch 512" in found.verdict.reason


def test_a_batch_within_the_margin_after_equal_time_holds():
    throughput = make_throughput(fixed_s=1e-6, sample_s=0.001)  # time follows the samples alone
    found = conclude(make_all(100_000.0), throughput, recommended=128)
    assert found.verdict.status == "holds"
    assert found.verdict.best_batch_size != 128


def test_seeds_that_differ_too_much_give_no_verdict():
    throughput = make_throughput(fixed_s=0.01, sample_s=1e-6)
    branches = make_all(400.0, 0.5, rng=random.Random(5))
    assert conclude(branches, throughput, recommended=256).verdict.status == "inconclusive"


def test_a_recommended_pair_that_diverged_does_not_hold():
    branches = [b for b in make_all() if b.global_batch_size != 128]
    branches += [make_branch(128, seed, diverged=seed == 0) for seed in range(3)]
    verdict = conclude(branches, make_throughput()).verdict
    assert verdict.status == "beaten"
    assert "diverged from 1 of 3 seeds" in verdict.reason
    missing = [b for b in branches if b.global_batch_size != 128]
    assert conclude(missing, make_throughput()).verdict.status == "inconclusive"


def test_a_step_is_timed_between_the_sizes_of_the_run_and_put_together_where_it_is_split():
    throughput = make_throughput(fixed_s=0.01, sample_s=0.0001, optimizer_s=0.004)

    def estimate(throughput, size, times):
        known = read_throughput(throughput)
        return estimate_step_s(known, size, times, may_extrapolate=False)

    assert estimate(throughput, 96, 1) == pytest.approx(0.0196)
    assert estimate(throughput, 64, 1) == pytest.approx(0.0164)
    assert estimate(throughput, 64, 3) == pytest.approx(3 * 0.0124 + 0.004)
    assert estimate(throughput, 16, 1) is None
    assert estimate(throughput, 1024, 1) is None
    assert estimate(None, 64, 1) is None
    whole = msgspec.structs.replace(throughput, optimizer_step_s=None)
    assert estimate(whole, 64, 3) == pytest.approx(3 * 0.0164)


def test_a_gap_that_widens_with_the_batch_warns():
    branches = [
        add_held_out(branch, 0.01 * branch.global_batch_size**0.5 + 0.001 * branch.seed)
        for branch in make_all()
    ]
    found = conclude(branches, make_throughput())
    assert found.gap_per_doubling.low > 0.0
    assert any("Keskar" in warning for warning in found.warnings)
    gaps = [each.generalisation_gap.point for each in found.batches]
    assert gaps == sorted(gaps)


def test_a_gap_that_stays_or_is_not_known_does_not_warn():
    level = [add_held_out(branch, 0.1 + 0.001 * branch.seed) for branch in make_all()]
    found = conclude(level)
    assert found.gap_per_doubling.point == pytest.approx(0.0, abs=1e-9)
    noisy = random.Random(2)
    branches = [add_held_out(branch, noisy.gauss(0.1, 0.05)) for branch in make_all()]
    assert not [w for w in conclude(branches).warnings if "Keskar" in w]
    assert conclude(make_all()).gap_per_doubling is None
    short = [add_held_out(b, 0.1) for b in make_all(sizes=(32, 64))]
    assert conclude(short).gap_per_doubling is None


def test_branches_that_do_not_start_together_and_failures_in_eval_mode_are_named():
    branches = make_all()
    first = branches[0].evaluations[0]
    moved = (msgspec.structs.replace(first, loss=1.5), *branches[0].evaluations[1:])
    branches[0] = msgspec.structs.replace(
        branches[0], evaluations=moved, held_out_failure="KeyError: 'loss'"
    )
    warnings = conclude(branches).warnings
    assert any("same loss" in warning for warning in warnings)
    assert any("KeyError" in warning for warning in warnings)


def sharpen(branches, read):
    return [msgspec.structs.replace(branch, sharpness=read(branch)) for branch in branches]


def widen(branches):
    """Return the branches with a gap that clearly widens with the batch."""
    return [
        add_held_out(one, 0.01 * one.global_batch_size**0.5 + 0.001 * one.seed) for one in branches
    ]


def test_sharpness_is_the_mean_over_seeds_with_its_interval():
    found = conclude(sharpen(make_all(), lambda one: 2.0 + one.seed))
    sharpness = found.batches[0].sharpness
    assert sharpness.point == 3.0
    assert sharpness.high - 3.0 == pytest.approx(4.3027 / 3**0.5, rel=1e-3)  # t(2) of 2, 3, 4
    assert found.sharpness_failure is None
    without = conclude(make_all())
    assert without.batches[0].sharpness is None
    assert without.sharpness_per_doubling is None


@given(slope=st.floats(-5.0, 5.0), level=st.floats(0.1, 100.0))
@settings(max_examples=25)
def test_the_slope_of_the_sharpness_over_doublings_is_the_true_one(slope, level):
    branches = sharpen(
        make_all(sizes=(32, 64, 256)),
        lambda one: level + one.seed + slope * math.log2(one.global_batch_size),
    )
    found = conclude(branches).sharpness_per_doubling
    assert found.point == pytest.approx(slope, abs=1e-9)
    assert found.low <= found.point <= found.high


def test_a_batch_that_diverged_has_no_sharpness_and_no_part_in_its_slope():
    branches = sharpen(make_all(), lambda one: math.log2(one.global_batch_size))
    wild = [
        make_branch(1024, seed, diverged=seed == 0, sharpness=1e9, sharpness_failure="why")
        for seed in range(3)
    ]
    found = conclude([*branches, *wild])
    assert found.batches[-1].sharpness is None
    assert found.sharpness_per_doubling.point == pytest.approx(1.0)
    assert found.sharpness_failure is None


def test_why_branches_have_no_sharpness_is_said_once():
    branches = [
        msgspec.structs.replace(one, sharpness_failure=f"reason {one.seed % 2}")
        for one in make_all()
    ]
    assert conclude(branches).sharpness_failure == "reason 0; reason 1"


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda one: 3.0 * math.log2(one.global_batch_size) + 0.1 * one.seed, "rises too, by 3"),
        (lambda one: -2.0 * math.log2(one.global_batch_size) + one.seed, "falls, by 2"),
        (lambda one: one.global_batch_size * (one.seed - 1.0), "rises is not told"),
        (lambda one: None, "was not measured at enough batches"),
        (lambda one: 1.0 if one.seed == 0 else None, "one seed does not tell"),
    ],
)
def test_the_warning_on_the_gap_says_whether_the_sharpness_rises_too(read, said):
    found = conclude(sharpen(widen(make_all()), read))
    (warning,) = [one for one in found.warnings if "Keskar" in one]
    assert said in warning


def test_sharpness_that_rises_alone_does_not_warn():
    branches = sharpen(make_all(), lambda one: math.log2(one.global_batch_size))
    assert conclude(branches).warnings == ()


def test_branches_of_a_checkpoint_name_it():
    record = msgspec.structs.replace(make_record(make_all()), checkpoint="a.pt", trunk_steps=0)
    assert conclude_verification(record, None).from_checkpoint == "a.pt"


def test_a_group_is_of_one_batch():
    group = BatchBranches(branches=(make_branch(64, 0), make_branch(64, 1, diverged=True)))
    assert (group.global_batch_size, group.diverged) == (64, 1)


def test_batches_that_learnt_nothing_are_no_proof_of_the_recommendation():
    flat = [
        msgspec.structs.replace(
            each,
            evaluations=tuple(msgspec.structs.replace(one, loss=2.0) for one in each.evaluations),
        )
        for each in make_all()
    ]
    found = conclude(flat, make_throughput())
    assert (found.verdict.status, found.critical_batch.status) == ("inconclusive", "inconclusive")
    assert "no batch lowered the loss" in found.verdict.reason
    assert all(each.time_to_target_s is None for each in found.batches)


@pytest.mark.parametrize("sizes", [(32, 64, 128), (128,)])
def test_the_lowest_of_single_seeds_is_no_proof_of_the_recommendation(sizes):
    branches = make_all(noise_scale=1e9, seeds=1, sizes=sizes)
    found = conclude(branches, make_throughput(sample_s=1e-9))
    assert (found.verdict.status, found.critical_batch.status) == ("inconclusive", "inconclusive")
    assert "nothing tells chance apart" in found.verdict.reason


def test_a_batch_beside_which_all_others_diverged_holds():
    branches = [make_branch(128, 0), make_branch(256, 0, diverged=True)]
    assert conclude(branches, make_throughput()).verdict.status == "holds"
