"""The interval of a step on another card holds the truth, where the truth is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.cards.step_time import scale_steps, take_steps
from advisor.device.catalogue import describe_stated_gpu, find_gpu
from advisor.predict.data import StepCost
from tests.unit.cards.sample_training import A100, H100, L4, T4, make_pair

CARDS = {name: find_gpu(name) for name in (A100, H100, L4, T4)}
#: Of a kernel: operations, bytes, and the share of its limit that it comes to, on every card.
kernels = st.lists(
    st.tuples(st.floats(1e9, 1e13), st.floats(1e6, 1e11), st.floats(0.05, 1.0)),
    min_size=1,
    max_size=12,
)


def make_cost(flops, moved_bytes):
    """What a step takes at a batch of 32."""
    return StepCost(
        flops_fixed=0,
        flops_per_sample=round(flops / 32),
        moved_fixed_bytes=0,
        moved_bytes_per_sample=round(moved_bytes / 32),
        uses_tf32=False,
    )


def run_kernels(gpu, each, host_s):
    """Return the seconds of a step of such kernels, one after the other."""
    peak, bandwidth = gpu.peak_flops["fp32"], gpu.bandwidth_bytes_per_s
    return host_s + sum(max(f / peak, d / bandwidth) / share for f, d, share in each)


def scale(pairs, cost, *, gpu, timed_on=A100, splits=None):
    own = [(pair.micro_batch_size, pair.gradient_accumulation_steps) for pair in pairs]
    return scale_steps(
        pairs,
        splits or own,
        cost,
        gpu=CARDS[gpu],
        timed_on=CARDS.get(timed_on),
        precision="fp32",
    )


@given(kernels, st.floats(0.0, 0.1), st.sampled_from([H100, L4, T4]))
def test_kernels_as_near_to_their_limits_on_both_cards_take_a_time_within_the_bounds(
    each, host_s, other
):
    cost = make_cost(sum(f for f, _, _ in each), sum(d for _, d, _ in each))
    timed_s, truth_s = (run_kernels(CARDS[name], each, host_s) for name in (A100, other))
    steps = scale([make_pair(32, step_s=timed_s)], cost, gpu=other)
    (bounds,) = steps.step_s
    assert steps.basis == "predicted"
    assert bounds.low * (1 - 1e-6) <= truth_s <= bounds.high * (1 + 1e-6)


def test_a_step_at_its_arithmetic_peak_that_moves_little_goes_with_the_peaks():
    """At the peak nothing is left that could scale otherwise but by the bandwidth."""
    cost = make_cost(19.5e12, 1e9)
    (bounds,) = scale([make_pair(32, step_s=1.0)], cost, gpu=H100).step_s
    assert bounds.low == pytest.approx(19.5 / 67.0)
    assert bounds.high == pytest.approx(2039 / 3350)


def test_a_step_that_is_nearly_all_host_may_stay_as_it_is():
    (bounds,) = scale([make_pair(32, step_s=1.0)], make_cost(1e9, 1e6), gpu=H100).step_s
    assert bounds.high == pytest.approx(1.0, rel=1e-3)
    assert bounds.low == pytest.approx(19.5 / 67.0, rel=1e-3)


def test_no_time_is_below_what_the_card_cannot_go_below():
    cost = make_cost(1e12, 1e9)
    (bounds,) = scale([make_pair(32, step_s=1e-6)], cost, gpu=L4).step_s
    assert bounds.low >= 1e12 / CARDS[L4].peak_flops["fp32"]


def test_accumulation_on_the_card_is_launched_more_often():
    cost = StepCost(
        flops_fixed=0,
        flops_per_sample=10**9,
        moved_fixed_bytes=0,
        moved_bytes_per_sample=10**6,
        uses_tf32=False,
    )
    (whole,), (parts,) = (
        scale([make_pair(32, step_s=1.0)], cost, gpu=H100, splits=[split]).step_s
        for split in ((32, 1), (8, 4))
    )
    assert parts.low == pytest.approx(whole.low)
    assert (whole.high, parts.high) == (pytest.approx(1.0, rel=0.01), pytest.approx(4.0, rel=0.01))


def test_parameters_are_read_again_by_each_part():
    cost = StepCost(
        flops_fixed=0,
        flops_per_sample=1,
        moved_fixed_bytes=10**9,
        moved_bytes_per_sample=0,
        uses_tf32=False,
    )
    splits = [(32, 1)], [(8, 4)]
    whole, parts = (
        scale([make_pair(32)], cost, gpu=L4, timed_on=None, splits=each).step_s[0].low
        for each in splits
    )
    assert parts == pytest.approx(4 * whole)


def test_without_the_card_of_the_run_a_step_is_bounded_below_alone():
    steps = scale([make_pair(32, step_s=1.0)], make_cost(67e12, 1.0), gpu=H100, timed_on=None)
    assert steps.basis == "bounded"
    assert (steps.step_s[0].low, steps.step_s[0].high) == (pytest.approx(1.0), None)


def test_where_not_even_a_bound_is_known_there_are_no_steps():
    found = scale_steps(
        [make_pair(32)],
        [(32, 1)],
        make_cost(1e12, 1e9),
        gpu=describe_stated_gpu(2**34),
        timed_on=CARDS[A100],
        precision="fp32",
    )
    assert found is None


def test_an_unknown_peak_leaves_the_bound_of_the_bandwidth():
    steps = scale_steps(
        [make_pair(32)],
        [(32, 1)],
        make_cost(1e12, 1e9),
        gpu=CARDS[T4],
        timed_on=CARDS[A100],
        precision="bf16",
    )
    assert steps.basis == "bounded"
    assert steps.step_s[0].low == pytest.approx(1e9 / CARDS[T4].bandwidth_bytes_per_s)


def test_on_the_runs_own_card_steps_take_what_they_took():
    steps = take_steps([make_pair(32, step_s=0.1), make_pair(64, step_s=0.15)])
    assert steps.basis == "measured"
    assert [(each.low, each.high) for each in steps.step_s] == [(0.1, 0.1), (0.15, 0.15)]
