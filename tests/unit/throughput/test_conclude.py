import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.memory.data import Probe
from advisor.throughput.conclude import conclude_throughput
from advisor.throughput.law import StepLaw, evaluate_step_law, predict_law_saturation
from advisor.throughput.law_fits import fit_smooth_law
from advisor.throughput.paired_sizes import compute_level_errors, pair_sizes
from advisor.throughput.saturation import SATURATION_TOLERANCE_FRACTION
from tests.unit.throughput.curves import DOUBLINGS, affine, measure, probe


def conclude(probes, *, largest=None, memory_limited=False, peak_bytes=None):
    return conclude_throughput(
        probes,
        largest_micro_batch_size=largest,
        memory_limited=memory_limited,
        peak_bytes=peak_bytes or {},
    )


class TestStepTime:
    @given(
        fixed_s=st.floats(1e-6, 10.0),
        half=st.floats(0.01, 1e4),
    )
    def test_fit_finds_an_affine_law(self, fixed_s, half):
        law = fit_smooth_law(DOUBLINGS, [fixed_s + fixed_s / half * size for size in DOUBLINGS])
        assert law.fixed_s == pytest.approx(fixed_s, rel=1e-6)
        assert law.per_sample_s == pytest.approx(fixed_s / half, rel=1e-6)
        assert law.curvature == 0.0

    def test_fit_finds_a_plain_curvature(self):
        truth = StepLaw(kind="curved", fixed_s=1.0, per_sample_s=0.1, curvature=1e-4)
        times = [evaluate_step_law(truth, size) for size in DOUBLINGS]
        law = fit_smooth_law(DOUBLINGS, times)
        assert law.curvature == pytest.approx(1e-4, rel=1e-6)
        assert math.sqrt(law.fixed_s / law.curvature) == pytest.approx(100.0, rel=1e-6)

    def test_noise_is_not_taken_for_curvature(self):
        curved = 0
        for seed in range(200):
            noise = np.random.default_rng(seed).normal(0.0, 0.03, len(DOUBLINGS))
            times = [(1 + 0.1 * s) * math.exp(e) for s, e in zip(DOUBLINGS, noise, strict=True)]
            curved += fit_smooth_law(DOUBLINGS, times).curvature > 0.0
        assert curved <= 6

    def test_times_that_grow_faster_than_the_batch_have_no_fixed_cost(self):
        law = fit_smooth_law((1, 2, 4), (1.0, 2.5, 5.5))
        assert law.fixed_s == 0.0
        assert law.per_sample_s > 0.0

    @pytest.mark.parametrize("times", [(1.0, 1.0, 1.0), (1.0, 0.9, 0.8)])
    def test_times_that_do_not_grow_have_no_law(self, times):
        assert fit_smooth_law((1, 2, 4), times) is None

    def test_one_size_has_no_law(self):
        assert fit_smooth_law((4,), (1.0,)) is None

    def test_affine_law_saturates_at_nineteen_half_saturation_batches(self):
        law = StepLaw(kind="affine", fixed_s=3.0, per_sample_s=0.5)
        assert predict_law_saturation(law, 0.05) == pytest.approx(19 * 6.0)
        assert predict_law_saturation(law, 0.10) == pytest.approx(9 * 6.0)

    def test_curved_law_saturates_before_its_peak(self):
        law = StepLaw(kind="curved", fixed_s=1.0, per_sample_s=0.1, curvature=1e-4)
        size = predict_law_saturation(law, 0.05)
        peak = math.sqrt(law.fixed_s / law.curvature)
        speed = size / evaluate_step_law(law, size)
        assert size < peak
        assert speed == pytest.approx(0.95 * peak / evaluate_step_law(law, peak))


