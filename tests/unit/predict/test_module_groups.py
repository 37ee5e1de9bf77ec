import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.predict.breakdown import group_modules


def spread(*roots, inside):
    return tuple(name for root in roots for name in (root, *(f"{root}.{each}" for each in inside)))


def place(names, name):
    group = group_modules(names)[names.index(name)]
    return group.name, group.part


def test_the_layers_of_a_transformer_are_one_group():
    layers = [f"encoder.layer.{i}" for i in range(12)]
    inside = ("attention", "attention.query", "output")
    names = ("", "encoder", "encoder.layer", *spread(*layers, inside=inside))
    assert place(names, "encoder.layer.7.attention.query") == (
        "encoder.layer.*",
        "encoder.layer.*.attention",
    )
    assert place(names, "encoder.layer.7") == ("encoder.layer.*", "encoder.layer.*")
    assert place(names, "encoder.layer") == ("encoder.layer", "encoder.layer")
    blocks = {group.block for group in group_modules(names) if group.name == "encoder.layer.*"}
    assert blocks == set(layers)


def test_a_block_with_a_module_more_is_of_the_same_kind():
    names = spread("0", inside=("conv", "down")) + spread("1", "2", inside=("conv",))
    assert place(names, "0.down") == ("*", "*.down")
    assert place(names, "2.conv") == ("*", "*.conv")


def test_a_stem_beside_the_blocks_stays_alone():
    names = spread("0", inside=("pool",)) + spread("1", "2", "3", inside=("conv", "norm"))
    assert place(names, "0.pool") == ("0.pool", "0.pool")
    assert place(names, "3.norm") == ("*", "*.norm")


def test_layers_without_modules_inside_keep_their_numbers():
    assert [group.name for group in group_modules(("", "0", "1", "2"))] == ["", "0", "1", "2"]


def test_numbers_after_a_name_count_where_an_underscore_parts_them():
    names = spread("layer_0", "layer_1", inside=("mlp",)) + spread("conv1", "conv2", inside=("a",))
    assert place(names, "layer_1.mlp") == ("layer_*", "layer_*.mlp")
    assert place(names, "conv2.a") == ("conv2.a", "conv2.a")


def test_blocks_in_blocks_are_named_down_to_the_first_module_that_does_not_repeat():
    stages = [f"stages.{i}.{j}" for i in range(2) for j in range(3)]
    names = ("stages", "stages.0", "stages.1", *spread(*stages, inside=("conv", "conv.weight")))
    assert place(names, "stages.1.2.conv.weight") == ("stages.*", "stages.*.*.conv")
    assert place(names, "stages.1") == ("stages.*", "stages.*")


@pytest.mark.parametrize(
    ("name", "shown"), [("a", "a"), ("a.b", "a.b"), ("a.b.c.d", "a.b"), ("", "")]
)
def test_other_names_are_cut_to_two_components(name, shown):
    assert place((name,), name) == (shown, shown)


@given(
    st.lists(st.lists(st.sampled_from(["a", "0", "1", "x_2", "x_3"]), max_size=4), unique_by=tuple)
)
def test_every_module_has_a_group_and_its_member_lies_in_the_block(paths):
    names = tuple(".".join(path) for path in paths)
    groups = group_modules(names)
    assert len(groups) == len(names)
    for name, group in zip(names, groups, strict=True):
        assert name.startswith(group.block)
        assert name.startswith(group.member)
        assert group.member.startswith(group.block)
