"""What is taken of a run, and which runs are refused."""

import msgspec
import pytest

from advisor.advice.data import Scenario
from advisor.cards.reading import read_training, refuse_other_model, refuse_other_setting
from advisor.engine.record import Conclusions
from advisor.engine.spec import Spec
from advisor.errors import UsageError
from advisor.training.data import Script, ScriptFacts, WorkloadSpec
from tests.unit.cards.sample_training import make_training
from tests.unit.samples import (
    ENVIRONMENT,
    FACTS,
    FAST,
    FIXED_S,
    FLAT,
    PER_SAMPLE_S,
    SLOW,
    make_pairs,
    make_probes,
    make_record,
)


def read(others, facts=FACTS, scenario=Scenario(), **limits):
    record = make_record(facts, make_pairs(others), make_probes(), **limits)
    record = msgspec.structs.replace(record, environment=ENVIRONMENT)
    return read_training(Conclusions(record), scenario, "run.json")


def test_the_winner_comes_first_with_the_samples_that_it_takes_whatever_a_step_takes():
    training = read({(64, 1.4): FAST, (128, 2.0): SLOW})
    won, base, slow = training.pairs
    assert (won.global_batch_size, won.learning_rate) == (64, 1.4)
    assert won.sample_ratio.point == pytest.approx(0.5, rel=0.05)
    assert won.sample_ratio.low < 0.5 < won.sample_ratio.high
    assert won.step_s == pytest.approx(FIXED_S + 64 * PER_SAMPLE_S, rel=0.02)
    assert (base.global_batch_size, base.sample_ratio.point) == (32, 1.0)
    assert slow.sample_ratio.point == pytest.approx(2.0, rel=0.05)
    assert (training.device, training.largest_micro_batch_size) == ("It", 1024)


def test_a_pair_that_failed_is_left_out_and_the_users_own_is_first_where_nothing_won():
    training = read({(64, 1.4): FLAT, (128, 2.0): SLOW})
    assert [pair.global_batch_size for pair in training.pairs] == [32, 128]


def test_of_a_batch_its_best_rate_is_taken():
    training = read({(64, 0.7): SLOW, (64, 1.4): FAST})
    assert [(p.global_batch_size, p.learning_rate) for p in training.pairs] == [(64, 1.4), (32, 1)]


def test_a_batch_that_the_user_keeps_to_is_the_only_one():
    training = read({(64, 1.4): FAST, (128, 2.0): SLOW}, global_batch_size=128)
    assert [pair.global_batch_size for pair in training.pairs] == [128]


def test_the_length_of_the_training_is_what_the_user_says():
    assert read({}).samples is None
    assert read({}, scenario=Scenario(epochs=2.0)).samples == 100_000
    assert read({}, train_steps=1000).samples == 32_000


def test_a_run_without_a_training_is_refused_with_what_it_says():
    record = msgspec.structs.replace(make_record(FACTS, (), make_probes()), environment=ENVIRONMENT)
    with pytest.raises(UsageError, match=r"run.json has no answer .*: Stay with batch 32"):
        read_training(Conclusions(record), Scenario(), "run.json")
    with pytest.raises(UsageError, match="has no answer"):
        read_training(Conclusions(make_record(None)), Scenario(), "run.json")


@pytest.mark.parametrize(
    ("workload", "what"),
    [
        ({"precision": "bf16"}, "--precision fp32, not bf16"),
        ({"settings": {"width": "8"}}, "--set none, not width=8"),
    ],
)
def test_another_arithmetic_or_setting_is_refused(workload, what):
    spec = Spec(workload=WorkloadSpec(target="model.py", **workload))
    with pytest.raises(UsageError, match=what):
        refuse_other_setting(make_training(), spec)
    refuse_other_setting(make_training(), Spec(workload=WorkloadSpec(target="model.py")))


@pytest.mark.parametrize("changed", [{"file_sha256": "b"}, {"parameter_count": 2}])
def test_another_model_is_refused_and_what_is_not_known_is_not_compared(changed):
    known = {"file_sha256": "a", "parameter_count": 1}
    facts = msgspec.structs.replace(FACTS, **known)
    training = make_training(**known)
    refuse_other_model(training, facts)
    refuse_other_model(training, FACTS)
    refuse_other_model(make_training(), facts)
    with pytest.raises(UsageError, match=r"another model file than model.py: its .* differs"):
        refuse_other_model(training, msgspec.structs.replace(facts, **changed))


def test_a_script_is_no_model_that_can_be_traced():
    script = ScriptFacts(script=Script(), counted_by="DataLoader", start_s=1.0)
    facts = msgspec.structs.replace(FACTS, script=script)
    with pytest.raises(UsageError, match="is the run of a training script"):
        read({(64, 1.4): FAST}, facts)


def test_without_a_run_nothing_is_compared():
    refuse_other_model(None, FACTS)
    refuse_other_setting(None, Spec(workload=WorkloadSpec(target="other.py")))
