"""Verdicts on sides of known truth."""

import math
import random

import numpy as np
import pytest

from advisor.gate.data import POLICIES, Policy
from advisor.gate.plan import compare, is_decided
from advisor.gate.verdict import LOOKS, compare_logs, find_smallest_change
from tests.unit.gate.sides import make_occasion

CALM = (0.0998, 0.1, 0.1001, 0.0999, 0.1002, 0.1, 0.1001, 0.0999)


def judge(old, new, metric="throughput", **options):
    found = compare((old,), (new,), **options)
    return next(each for each in found.verdicts if each.metric == metric)


def slower(factor, count=LOOKS[0]):
    return [factor * seconds for seconds in CALM[:count]]


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.0, "pass"), (1.02, "pass"), (1.08, "fail"), (0.9, "improved")]
)
def test_calm_sides_get_a_verdict_at_the_first_look(factor, outcome):
    verdict = judge(make_occasion(*CALM), make_occasion(*slower(factor)))
    assert verdict.outcome == outcome
    assert verdict.change.point == pytest.approx(factor - 1.0, abs=0.003)
    assert verdict.change.low < verdict.change.point < verdict.change.high
    assert verdict.old == pytest.approx(32 / 0.1, rel=0.01)


def test_restless_sides_are_inconclusive_and_say_what_would_show():
    restless = [0.1 * math.exp(x) for x in (0.0, 0.2, -0.2, 0.1, -0.1, 0.15)]
    found = compare((make_occasion(*restless),), (make_occasion(*restless[:4]),))
    (throughput,) = (each for each in found.verdicts if each.metric == "throughput")
    assert throughput.outcome == found.outcome == "inconclusive"
    assert not is_decided(found)
    assert throughput.smallest_change > 0.3
    assert throughput.floor > 0.1


def test_after_the_last_look_nothing_more_is_asked_for():
    restless = [0.1 * math.exp(0.3 * (-1) ** n) for n in range(LOOKS[-1])]
    found = compare((make_occasion(*restless),), (make_occasion(*restless),))
    assert found.outcome == "inconclusive"
    assert is_decided(found)


def test_a_change_between_floor_and_threshold_fails_at_the_last_look_alone():
    old = [0.1 * math.exp(0.01 * (-1) ** n) for n in range(10)]
    new = [0.1045 * math.exp(0.01 * (-1) ** n) for n in range(LOOKS[-1])]
    first = judge(make_occasion(*old), make_occasion(*new[: LOOKS[0]]))
    last = judge(make_occasion(*old), make_occasion(*new))
    assert first.outcome == "inconclusive"
    assert last.outcome == "fail"


def test_the_floor_is_what_the_machine_was_seen_to_differ_by():
    old, new = make_occasion(*CALM), make_occasion(*slower(1.08))
    assert judge(old, new).outcome == "fail"
    assert judge(old, new, known_spread=0.2).outcome == "inconclusive"


def test_one_session_a_side_tells_no_noise():
    verdict = judge(make_occasion(0.1), make_occasion(0.2, 0.2, 0.2))
    assert verdict.outcome == "inconclusive"
    assert verdict.change.low is None


@pytest.mark.parametrize(
    ("new", "outcome"), [(1000, "pass"), (1009, "pass"), (1030, "fail"), (900, "improved")]
)
def test_bytes_are_compared_as_they_are(new, outcome):
    old = make_occasion(*CALM, peaks=((32, 1000), (64, 2000)))
    verdict = judge(old, make_occasion(*CALM, peaks=((32, new), (64, 2000))), "peak_memory")
    assert verdict.outcome == outcome


def test_a_batch_that_does_not_fit_any_more_fails():
    old = make_occasion(*CALM, peaks=((32, 1000), (64, 2000)))
    new = make_occasion(*CALM, peaks=((32, 1000), (64, None)))
    verdict = judge(old, new, "largest_batch")
    assert verdict.outcome == "fail"
    assert "64 does not fit any more" in verdict.remark


