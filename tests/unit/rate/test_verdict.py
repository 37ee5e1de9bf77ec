import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.rate.data import Evaluation, TrialBranch
from advisor.rate.verdict import judge_alone, judge_base, judge_trial

# Losses that bsadvisor's own trial recorded on scikit-learn's digits, examples/digits.py, seeds 0
# to 2: (batch, rate) -> one curve for each seed, at these numbers of samples.
SAMPLES = (0, 1280, 2560, 3840, 5120, 6400, 7680, 8960, 10240, 11520, 12160, 12800)
DIGITS = {
    (32, 1.0): (
        (2.308, 0.668, 0.191, 0.132, 0.091, 0.083, 0.057, 0.053, 0.035, 0.032, 0.052, 0.025),
        (2.318, 0.505, 0.295, 0.142, 0.141, 0.142, 0.051, 0.067, 0.049, 0.035, 0.042, 0.03),
        (2.324, 0.718, 0.354, 0.162, 0.09, 0.063, 0.05, 0.053, 0.063, 0.036, 0.041, 0.029),
    ),
    (128, 2.0): (
        (2.308, 3.02, 1.949, 3.489, 2.208, 2.222, 2.266, 2.246, 2.07, 2.208, 2.4, 2.332),
        (2.318, 1.962, 2.085, 2.162, 2.284, 4.332, 2.266, 2.316, 2.239, 2.406, 2.237, 2.328),
        (2.324, 2.294, 2.27, 2.687, 1.708, 1.97, 2.119, 2.206, 2.135, 2.331, 2.308, 2.301),
    ),
    (128, 1.71): (
        (2.308, 1.426, 2.196, 1.859, 1.223, 1.449, 1.834, 1.255, 0.635, 0.539, 0.922, 0.538),
        (2.318, 1.541, 3.592, 2.084, 2.719, 2.087, 2.342, 2.329, 2.197, 2.314, 2.27, 2.312),
        (2.324, 2.113, 1.692, 1.68, 0.879, 2.314, 1.112, 0.489, 1.119, 0.585, 0.618, 0.465),
    ),
    (128, 1.4): (
        (2.308, 1.85, 1.461, 1.415, 1.483, 0.41, 0.208, 0.549, 0.124, 0.131, 0.112, 0.12),
        (2.318, 2.077, 1.594, 1.059, 0.492, 0.603, 0.243, 0.265, 0.135, 0.124, 0.171, 0.131),
        (2.324, 1.934, 1.02, 0.843, 0.823, 0.834, 0.748, 0.502, 0.151, 0.126, 0.132, 0.114),
    ),
    (128, 0.3): (
        (2.308, 2.013, 1.564, 1.088, 0.778, 0.593, 0.482, 0.422, 0.356, 0.322, 0.298, 0.279),
        (2.318, 2.044, 1.619, 1.169, 0.82, 0.633, 0.503, 0.423, 0.36, 0.331, 0.309, 0.282),
        (2.324, 2.059, 1.645, 1.166, 0.834, 0.631, 0.512, 0.427, 0.38, 0.326, 0.313, 0.292),
    ),
}


def branch(seed, losses, *, size=32, rate=1.0, samples=None, diverged=False):
    samples = samples or tuple(1000 * index for index in range(len(losses)))
    return TrialBranch(
        micro_batch_size=size,
        gradient_accumulation_steps=1,
        global_batch_size=size,
        learning_rate=rate,
        seed=seed,
        samples=samples[-1] if samples else 0,
        evaluations=tuple(
            Evaluation(samples=count, loss=loss)
            for count, loss in zip(samples, losses, strict=False)
        ),
        diverged=diverged,
    )


def digits(size, rate):
    return [
        branch(seed, losses, size=size, rate=rate, samples=SAMPLES)
        for seed, losses in enumerate(DIGITS[size, rate])
    ]


def group(losses, **fields):
    return [branch(seed, losses, **fields) for seed in range(3)]


FALLING = (2.0, 1.0, 0.8, 0.7, 0.65, 0.62)


