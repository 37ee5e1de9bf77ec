"""`[tool.bsadvisor.check]`: what each metric may lose, and what is none."""

import pytest

from advisor.cli.configuration import read_policies
from advisor.errors import UsageError
from advisor.gate.data import Policy


@pytest.fixture
def read(tmp_path):
    """A function: the lines of the table go in, the policies come out."""

    def run(lines):
        (tmp_path / "pyproject.toml").write_text(f"[tool.bsadvisor.check]\n{lines}\n")
        below = tmp_path / "src"
        below.mkdir(exist_ok=True)
        return read_policies(below)

    return run


@pytest.mark.parametrize(
    ("line", "metric", "policy"),
    [
        ('throughput = "warn"', "throughput", Policy(level="warn", threshold=0.05)),
        ('throughput = "off"', "throughput", Policy(level="off", threshold=0.05)),
        ("throughput = { threshold = 0.03 }", "throughput", Policy(threshold=0.03)),
        ('operators = "error"', "operators", Policy(level="error", threshold=0.01)),
        ("first-step = { threshold = 1 }", "first_step", Policy(level="warn", threshold=1.0)),
        (
            'peak_memory = { level = "warn", threshold = 0.1 }',
            "peak_memory",
            Policy(level="warn", threshold=0.1),
        ),
    ],
)
def test_a_policy_is_a_level_or_a_table(read, line, metric, policy):
    assert read(line) == {metric: policy}


def test_a_table_of_its_own_is_a_policy_too(read):
    assert read('[tool.bsadvisor.check.throughput]\nlevel = "warn"') == {
        "throughput": Policy(level="warn", threshold=0.05)
    }


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('speed = "warn"', "has no metric speed"),
        ('throughput = "loud"', "Invalid enum value 'loud'"),
        ("throughput = 0.05", "throughput"),
        ("throughput = true", "throughput"),
        ("throughput = []", "throughput"),
        ("throughput = { threshold = -0.05 }", "float` > 0.0"),
        ("throughput = { threshold = 0 }", "float` > 0.0"),
        ("throughput = { threshold = 50 }", "float` <= 10.0"),
        ("throughput = { threshold = nan }", "throughput"),
        ("throughput = { threshold = inf }", "float` <= 10.0"),
        ('throughput = { threshold = "5%" }', "Expected `float`, got `str`"),
        ("throughput = { limit = 0.05 }", "limit"),
        ('first-step = "off"\nfirst_step = "warn"', "first_step"),
    ],
)
def test_what_is_no_policy_is_named(read, line, told):
    with pytest.raises(UsageError) as refused:
        read(line)
    assert "pyproject.toml" in refused.value.message
    assert told in refused.value.message
    assert refused.value.next_step


def test_a_table_that_is_none_is_named(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.bsadvisor]\ncheck = 3\n")
    with pytest.raises(UsageError, match=r"tool\.bsadvisor\.check is not a table"):
        read_policies(tmp_path)


def test_without_a_project_all_is_as_usual(tmp_path):
    assert read_policies(tmp_path) == {}
