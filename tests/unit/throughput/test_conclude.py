import math

import numpy as np
import pytest

from advisor.memory.data import Probe
from advisor.throughput.conclude import conclude_throughput
from advisor.throughput.paired_sizes import pair_sizes
from tests.unit.throughput.curves import DOUBLINGS, affine, measure, probe


def conclude(probes, *, largest=None, range_end="dataset"):
    return conclude_throughput(
        probes,
        largest_micro_batch_size=largest,
        range_end=range_end,
    )


class TestPairedSizes:
    def test_session_effects_cancel(self):
        paired = pair_sizes({0: {1: 1.0, 2: 1.5}, 1: {1: 2.0, 2: 3.0}, 2: {1: 0.5, 2: 0.75}})
        assert paired.errors == pytest.approx((0.0, 0.0), abs=1e-9)
        assert paired.step_s[1] / paired.step_s[0] == pytest.approx(1.5)
        assert paired.degrees_of_freedom == 2

    def test_a_size_timed_in_slow_sessions_alone_is_not_held_to_be_slow(self):
        law = affine(1.0, 0.1)
        times = {s: {b: law(b) * (1 + s) for b in (1, 4, 16)} for s in range(3)}
        times[2][8] = law(8) * 3
        step_s = pair_sizes(times).step_s
        assert step_s[2] / step_s[0] == pytest.approx(law(8) / law(1))

    def test_the_error_is_that_of_the_textbook(self):
        logs = 0.01 * np.random.default_rng(5).standard_normal((4, 3))
        times = {
            s: {b: b * math.exp(logs[s, k]) for k, b in enumerate((1, 2, 4))} for s in range(4)
        }
        residuals = logs - logs.mean(0) - logs.mean(1)[:, None] + logs.mean()
        expected = math.sqrt((residuals**2).sum() / 6 / 4)
        assert pair_sizes(times).errors == pytest.approx([expected] * 3)

    def test_a_level_of_fewer_sessions_has_a_larger_error(self):
        rng = np.random.default_rng(7)
        times = {
            s: {
                b: b * math.exp(0.01 * rng.standard_normal())
                for b in range(1, 21)
                if b != 9 or not s
            }
            for s in range(4)
        }
        errors = pair_sizes(times).errors
        # Twice; and a twentieth more, since its session's effect is known from 19 others alone.
        assert errors[8] / errors[0] == pytest.approx(2.0, rel=0.06)

    @pytest.mark.parametrize("sessions", [2, 3, 5])
    def test_the_noise_is_neither_taken_for_less_nor_for_more(self, sessions):
        rng, squares = np.random.default_rng(sessions), []
        for _ in range(30):
            times = {
                s: {2**k: math.exp(0.03 * rng.standard_normal()) for k in range(8)}
                for s in range(sessions)
            }
            squares.append(pair_sizes(times).errors[0] ** 2 * sessions / 0.03**2)
        assert np.mean(squares) == pytest.approx(1.0, abs=0.2)

    @pytest.mark.parametrize(
        "times",
        [
            {0: {1: 1.0, 2: 1.5}},
            {0: {1: 1.0, 2: 1.1, 4: 1.2}, 1: {8: 1.0, 16: 1.1, 32: 1.2}},
        ],
    )
    def test_sessions_that_share_no_size_show_no_noise(self, times):
        paired = pair_sizes(times)
        assert paired.degrees_of_freedom == 0
        assert paired.step_s[:2] == (1.0, times[0][2])
        assert min(paired.errors) > 0.0


class TestConclusion:
    def test_points_are_per_size_with_intervals_over_sessions(self):
        probes = [
            probe(0, 8, (1.0, 1.0, 9.0)),
            probe(1, 8, 1.1),
            probe(2, 8, 0.9),
            probe(0, 16, 1.5),
            Probe(
                stage="memory",
                session=0,
                micro_batch_size=8,
                outcome="fit",
                forward_backward_peak_bytes=1000,
            ),
        ]
        first, second = conclude(probes).points
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