@pytest.mark.parametrize("noise_scale", [None, 40.0, 150.0, 600.0])
@pytest.mark.parametrize(
    ("rate", "passes"), [(2.0, False), (1.71, False), (1.4, True), (0.3, False)]
)
def test_on_digits_the_rules_rate_fails_and_the_next_lower_one_passes(rate, passes, noise_scale):
    verdict = judge_trial(digits(32, 1.0), digits(128, rate), noise_scale)
    assert verdict.passed is passes
    assert not verdict.base_failed


def test_one_diverged_start_fails_the_rate():
    tried = [*group(FALLING, size=64)[:2], branch(2, (2.0, 1.5), size=64, diverged=True)]
    verdict = judge_trial(group(FALLING), tried, 100.0)
    assert verdict.reason == "diverged from 1 of 3 starts"


def test_a_loss_far_above_its_start_counts_as_diverged():
    tried = [*group(FALLING, size=64)[:2], branch(2, (2.0, 9.0, 9.0, 9.0), size=64)]
    assert "diverged" in judge_trial(group(FALLING), tried, 100.0).reason
    assert "diverged" in judge_trial(group(FALLING), [branch(0, ())], 100.0).reason


def test_one_stalled_start_fails_the_rate():
    tried = [*group(FALLING, size=64)[:2], branch(2, (2.0,) * 6, size=64)]
    assert judge_trial(group(FALLING), tried, 100.0).reason == "stalled from 1 of 3 starts"


def test_a_larger_batch_may_lag_by_what_its_noise_costs():
    base = group((4.0, 3.0, 2.0, 1.0, 0.0), size=100)
    tried = group((4.0, 3.5, 3.0, 2.5, 2.0), size=300)
    assert judge_trial(base, tried, 100.0).passed
    verdict = judge_trial(base, tried, 1e9)
    assert verdict.reason.startswith("ended clearly above the base pair: loss 2.5")
    assert judge_trial(base, tried, None).reason == verdict.reason


def test_a_smaller_batch_is_compared_with_the_end_of_the_base():
    base = group(FALLING, size=128)
    assert judge_trial(base, group(FALLING, size=32), 10.0).passed


def test_the_spread_of_the_base_widens_the_tolerance():
    tried = group((2.0, 1.0, 0.9, 0.9, 0.9))
    calm = group((2.0, 1.0, 0.7, 0.7, 0.7))
    spread = [branch(s, (2.0, 1.0, x, x, x)) for s, x in enumerate((0.5, 0.7, 0.9))]
    assert not judge_trial(calm, tried, None).passed
    assert judge_trial(spread, tried, None).passed


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (group((2.0, 3.0, 4.0, 5.0)), "diverged from 3 of 3"),
        (group((2.0, 2.0, 2.05, 2.0)), "3 of 3 starts did not improve"),
    ],
)
def test_where_the_base_fails_nothing_is_judged(base, words):
    verdict = judge_trial(base, group(FALLING), 10.0)
    assert verdict.base_failed
    assert not verdict.passed
    assert words in verdict.reason


@pytest.mark.parametrize("base", [group(FALLING)[:2], []])
def test_a_base_that_was_cut_short_has_not_failed(base):
    verdict = judge_trial(base, group(FALLING), 10.0)
    assert (verdict.passed, verdict.base_failed, verdict.is_too_short) == (False, False, True)
    assert "fewer than 3 starts" in verdict.reason


def test_a_base_that_diverged_before_it_was_cut_short_has_failed():
    verdict = judge_base(group((2.0, 3.0, 4.0))[:1])
    assert verdict.base_failed
    assert not verdict.is_too_short


def test_too_few_shared_starts_pass_nothing():
    verdict = judge_trial(group(FALLING), group(FALLING, size=64)[:2], 10.0)
    assert verdict.is_too_short
    assert "3 are needed" in verdict.reason
    assert not judge_trial(group(FALLING), [], 10.0).passed


@pytest.mark.parametrize(
    ("curve", "diverged", "reason"),
    [
        ((2.3, 1.9, 1.7, 1.6), False, "stalled from 1 of 1 further starts"),
        ((2.3, 4.0, 5.0, 6.0), False, "diverged from 1 of 1 further starts"),
        ((2.3, 2.0), True, "diverged from 1 of 1 further starts"),
    ],
)
def test_a_start_that_the_base_lacks_must_train_as_well(curve, diverged, reason):
    base = group((2.3, 1.0, 0.5, 0.2))
    own = group((2.3, 1.0, 0.5, 0.2), size=64)
    verdict = judge_trial(base, [*own, branch(7, curve, size=64, diverged=diverged)], 100.0)
    assert not verdict.passed
    assert verdict.fails_further
    assert verdict.reason == reason


