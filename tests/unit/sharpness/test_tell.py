"""The sharpness in words."""

from advisor.sharpness.data import SharpnessConclusion, SharpnessPoint
from advisor.sharpness.tell import describe_sharpness


def point(step, value, limit=None, own=None, **fields):
    return SharpnessPoint(
        at_step=step,
        sharpness=value,
        preconditioned_sharpness=own,
        largest_stable_rate=limit,
        **fields,
    )


def test_the_whole_path_is_named_with_the_limit_and_the_hint():
    text = describe_sharpness(
        SharpnessConclusion(
            status="measured",
            formula="2/λ",
            samples=1536,
            points=(point(0, 0.5, 4.0), point(40, 8.0, 0.25), point(80, 2.0, 1.0)),
            hint="the trial decides",
        )
    )
    assert text == (
        "largest eigenvalue of the Hessian 0.500 at step 0 to 2.00 at step 80, at most 8.00 at "
        "step 40, over 1,536 samples; full-batch training is stable below a rate of 0.25 to 4 "
        "(2/λ); the trial decides"
    )


def test_few_samples_and_what_did_not_settle_are_named():
    text = describe_sharpness(
        SharpnessConclusion(
            status="measured",
            samples=8,
            reason="there was no time left for it",
            points=(point(0, None), point(9, 2.0, own=300.0, is_lower_bound=True)),
        )
    )
    assert "over 8 samples, which are few and exaggerate it" in text
    assert "2.00 at step 9, over" in text
    assert "in the optimizer's own metric 300;" in text
    assert "not all eigenvalues settled" in text
    assert text.endswith("points without it: there was no time left for it")


def test_what_was_not_measured_says_why():
    missing = SharpnessConclusion(status="not_measured", reason="it cannot be differentiated again")
    assert describe_sharpness(missing) == "not measured: it cannot be differentiated again"
