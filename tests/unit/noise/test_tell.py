"""A noise scale in words: no figure is below 0, and an end that is not known is not told."""

import pytest

from advisor.in_loop.data import NoiseScale
from advisor.noise.data import NoiseConclusion, format_noise_scale
from advisor.noise.tell import brief_noise, describe_noise
from advisor.statistics import Estimate


@pytest.mark.parametrize(
    ("scale", "text"),
    [
        (Estimate(57.0, 31.0, 120.0), "57.0 (31.0 to 120)"),
        (Estimate(57.0, -4.0, 120.0), "57.0 (0 to 120)"),
        (Estimate(-2.53, -8.0, 30.0), "≤ 30.0"),
        (Estimate(-2.53, -8.0, -1.0), "≤ 0"),
        (Estimate(500.0, 31.0, None), "≥ 31.0"),
        (Estimate(500.0, -2.53, None), "not known"),
        (Estimate(None, None, None), "not known"),
        (None, "not measured"),
    ],
)
def test_no_noise_scale_is_below_zero(scale, text):
    assert format_noise_scale(scale) == text


def test_one_surely_below_a_figure_is_told_so():
    scale = Estimate(-2.53, -8.0, 30.0)
    noise = NoiseConclusion(status="estimated", reason="measured at step 5", noise_scale=scale)
    assert describe_noise(noise) == "≤ 30.0 samples, 95 % interval; measured at step 5"
    status = brief_noise(Found(noise))
    assert (status.text, status.state) == (
        "noise scale ≤ 30.0; far larger batches gain little",
        "inconclusive",
    )


class Found:
    """Conclusions of which one is there."""

    def __init__(self, noise):
        self.of = lambda _: noise


def test_a_value_of_a_running_training_without_an_interval_is_not_known():
    value = NoiseScale(
        noise_scale=500.0,
        low=None,
        high=None,
        at_step=100,
        steps=8,
        samples_seen=256,
        batch_size=32.0,
        estimator="micro-batches",
    )
    assert not value.is_known
    assert str(value) == "not known: the gradient is too small against its noise"


def test_in_tokens_the_noise_scale_is_that_of_so_many_samples():
    noise = NoiseConclusion(
        status="estimated",
        reason="measured at step 5",
        noise_scale=Estimate(57.0, 31.0, 120.0),
        sample_unit="token",
        tokens_per_sample=128.0,
    )
    assert "; 7,300 (3,970 to 15,400) tokens, at 128 in a sample; " in describe_noise(noise)
