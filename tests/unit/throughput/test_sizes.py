import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.statistics import Estimate
from advisor.throughput.data import Saturation, ThroughputPoint
from advisor.throughput.sessions import choose_session_plan, plan_rounds
from advisor.throughput.sizes import MOST_SWEEP_SIZES, choose_refinement, choose_sweep
from advisor.throughput.step_time import StepTimes

NOTHING = StepTimes(step_s={})


def point(size: int, speed: float | None = 1.0, sessions: int = 3) -> ThroughputPoint:
    return ThroughputPoint(
        micro_batch_size=size,
        samples_per_s=Estimate(speed, None, None),
        step_s=Estimate(None if speed is None else size / speed, None, None),
        micro_step_s=None,
        sessions=sessions,
    )


def saturated(size: int | None, high: int | None, status: str = "saturated") -> Saturation:
    return Saturation(batch_size=size, low=None, high=high, status=status)


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
        base_batch_size=wanted,
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


@given(largest=st.integers(2, 250))
def test_short_ranges_leave_no_gap_wider_than_a_doubling_and_a_fifth(largest):
    sizes = choose_sweep(min_micro_batch_size=1, max_micro_batch_size=largest)
    assert all(after <= 2.4 * before for before, after in itertools.pairwise(sizes))


def test_sweep_of_a_wide_range_is_thinned_from_the_bottom():
    assert choose_sweep(min_micro_batch_size=1, max_micro_batch_size=8192) == (
        1, 4, 16, 64, 256, 512, 1024, 2048, 4096, 8192,
    )  # fmt: skip


def test_sweep_keeps_the_users_size_in_the_place_of_its_neighbour():
    sizes = choose_sweep(min_micro_batch_size=1, max_micro_batch_size=200, base_batch_size=60)
    assert sizes == (1, 2, 4, 8, 16, 32, 60, 128, 200)


def test_sweep_holds_the_part_of_a_given_batch():
    sizes = choose_sweep(
        min_micro_batch_size=1, max_micro_batch_size=200, base_batch_size=60,
        given_micro_batch_size=150,
    )  # fmt: skip
    assert sizes == (1, 2, 4, 8, 16, 32, 60, 150, 200)


def test_sweep_is_empty_where_no_multiple_fits():
    assert choose_sweep(min_micro_batch_size=5, max_micro_batch_size=7, batch_multiple=8) == ()


def test_refinement_splits_the_gap_below_the_answer_without_powers_of_two():
    points = [point(size) for size in (32, 64, 128, 256, 512)]
    assert choose_refinement(points, saturated(256, 256)) == (160, 200)


def test_refinement_looks_above_where_the_answer_is_unsure():
    points = [point(size) for size in (64, 128, 256)]
    assert choose_refinement(points, saturated(128, 256)) == (80, 104, 184)
    assert choose_refinement(points, saturated(128, None)) == (80, 104, 184)


def test_refinement_of_the_largest_size_stays_below_it():
    points = [point(size) for size in (64, 128)]
    assert choose_refinement(points, saturated(128, None)) == (80, 104)


def test_refinement_of_the_smallest_size_has_no_gap_below():
    points = [point(size) for size in (64, 128)]
    assert choose_refinement(points, saturated(64, 64)) == ()


def test_narrow_gaps_are_not_refined():
    points = [point(size) for size in (120, 128, 140)]
    assert choose_refinement(points, saturated(128, 140)) == ()
    assert choose_refinement([point(1), point(2), point(3)], saturated(2, 3)) == ()


def test_refinement_after_one_session_starts_from_the_best_throughput():
    speeds = {32: 60.0, 64: 80.0, 128: 96.0, 256: 100.0}
    points = [point(size, speed, sessions=1) for size, speed in speeds.items()]
    assert choose_refinement(points, saturated(None, None, "inconclusive")) == (80, 104, 184)


@pytest.mark.parametrize("status", ["memory_limited", "host_bound", "inconclusive"])
def test_a_curve_that_does_not_saturate_is_not_refined(status):
    points = [point(size, float(size)) for size in (32, 64, 128)]
    assert choose_refinement(points, saturated(None, None, status)) == ()


@pytest.mark.parametrize(("tile", "multiple"), [(96, 1), (96, 32), (80, 5), (48, 16)])
def test_where_times_rise_in_stairs_an_end_of_a_tread_near_saturation_is_added(tile, multiple):
    sizes = [multiple * 2**power for power in range(12) if multiple * 2**power <= 2048]
    times = {size: 0.1 + 0.2 * math.ceil(size / tile) for size in sizes}
    points = [point(size, size / step_s, sessions=1) for size, step_s in times.items()]
    unknown = saturated(None, None, "inconclusive")
    chosen = choose_refinement(points, unknown, batch_multiple=multiple)
    assert len(chosen) <= 3
    assert not set(chosen) & set(sizes)
    assert all(size % multiple == 0 for size in chosen)
    ends = [round(size / tile) * tile for size in chosen]
    assert any(abs(size - end) <= 0.02 * end for size, end in zip(chosen, ends, strict=True))
    truth = 19 * tile / 2  # half saturation at half a tile, five per cent of the speed left
    assert all(truth / 2 < size < 2 * truth for size in chosen)


