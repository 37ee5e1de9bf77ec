"""Curves of known ratio, and intervals that hold it."""

import math
import random
import statistics
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.race.compare import (
    compare_all,
    compare_curves,
    compare_picks,
    find_samples,
    is_only_bound,
    read_ends,
    read_running,
)
from advisor.rate.data import Evaluation, TrialBranch
from advisor.statistics import two_sided_t
from tests.unit.samples import FAST, make_branches

#: Samples of the base pair's longest branch.
SAMPLES = 4800
HALF = math.sqrt(0.5)


def loss_after(samples):
    return 2.0 / (1.0 + samples / 800.0) ** 0.7


def make_branch(pace=1.0, *, seed=0, samples=SAMPLES, decays=False, every=200, noise=None):
    """A branch that gets as far in n samples as the law in `pace` times as many.

    Where its rate falls in the end, its last loss lies a tenth below the law.
    """
    counts = range(0, samples + 1, every)
    losses = [loss_after(pace * n) * (1.0 if noise is None else noise()) for n in counts]
    if decays:
        losses[-1] = 0.9 * loss_after(pace * samples)
    return TrialBranch(
        micro_batch_size=32,
        gradient_accumulation_steps=1,
        global_batch_size=32,
        learning_rate=1.0,
        seed=seed,
        samples=samples,
        evaluations=tuple(
            Evaluation(samples=n, loss=loss) for n, loss in zip(counts, losses, strict=True)
        ),
        diverged=False,
        decays_from=round(0.7 * samples) if decays else None,
    )


def make_curve(losses, every=100.0):
    return [(every * index, loss) for index, loss in enumerate(losses)]


#: Losses along a branch, falling or not, with the start above all of them.
ragged = st.lists(st.floats(0.1, 1.9), min_size=2, max_size=20).map(lambda tail: [2.0, *tail])
falling = st.lists(st.floats(0.5, 0.99), min_size=2, max_size=20).map(
    lambda shares: list(accumulate(shares, lambda loss, share: loss * share, initial=2.0))
)


@given(ragged, st.floats(0.05, 20.0))
def test_a_curve_stretched_by_a_factor_takes_that_many_times_the_samples(losses, factor):
    base = make_curve(losses)
    own = [(factor * samples, loss) for samples, loss in base]
    assert compare_curves(own, base) == pytest.approx(math.log(factor), abs=1e-9)


@given(falling, st.lists(st.floats(1.0, 2.0), min_size=21, max_size=21))
def test_more_samples_for_each_loss_are_never_a_lower_ratio(losses, factors):
    base = make_curve(losses)
    stretches = accumulate(factors, lambda before, factor: before * factor)
    slower = [
        (factor * samples, loss) for (samples, loss), factor in zip(base, stretches, strict=False)
    ]
    assert compare_curves(slower, base) >= -1e-9


@given(falling, falling)
def test_nothing_beyond_the_lowest_shared_loss_counts(losses, others):
    base, own = make_curve(losses), make_curve(others)
    found = compare_curves(own, base)
    level = max(losses[-1], others[-1])
    for curve, arguments in ((base, (own, "longer")), (own, ("longer", base))):
        if curve[-1][1] >= level:
            continue
        reached = next(n for n, (_, loss) in enumerate(curve) if loss <= level)
        cut = curve[: reached + 1]
        longer = [cut if each == "longer" else each for each in arguments]
        assert compare_curves(*longer) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize(
    ("own", "base"),
    [
        ([], make_curve([2.0, 1.0])),
        (make_curve([2.0, 1.0]), []),
        (make_curve([2.0, 2.0, 2.0]), make_curve([2.0, 1.0, 0.5])),  # it never falls
        (make_curve([2.0, 1.0]), make_curve([2.0, 2.1, 2.2])),
        ([(50.0, 0.6)], [(100.0, 0.5), (200.0, 0.4)]),  # the base may have been there before 100
    ],
)
def test_curves_that_share_no_loss_have_no_ratio(own, base):
    assert compare_curves(own, base) is None


def test_a_pair_behind_the_base_pairs_shortest_branch_is_behind_by_that_at_least():
    ratio = compare_curves([(400.0, 0.6)], [(100.0, 0.5), (200.0, 0.4)])
    assert ratio == pytest.approx(math.log(4.0))


