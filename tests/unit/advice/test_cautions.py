from advisor.advice.cautions import Caution, warn_of_rule
from advisor.statistics import Estimate
from advisor.training.data import OptimizerFacts
from tests.unit.samples import SGD, make_facts


def test_each_warning_ends_in_what_to_do():
    for caution in Caution:
        *facts, instruction = caution.value.split(". ")
        assert facts
        assert instruction.endswith(".")
        assert instruction[0].isupper() or instruction == "{instruction}."


def warn(optimizer, base, size, noise):
    return [*warn_of_rule(make_facts(optimizer=optimizer, base_batch_size=base), size, noise)]


def test_warnings_name_what_weakens_the_rule():
    noise = Estimate(1_000.0, 500.0, 2_000.0)
    assert warn(SGD, 32, 128, noise) == []
    assert warn(None, 32, 128, noise) == []
    assert warn(SGD, 2_000, 2_000, noise) == []
    assert "above the noise scale of 1000" in warn(SGD, 400, 1_200, noise)[0]
    assert "lower bound" in warn(SGD, 32, 128, Estimate(None, 500.0, None))[0]
    assert "16 times" in warn(SGD, 32, 512, noise)[0]
    assert "0.0625 times" in warn(SGD, 512, 32, noise)[0]
    assert "not known" in warn(SGD, None, 32, noise)[0]
    default = OptimizerFacts(name="AdamW", learning_rate=1e-3, is_default=True)
    assert "stood in" in warn(default, 32, 32, noise)[0]
