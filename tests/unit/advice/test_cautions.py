import msgspec
import pytest

from advisor.advice.plan import ADVICE
from advisor.rate.range_test import conclude_lr_range
from advisor.throughput.data import Saturation
from advisor.training.data import OptimizerFacts
from tests.unit.rate.range_samples import make_curves
from tests.unit.samples import (
    FACTS,
    NOISE,
    SGD,
    conclude,
    make_branches,
    make_memory,
    make_record,
    make_throughput,
    recommend,
)


def test_a_rate_of_0_is_not_advised():
    resting = msgspec.structs.replace(SGD, learning_rate=0.0)
    record = make_record(msgspec.structs.replace(FACTS, optimizer=resting))
    rate = recommend(record).learning_rate
    assert rate.value is None
    assert rate.proposed is None


@pytest.mark.parametrize(
    ("rate", "instruction"),
    [
        (0.0, "Give the optimizer a rate that trains, or raise --budget."),
        (None, "Compare the loss at equal time before you change the batch."),
        (0.1, "Raise --budget so that pairs can be trained."),
    ],
)
def test_more_time_to_train_is_asked_for_only_where_that_was_short(rate, instruction):
    optimizer = msgspec.structs.replace(SGD, learning_rate=rate)
    record = make_record(msgspec.structs.replace(FACTS, optimizer=optimizer))
    (told,) = (each for each in recommend(record).warnings if "No other pair was" in each)
    assert told.endswith(instruction)


@pytest.mark.parametrize("is_short", [True, False])
def test_more_time_is_asked_for_only_where_it_tells_more(is_short):
    saturation = Saturation(
        batch_size=None, low=None, high=None, status="inconclusive", is_range_short=is_short
    )
    warnings = recommend(throughput=make_throughput(saturation=saturation)).warnings
    told = [each for each in warnings if "do not tell where larger batches" in each]
    assert bool(told) is not is_short


@pytest.mark.parametrize(
    ("optimizer", "base", "size", "words"),
    [
        (SGD, 32, 128, None),
        (SGD, 32, 256, None),
        (SGD, 32, 512, "16 times"),
        (SGD, 512, 32, "0.0625 times"),
        (None, 32, 512, None),
    ],
)
def test_a_batch_far_from_where_the_rate_was_tuned_is_warned_of(optimizer, base, size, words):
    facts = msgspec.structs.replace(FACTS, optimizer=optimizer, base_batch_size=base)
    warnings = recommend(make_record(facts, global_batch_size=size)).warnings
    far = [each for each in warnings if "further than the rules were tested" in each]
    assert len(far) == (words is not None)
    assert all(words in each for each in far)


def test_a_pair_that_stands_in_says_what_is_missing():
    curves = make_curves(128)
    trials = make_branches(128, conclude_lr_range(curves).suggested, first_seed=1000)

    def warn(**changes):
        facts = msgspec.structs.replace(FACTS, base_batch_size=None, **changes)
        record = msgspec.structs.replace(make_record(facts, trials), lr_ranges=curves)
        parts = {"memory": make_memory(), "throughput": make_throughput(), "noise": NOISE}
        return conclude(record, **parts).of(ADVICE).warnings

    assert any("not known. Set BASE_BATCH_SIZE" in each for each in warn())
    default = OptimizerFacts(name="AdamW", learning_rate=1e-3, is_default=True)
    assert any("stood in. Add make_optimizer" in each for each in warn(optimizer=default))


def test_a_sample_that_holds_a_nan_is_named_before_all_else():
    facts = msgspec.structs.replace(FACTS, not_finite_sample=777)
    advice = recommend(make_record(facts, global_batch_size=512))
    assert advice.cautions[0].startswith("Sample 777 of the dataset holds a NaN")
    assert advice.warnings[: len(advice.cautions)] == advice.cautions
