"""What the advice must hold whatever is done to a stored record (metamorphic)."""

import functools
import math
import random

import msgspec
import pytest

from advisor.advice.plan import ADVICE
from advisor.engine.record import Conclusions
from advisor.noise.data import NoiseConclusion
from advisor.race.plan import FRESH, RACE
from advisor.statistics import Estimate
from tests.unit.loader.timings import make_loop_timing
from tests.unit.race.law_training import LawTraining, race_pairs
from tests.unit.samples import FIXED_S, PER_SAMPLE_S, conclude, make_noise, make_pairs, make_record

replace = msgspec.structs.replace
LAWS = range(4)


@functools.cache
def race(index):
    """A law and the record of its race."""
    draw = random.Random(100 + index)
    noise_scale = math.exp(draw.uniform(math.log(100), math.log(3000)))
    law = LawTraining(noise_scale=noise_scale, best_rate=draw.choice([1.0, 2.0, 4.0]), seed=index)
    return law, race_pairs(law)[0].record


def advise(record):
    return Conclusions(record).of(ADVICE)


def change_times(record, factor):
    """The record with each step time multiplied by `factor(probe)`."""
    probes = tuple(
        replace(probe, step_times_s=tuple(factor(probe) * s for s in probe.step_times_s))
        for probe in record.probes
    )
    return replace(record, probes=probes)


def add_loading(record, per_sample_s, *, workers=0):
    limits = replace(record.command.limits, no_loader=False)
    record = replace(record, command=replace(record.command, limits=limits))
    rounds = []
    for size in LOOP_SIZES:
        step_s, load_s = FIXED_S + size * PER_SAMPLE_S, size * per_sample_s
        loop_s = max(step_s, load_s) if workers else step_s + load_s
        rounds.append((loop_s, 1.01 * loop_s, loop_s))
    return replace(record, loop_timings=(make_loop_timing(LOOP_SIZES, rounds, workers=workers),))


LOOP_SIZES = (8, 32, 128, 512)
LOADS = [PER_SAMPLE_S * 2.0**power for power in range(-6, 6, 2)]


@pytest.mark.parametrize("workers", [0, 4])
@pytest.mark.parametrize("index", LAWS)
def test_more_seconds_of_loading_per_sample_never_raise_the_batch(index, workers):
    _, record = race(index)
    sizes = [
        advise(add_loading(record, load_s, workers=workers)).global_batch_size for load_s in LOADS
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 32


@pytest.mark.parametrize("workers", [0, 4])
@pytest.mark.parametrize("seed", range(4))
def test_nor_among_several_pairs_that_are_surely_faster(seed, workers):
    draw = random.Random(seed)

    def fall(pace):
        losses = [2.0 / (1.0 + 0.05 * pace * n) for n in range(61)]
        return tuple(loss * math.exp(draw.gauss(0.0, 0.003)) for loss in losses)

    paces = {size: draw.uniform(0.5, 1.6) for size in (16, 64, 128, 256, 512)}
    record = make_record(trials=make_pairs({(size, 1.0): fall(p) for size, p in paces.items()}))
    record = replace(record, probes=race(0)[1].probes)
    sizes = [
        advise(add_loading(record, load_s, workers=workers)).global_batch_size for load_s in LOADS
    ]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e3])
@pytest.mark.parametrize("index", LAWS)
def test_the_unit_of_time_does_not_matter(index, factor):
    _, record = race(index)
    before, after = advise(record), advise(change_times(record, lambda _: factor))
    assert after.global_batch_size == before.global_batch_size
    assert after.learning_rate == before.learning_rate
    if before.expected.time_ratio is not None:
        points = [each.expected.time_ratio.point for each in (before, after)]
        assert points[0] == pytest.approx(points[1], rel=1e-3)


@pytest.mark.parametrize("session", range(3))
@pytest.mark.parametrize("index", LAWS)
def test_one_session_slowed_by_a_half_costs_a_twentieth_at_most(index, session):
    law, record = race(index)

    def slow(probe):
        return 1.5 if probe.stage == "throughput" and probe.session == session else 1.0

    before, after = advise(record), advise(change_times(record, slow))
    times = [
        law.time_ratio(each.global_batch_size, each.learning_rate.value) for each in (before, after)
    ]
    assert times[1] <= 1.05 * times[0]


@pytest.mark.parametrize("index", LAWS)
def test_a_pair_that_fresh_starts_did_not_reach_is_never_advised(index):
    _, record = race(index)
    winner = Conclusions(record).of(RACE).winner
    assert winner is not None
    pair = (winner.global_batch_size, winner.learning_rate)
    kept = tuple(
        branch
        for branch in record.trials
        if (branch.global_batch_size, branch.learning_rate) != pair or branch.seed not in FRESH
    )
    advice = advise(replace(record, trials=kept))
    assert (advice.global_batch_size, advice.learning_rate.value) != pair
    # Nor one whose curves end above every loss of the base pair but the first.
    cut = tuple(
        branch
        if (branch.global_batch_size, branch.learning_rate) != pair
        else replace(branch, evaluations=branch.evaluations[:1] * 8)
        for branch in record.trials
    )
    advice = advise(replace(record, trials=cut))
    assert (advice.global_batch_size, advice.learning_rate.value) != pair


@pytest.mark.parametrize("index", LAWS)
def test_without_trials_the_own_batch_stays_whatever_the_noise(index):
    _, record = race(index)
    bare = replace(record, trials=())
    for noise in (None, make_noise(1e5, 9e4, 2e5), make_noise(2.0, 1.0, 4.0)):
        advice = conclude(bare, noise=noise).of(ADVICE)
        assert (advice.basis, advice.global_batch_size) == ("untried", 32)
        assert advice.learning_rate.value == 1.0
        assert not advice.expected.is_measured


@pytest.mark.parametrize("index", LAWS)
def test_noise_alone_moves_no_pair_that_was_trained(index):
    """Wrong by a factor of 30, or not there at all, it makes no untried pair the advice."""
    law, record = race(index)
    trained = {(branch.global_batch_size, branch.learning_rate) for branch in record.trials}
    scales = (law.noise_scale / 30, law.noise_scale, 30 * law.noise_scale)
    noises = [make_noise(scale, scale / 1.5, scale * 1.5) for scale in scales]
    for noise in (*noises, NoiseConclusion(status="not_estimated", reason=""), None):
        advice = conclude(record, noise=noise).of(ADVICE)
        assert (advice.global_batch_size, advice.learning_rate.value) in trained
        own = law.time_ratio(advice.global_batch_size, advice.learning_rate.value)
        assert own <= 1.05


@pytest.mark.parametrize("index", LAWS)
def test_the_printed_ratio_is_the_measured_one_within_its_interval(index):
    _, record = race(index)
    advice, winner = advise(record), Conclusions(record).of(RACE).winner
    ratio = advice.expected.time_ratio
    assert isinstance(ratio, Estimate)
    assert ratio == winner.time_ratio
    assert ratio.low <= ratio.point <= ratio.high < 1.0 / 0.95


@pytest.mark.parametrize("order", range(3))
@pytest.mark.parametrize("index", LAWS)
def test_the_order_in_which_branches_ran_does_not_matter(index, order):
    _, record = race(index)
    shuffled = list(record.trials)
    random.Random(order).shuffle(shuffled)
    before, after = advise(record), advise(replace(record, trials=tuple(shuffled)))
    assert (before.global_batch_size, before.learning_rate.value) == (
        after.global_batch_size,
        after.learning_rate.value,
    )
    assert before.expected.time_ratio.point == pytest.approx(after.expected.time_ratio.point)
