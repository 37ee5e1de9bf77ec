"""What a real run shows of sizes and steps before memory is traced by it."""

import pytest

from advisor.errors import WorkloadError
from advisor.predict.data import TraceTask
from advisor.predict.measure import run
from advisor.training.data import WorkloadSpec

_FOLDER = "tests/workloads/foreign"


def trace(name):
    spec = WorkloadSpec(target=f"{_FOLDER}/{name}.py", device="cpu")
    traces = []
    run(TraceTask(workload=spec, operators="cpu"), traces.append)
    return traces[0]


def test_sizes_that_do_not_run_are_told_as_such():
    with pytest.raises(WorkloadError, match="as 2 runs") as failure:
        trace("divided_queue")
    assert "--batch-multiple" in failure.value.next_step


def test_an_optimizer_that_needs_a_closure_is_run_with_one():
    assert trace("sharpness_aware").method == "measured"
