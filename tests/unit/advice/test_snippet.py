"""What to set, in the names of the user's own tools."""

from msgspec.structs import replace

from advisor.advice.snippet import set_up
from advisor.rate.data import OptimizerChanges
from advisor.training.data import Script, ScriptFacts
from tests.unit.samples import ADAMW, make_candidate, make_facts

NONE = OptimizerChanges(beta2=None, weight_decay=None)
ARGUMENTS = ("--batch-size", "{batch_size}", "--lr", "{learning_rate}", "--workers", "2")


def make_script(*arguments, takes_rate=True, **settings):
    script = Script(arguments=arguments, **settings)
    known = ScriptFacts(script=script, counted_by="DataLoader", takes_rate=takes_rate, start_s=1.0)
    return make_facts(file="train.py", optimizer=ADAMW, script=known)


def test_a_script_that_takes_batch_and_rate_needs_its_command_line_alone():
    way, facts = make_candidate(128, 1, 0.1), make_script(*ARGUMENTS)
    settings, code = set_up(way, facts, 0.0012345, NONE)
    command = "python train.py --batch-size 128 --lr 0.001234 --workers 2"
    assert settings == (command,)
    assert code == f"{command}\n"


def test_a_script_that_takes_no_rate_gets_a_factor_for_its_optimizer():
    way, facts = make_candidate(128, 1, 0.1), make_script("{batch_size}", takes_rate=False)
    settings, code = set_up(way, facts, 2e-3, OptimizerChanges(beta2=0.99, weight_decay=0.02))
    lines = [
        'group["lr"] *= 2',
        'group["betas"] = (group["betas"][0], 0.99)',
        'group["weight_decay"] *= 2',
    ]
    assert settings == (
        "python train.py 128",
        *(f"in every group of the optimizer: {line}" for line in lines),
    )
    group = ADAMW.learning_rate, (ADAMW.beta1, ADAMW.beta2), ADAMW.weight_decay
    optimizer = type("Optimizer", (), {})()
    optimizer.param_groups = [dict(zip(("lr", "betas", "weight_decay"), group, strict=True))]
    exec(code.partition("\n")[2], {"optimizer": optimizer})
    assert optimizer.param_groups == [{"lr": 2e-3, "betas": (0.9, 0.99), "weight_decay": 0.02}]


def test_a_script_that_takes_no_rate_is_left_alone_where_none_was_run():
    settings, _ = set_up(make_candidate(64, 2, 0.1), make_script("{batch_size}"), None, NONE)
    assert settings == ("python train.py 64",)


def test_micro_batches_are_counted_as_the_users_tool_does():
    way = make_candidate(64, 2, 0.1)
    facts = replace(make_facts(), is_lightning=True)
    assert set_up(way, facts, None, NONE)[0] == (
        "DataLoader(batch_size=64), Trainer(accumulate_grad_batches=2)",
    )
    assert set_up(way, make_facts(), None, NONE)[0] == (
        "DataLoader(batch_size=64), 2 of them for each optimizer step",
    )