def test_the_ends_of_branches_are_read_on_lines_over_the_logarithm_of_the_samples():
    base = [(100.0, 1.0), (200.0, 0.5)]
    assert compare_picks([(100.0, 0.75)], base) == pytest.approx(-0.5 * math.log(2.0))
    assert compare_picks([(400.0, 0.5)], base) == pytest.approx(math.log(2.0))
    # Below all of the base pair's ends the line through its last two goes on.
    assert compare_picks([(100.0, 0.25)], base) == pytest.approx(-1.5 * math.log(2.0))
    assert compare_picks([(100.0, 0.25), (150.0, 0.1)], base) == pytest.approx(-1.5 * math.log(2.0))
    # Where ends lie on both sides of its last one, nothing is extended.
    ends = [(50.0, 0.6), (100.0, 0.4)]
    assert compare_picks(ends, base) == compare_curves(ends, base)
    assert compare_picks(ends, base) == pytest.approx(math.log(100.0 * HALF / 200.0))
    # Above the base pair's shortest end there is no line, and none through a single one.
    assert compare_picks([(50.0, 1.5)], base) == compare_curves([(50.0, 1.5)], base) is None
    assert compare_picks([(100.0, 0.5)], base[:1]) == pytest.approx(0.0)


@pytest.mark.parametrize("bump", [[(300.0, 0.8)], [(300.0, 0.8), (400.0, 0.5)], [(300.0, 0.5)]])
def test_a_longer_branch_that_ended_no_lower_is_no_end_of_the_line(bump):
    base = [(100.0, 1.0), (200.0, 0.5), *bump]
    assert compare_picks([(100.0, 0.25)], base) == pytest.approx(-1.5 * math.log(2.0))


def test_a_loss_is_reached_the_first_time_and_between_evaluations():
    curve = [(0.0, 2.0), (100.0, 1.0), (200.0, 1.5), (400.0, 0.5)]
    assert find_samples(curve, 1.5) == 50.0  # on a line from the start
    assert find_samples(curve, 1.0) == 100.0
    assert find_samples(curve, 0.75) == pytest.approx(200.0 * 2.0**0.75)
    assert find_samples(curve, 0.4) is None
    assert find_samples(curve, 3.0) == 0.0
    assert find_samples([], 1.0) is None


def test_a_running_curve_ends_where_the_rate_begins_to_fall():
    whole, cut = (read_running([make_branch(decays=decays)]) for decays in (False, True))
    assert whole[0] == cut[0] == pytest.approx((0.0, math.log(2.0)))
    assert max(samples for samples, _ in cut) <= 0.7 * SAMPLES
    assert len(cut) < len(whole)


def test_branches_of_a_start_make_one_running_curve_that_falls():
    draw = random.Random(0)

    def noise():
        return math.exp(draw.gauss(0.0, 0.2))

    branches = [
        make_branch(samples=n, every=every, decays=True, noise=noise)
        for n, every in ((4800, 200), (2400, 100))
    ]
    curve = read_running(branches)
    assert [samples for samples, _ in curve] == [
        *range(0, 1700, 100), *range(1800, 3400, 200)
    ]  # fmt: skip
    levels = [level for _, level in curve]
    assert levels == sorted(levels, reverse=True)
    errors = [level - math.log(loss_after(samples)) for samples, level in curve]
    assert statistics.fmean(errors) == pytest.approx(0.0, abs=0.1)


def test_of_a_few_evaluations_there_is_no_curve():
    assert read_running([make_branch(samples=400)]) == []
    assert read_running([]) == []


def test_the_ends_are_those_of_branches_whose_rate_fell_by_length():
    branches = [
        make_branch(samples=n, decays=d) for n, d in ((4800, True), (2400, True), (1200, False))
    ]
    ends = read_ends(branches)
    assert [samples for samples, _ in ends] == [2400, 4800]
    assert ends[1][1] == pytest.approx(math.log(0.9 * loss_after(4800)))


def test_curves_of_several_starts_are_averaged_where_all_have_an_evaluation():
    branches = [make_branch(pace, seed=seed, decays=True) for seed, pace in ((0, 0.5), (1, 2.0))]
    branches.append(make_branch(0.5, seed=0, samples=2400, decays=True))
    ((samples, level),) = read_ends(branches)
    assert samples == 4800
    ends = [0.9 * loss_after(pace * 4800) for pace in (0.5, 2.0)]
    assert level == pytest.approx(statistics.fmean(map(math.log, ends)))
    assert {samples for samples, _ in read_running(branches)} == set(range(0, 3400, 200))


def test_losses_below_zero_are_averaged_as_they_are():
    branch = make_branch()
    lower = branch.__class__(
        **{
            **{name: getattr(branch, name) for name in branch.__struct_fields__},
            "evaluations": tuple(
                Evaluation(samples=each.samples, loss=each.loss - 1.0)
                for each in branch.evaluations
            ),
        }
    )
    assert read_running([lower])[-1][1] == pytest.approx(loss_after(SAMPLES) - 1.0)


