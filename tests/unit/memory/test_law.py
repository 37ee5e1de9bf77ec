"""The memory law against machines whose law is known, and the conclusion against its contract."""

from math import floor, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from advisor.memory.data import MemoryConclusion, Outcome, Probe
from advisor.memory.law import fit_memory, predict_peak_bytes
from advisor.memory.plan import conclude_memory
from advisor.memory.search import SearchBounds
from advisor.predict.law import AffinePiece, MemoryLaw

MIB = 1 << 20


def probe(
    size: int,
    outcome: Outcome = "fit",
    forward_backward: int | None = None,
    optimizer: int | None = None,
    **changes: object,
) -> Probe:
    values = {"stage": "memory", "session": 0, **changes}
    return Probe(
        micro_batch_size=size,
        outcome=outcome,
        forward_backward_peak_bytes=forward_backward,
        optimizer_peak_bytes=optimizer,
        **values,  # type: ignore[arg-type]
    )


def measure(size: int, pieces: list[tuple[int, int]], optimizer: tuple[int, int]) -> Probe:
    peak = max(fixed + slope * size for fixed, slope in pieces)
    return probe(size, forward_backward=peak, optimizer=optimizer[0] + optimizer[1] * size)


def test_two_sizes_of_an_affine_machine_give_its_law() -> None:
    law = fit_memory([measure(b, [(100, 7)], (150, 1)) for b in (2, 10)])
    assert law is not None
    forward_backward, optimizer = law.pieces
    assert astuple(forward_backward) == pytest.approx((100, 7))
    assert astuple(optimizer) == pytest.approx((150, 1))


def test_law_changes_phase_where_the_lines_cross() -> None:
    law = fit_memory([measure(b, [(100, 7)], (150, 1)) for b in (1, 4)])
    assert law is not None
    assert law.predict_bytes(8) == pytest.approx(158)
    assert law.predict_bytes(9) == pytest.approx(163)
    assert floor(law.predict_largest(159.5)) == 8
    assert floor(law.predict_largest(163.5)) == 9


def test_law_is_that_of_the_piece_beyond_the_kink() -> None:
    sizes = (1, 4, 20, 100, 180, 200)
    law = fit_memory([measure(b, [(1000, 1), (500, 30)], (900, 0)) for b in sizes])
    assert law is not None
    assert law.predict_bytes(300) == pytest.approx(500 + 30 * 300)


def test_neighbouring_sizes_do_not_turn_noise_into_a_slope() -> None:
    peaks = {1000: 300 * MIB, 2000: 400 * MIB, 2010: 400 * MIB}  # the last pair says: slope zero
    law = fit_memory([probe(b, forward_backward=p, optimizer=0) for b, p in peaks.items()])
    assert law is not None
    assert law.pieces[0].bytes_per_sample == pytest.approx(0.1 * MIB, rel=0.01)


def test_noise_raises_the_slope_and_keeps_the_largest_size() -> None:
    probes = [measure(b, [(100, 7)], (150, 1)) for b in (2, 12)]
    steep = fit_memory(probes, noise_bytes=5)
    assert steep is not None
    forward_backward = steep.pieces[0]
    assert forward_backward.bytes_per_sample == pytest.approx(8)
    assert MemoryLaw((forward_backward,)).predict_bytes(12) == pytest.approx(184)


def test_worst_of_several_probes_at_one_size_counts() -> None:
    probes = [probe(b, forward_backward=p, optimizer=0) for b, p in ((1, 9), (1, 10), (2, 20))]
    law = fit_memory(probes)
    assert law is not None
    assert law.predict_bytes(3) == pytest.approx(30)


def test_one_size_gives_no_law() -> None:
    assert fit_memory([]) is None
    assert fit_memory([measure(4, [(1, 1)], (1, 1))] * 2) is None


def test_only_memory_probes_that_ran_count() -> None:
    probes = [
        probe(1, forward_backward=10, optimizer=5),
        probe(2, "oom", forward_backward=1000, optimizer=5),
        probe(3, stage="throughput", forward_backward=1000, optimizer=5),
    ]
    assert fit_memory(probes) is None


def test_a_phase_without_a_measurement_is_left_out() -> None:
    law = fit_memory([probe(1, forward_backward=10), probe(2, forward_backward=20)])
    assert law is not None
    assert len(law.pieces) == 1
    assert law.predict_largest(50) == pytest.approx(5)


def test_no_size_is_too_big_for_a_flat_law() -> None:
    flat = MemoryLaw((AffinePiece(10.0, 0.0),))
    assert flat.predict_largest(10) == inf
    assert flat.predict_largest(9) == 0


