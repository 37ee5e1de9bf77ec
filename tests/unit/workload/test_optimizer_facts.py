"""Every optimizer tells its settings, of whatever type they are."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from advisor import NoiseScaleMonitor
from advisor.rate.measure import make_rate_setter
from advisor.rate.rules import name_family, propose_learning_rate
from advisor.training.data import WorkloadFacts
from advisor.training.model_file.foreign import count_places
from advisor.training.optimizer_facts import describe_optimizer, restart_rates, to_number
from advisor.training.schedule import list_rates

CLASSES = [
    value
    for value in vars(torch.optim).values()
    if isinstance(value, type)
    and issubclass(value, torch.optim.Optimizer)
    and value is not torch.optim.Optimizer
]


@pytest.mark.parametrize("class_", CLASSES, ids=lambda class_: class_.__name__)
def test_every_optimizer_of_torch_is_described_and_keeps_its_rate_at_the_base_batch(class_):
    weight = nn.Parameter(torch.ones(2, 2))
    made = class_([weight])
    facts = describe_optimizer(made)
    assert facts.name == class_.__name__
    assert facts.learning_rate == pytest.approx(to_number(made.param_groups[0]["lr"]))
    assert [group.parameter_count for group in facts.groups] == [4]
    workload = WorkloadFacts(
        file="f", model_name="", how_model="", how_loss="", how_optimizer="", how_batch="",
        optimizer=facts, base_batch_size=32,
    )  # fmt: skip
    assert propose_learning_rate(workload, 32, None).proposed == facts.learning_rate
    assert propose_learning_rate(workload, 64, None).proposed >= facts.learning_rate
    derived = type("Derived", (class_,), {})([weight])
    own = describe_optimizer(derived)
    assert name_family(own) == name_family(facts)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.1, 0.1),
        (2, 2.0),
        (torch.tensor(0.5), 0.5),
        (torch.ones(2), None),
        (torch.tensor(1j), None),
        ((1e-30, 1e-3), None),
        ("auto", None),
        (None, None),
        (True, None),
    ],
)
def test_a_setting_that_is_one_real_number_counts(value, number):
    assert to_number(value) == number


def test_a_schedule_made_beside_the_optimizer_does_not_change_its_rates():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.3)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.6, total_steps=10)
    restart_rates(optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.6


def test_a_function_is_given_what_it_has_room_for():
    assert count_places(lambda: 1) == 0
    assert count_places(lambda stage: stage) == 1
    assert count_places(lambda *all_: all_) > 100
    assert count_places(lambda stage, *, size=0: (stage, size)) == 1


def make_beside_a_multiplier():
    """As of a Lagrangian: the first group climbs, beside the one that trains."""
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.ones(2)
    made = torch.optim.SGD([{"params": [weight]} for weight in weights], lr=0.1, weight_decay=0.01)
    made.param_groups[0]["lr"] = -0.5
    return made


def test_a_rate_is_that_of_the_first_group_that_trains_and_others_keep_their_ratio():
    made = make_beside_a_multiplier()
    facts = describe_optimizer(made)
    assert facts.learning_rate == 0.1
    make_rate_setter(SimpleNamespace(optimizer=made))(0.2)
    assert [group["lr"] for group in made.param_groups] == [-1.0, 0.2]
    halving = list_rates(lambda _: torch.optim.lr_scheduler.StepLR(made, 1, 0.5), made, 2)
    assert halving == pytest.approx([0.2, 0.1, 0.05])


def test_a_monitor_writes_the_rate_of_the_first_group_that_trains(tmp_path):
    made, log = make_beside_a_multiplier(), tmp_path / "noise.jsonl"
    model = nn.Linear(2, 1)
    made.add_param_group({"params": model.parameters()})
    with NoiseScaleMonitor(model, made, log=log, every=1):
        for _ in range(2):
            model(torch.ones(3, 2)).sum().backward()
            model(torch.ones(3, 2)).sum().backward()
            made.step()
    rates = {json.loads(line)["learning_rate"] for line in log.read_text().splitlines()}
    assert rates == {0.1}
