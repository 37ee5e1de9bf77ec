import msgspec
import pytest

from advisor.predict.changes import write_how_to
from advisor.predict.data import WhatIf
from advisor.training.data import OptimizerFacts
from tests.unit.predict.sample_trace import build_trace


def write(change, *, blocks=(), modules=(), **changed):
    trace = msgspec.structs.replace(build_trace(), checkpointed=blocks, modules=modules)
    what_if = WhatIf(change=change, trace=trace)
    return write_how_to(what_if, **({"device_type": "cuda", "optimizer": None} | changed))


def loop_over(blocks, modules):
    line = write("checkpointing", blocks=blocks, modules=modules)
    head, _, body = line.partition(": ")
    assert body == "block.forward = partial(checkpoint, block.forward, use_reentrant=False)"
    compile(line, "how_to", "exec")
    return head.removeprefix("for block in ")


def test_all_blocks_of_one_container_are_looped_over_by_its_name():
    blocks = ("encoder.layers.0", "encoder.layers.1")
    assert loop_over(blocks, ("", "encoder", "encoder.layers", *blocks)) == "model.encoder.layers"


def test_the_model_may_be_the_container():
    assert loop_over(("0", "1"), ("", "0", "0.a", "1", "1.a")) == "model"


def test_several_containers_are_joined():
    blocks = ("layer1.0", "layer1.1", "layer2.0", "layer2.1")
    assert loop_over(blocks, ("", *blocks)) == "(*model.layer1, *model.layer2)"


def test_numbers_inside_a_name_are_indices():
    blocks = ("stages.0.blocks.0", "stages.0.blocks.1")
    assert loop_over(blocks, blocks) == "model.stages[0].blocks"


def test_blocks_beside_others_are_a_slice_or_listed():
    modules = ("", "a", "a.0", "a.1", "a.2", "a.3")
    assert loop_over(("a.1", "a.2"), modules) == "model.a[1:3]"
    assert loop_over(("a.1", "a.3"), modules) == "(model.a[1], model.a[3])"
    assert loop_over(("a.x", "a.y"), ("a.x", "a.y", "a.z")) == "(model.a.x, model.a.y)"


def test_many_scattered_blocks_are_looked_up_by_name():
    blocks = tuple(f"a.{i}" for i in range(0, 10, 2))
    found = loop_over(blocks, tuple(f"a.{i}" for i in range(10)))
    assert found == "map(model.a.get_submodule, ['0', '2', '4', '6', '8'])"


def test_a_name_that_python_cannot_spell_is_a_string():
    assert loop_over(("my-layers.0", "my-layers.1"), ()) == "model.get_submodule('my-layers')[0:2]"


def test_without_blocks_there_is_nothing_to_write():
    assert write("checkpointing") is None


def test_autocast_names_the_device():
    assert write("bf16", device_type="cpu").startswith('with torch.autocast("cpu", torch.bfloat16)')


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"name": "AdamW", "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8},
            "AdamW8bit(model.parameters(), lr=0.001, betas=(0.9, 0.95), eps=1e-08)",
        ),
        (
            {"name": "SGD", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0},
            "SGD8bit(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)",
        ),
        ({"name": "Adagrad"}, "Adagrad8bit(model.parameters())"),
    ],
)
def test_an_8bit_optimizer_keeps_the_options(facts, expected):
    found = write("state_8bit", optimizer=OptimizerFacts(**facts))
    assert found == f"optimizer = bitsandbytes.optim.{expected}"


def test_an_optimizer_without_an_8bit_one_has_no_line():
    assert write("state_8bit", optimizer=OptimizerFacts(name="Shampoo")) is None
    assert write("state_8bit") is None


def test_foreach_is_turned_off_in_every_group():
    compile(write("foreach_off"), "how_to", "exec")
