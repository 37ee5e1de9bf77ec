"""What is said of where larger batches stop being faster, against known curves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.throughput.conclude import conclude_throughput
from advisor.throughput.paired_sizes import pair_sizes
from advisor.throughput.saturation import is_settled
from advisor.throughput.tell import describe_saturation
from tests.unit.throughput.curves import DOUBLINGS, affine, measure, probe

FLAT = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def conclude(probes, *, largest=None, range_end="dataset", **sizes):
    return conclude_throughput(
        probes, largest_micro_batch_size=largest, range_end=range_end, **sizes
    )


def saturate(probes, **options):
    return conclude(probes, **options).saturation


def find_truth(law, largest):
    speeds = np.array([size / law(size) for size in range(1, largest + 1)])
    best = np.maximum.accumulate(speeds[::-1])[::-1]
    return 1 + int(np.argmax(speeds >= 0.95 * best))


def test_a_curve_that_flattens_has_its_answer_within_the_interval():
    law = affine(5e-3, 1e-3)
    conclusion = conclude(measure(law, noise=0.002))
    found, truth = conclusion.saturation, find_truth(law, 512)
    assert (found.status, found.batch_size) == ("saturated", 128)
    assert found.low <= truth <= found.high
    assert is_settled(found)
    assert conclusion.half_saturation_batch_size.point == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("end", ["dataset", "cap", "memory"])
def test_a_curve_that_rises_to_its_end_says_by_how_much_and_what_ends_it(end):
    law = affine(5e-3, 1e-3)
    found = saturate(measure(law, FLAT[:6], noise=0.002), largest=32, range_end=end)
    assert found.status == ("memory_limited" if end == "memory" else "rising")
    assert found.batch_size is found.high is None
    gain = 2 * law(16) / law(32) - 1
    assert found.last_gain.low <= gain <= found.last_gain.high
    assert found.range_end == end
    assert found.needed_batch_size == pytest.approx(95, rel=0.1)
    assert is_settled(found)


@pytest.mark.parametrize("end", ["dataset", "memory"])
def test_where_fewer_than_three_sizes_can_run_no_budget_is_asked_for(end):
    found = saturate(measure(affine(5e-3, 1e-3), (1, 2)), largest=2, range_end=end)
    assert found.status == "inconclusive"
    assert is_settled(found)
    told = describe_saturation(found)
    assert told == "inconclusive; {} ends before three sizes can be timed".format(
        {"dataset": "the dataset"}.get(end, end)
    )
    law = affine(5e-3, 1e-3)
    found = conclude(measure(law, (2, 3)), largest=3, range_end=end, smallest_micro_batch_size=2)
    assert found.saturation.is_range_short
    assert conclude(measure(law, (8, 16)), largest=16, batch_multiple=8).saturation.is_range_short
    assert not conclude(measure(law, (8, 16)), largest=16).saturation.is_range_short
    cut_short = saturate(measure(affine(5e-3, 1e-3), (1, 2)), largest=8, range_end=end)
    assert not is_settled(cut_short)
    assert "raise --budget" in describe_saturation(cut_short)


def test_sizes_that_were_not_timed_end_the_range_for_want_of_time():
    found = saturate(measure(affine(5e-3, 1e-3), FLAT[:6]), largest=500, range_end="memory")
    assert (found.status, found.range_end) == ("rising", "budget")


def test_steps_that_take_no_longer_rise_all_the_way():
    found = saturate(measure(lambda size: 1e-2, noise=0.01))
    assert found.status == "rising"
    assert found.last_gain.low <= 1.0 <= found.last_gain.high


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_slowed_session_moves_no_answer(share, seed):
    law = affine(5e-3, 1e-3)
    probes = [
        probe(s, size, law(size) * (1.5 if s == 1 and size < 512**share else 1.0) * noise)
        for s in range(3)
        for size, noise in zip(
            FLAT, np.random.default_rng((seed, s)).normal(1.0, 0.003, 10).tolist(), strict=True
        )
    ]
    found = saturate(probes)
    assert found.batch_size == 128
    assert found.low <= find_truth(law, 512) <= found.high


def test_sessions_that_contradict_each_other_give_no_answer_but_by_how_much():
    found = saturate(measure(affine(5e-3, 1e-3), noise=0.4, seed=1))
    assert found.status == "inconclusive"
    assert found.last_gain.high - found.last_gain.low > 0.2
    assert not is_settled(found)


@pytest.mark.parametrize(
    "probes",
    [[], measure(affine(5e-3, 1e-3), sessions=1), measure(affine(5e-3, 1e-3), (8, 64))],
)
def test_too_little_to_go_by_is_inconclusive(probes):
    found = saturate(probes)
    assert (found.status, found.batch_size, found.last_gain) == ("inconclusive", None, None)


def test_a_good_tread_between_powers_of_two_is_in_the_interval():
    def stairs(size):
        return 2e-4 + 1e-2 * math.ceil(size / 96)

    sizes = (8, 16, 32, 64, 96, 128, 192, 384, 768)
    found = saturate(measure(stairs, sizes, noise=0.002))
    assert (found.status, found.batch_size) == ("saturated", 96)
    assert found.low <= find_truth(stairs, 768) <= 96


def test_a_curve_that_falls_after_its_peak_is_told_with_by_how_much():
    def law(size):
        return 1.0 + 0.1 * size + 1e-3 * size**2

    conclusion = conclude(measure(law, noise=0.01))
    found, fall = conclusion.saturation, conclusion.fall
    assert found.status == "retrograde"
    assert found.low <= find_truth(law, 512) <= found.high
    peak = fall.peak_micro_batch_size
    truth = 1.0 - 512 / law(512) * law(peak) / peak
    assert fall.slower_fraction.low < truth < fall.slower_fraction.high


def test_a_curve_that_does_not_fall_has_no_fall():
    assert conclude(measure(affine(5e-3, 1e-3), noise=0.003)).fall is None


def test_a_host_that_issues_all_the_time_is_named():
    def host(size):
        return 1e-2 + 1e-7 * size

    probes = measure(host, noise=0.003, enqueue=lambda size: 0.99 * host(size))
    found = saturate(probes, largest=512, range_end="memory")
    assert (found.status, found.batch_size) == ("host_bound", None)


def test_a_full_launch_queue_is_not_taken_for_a_slow_host():
    law = affine(5e-3, 1e-3)
    probes = measure(law, noise=0.003, enqueue=lambda size: 0.95 * law(size))
    assert saturate(probes).status == "saturated"


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), factor=st.floats(1e-4, 1e4))
def test_a_machine_that_is_slower_throughout_saturates_at_the_same_size(seed, factor):
    found, slower = (
        saturate(measure(affine(5e-3 * k, 1e-3 * k), noise=0.01, seed=seed)) for k in (1.0, factor)
    )
    assert (found.status, found.batch_size) == (slower.status, slower.batch_size)
    assert found.low == pytest.approx(slower.low, rel=0.1)


@settings(max_examples=8)
@given(half=st.floats(0.5, 20.0), doublings=st.integers(0, 5))
def test_a_doubled_range_moves_the_answer_by_less_than_a_doubling(half, doublings):
    reach = 3 + math.ceil(math.log2(19 * half)) + doublings
    found = [
        saturate(measure(affine(1e-3, 1e-3 / half), tuple(2**k for k in range(reach + more))))
        for more in (0, 1)
    ]
    assert {each.status for each in found} == {"saturated"}
    assert found[0].low <= found[1].batch_size
    assert found[0].batch_size <= found[1].batch_size <= 2 * found[0].batch_size


@pytest.mark.parametrize("noise", [0.003, 0.03])
def test_the_interval_holds_the_truth(noise):
    held, count = 0, 15
    for seed in range(count):
        half = 10.0 ** np.random.default_rng(seed).uniform(0.3, 1.7)
        law = affine(1e-3, 1e-3 / half)
        found = saturate(measure(law, DOUBLINGS, noise=noise, common=noise, seed=seed))
        gain = 2 * law(256) / law(512) - 1
        if found.batch_size is None:
            held += found.last_gain.low <= gain <= found.last_gain.high
        else:
            held += found.low <= find_truth(law, 512) <= (found.high or 512)
    assert held >= 0.8 * count


def test_the_last_doubling_is_compared_by_the_sessions_that_timed_both_sizes():
    draw = np.random.default_rng(0)
    hits, widths = 0, []
    for _ in range(200):
        speeds = np.exp(0.3 * draw.standard_normal(6))  # whole sessions cancel
        noise = np.exp(0.03 * draw.standard_normal((6, 2)))
        times = {
            n: {64: v * a, 128: 1.8 * v * b}
            for n, (v, (a, b)) in enumerate(zip(speeds, noise, strict=True))
        }
        seen = pair_sizes({**times, 6: {64: 1.0}}).compare(64, 128)
        hits += seen.low <= math.log(1.8) <= seen.high
        widths.append(seen.high - seen.low)
    assert hits >= 182
    assert np.median(widths) < 0.1
    few = {n: each for n, each in times.items() if n < 3}
    assert pair_sizes(few).compare(64, 128) is None


def test_a_neighbour_that_disturbs_all_other_sizes_leaves_the_last_doubling_answered():
    draw = np.random.default_rng(1)
    probes = [
        probe(
            session,
            size,
            float(seconds * np.exp((0.02 if size >= 64 else 0.5) * draw.standard_normal())),
        )
        for session in range(8)
        for size, seconds in ((1, 0.01), (4, 0.011), (16, 0.03), (64, 0.1), (128, 0.199))
    ]
    found = conclude_throughput(probes, largest_micro_batch_size=128, range_end="cap").saturation
    assert found.status in {"saturated", "retrograde"}
    assert found.last_gain.low <= 2 / 1.99 - 1 <= found.last_gain.high <= 0.05
