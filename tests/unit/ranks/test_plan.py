"""Exchange, stragglers and scaling against closed forms, up to 4,096 ranks on paper."""

import math

import msgspec
import pytest

from advisor.engine.record import Conclusions
from advisor.noise.data import predict_relative_samples
from advisor.ranks.plan import RANKS, conclude_ranks, list_numbers
from advisor.training.data import Script, ScriptFacts
from tests.unit.ranks.simulated import Ring
from tests.unit.samples import FACTS, make_record

_FAST = Ring(compute_s=0.1, gradient_bytes=4e8, bytes_per_s=5e10, latency_s=5e-6)
_SLOW = Ring(compute_s=0.1, gradient_bytes=4e8, bytes_per_s=1e10, latency_s=2e-5)
_MANY = (2, 8, 64, 512, 4096)


def scale(ring, ranks, *, turns=3):
    return [
        ring.probe(number, turn=turn) for turn in range(turns) for number in list_numbers(ranks)
    ]


def conclude(ring, ranks, **more):
    found = conclude_ranks(ranks, [], scale(ring, ranks), **more)
    assert found is not None
    return found


def test_numbers_worth_timing_are_powers_of_two_and_all():
    assert list_numbers(2) == (1, 2)
    assert list_numbers(6) == (1, 2, 4, 6)
    assert list_numbers(8) == (1, 2, 4, 8)
    assert len(list_numbers(4096)) == 13


@pytest.mark.parametrize("ranks", _MANY)
@pytest.mark.parametrize("ring", [_FAST, _SLOW])
def test_the_exchange_and_the_efficiency_are_those_of_the_ring(ring, ranks):
    found = conclude(ring, ranks)
    exchange_s = ring.exchange_s(ranks)
    assert found.exchange_fraction.point == pytest.approx(
        exchange_s / (ring.compute_s + exchange_s)
    )
    for point in found.points:
        wanted = ring.compute_s / (ring.compute_s + ring.exchange_s(point.ranks))
        assert point.efficiency.point == pytest.approx(wanted)
        assert point.global_batch_size == 32 * point.ranks
    assert found.straggler is None


@pytest.mark.parametrize("ranks", _MANY)
def test_an_exchange_that_hides_behind_the_backward_pass_costs_nothing(ranks):
    ring = Ring(compute_s=0.1, gradient_bytes=4e8, bytes_per_s=1e11, hidden=0.5)
    found = conclude(ring, ranks)
    assert found.exchange_fraction.point == pytest.approx(0.0)
    assert all(point.efficiency.point == pytest.approx(1.0) for point in found.points)


@pytest.mark.parametrize("ranks", [3, 8, 64, 512, 4096])
def test_a_slow_rank_is_named_and_jitter_is_none(ranks):
    calm = Ring(compute_s=0.1, gradient_bytes=1e6, bytes_per_s=1e10, jitter=0.01)
    assert conclude(calm, ranks).straggler is None
    slow = Ring(compute_s=0.1, gradient_bytes=1e6, bytes_per_s=1e10, jitter=0.01, slow={2: 1.3})
    found = conclude(slow, ranks)
    assert found.straggler == 2
    assert found.straggler_fraction.point == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("ranks", _MANY)
def test_the_expected_slowest_of_many_ranks_is_what_the_step_waits_for(ranks):
    """The maximum of n normal deviates grows as their quantile at 1 - 1/n: about sqrt(2 ln n)."""
    ring = Ring(compute_s=0.1, gradient_bytes=0.0, bytes_per_s=1e10, jitter=0.05)
    found = conclude_ranks(ranks, [], scale(ring, ranks, turns=9))
    speed = found.points[-1].samples_per_s.point / found.points[-1].global_batch_size
    longest = 1.0 / speed / ring.compute_s - 1.0
    assert longest < 0.05 * (math.sqrt(2.0 * math.log(ranks)) + 1.5)
    assert found.exchange_fraction.point == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("noise_scale", [10.0, 1e3, 1e6])
def test_time_and_cost_follow_speed_and_noise(noise_scale):
    found = conclude(_SLOW, 64, noise_scale=noise_scale)

    def time_of(ranks):
        samples = predict_relative_samples(32 * ranks, noise_scale)
        return samples * (_SLOW.compute_s + _SLOW.exchange_s(ranks)) / (32 * ranks)

    for point in found.points:
        assert point.relative_time == pytest.approx(time_of(point.ranks) / time_of(64))
        assert point.relative_cost == pytest.approx(point.relative_time * point.ranks / 64)


def test_without_steps_apart_nothing_follows():
    alone = [each for each in scale(_FAST, 4) if each.ranks == 1]
    assert conclude_ranks(4, [each.probe for each in alone], alone) is None


@pytest.mark.parametrize(("base", "size"), [(64, 64), (None, 32)])
def test_the_users_own_batch_is_told_where_it_was_timed_else_the_smallest(base, size):
    script = ScriptFacts(script=Script(ranks=2), counted_by="it", start_s=1.0)
    facts = msgspec.structs.replace(FACTS, script=script, base_batch_size=base)
    probes = [_FAST.probe(2, samples=samples).probe for samples in (16, 32)]
    found = Conclusions(make_record(facts, probes=probes)).of(RANKS)
    assert (found.ranks, found.global_batch_size) == (2, size)
    alone = msgspec.structs.replace(script, script=Script(ranks=1))
    facts = msgspec.structs.replace(facts, script=alone)
    assert Conclusions(make_record(facts, probes=probes)).of(RANKS) is None