def make_pair(pace, paces, *, lengths=(1.0, HALF, 0.5), **fields):
    """Branches of several lengths from each start; a start has its own pace for all pairs."""
    return [
        make_branch(pace * own, seed=seed, samples=200 * round(length * SAMPLES / 200), **fields)
        for seed, own in enumerate(paces)
        for length in lengths
    ]


def test_a_pairs_ratio_is_taken_start_by_start():
    base = make_pair(1.0, (0.5, 1.0, 2.0))
    found = compare_all(base, {7: make_pair(2.0, (0.5, 1.0, 2.0), lengths=(1.0,))})[7]
    assert found.log_ratio == pytest.approx(-math.log(2.0), abs=0.02)
    assert found.error < 0.03  # though the starts are a factor of 4 apart
    assert found.starts == 3


def test_starts_of_one_pair_alone_do_not_count():
    base = make_pair(1.0, (1.0, 1.0, 1.0))
    own = [branch for branch in make_pair(2.0, (1.0,) * 5) if branch.seed in {2, 3, 4}]
    assert compare_all(base, {0: own})[0].starts == 1
    assert compare_all(base, {0: [branch for branch in own if branch.seed > 2]}) == {}


@pytest.mark.parametrize("pace", [0.7, 1.0, 1.4])
def test_where_the_rate_falls_in_the_end_stands_beside_the_ratio_at_a_constant_rate(pace):
    base = make_pair(1.0, (1.0,) * 3, decays=True)
    found = compare_all(base, {0: make_pair(pace, (1.0,) * 3, decays=True)})[0]
    assert found.log_ratio == pytest.approx(-math.log(pace), abs=0.05)
    assert found.end_log_ratio == pytest.approx(-math.log(pace), abs=0.05)


def test_where_the_users_schedule_was_followed_the_ends_alone_count():
    def follow(pace):
        branches = make_pair(pace, (1.0,) * 3, decays=True)
        return [
            branch.__class__(
                **{**{n: getattr(branch, n) for n in branch.__struct_fields__}, "decays_from": 0}
            )
            for branch in branches
        ]

    found = compare_all(follow(1.0), {0: follow(1.25)})[0]
    assert found.log_ratio == pytest.approx(-math.log(1.25), abs=0.03)
    assert found.end_log_ratio is None


def test_a_single_end_below_all_of_the_base_pairs_ranks_a_pick_and_measures_nothing_else():
    base = make_pair(1.0, (1.0,) * 3, decays=True)
    only = {0: make_pair(2.0, (1.0,) * 3, lengths=(1.0,), decays=True)}
    picked = compare_all(base, only, picking=(0,))[0]
    assert picked.end_log_ratio == pytest.approx(-math.log(2.0), abs=0.15)
    judged = compare_all(base, only)[0]
    assert judged.end_log_ratio == pytest.approx(0.0)  # at most as many samples: no line beyond


@pytest.mark.parametrize("others", [0, 1, 6])
def test_the_interval_holds_the_true_ratio_in_19_of_20_cases(others):
    draw = random.Random(others)
    held = []
    for _ in range(250):
        base_paces = [math.exp(draw.gauss(0.0, 0.1)) for _ in range(3)]
        base = make_pair(1.0, base_paces, lengths=(1.0,))
        pairs = {}
        for key in range(1 + others):
            paces = [math.exp(draw.gauss(0.0, 0.1)) for _ in range(3)]
            pairs[key] = make_pair(1.3, paces, lengths=(1.0,))
        found = compare_all(base, pairs)[0]
        held.append(
            abs(found.log_ratio + math.log(1.3)) <= two_sided_t(0.95, found.degrees) * found.error
        )
    assert 0.9 <= sum(held) / len(held) <= 0.995


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_more_pairs_lend_degrees_and_never_take_them(seed, count):
    draw = random.Random(seed)

    def make(pace):
        return make_pair(pace, [math.exp(draw.gauss(0.0, 0.1)) for _ in range(3)], lengths=(1.0,))

    base, pairs = make(1.0), {key: make(1.3) for key in range(count)}
    alone = compare_all(base, {0: pairs[0]})[0]
    among = compare_all(base, pairs)[0]
    assert alone.log_ratio == among.log_ratio
    assert alone.degrees <= among.degrees <= 2 + 4


def test_only_ends_that_are_all_lower_bound_how_much_sooner_a_pair_was():
    base, lower = (
        make_branches(32, 1.0, (2.0, loss), seeds=2, decays_from=0) for loss in (1.0, 0.5)
    )
    assert is_only_bound(lower, base)
    assert not is_only_bound(base, lower)
    assert not is_only_bound(base, base)
    assert not is_only_bound([], base)
    assert not is_only_bound(make_branches(32, 1.0, FAST, seeds=2), base)  # has a curve to compare