class TestPairedSizes:
    def test_session_effects_cancel(self):
        paired = pair_sizes({0: {1: 1.0, 2: 1.5}, 1: {1: 2.0, 2: 3.0}, 2: {1: 0.5, 2: 0.75}})
        assert paired.difference_errors[0, 1] == pytest.approx(0.0, abs=1e-12)
        assert paired.log_throughput[1] - paired.log_throughput[0] == pytest.approx(
            math.log(2 / 1.5)
        )
        assert paired.degrees_of_freedom == 2

    def test_a_size_timed_in_slow_sessions_alone_is_not_held_to_be_slow(self):
        law = affine(1.0, 0.1)
        times = {s: {b: law(b) * (1 + s) for b in (1, 4, 16)} for s in range(3)}
        times[2][8] = law(8) * 3
        paired = pair_sizes(times)
        speeds = np.exp(paired.log_throughput)
        assert speeds[2] / speeds[0] == pytest.approx(8 / law(8) * law(1))

    def test_error_is_that_of_the_textbook(self):
        rng = np.random.default_rng(5)
        logs = rng.standard_normal((4, 3)) * 0.01
        times = {
            s: {b: b * math.exp(logs[s, k]) for k, b in enumerate((1, 2, 4))} for s in range(4)
        }
        residuals = logs - logs.mean(0) - logs.mean(1)[:, None] + logs.mean()
        expected = math.sqrt((residuals**2).sum() / 6 * 2 / 4)
        assert pair_sizes(times).difference_errors[0, 2] == pytest.approx(expected)

    def test_every_level_has_the_same_error_where_all_sessions_timed_all_sizes(self):
        rng = np.random.default_rng(7)
        times = {
            s: {b: b * math.exp(0.01 * rng.standard_normal()) for b in (1, 2, 4, 8)}
            for s in range(3)
        }
        paired = pair_sizes(times)
        expected = paired.difference_errors[0, 1] / math.sqrt(2.0)
        assert compute_level_errors(paired) == pytest.approx([expected] * 4)

    def test_a_level_of_fewer_sessions_has_a_larger_error(self):
        rng = np.random.default_rng(7)
        sizes = range(1, 21)
        times = {
            s: {b: b * math.exp(0.01 * rng.standard_normal()) for b in sizes if b != 9 or s == 0}
            for s in range(4)
        }
        errors = compute_level_errors(pair_sizes(times))
        # Twice; and a twentieth more, since its session's effect is known from 19 others alone.
        assert errors[8] / errors[0] == pytest.approx(2.0, rel=0.06)

    @pytest.mark.parametrize(
        "times",
        [
            {0: {1: 1.0, 2: 1.5}},
            {0: {1: 1.0, 2: 1.1, 4: 1.2}, 1: {8: 1.0, 16: 1.1, 32: 1.2}},
        ],
    )
    def test_sessions_that_share_no_size_cannot_be_compared(self, times):
        assert pair_sizes(times) is None


