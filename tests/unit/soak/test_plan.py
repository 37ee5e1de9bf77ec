import msgspec

from advisor.soak.data import Soak
from advisor.soak.plan import conclude_soak, find_failed_sizes

MIB = 2**20


def make_soak(size=64, outcome="fit", steps=60, slope=0, **fields):
    return Soak(
        micro_batch_size=size,
        outcome=outcome,
        steps=steps,
        held_bytes=tuple(100 * MIB + slope * step for step in range(steps)),
        training_peak_bytes=300 * MIB,
        capacity_bytes=1000 * MIB,
        **fields,
    )


def test_a_size_that_ran_all_its_steps_without_growth_holds():
    conclusion = conclude_soak([make_soak(evaluations=3, evaluation_peak_bytes=200 * MIB)])
    assert conclusion.holds is True
    assert conclusion.is_growth_tested
    assert conclusion.growth_bytes_per_step is None
    assert not conclusion.evaluation_needs_more
    assert (conclusion.training_peak_bytes, conclusion.evaluation_peak_bytes) == (
        300 * MIB,
        200 * MIB,
    )


def test_a_leak_does_not_hold_and_says_when_memory_is_full():
    conclusion = conclude_soak([make_soak(slope=MIB)])
    assert conclusion.holds is False
    assert conclusion.growth_bytes_per_step.point == MIB
    assert conclusion.steps_until_full == 60 + 700


def test_without_a_limit_nothing_fills_up():
    unlimited = msgspec.structs.replace(make_soak(slope=MIB), capacity_bytes=None)
    assert conclude_soak([unlimited]).steps_until_full is None


def test_too_few_steps_leave_it_open():
    conclusion = conclude_soak([make_soak(steps=8)])
    assert conclusion.holds is None
    assert not conclusion.is_growth_tested


def test_the_last_soak_counts_and_the_failures_are_listed():
    soaks = [make_soak(64, "oom", steps=4), make_soak(32, "oom", steps=4), make_soak(16)]
    conclusion = conclude_soak(soaks)
    assert (conclusion.micro_batch_size, conclusion.holds) == (16, True)
    assert conclusion.failed == (64, 32)
    assert conclude_soak(soaks[:1]).holds is False


def test_memory_filled_by_a_leak_says_nothing_against_the_size():
    assert find_failed_sizes([make_soak(64, "oom", steps=30, slope=MIB)]) == ()
    assert conclude_soak([make_soak(64, "oom", steps=30, slope=MIB)]).holds is False


def test_evaluation_that_needs_more_than_training_is_seen():
    assert conclude_soak([make_soak(evaluation_peak_bytes=310 * MIB)]).evaluation_needs_more
    assert not conclude_soak([make_soak(evaluation_peak_bytes=301 * MIB)]).evaluation_needs_more


def test_nothing_follows_from_no_soak():
    assert conclude_soak([]) is None
