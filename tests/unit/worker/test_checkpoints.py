"""Saved weights are loaded as they were saved, or refused with the file and the keys named."""

import pytest
import torch
from torch import nn

from advisor.errors import GivenFileError, UsageError, WorkloadError
from advisor.training.checkpoints import load_checkpoint
from advisor.training.training import Training


def make_training(optimizer_type=torch.optim.Adam, width=4):
    model = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))
    return Training(
        model=model,
        optimizer=optimizer_type(model.parameters(), lr=0.1),
        loss_function=lambda m, b: m(b).square().mean(),
        device=torch.device("cpu"),
        precision="fp32",
        compile_model=False,
    )


@pytest.fixture
def saved():
    """Return a training after some steps."""
    torch.manual_seed(1)
    training = make_training()
    for _ in range(3):
        training.step(torch.randn(5, 3))
    return training


def assert_same_weights(one, other):
    for left, right in zip(one.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def save(tmp_path, document):
    path = tmp_path / "saved.pt"
    torch.save(document, path)
    return str(path)


@pytest.mark.parametrize("key", [None, "model", "state_dict", "model_state_dict"])
def test_the_weights_are_found_under_each_known_key(tmp_path, saved, key):
    weights = saved.model.state_dict()
    training = make_training()
    step = load_checkpoint(save(tmp_path, weights if key is None else {key: weights}), training)
    assert_same_weights(training, saved)
    assert step == (None, "order")
    assert not training.optimizer.state


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_prefixes_of_wrappers_are_left_out(tmp_path, saved, prefix):
    weights = {prefix + name: value for name, value in saved.model.state_dict().items()}
    training = make_training()
    load_checkpoint(save(tmp_path, {"model": weights}), training)
    assert_same_weights(training, saved)


@pytest.mark.parametrize("key", ["optimizer", "optimizer_state_dict", "optimizer_states"])
def test_the_state_of_the_optimizer_is_taken_where_there_is_one(tmp_path, saved, key):
    state = saved.optimizer.state_dict()
    document = {"model": saved.model.state_dict()}
    document[key] = [state] if key.endswith("states") else state
    training = make_training()
    load_checkpoint(save(tmp_path, document), training)
    for mine, theirs in zip(training.model.parameters(), saved.model.parameters(), strict=True):
        torch.testing.assert_close(
            training.optimizer.state[mine]["exp_avg_sq"],
            saved.optimizer.state[theirs]["exp_avg_sq"],
        )


@pytest.mark.parametrize("state", [None, [], "none"])
def test_an_empty_optimizer_state_is_none(tmp_path, saved, state):
    document = {"model": saved.model.state_dict(), "optimizer": state}
    training = make_training()
    load_checkpoint(save(tmp_path, document), training)
    assert not training.optimizer.state


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"step": 120}, (120, "steps")),
        ({"global_step": torch.tensor(7), "epoch": 3}, (7, "steps")),
        ({"epoch": 3}, (3, "epochs")),
        ({"step": True}, (None, "order")),
        ({"step": float("inf")}, (None, "order")),
        ({"step": "last"}, (None, "order")),
    ],
)
def test_the_step_is_read_where_the_file_has_one(tmp_path, saved, entry, expected):
    path = save(tmp_path, {"model": saved.model.state_dict(), **entry})
    assert load_checkpoint(path, make_training()) == expected


def test_other_keys_and_shapes_are_named_with_the_file(tmp_path, saved):
    weights = saved.model.state_dict()
    weights["extra.weight"] = weights.pop("0.bias")
    path = save(tmp_path, weights)
    with pytest.raises(WorkloadError) as caught:
        load_checkpoint(path, make_training(width=5))
    message = caught.value.message
    assert path in message
    assert "missing: 0.bias" in message
    assert "not in the model: extra.weight" in message
    assert "0.weight is (4, 3), the model's (5, 3)" in message
    assert "--set" in caught.value.next_step


def test_many_keys_are_not_all_named(tmp_path):
    path = save(tmp_path, {f"layer{k}": torch.zeros(1) for k in range(9)})
    with pytest.raises(WorkloadError, match="layer2 and 6 more"):
        load_checkpoint(path, make_training())


def test_the_state_of_another_optimizer_is_refused(tmp_path, saved):
    group = {"params": [0, 1, 2], "lr": 0.1}
    document = {
        "model": saved.model.state_dict(),
        "optimizer": {"state": {}, "param_groups": [group]},
    }
    with pytest.raises(WorkloadError, match="does not fit the model file's Adam"):
        load_checkpoint(save(tmp_path, document), make_training())


@pytest.mark.parametrize("document", [[torch.zeros(1)], {"epoch": 3}])
def test_a_file_without_weights_is_refused(tmp_path, document):
    with pytest.raises(WorkloadError, match=r"state_dict|no weights"):
        load_checkpoint(save(tmp_path, document), make_training())


def test_a_file_with_code_in_it_is_refused(tmp_path):
    path = save(tmp_path, nn.Linear(3, 2))
    with pytest.raises(WorkloadError) as caught:
        load_checkpoint(path, make_training())
    assert path in caught.value.message
    assert "state_dict()" in caught.value.next_step


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "text.pt"
    path.write_text("hello")
    with pytest.raises(WorkloadError, match="cannot be read as weights"):
        load_checkpoint(str(path), make_training())


def test_a_missing_file_is_a_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="cannot read the checkpoint"):
        load_checkpoint(str(tmp_path / "none.pt"), make_training())


def test_weights_that_are_not_finite_are_refused_and_a_buffer_may_be(tmp_path):
    def make(scale):
        training = make_training()
        training.model.register_buffer("mask", torch.full((2,), -torch.inf))
        with torch.no_grad():
            training.model[0].bias.mul_(scale)
        return training

    good = save(tmp_path, make(1.0).model.state_dict())
    load_checkpoint(good, make(1.0))
    path = save(tmp_path, make(torch.nan).model.state_dict())
    with pytest.raises(GivenFileError, match=r"NaN or infinity in 0\.bias"):
        load_checkpoint(path, make(1.0))


@pytest.mark.parametrize("place", ["rate", "state"])
def test_an_optimizer_state_that_is_not_finite_is_refused(tmp_path, saved, place):
    state = saved.optimizer.state_dict()
    if place == "rate":
        state["param_groups"][0]["lr"] = float("nan")
    else:
        state["state"][0]["exp_avg"].fill_(torch.nan)
    path = save(tmp_path, {"model": saved.model.state_dict(), "optimizer": state})
    with pytest.raises(GivenFileError, match=r"is nan|the optimizer's exp_avg"):
        load_checkpoint(path, make_training())