def test_nothing_fits_below_the_fixed_bytes() -> None:
    law = MemoryLaw((AffinePiece(10.0, 1.0),))
    assert law.predict_largest(5) == 0


@given(
    fixed=st.integers(0, 10**10),
    slope=st.integers(1, 10**8),
    sizes=st.sets(st.integers(1, 10**5), min_size=2, max_size=6),
    capacity=st.integers(0, 10**12),
)
def test_largest_size_is_the_last_within_the_capacity(
    fixed: int, slope: int, sizes: set[int], capacity: int
) -> None:
    law = fit_memory([measure(b, [(fixed, slope)], (fixed // 2, 0)) for b in sizes])
    assert law is not None
    largest = floor(law.predict_largest(capacity))
    slack = 1e-6 * (fixed + slope * max(sizes) + capacity) + 1
    if largest > 0:
        assert law.predict_bytes(largest) <= capacity + slack
    assert law.predict_bytes(largest + 1) >= capacity - slack or fixed > capacity


def test_a_corrected_law_is_an_affine_function_of_its_lines() -> None:
    law = MemoryLaw((AffinePiece(10.0, 1.0), AffinePiece(0.0, 3.0)), offset_bytes=4.0, factor=2.0)
    assert law.predict_bytes(2) == 4 + 2 * 12
    assert law.predict_bytes(6) == 4 + 2 * 18
    assert law.predict_largest(4 + 2 * 18) == 6


def conclude(
    *probes: Probe,
    dataset_size: int | None = None,
    max_micro_batch_size: int | None = None,
    batch_multiple: int = 1,
    capacity_bytes: int | None = 1000,
    complete: bool = True,
) -> MemoryConclusion:
    caps = [size for size in (dataset_size, max_micro_batch_size) if size is not None]
    bounds = SearchBounds(
        min_micro_batch_size=batch_multiple,
        max_micro_batch_size=min(caps, default=None),
        batch_multiple=batch_multiple,
        capacity_bytes=capacity_bytes,
    )
    return conclude_memory(
        probes, bounds, headroom_bytes=10, dataset_size=dataset_size, complete=complete
    )


def test_a_closed_gap_is_verified_and_limited_by_memory() -> None:
    conclusion = conclude(
        measure(1, [(100, 10)], (120, 0)),
        measure(50, [(100, 10)], (120, 0)),
        measure(89, [(100, 10)], (120, 0)),
        probe(90, "oom"),
        probe(95, "oom"),
    )
    assert conclusion.max_micro_batch_size == 89
    assert conclusion.verified
    assert conclusion.limited_by == "memory"
    assert conclusion.fixed_bytes == pytest.approx(100)
    assert conclusion.bytes_per_sample == pytest.approx(10)
    assert (conclusion.capacity_bytes, conclusion.headroom_bytes) == (1000, 10)
    assert conclusion.smallest_failed == 90
    assert (conclusion.probes, conclusion.ooms) == (5, 2)


def test_a_wide_gap_is_not_verified() -> None:
    probes = (probe(50), probe(60, "oom"))
    assert conclude(*probes).verified is False
    assert conclude(*probes).limited_by == "memory"
    assert conclude(*probes, complete=False).limited_by == "budget"


def test_the_gap_is_measured_in_multiples() -> None:
    conclusion = conclude(probe(48), probe(56, "oom"), batch_multiple=8)
    assert conclusion.verified


def test_a_spill_is_a_size_that_does_not_fit() -> None:
    conclusion = conclude(probe(8), probe(9, "spill"))
    assert conclusion.verified
    assert conclusion.smallest_failed == 9


@pytest.mark.parametrize(
    ("dataset", "cap", "limiter"), [(64, None, "dataset"), (100, 64, "cap"), (64, 64, "dataset")]
)
def test_the_tighter_of_dataset_and_cap_limits(
    dataset: int | None, cap: int | None, limiter: str
) -> None:
    conclusion = conclude(probe(64), dataset_size=dataset, max_micro_batch_size=cap)
    assert conclusion.verified
    assert conclusion.limited_by == limiter


def test_the_largest_multiple_within_the_dataset_is_all_there_is() -> None:
    conclusion = conclude(probe(96), dataset_size=100, batch_multiple=32)
    assert conclusion.verified
    assert conclusion.limited_by == "dataset"


def test_a_search_that_never_failed_ended_on_its_budget() -> None:
    conclusion = conclude(probe(64), dataset_size=1000)
    assert not conclusion.verified
    assert conclusion.limited_by == "budget"
    assert conclusion.smallest_failed is None


def test_nothing_fits() -> None:
    conclusion = conclude(probe(1, "oom"))
    assert conclusion.max_micro_batch_size is None
    assert not conclusion.verified
    assert conclusion.limited_by == "memory"
    assert conclusion.fixed_bytes is None
    assert conclusion.bytes_per_sample is None


def test_no_probe_is_no_answer() -> None:
    assert conclude().max_micro_batch_size is None
    assert conclude().limited_by == "budget"


def test_probes_of_other_stages_do_not_count() -> None:
    conclusion = conclude(probe(8), probe(9, "oom"), probe(64, stage="throughput"))
    assert conclusion.max_micro_batch_size == 8
    assert conclusion.probes == 2


def test_a_failure_below_the_largest_that_ran_does_not_verify_it() -> None:
    conclusion = conclude(probe(100), probe(99, "oom"), probe(120, "oom"))
    assert conclusion.max_micro_batch_size == 100
    assert not conclusion.verified
    assert conclusion.smallest_failed == 99


def test_a_line_below_zero_has_no_fixed_bytes() -> None:
    probes = [probe(b, forward_backward=b * b, optimizer=0) for b in (10, 20)]
    conclusion = conclude(*probes)
    assert conclusion.fixed_bytes is None
    assert conclusion.bytes_per_sample == pytest.approx(30)


@given(st.integers(1, 10**6), st.integers(1, 64), st.integers(1, 10**5))
def test_a_closed_gap_holds_the_answer_within_one_per_cent(
    ran: int, multiple: int, gap: int
) -> None:
    failed = ran + gap
    bounds = SearchBounds(min_micro_batch_size=1, batch_multiple=multiple)
    if bounds.is_gap_closed(ran, failed) and gap > multiple:
        assert (failed - 1 - ran) / (failed - 1) < 0.01


def test_largest_size_without_retries_may_be_smaller() -> None:
    probes = (
        probe(1, forward_backward=100, optimizer=50, alloc_retries=0),
        probe(8, forward_backward=800, optimizer=50, alloc_retries=0),
        probe(9, forward_backward=900, optimizer=50, alloc_retries=4),
        probe(10, "oom"),
    )
    conclusion = conclude(*probes)
    assert conclusion.max_micro_batch_size == 9
    assert conclusion.largest_without_retries == 8
    assert conclusion.upper_bound == 10
    assert conclude(probe(1, forward_backward=100)).largest_without_retries is None


def test_headroom_is_counted_in_the_currency_of_the_limit() -> None:
    ran = probe(9, forward_backward=900, optimizer=950)
    assert conclude(ran).headroom_at_max_bytes == 50
    exact = probe(9, forward_backward=900, optimizer=950, limit_peak_bytes=930)
    assert conclude(exact).headroom_at_max_bytes == 70
    assert conclude(probe(9)).headroom_at_max_bytes is None
    assert conclude(ran, capacity_bytes=None).headroom_at_max_bytes is None


def test_upper_bound_is_above_the_largest_that_ran() -> None:
    conclusion = conclude(probe(5, "oom"), probe(9, forward_backward=1, optimizer=1))
    assert conclusion.smallest_failed == 5
    assert conclusion.upper_bound is None


def test_between_measured_sizes_the_peak_lies_between_theirs():
    """Few samples are large: the worst batch grows fast, then hardly."""
    peaks = {size: MIB * min(3 * size, 300 + size // 100) for size in (1, 11, 280, 834, 2000)}
    law = fit_memory([probe(size, forward_backward=peak) for size, peak in peaks.items()])
    assert law is not None
    before = 0.0
    for size in range(1, 2001):
        told = predict_peak_bytes(size, peaks, law)
        assert told >= before
        assert size not in peaks or told == peaks[size]
        before = told
    assert predict_peak_bytes(4000, peaks, law) == law.predict_bytes(4000)
    assert predict_peak_bytes(1, {64: 8 * MIB, 128: 9 * MIB}, law) <= 8 * MIB


@pytest.mark.parametrize(("sizes", "is_fixed"), [((1, 800, 2000), False), ((64, 800, 2000), True)])
def test_a_line_that_begins_above_what_a_size_took_tells_no_fixed_amount(sizes, is_fixed):
    fits = [probe(size, forward_backward=MIB * min(3 * size, 150 + size // 8)) for size in sizes]
    found = conclude_memory(
        fits,
        SearchBounds(min_micro_batch_size=1, max_micro_batch_size=2000, capacity_bytes=1 << 40),
        headroom_bytes=0,
        dataset_size=2000,
    )
    assert (found.fixed_bytes is not None) == is_fixed
    assert found.bytes_per_sample == pytest.approx(MIB / 8)