def test_what_is_only_warned_of_or_off_does_not_fail_the_check():
    old, new = make_occasion(*CALM), make_occasion(*slower(1.2))
    warned = compare((old,), (new,), {"throughput": Policy(level="warn")})
    assert warned.verdicts[0].outcome == "fail"
    assert warned.outcome != "fail"
    off = compare((old,), (new,), {metric: Policy(level="off") for metric in POLICIES})
    assert off.verdicts == ()


@pytest.mark.parametrize("in_turns", [False, True])
def test_the_interval_holds_the_truth_as_often_as_it_says(in_turns):
    from advisor.statistics import two_sided_t

    rng, held, truth = np.random.default_rng(1), 0, 0.03
    for _ in range(2000):
        logs = 0.02 * rng.standard_normal(12)
        numbers = range(12)
        old = [(n, float(logs[n])) for n in numbers if n % 4 in {0, 3}]
        new = [(n, float(logs[n] + truth)) for n in numbers if n % 4 in {1, 2}]
        found = compare_logs(old, new, in_turns=in_turns)
        held += abs(found.log - truth) <= two_sided_t(0.95, found.degrees) * found.error
    assert 0.935 * 2000 <= held <= 0.965 * 2000


def test_a_straight_drift_is_taken_out_of_sides_that_took_turns():
    old = [(n, 0.01 * n) for n in (0, 3, 4, 7)]
    new = [(n, 0.01 * n + 0.05) for n in (1, 2, 5, 6)]
    found = compare_logs(old, new, in_turns=True)
    assert found.log == pytest.approx(0.05)
    assert found.spread == pytest.approx(0.0, abs=1e-9)
    drifted = compare_logs(old, [(n, log + 0.01) for n, log in new], in_turns=True)
    assert drifted.log == pytest.approx(0.06)


@pytest.mark.parametrize("sessions", [4, 10])
def test_the_smallest_change_is_found_in_four_of_five_cases(sessions):
    spread, cases = 0.01, 4000
    effect = math.log1p(find_smallest_change(spread, 10, sessions))
    rng = np.random.default_rng(sessions)
    old = spread * rng.standard_normal((cases, 10))
    new = spread * rng.standard_normal((cases, sessions)) + effect
    found = sum(judge_low(old[case], new[case]) > 0.0 for case in range(cases))
    assert found / cases == pytest.approx(0.8, abs=0.05)


def judge_low(old, new):
    """Return the lower end of the interval that a check has."""
    from advisor.gate.verdict import FALSE_ALARMS
    from advisor.statistics import student_t_quantile

    found = compare_logs([*enumerate(old)], [*enumerate(new)], in_turns=False)
    return found.log - found.error * student_t_quantile(
        1.0 - FALSE_ALARMS / (len(LOOKS) * 2), found.degrees
    )


@pytest.mark.parametrize(
    ("spread", "slowdown", "fails"),
    [(0.003, 0.0, (0.0, 0.0)), (0.01, 0.0, (0.0, 0.01)), (0.03, 0.0, (0.0, 0.02)),
     (0.01, 0.05, (0.97, 1.0)), (0.003, 0.1, (1.0, 1.0))],
)  # fmt: skip
def test_it_neither_cries_wolf_nor_misses(spread, slowdown, fails):
    rng, cases, failed = random.Random(2), 200, 0
    for _ in range(cases):
        old = make_occasion(*(math.exp(rng.gauss(0.0, spread)) for _ in range(10)))
        times = [math.exp(math.log1p(slowdown) + rng.gauss(0.0, spread)) for _ in range(LOOKS[-1])]
        for look in LOOKS:
            found = compare((old,), (make_occasion(*times[:look]),))
            if is_decided(found):
                break
        failed += found.outcome == "fail"
    assert fails[0] <= failed / cases <= fails[1]