class TestSaturation:
    def test_affine_law_saturates_within_its_grid_step(self):
        # Half-saturation 5, so 95 % of the limit is reached at 95.
        conclusion = conclude(measure(affine(5e-3, 1e-3)))
        saturation = conclusion.saturation
        assert (saturation.batch_size, saturation.status) == (128, "saturated")
        assert saturation.low <= 95 <= saturation.high == 128
        assert conclusion.half_saturation_batch_size.point == pytest.approx(5.0)
        assert conclusion.fixed_s == pytest.approx(5e-3)
        assert conclusion.per_sample_s == pytest.approx(1e-3)

    def test_refined_sizes_narrow_the_interval(self):
        law = affine(5e-3, 1e-3)
        coarse = measure(law, noise=0.003, common=0.03)
        finer = [
            probe(session, size, law(size) * (1 + 0.1 * session))
            for session in (1, 2)
            for size in (80, 104)
        ]
        base = [
            probe(p.session, p.micro_batch_size, law(p.micro_batch_size) * (1 + 0.1 * p.session))
            for p in coarse
        ]
        saturation = conclude(base + finer).saturation
        assert saturation.batch_size == 104
        assert saturation.high == 104

    def test_stairs_are_not_smoothed_away(self):
        # Each started tile of 96 costs 10 ms: 96 is a good size, 128 pays for 192.
        def stairs(size):
            return 2e-4 + 1e-2 * math.ceil(size / 96)

        sizes = (8, 16, 32, 64, 96, 128, 192, 384, 768)
        saturation = conclude(measure(stairs, sizes, noise=0.003)).saturation
        assert saturation.status == "saturated"
        assert saturation.batch_size == 96
        assert saturation.low == 65

    def test_a_bad_tile_at_the_end_does_not_hide_the_answer(self):
        def law(size):
            return (5e-3 + 1e-3 * size) * (1.04 if size == 600 else 1.0)

        saturation = conclude(measure(law, (*DOUBLINGS, 600), noise=0.002)).saturation
        assert saturation.batch_size == 128

    def test_a_plateau_that_has_just_begun_is_seen(self):
        sizes = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256)
        probes = measure(lambda size: max(1e-2, 1e-2 * size / 64), sizes, noise=0.003)
        saturation = conclude(probes, largest=256, memory_limited=True).saturation
        assert (saturation.status, saturation.batch_size) == ("saturated", 64)

    def test_a_kink_is_found_where_it_lies(self):
        conclusion = conclude(measure(lambda size: max(1e-2, 1e-2 * size / 64)))
        assert conclusion.saturation.batch_size in {64, 128}
        assert conclusion.saturation.low <= 64 <= conclusion.saturation.high

    def test_memory_that_ends_first_is_named_with_the_size_it_would_need(self):
        probes = measure(affine(5e-3, 1e-3), (1, 2, 4, 8, 16, 32), noise=0.002)
        saturation = conclude(probes, largest=32, memory_limited=True).saturation
        assert saturation.status == "memory_limited"
        assert saturation.batch_size is None
        assert saturation.high is None
        assert saturation.low > 16
        assert saturation.needed_batch_size == pytest.approx(95, rel=0.1)

    def test_a_rising_curve_that_memory_does_not_end_is_inconclusive(self):
        probes = measure(affine(5e-3, 1e-3), (1, 2, 4, 8, 16, 32))
        saturation = conclude(probes, largest=32).saturation
        assert saturation.status == "inconclusive"
        assert saturation.needed_batch_size == 95

    def test_memory_is_not_blamed_where_larger_sizes_were_not_timed(self):
        probes = measure(affine(5e-3, 1e-3), (1, 2, 4, 8, 16, 32))
        saturation = conclude(probes, largest=500, memory_limited=True).saturation
        assert saturation.status == "inconclusive"

    def test_retrograde_curve_answers_before_its_peak(self):
        law = StepLaw(kind="curved", fixed_s=1.0, per_sample_s=0.1, curvature=1e-3)
        probes = measure(lambda size: evaluate_step_law(law, size), noise=0.01)
        saturation = conclude(probes).saturation
        assert saturation.status == "retrograde"
        assert saturation.low <= predict_law_saturation(law, 0.05) <= saturation.high
        assert saturation.batch_size == 32

    def test_the_fall_of_a_retrograde_curve_holds_the_truth(self):
        law = StepLaw(kind="curved", fixed_s=1.0, per_sample_s=0.1, curvature=1e-3)
        probes = measure(lambda size: evaluate_step_law(law, size), noise=0.01)
        fall = conclude(probes).fall
        peak, last = fall.peak_micro_batch_size, fall.micro_batch_size
        assert last == max(probe.micro_batch_size for probe in probes)
        assert peak == 32
        truth = 1.0 - last / evaluate_step_law(law, last) * evaluate_step_law(law, peak) / peak
        assert fall.slower_fraction.low < truth < fall.slower_fraction.high

    def test_a_fall_that_no_law_explains_is_bounded_by_the_timed_sizes(self):
        # Past the peak times jump up and down by more than noise: no law holds at the peak.
        factors = {128: 1.3, 256: 1.6, 512: 1.4, 768: 1.9}
        law = affine(5e-3, 1e-3)
        probes = measure(
            lambda size: law(size) * factors.get(size, 1.0), (*DOUBLINGS, 768), noise=0.003
        )
        saturation = conclude(probes, largest=768).saturation
        assert (saturation.status, saturation.batch_size) == ("retrograde", 64)
        assert (saturation.low, saturation.high) == (33, 64)

    def test_no_bound_is_beyond_what_can_run(self):
        for seed in range(20):
            probes = measure(affine(5e-3, 1e-3), DOUBLINGS[:8], noise=0.01, seed=seed)
            for largest in (128, None):
                saturation = conclude(probes, largest=largest).saturation
                assert 1 <= saturation.low <= 128
                assert saturation.high is None or saturation.high <= 128

    def test_a_curve_that_does_not_fall_has_no_fall(self):
        assert conclude(measure(affine(5e-3, 1e-3), noise=0.003)).fall is None

    def test_a_host_that_issues_all_the_time_is_named(self):
        def host(size):
            return 1e-2 + 1e-7 * size

        probes = measure(host, noise=0.003, enqueue=lambda size: 0.99 * host(size))
        saturation = conclude(probes, largest=512, memory_limited=True).saturation
        assert saturation.status == "host_bound"
        assert saturation.batch_size is None

    def test_a_full_launch_queue_is_not_taken_for_a_slow_host(self):
        law = affine(5e-3, 1e-3)
        probes = measure(law, noise=0.003, enqueue=lambda size: 0.95 * law(size))
        assert conclude(probes).saturation.status == "saturated"

    def test_a_fast_host_is_not_named(self):
        probes = measure(affine(5e-3, 1e-3), enqueue=lambda size: 1e-3)
        assert conclude(probes).saturation.status == "saturated"

    @pytest.mark.parametrize(
        "probes",
        [
            [],
            measure(affine(5e-3, 1e-3), sessions=1),
            measure(affine(5e-3, 1e-3), (8, 64)),
            measure(lambda size: 1e-2),
            measure(lambda size: 1e-2 - 1e-5 * size),
        ],
    )
    def test_too_little_to_go_by_is_inconclusive(self, probes):
        saturation = conclude(probes).saturation
        assert saturation.status == "inconclusive"
        assert saturation.batch_size is None

    def test_too_much_noise_is_inconclusive(self):
        assert conclude(measure(affine(5e-3, 1e-3), noise=0.3)).saturation.batch_size is None

    @pytest.mark.slow
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6), factor=st.floats(1e-4, 1e4))
    def test_a_machine_that_is_slower_throughout_saturates_at_the_same_size(self, seed, factor):
        law = affine(5e-3, 1e-3)
        slow = affine(5e-3 * factor, 1e-3 * factor)
        first = conclude(measure(law, noise=0.01, seed=seed))
        second = conclude(measure(slow, noise=0.01, seed=seed))
        assert first.saturation == second.saturation

    @pytest.mark.slow
    @settings(max_examples=40, deadline=None)
    @given(half=st.floats(0.5, 20.0), doublings=st.integers(1, 6))
    def test_larger_sizes_do_not_move_the_answer(self, half, doublings):
        reach = math.ceil(math.log2(19 * half)) + 1
        sizes = tuple(2**power for power in range(reach + 1))
        more = tuple(2**power for power in range(reach + 1 + doublings))
        first = conclude(measure(affine(1e-3, 1e-3 / half), sizes)).saturation
        second = conclude(measure(affine(1e-3, 1e-3 / half), more)).saturation
        assert first.batch_size == second.batch_size
        assert first.high == second.high

    @pytest.mark.slow
    @settings(max_examples=40, deadline=None)
    @given(half=st.floats(2.0, 8.0), seed=st.integers(0, 10**6))
    def test_a_doubled_range_moves_the_answer_by_one_size_at_most(self, half, seed):
        sizes = tuple(2**power for power in range(9))
        law = affine(1e-3, 1e-3 / half)
        first = conclude(measure(law, sizes, noise=0.003, seed=seed)).saturation
        second = conclude(measure(law, (*sizes, 512), noise=0.003, seed=seed + 1)).saturation
        assert 0.5 <= first.batch_size / second.batch_size <= 2.0

    @pytest.mark.slow
    @pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
    @pytest.mark.parametrize("sessions", [2, 3, 5])
    def test_the_interval_holds_the_true_saturation_batch(self, sessions, noise):
        held = halves = 0
        count = 60
        for seed in range(count):
            half = 10.0 ** np.random.default_rng(seed).uniform(0.3, 1.7)
            probes = measure(
                affine(1e-3, 1e-3 / half), sessions=sessions, noise=noise, common=noise, seed=seed
            )
            conclusion = conclude(probes, largest=512, memory_limited=True)
            low, high = conclusion.saturation.low, conclusion.saturation.high
            truth = half * (1 / SATURATION_TOLERANCE_FRACTION - 1)
            held += low <= math.ceil(truth) and (high is None or truth <= high)
            estimate = conclusion.half_saturation_batch_size
            halves += (estimate.low or 0.0) <= half <= (estimate.high or math.inf)
        assert held >= 0.93 * count
        assert halves >= 0.85 * count


