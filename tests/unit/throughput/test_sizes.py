import itertools
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.statistics import Estimate
from advisor.throughput.conclude import conclude_throughput
from advisor.throughput.plan import (
    MOST_SWEEP_SIZES,
    choose_next,
    choose_refinement,
    choose_session_plan,
    choose_sweep,
    plan_rounds,
)
from advisor.throughput.step_time import StepTimes
from tests.unit.throughput.curves import affine, measure

NOTHING = StepTimes(step_s={})


def curve(law, sizes, sessions=3):
    return conclude_throughput(
        measure(law, sizes, sessions=sessions),
        largest_micro_batch_size=None,
        range_end="dataset",
    )


@given(
    smallest=st.integers(1, 64),
    largest=st.integers(1, 2**20),
    multiple=st.integers(1, 16),
    wanted=st.none() | st.integers(1, 2**20),
)
def test_sweep_holds_both_ends_and_the_feasible_size_of_the_user(
    smallest, largest, multiple, wanted
):
    sizes = choose_sweep(
        min_micro_batch_size=smallest,
        max_micro_batch_size=largest,
        batch_multiple=multiple,
        wanted=() if wanted is None else (wanted,),
    )
    feasible = [size for size in (-(-smallest // multiple) * multiple,) if size <= largest]
    assert list(sizes[:1]) == feasible
    if sizes:
        assert sizes[-1] == largest // multiple * multiple
        assert (
            wanted in sizes
            or wanted is None
            or not (sizes[0] <= wanted <= sizes[-1] and wanted % multiple == 0)
        )
    assert len(sizes) <= MOST_SWEEP_SIZES
    assert list(sizes) == sorted(set(sizes))
    assert all(smallest <= size <= largest and size % multiple == 0 for size in sizes)


@given(largest=st.integers(2, 64))
def test_short_ranges_leave_no_gap_wider_than_a_doubling_and_a_fifth(largest):
    sizes = choose_sweep(min_micro_batch_size=1, max_micro_batch_size=largest)
    assert all(after <= 2.4 * before for before, after in itertools.pairwise(sizes))


def test_sweep_of_a_wide_range_is_thinned_from_the_bottom():
    assert choose_sweep(min_micro_batch_size=1, max_micro_batch_size=8192) == (
        1, 4, 16, 64, 256, 1024, 4096, 8192,
    )  # fmt: skip


def test_sweep_keeps_the_users_size_in_the_place_of_its_neighbour():
    sizes = choose_sweep(min_micro_batch_size=1, max_micro_batch_size=200, wanted=(60,))
    assert sizes == (1, 4, 16, 32, 60, 100, 128, 200)


def test_sweep_holds_the_part_of_a_given_batch():
    sizes = choose_sweep(min_micro_batch_size=1, max_micro_batch_size=200, wanted=(150, 60))
    assert sizes == (1, 4, 16, 32, 60, 100, 150, 200)


def test_sweep_is_empty_where_no_multiple_fits():
    assert choose_sweep(min_micro_batch_size=5, max_micro_batch_size=7, batch_multiple=8) == ()


@pytest.mark.parametrize("sessions", [1, 3])
def test_refinement_splits_the_gaps_around_the_answer_without_powers_of_two(sessions):
    found = curve(affine(6e-3, 1e-3), (8, 16, 32, 64, 128, 256, 512), sessions)
    chosen = choose_refinement(found)
    assert chosen == (80, 104, 184)  # within 5 % of the speed at 512 from 82 on
    assert choose_refinement(found, batch_multiple=48) == (96, 192)


def test_an_answer_in_the_last_gap_is_refined_below_the_largest_size():
    chosen = choose_refinement(curve(affine(1e-2, 1e-3), (16, 64, 800)))
    assert chosen
    assert all(64 < size < 800 for size in chosen)


def test_narrow_gaps_are_not_refined():
    assert choose_refinement(curve(affine(6e-3, 1e-3), (60, 86, 92, 100, 108, 512))) == ()


def test_a_curve_that_rises_to_its_end_is_not_refined():
    assert choose_refinement(curve(affine(1.0, 1e-3), (8, 16, 32, 64))) == ()


@pytest.mark.parametrize(("tile", "multiple"), [(96, 1), (96, 32), (80, 5), (48, 16)])
def test_where_times_rise_in_stairs_an_end_of_a_tread_near_saturation_is_added(tile, multiple):
    sizes = [multiple * 2**power for power in range(12) if multiple * 2**power <= 2048]
    found = curve(lambda size: 0.1 + 0.2 * math.ceil(size / tile), sizes, 1)
    chosen = choose_refinement(found, batch_multiple=multiple)
    assert 0 < len(chosen) <= 3
    assert not set(chosen) & set(sizes)
    assert all(size % multiple == 0 for size in chosen)
    ends = [round(size / tile) * tile for size in chosen]
    assert any(abs(size - end) <= 0.04 * end for size, end in zip(chosen, ends, strict=True))


def test_nothing_measured_is_not_refined():
    assert choose_refinement(curve(affine(1.0, 1.0), ())) == ()
    assert choose_refinement(curve(affine(1.0, 1.0), (8,))) == ()


def test_later_sessions_leave_out_what_cannot_matter_and_keep_the_users_size():
    found = curve(affine(6e-3, 1e-3), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
    chosen = choose_next(found, session=9, kept=(4,))
    assert {1, 4, 64, 128, 256, 512} <= set(chosen)
    assert not {2, 8, 16} & set(chosen)
    assert set(choose_refinement(found)) < set(choose_next(found, session=0, kept=()))


@settings(max_examples=25)
@given(
    sizes=st.sets(st.integers(1, 4096), min_size=1, max_size=9).map(sorted),
    half=st.floats(1.0, 1e4),
    multiple=st.sampled_from((1, 16)),
)
def test_whatever_was_timed_the_next_sizes_are_between_its_ends(sizes, half, multiple):
    found = curve(affine(1e-3 * half, 1e-3), sizes)
    chosen = choose_next(found, session=0, kept=(), batch_multiple=multiple)
    assert (chosen[0], chosen[-1]) == (sizes[0], sizes[-1])
    assert all(size % multiple == 0 for size in set(chosen) - set(sizes))


def test_where_sessions_contradict_each_other_the_last_doubling_comes_first():
    found = curve(affine(6e-3, 1e-3), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
    gain = Estimate(0.02, -0.3, 0.4)
    open_one = msgspec.structs.replace(found.saturation, status="inconclusive", last_gain=gain)
    contradicted = msgspec.structs.replace(found, saturation=open_one)
    assert choose_next(contradicted, session=2, kept=(4,)) == (4, 256, 512)


def test_rounds_fill_the_budget_and_no_more():
    # One round: 2 sizes × (2 × 0.1 s + 1.5 × 1 s) = 3.4 s; warm-up: 2 × (0.2 s + 0.75 s) = 1.9 s.
    assert plan_rounds((0.1, 0.1), 1.0, 1.9 + 2 * 3.4 + 0.1) == 2
    assert plan_rounds((0.1, 0.1), 1.0, 1.9 + 3.3) == 0
    assert plan_rounds((0.1, 0.1), 1.0, 1e6) == 2


def test_a_step_longer_than_a_block_makes_one_by_itself():
    # One settling step, 4 + 1.5 × 4 = 10 s a round, 8 + 0.75 s warm-up.
    assert plan_rounds((4.0,), 1.0, 8.75 + 10.1) == 1
    assert plan_rounds((4.0,), 1.0, 8.75 + 9.9) == 0


SIZES = (1, 2, 4, 8, 16, 32)
STEPS = StepTimes(step_s=dict.fromkeys(SIZES, 0.01))


def plan(budget_s, must_keep=(), steps=STEPS, **more):
    return choose_session_plan(
        SIZES,
        steps,
        block_s=1.0,
        start_s=5.0,
        budget_s=budget_s,
        must_keep=must_keep,
        **more,
    )


def test_three_sessions_come_before_more_rounds():
    full = plan(3 * (5.0 + 14.0))
    assert (full.sizes, full.sessions, full.rounds) == (SIZES, 3, 1)
    rich = plan(1000.0)
    assert (rich.sessions, rich.rounds) == (3, 2)


def test_two_sessions_of_all_sizes_come_before_fewer_sizes():
    assert plan(2 * (5.0 + 14.0)).sizes == SIZES
    thin = plan(2 * (5.0 + 7.0), must_keep=(16,))
    assert thin.sessions == 2
    assert {1, 16, 32} <= set(thin.sizes) < set(SIZES)


def test_one_session_is_planned_where_two_do_not_fit():
    single = plan(5.0 + 5.0)
    assert (single.sizes, single.sessions, single.rounds) == ((1, 32), 1, 1)


def test_blocks_of_several_steps_come_before_more_rounds_and_after_sizes():
    slow = StepTimes(step_s={size: 2.0 if size == 32 else 0.01 for size in SIZES})
    rich = plan(1000.0, steps=slow, wanted_steps=4)
    assert (rich.sessions, rich.rounds, rich.least_steps) == (3, 2, 4)
    # Three more steps of the largest size, in one block and half of another.
    assert plan(3 * (5.0 + 34.0), steps=slow, wanted_steps=4).least_steps == 4
    poor = plan(3 * (5.0 + 21.5), steps=slow, wanted_steps=4)
    assert (poor.sizes, poor.sessions, poor.least_steps) == (SIZES, 3, 1)


def test_sizes_are_left_out_before_those_the_user_named_and_the_given_one_goes_last():
    for count, expected in enumerate([(16,), (8, 16), (1, 8, 16), (1, 8, 16, 32)], 1):
        assert plan(2 * (5.0 + 2.3 * count), (16, 8)).sizes == expected


def test_a_size_that_takes_too_long_leaves_room_for_the_others():
    slow = StepTimes(step_s={size: 90.0 if size == 32 else 0.01 for size in SIZES})
    short = plan(60.0, steps=slow)
    assert (short.sizes, short.sessions) == ((1, 2, 4, 8, 16), 3)


def test_a_size_costs_its_start():
    free, dear = (plan(2 * (5.0 + 14.0), size_start_s=start_s) for start_s in (0.0, 2.0))
    assert (len(free.sizes), free.sessions) == (6, 2)
    assert (dear.sizes, dear.sessions) == ((1, 8, 32), 2)


def test_no_plan_where_nothing_fits():
    assert plan(3.0) is None
    assert choose_session_plan((), NOTHING, block_s=1.0, start_s=0.0, budget_s=10.0) is None


@given(budget_s=st.floats(0.0, 500.0), start_s=st.floats(0.0, 20.0), block_s=st.floats(0.05, 2.0))
def test_a_plan_fits_its_budget(budget_s, start_s, block_s):
    chosen = choose_session_plan(SIZES, STEPS, block_s=block_s, start_s=start_s, budget_s=budget_s)
    if chosen is not None:
        blocks = len(chosen.sizes) * chosen.rounds * 1.5 * max(block_s, 0.01)
        assert chosen.sessions * (start_s + blocks) <= budget_s + 1e-9
