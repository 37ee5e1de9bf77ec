"""What is said to be behind a change, and what may be compared at all."""

import msgspec
import pytest

from advisor.gate.cause import find_cause
from advisor.gate.plan import compare
from advisor.gate.setting import list_differences, name_file
from tests.unit.gate.sides import SETTING, change_environment, make_occasion

OLD = (0.1, 0.1001, 0.0999, 0.1002)
NEW = tuple(1.2 * seconds for seconds in OLD)


@pytest.mark.parametrize(
    ("old", "new", "kind", "said"),
    [
        ({"product_s": (0.01,)}, {"product_s": (0.012,)}, "machine", "matrix product takes 20"),
        ({"product_s": (0.01,)}, {"product_s": (0.0103,)}, "unknown", "as they were"),
        ({"sm_clock_mhz": 1800.0}, {"sm_clock_mhz": 1500.0}, "machine", "clock is 17 % lower"),
        ({"foreign_cpu_fraction": 0.0}, {"foreign_cpu_fraction": 0.4}, "machine", "take 40 %"),
        ({}, {"held_fraction": {"power_cap": 0.5}}, "machine", "power cap holds the clock"),
        ({}, {"held_fraction": {"thermal": 0.5}}, "machine", "heat holds the clock"),
        ({}, {}, "unknown", "as they were"),
    ],
)
def test_the_machine_is_named_where_it_changed(old, new, kind, said):
    cause = find_cause(make_occasion(*OLD, **old), make_occasion(*NEW, **new), 0.2, ())
    assert (cause.kind, said in cause.evidence) == (kind, True), cause.evidence


def test_the_code_is_named_where_operators_or_bytes_changed():
    old = make_occasion(*OLD, operators=100, peaks=((32, 1000),))
    more = make_occasion(*NEW, operators=120, peaks=((32, 1000),))
    assert find_cause(old, more, 0.2, ()).kind == "code"
    larger = make_occasion(*NEW, operators=100, peaks=((32, 1100),))
    assert "10 % more memory" in find_cause(old, larger, 0.2, ()).evidence


def test_the_stack_is_named_where_versions_changed():
    old, new = make_occasion(*OLD), make_occasion(*NEW, setting=change_environment(torch="9.9"))
    cause = find_cause(old, new, 0.2, list_differences((old,), (new,)))
    assert cause.kind == "stack"
    assert "torch is 9.9" in cause.evidence


def test_a_slower_machine_hides_what_the_code_does():
    old = make_occasion(*OLD, product_s=(0.01,))
    alone = compare((old,), (make_occasion(*NEW, product_s=(0.01,)),))
    hidden = compare((old,), (make_occasion(*NEW, product_s=(0.012,)),))
    assert (alone.outcome, hidden.outcome) == ("fail", "inconclusive")


def test_a_changed_stack_is_gated_only_where_that_is_asked_for():
    old, new = make_occasion(*OLD), make_occasion(*OLD, setting=change_environment(torch="9.9"))
    assert compare((old,), (new,)).outcome == "inconclusive"
    assert compare((old,), (new,), gates_stack=True).outcome == "pass"
    (difference,) = compare((old,), (new,)).differences
    assert (difference.tier, difference.name, difference.new) == ("stack", "torch", "9.9")


@pytest.mark.parametrize(
    "changed",
    [
        {"micro_batch_size": 64},
        {"precision": "bf16"},
        {"compile": True},
        {"settings": {"width": "8"}},
        {"arguments": ("--depth", "2")},
        {"target": "other.py"},
    ],
)
def test_another_training_is_never_compared(changed):
    setting = msgspec.structs.replace(SETTING, **changed)
    found = compare((make_occasion(*OLD),), (make_occasion(*OLD, setting=setting),))
    assert found.outcome == "not_measured"
    assert found.verdicts == ()
    assert name_file(setting) != name_file(SETTING)


def test_another_device_is_never_compared_and_has_a_baseline_of_its_own():
    device = msgspec.structs.replace(SETTING.environment.device, name="NVIDIA H100")
    setting = change_environment(device=device)
    new = make_occasion(*OLD, setting=setting)
    assert [each.name for each in list_differences((make_occasion(*OLD),), (new,))] == ["device"]
    assert name_file(setting).startswith("nvidia-h100-")


def test_commit_and_date_decide_nothing():
    new = msgspec.structs.replace(make_occasion(*OLD), recorded_at="2030-01-01T00:00:00+00:00")
    assert list_differences((make_occasion(*OLD),), (new,)) == ()
