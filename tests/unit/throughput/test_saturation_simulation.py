"""The claims of benchmarks/saturation_simulation.py on fewer cases; it has the figures for 500."""

import pytest
from scipy.special import bdtr

from benchmarks.kneedle import find_knee
from benchmarks.saturation_simulation import (
    LAWS,
    NOISES,
    OUTSIDE,
    count_steps,
    draw_case,
    find_flat_end,
    find_truth,
    holds_truth,
    run_stage,
)

pytestmark = pytest.mark.slow

CASES = 8
#: The claims: shares of all cases.
COVERED, STILL = 0.93, 0.9
#: A test fails by chance once in this many times; the seeds are fixed all the same.
CHANCE = 1e-3


def least(share, count):
    """The fewest hits that a true share leaves to chance."""
    return next(hits for hits in range(count + 1) if bdtr(hits, count, share) >= CHANCE)


@pytest.mark.parametrize("law", [*LAWS, *OUTSIDE])
@pytest.mark.parametrize("noise", NOISES)
def test_the_interval_holds_the_truth_and_a_doubled_range_moves_no_answer(law, noise):
    held, answered, moves = 0, 0, []
    for seed in range(CASES):
        case = draw_case(law, seed)
        narrow = run_stage(case, case.largest, noise, seed)
        wide = run_stage(case, 2 * case.largest, noise, seed)
        held += holds_truth(narrow, case, case.largest) + holds_truth(wide, case, 2 * case.largest)
        answered += narrow.conclusion.saturation.status != "inconclusive"
        if narrow.answer and wide.answer:
            moves.append(count_steps(narrow.answer, wide.answer))
    assert held >= least(COVERED, 2 * CASES)
    if law in LAWS:
        assert sum(steps < 1.0 for steps in moves) >= least(STILL, len(moves))
    # An interval that says nothing would hold every truth.
    assert answered >= least(0.9, CASES)


def test_the_truth_is_that_of_the_closed_form():
    # Within 5 % of the speed at 2,000, the limit but for 0.25 %: 5/(5 + b) = 1 − 0.95·(1 − 0.0025).
    assert find_truth(lambda sizes: 5.0 + sizes, 2000) == 91
    assert find_flat_end(lambda sizes: 5.0 + sizes) == 88


def test_kneedle_finds_the_knee_of_its_authors_and_moves_with_the_range():
    def speeds(sizes):
        return [size / (5.0 + size) for size in sizes]

    assert find_knee(range(11), [10 / 11 - 1 / (x + 0.1) for x in range(11)]) in {1, 2}
    narrow, wide = range(1, 101), range(1, 1001)
    assert find_knee(wide, speeds(wide)) > 2 * find_knee(narrow, speeds(narrow))
    assert find_knee((1, 2), (1.0, 2.0)) is None
    assert find_knee((1, 2, 3), (1.0, 1.0, 1.0)) is None