def test_refinement_after_one_session_starts_from_the_likeliest_law():
    sizes = tuple(2**power for power in range(11))
    points = [point(size, size / (10.0 + 0.5 * size), sessions=1) for size in sizes]
    unknown = saturated(None, None, "inconclusive")
    chosen = choose_refinement(points, unknown)
    truth = 20 * 19  # half saturation at 20, five per cent of the speed left
    assert any(256 < size < 512 for size in chosen)
    assert min(chosen) < truth < 512
    assert choose_refinement(points[:8], unknown)[-1] < 128  # beyond the sizes: near the largest


def test_nothing_measured_is_not_refined():
    assert choose_refinement([], saturated(None, None, "inconclusive")) == ()
    unknown = [point(8, None, sessions=1)]
    assert choose_refinement(unknown, saturated(None, None, "inconclusive")) == ()


@given(
    below=st.integers(1, 2000),
    ratio=st.floats(1.01, 64),
    multiple=st.integers(1, 24),
    answer_is_high=st.booleans(),
)
def test_refined_sizes_are_new_feasible_and_few(below, ratio, multiple, answer_is_high):
    sizes = sorted({below * multiple, round(below * ratio) * multiple, 4 * below * multiple})
    answer = sizes[-1] if answer_is_high else sizes[0]
    chosen = choose_refinement(
        [point(size) for size in sizes], saturated(answer, None), batch_multiple=multiple
    )
    assert len(chosen) <= 3
    assert not set(chosen) & set(sizes)
    assert all(size % multiple == 0 and sizes[0] < size < sizes[-1] for size in chosen)


def test_rounds_fill_the_budget_and_no_more():
    # One round: 2 sizes × (2 × 0.1 s + 1.5 × 1 s) = 3.4 s; warm-up: 2 × (0.2 s + 0.75 s) = 1.9 s.
    assert plan_rounds((8, 16), StepTimes(step_s={8: 0.1, 16: 0.1}), 1.0, 1.9 + 2 * 3.4 + 0.1) == 2
    assert plan_rounds((8, 16), StepTimes(step_s={8: 0.1, 16: 0.1}), 1.0, 1.9 + 3.3) == 0
    assert plan_rounds((8, 16), StepTimes(step_s={8: 0.1, 16: 0.1}), 1.0, 1e6) == 5
    assert plan_rounds((), NOTHING, 1.0, 10.0) == 0


def test_unknown_sizes_cost_in_proportion_to_the_nearest_known_one():
    # Size 32 is taken for 4 s: one settling step, 4 + 1.5 × 4 = 10 s a round, 8 + 0.75 s warm-up.
    assert plan_rounds((32,), StepTimes(step_s={8: 1.0}), 1.0, 8.75 + 10.1) == 1
    assert plan_rounds((32,), StepTimes(step_s={8: 1.0}), 1.0, 8.75 + 9.9) == 0
    with pytest.raises(ValueError, match="no step time"):
        plan_rounds((8,), NOTHING, 1.0, 10.0)


SIZES = (1, 2, 4, 8, 16, 32)
STEPS = StepTimes(step_s=dict.fromkeys(SIZES, 0.01))


def plan(budget_s, must_keep=()):
    return choose_session_plan(
        SIZES, STEPS, block_s=1.0, session_start_s=5.0, budget_s=budget_s, must_keep=must_keep
    )


def test_three_sessions_come_before_more_rounds():
    full = plan(3 * (5.0 + 14.0))
    assert (full.sizes, full.sessions, full.rounds) == (SIZES, 3, 1)
    rich = plan(1000.0)
    assert (rich.sessions, rich.rounds) == (3, 5)


def test_two_sessions_of_all_sizes_come_before_fewer_sizes():
    assert plan(2 * (5.0 + 14.0)).sizes == SIZES
    thin = plan(2 * (5.0 + 7.0), must_keep=(16,))
    assert thin.sessions == 2
    assert {1, 16, 32} <= set(thin.sizes) < set(SIZES)


def test_one_session_is_planned_where_two_do_not_fit():
    single = plan(5.0 + 5.0)
    assert (single.sizes, single.sessions, single.rounds) == ((1, 32), 1, 1)


def test_no_plan_where_nothing_fits():
    assert plan(3.0) is None
    assert choose_session_plan((), NOTHING, block_s=1.0, session_start_s=0.0, budget_s=10.0) is None


@given(budget_s=st.floats(0.0, 500.0), start_s=st.floats(0.0, 20.0), block_s=st.floats(0.05, 2.0))
def test_a_plan_fits_its_budget(budget_s, start_s, block_s):
    chosen = choose_session_plan(
        SIZES, STEPS, block_s=block_s, session_start_s=start_s, budget_s=budget_s
    )
    if chosen is not None:
        blocks = len(chosen.sizes) * chosen.rounds * 1.5 * max(block_s, 0.01)
        assert chosen.sessions * (start_s + blocks) <= budget_s + 1e-9