class TestConclusion:
    def test_points_are_per_size_with_intervals_over_sessions(self):
        probes = [
            probe(0, 8, (1.0, 1.0, 9.0)),
            probe(1, 8, 1.1),
            probe(2, 8, 0.9),
            probe(0, 16, 1.5),
        ]
        first, second = conclude(probes, peak_bytes={8: 1000}).points
        assert (first.micro_batch_size, first.sessions, first.peak_bytes) == (8, 3, 1000)
        assert first.step_s.point == pytest.approx(1.0)
        assert first.samples_per_s.point == pytest.approx(8 / first.step_s.point)
        assert first.samples_per_s.low == pytest.approx(8 / first.step_s.high)
        assert 0.0 < first.step_s.low < 0.9
        assert (second.sessions, second.peak_bytes) == (1, None)
        assert second.step_s.low is second.step_s.high is None

    def test_an_interval_over_two_unlike_sessions_has_no_absurd_end(self):
        points = conclude([probe(0, 8, 1e-6), probe(1, 8, 1e150)]).points
        assert points[0].step_s.high is None
        assert points[0].samples_per_s.high is None

    def test_failed_and_foreign_probes_do_not_count(self):
        probes = [
            *measure(affine(5e-3, 1e-3)),
            Probe(stage="memory", session=0, micro_batch_size=3, outcome="fit"),
            Probe(stage="throughput", session=0, micro_batch_size=1024, outcome="oom"),
            probe(0, 700, 1.0),
        ]
        sizes = [point.micro_batch_size for point in conclude(probes, largest=600).points]
        assert sizes == list(DOUBLINGS)

    def test_one_session_gives_a_law_without_an_interval(self):
        conclusion = conclude(measure(affine(5e-3, 1e-3), sessions=1))
        assert conclusion.fixed_s == pytest.approx(5e-3)
        half = conclusion.half_saturation_batch_size
        assert half.point == pytest.approx(5.0)
        assert half.low is half.high is None
        assert conclusion.session_spread_fraction is None

    def test_no_probe_gives_no_figure(self):
        conclusion = conclude([])
        assert conclusion.points == ()
        assert conclusion.fixed_s is conclusion.optimizer_step_s is None
        assert conclusion.half_saturation_batch_size.point is None

    def test_half_saturation_is_never_below_zero(self):
        half = conclude(measure(affine(1e-9, 1e-3), noise=0.01)).half_saturation_batch_size
        assert half.low == 0.0

    def test_optimizer_step_is_the_time_beyond_forward_and_backward(self):
        law, optimizer_s = affine(3e-3, 1e-3), 2e-3
        probes = [
            probe(session, size, law(size) + optimizer_s, micro_step_times_s=(law(size),))
            for session in range(3)
            for size in DOUBLINGS
        ]
        conclusion = conclude(probes)
        assert conclusion.optimizer_step_s == pytest.approx(optimizer_s)
        assert conclusion.points[0].micro_step_s == pytest.approx(law(1))

    def test_session_spread_is_that_of_the_worst_size(self):
        probes = [
            *(probe(session, 8, 1.0) for session in range(3)),
            *(probe(session, 16, 1.0 + 0.1 * session) for session in range(3)),
        ]
        assert conclude(probes).session_spread_fraction == pytest.approx(0.1 / 1.1)
