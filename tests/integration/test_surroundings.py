"""Surroundings that the search cannot overcome are named by the command."""

import pytest

from tests.integration.probe_command import run_probe

pytestmark = pytest.mark.slow


def test_a_limit_below_the_training_state_is_named_part_by_part(tmp_path):
    options = ("--memory-limit", "40MiB", "--headroom", "0", "--budget", "40s")
    outcome = run_probe("tests/workloads/soak/many_layers.py", *options, directory=tmp_path)
    assert outcome.exit_code == 6, outcome.stderr
    assert "not even a batch of 1 fits in 40 MiB" in outcome.stderr
    assert "the training state alone needs 64.2 MiB (parameters 16 MiB" in outcome.stderr
    assert "optimizer state 32.1 MiB), the limit is 40 MiB" in outcome.stderr
    assert outcome.survivors == ()
