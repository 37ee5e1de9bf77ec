"""The comparison with a loop timed by CUDA events; skipped with its reason where there is none."""

import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_the_tool_agrees_with_a_loop_timed_by_events_and_energy_with_power(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from session_against_loop import Plan, compare_model, read_environment

    ends_s = time.monotonic() + 200.0
    row = compare_model(
        BENCHMARKS / "models" / "checkpointed.py",
        8192,
        read_environment("cuda"),
        part_ends_s=ends_s,
        deadline_s=ends_s,
        plan=Plan(least_pairs=2, most_pairs=3),
    )
    assert row["median_ratio"] == pytest.approx(1.0, abs=0.05)  # a single model, a few sessions
    assert 0.0 < row["issuing_fraction"] <= 1.0
    if row["energy"]["ratio"] is None:
        pytest.skip(f"no comparison of energy: {row['energy']['missing_because']}")
    assert row["energy"]["energy_per_sample_j"] > 0.0
    assert row["energy"]["ratio"] == pytest.approx(1.0, abs=0.1)
