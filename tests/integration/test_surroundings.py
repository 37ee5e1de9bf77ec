"""Surroundings that the search cannot overcome are named by the command."""

import pytest

pytestmark = pytest.mark.slow


def test_a_limit_below_the_training_state_is_named_part_by_part(run_command):
    options = ("--memory-limit", "40MiB", "--headroom", "0", "--budget", "40s", "--device", "cpu")
    result = run_command("probe", "tests/workloads/soak/many_layers.py", *options)
    assert result.exit_code == 6, result.stderr
    assert "not even a batch of 1 fits in 40 MiB" in result.stderr
    assert "the training state alone needs 64.2 MiB (parameters 16 MiB" in result.stderr
    assert "optimizer state 32.1 MiB), the limit is 40 MiB" in result.stderr