def test_a_start_that_the_base_lacks_moves_neither_means_nor_curve():
    base = group((2.3, 1.0, 0.5, 0.2))
    own = group((2.3, 1.0, 0.5, 0.2), size=64)
    alone = judge_trial(base, own, 100.0)
    verdict = judge_trial(base, [*own, branch(7, (2.3, 1.5, 1.0, 0.9), size=64)], 100.0)
    assert verdict.reason == f"{alone.reason}; trained from 1 further starts"
    assert (verdict.curve, verdict.end_loss) == (alone.curve, alone.end_loss)


def test_a_larger_batch_far_ahead_shows_that_the_base_rate_is_too_low():
    base = group((2.0, 1.9, 1.8, 1.7, 1.6, 1.5))
    assert judge_trial(base, group((2.0, 1.2, 0.8, 0.5, 0.4, 0.3), size=64), 1e6).beats_base
    assert not judge_trial(base, base, 1e6).beats_base


def test_a_branch_of_one_evaluation_did_not_improve():
    assert "did not improve" in judge_base(group((2.0,))).reason


@given(st.floats(0.1, 1e6), st.integers(1, 10_000))
def test_the_base_pair_passes_against_itself(noise_scale, size):
    base = group(FALLING, size=size)
    assert judge_trial(base, base, noise_scale).passed


@given(
    st.lists(st.floats(-5.0, 50.0), min_size=2, max_size=8),
    st.floats(0.1, 10.0),
    st.integers(1, 4096),
)
def test_a_branch_that_ends_higher_is_never_judged_better(losses, worse, size):
    tried = group(losses, size=size)
    raised = group([losses[0], *(loss + worse for loss in losses[1:])], size=size)
    base = group(FALLING)
    if judge_trial(base, raised, 100.0).passed:
        assert judge_trial(base, tried, 100.0).passed


def alone(*curves, **settings):
    return judge_alone(
        [branch(seed, losses, **settings) for seed, losses in enumerate(curves)], fall=2.0
    )


def test_a_rate_on_its_own_passes_where_every_start_learns():
    verdict = alone((2.3, 1.0, 0.5, 0.4, 0.3), (2.3, 1.1, 0.5, 0.4, 0.4), (2.4, 0.9, 0.4, 0.4, 0.4))
    assert verdict.passed
    assert "from 3 fresh starts" in verdict.reason


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ((2.3, 2.3, 2.2, 2.3, 2.25), "stalled from 1 of 3"),
        ((2.3, 1.0, 0.5, 1.4, 1.5), "ended on a rising loss from 1 of 3"),
        ((2.3, 1.0, 3.0, 3.1, 3.0), "diverged from 1 of 3"),
    ],
)
def test_a_rate_on_its_own_fails_by_one_start(odd, reason):
    good = (2.3, 1.0, 0.5, 0.4, 0.3)
    verdict = alone(good, odd, good)
    assert not verdict.passed
    assert not verdict.is_too_short
    assert reason in verdict.reason


def test_a_rate_on_its_own_that_learns_a_twentieth_of_the_range_tests_fall_stalls():
    assert "stalled from 3 of 3" in alone(*[(2.3, 2.25, 2.22, 2.2, 2.2)] * 3).reason


def test_a_branch_without_a_loss_has_diverged_even_on_its_own():
    good = branch(0, (2.3, 1.0, 0.5))
    verdict = judge_alone([good, branch(1, (), diverged=True)], fall=2.0)
    assert "diverged from 1 of 2" in verdict.reason


def test_a_rate_on_its_own_needs_three_starts():
    good = (2.3, 1.0, 0.5, 0.4, 0.3)
    assert alone(good, good).is_too_short
    assert alone().is_too_short


def test_the_curve_of_a_verdict_ends_on_its_end():
    base = group((2.0, 1.2, 0.8, 0.5, 0.4, 0.3))
    verdict = judge_trial(base, base, 1e6)
    assert verdict.curve[-1].loss == pytest.approx(verdict.end_loss)
