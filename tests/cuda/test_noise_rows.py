"""Where a GPU's sums of gradients are kept, by what torch's allocator counts."""

import pytest

from tests.cuda.by_hand import RowsTask
from tests.cuda.conftest import workload

PARAMETERS = 512 * 1024 + 1024 + 1024 * 1024 + 1024 + 2 * 1024 + 1024 * 1000 + 1000


@pytest.mark.parametrize(
    ("place", "taken_bytes"),
    [
        ("device", 8 * 4 * PARAMETERS),
        ("host", 4 * PARAMETERS),  # the running sum
        ("sketch", 8 * 4 << 20),  # the optimizer has no state yet, and so no metric
    ],
)
def test_what_sums_of_gradients_take_of_the_device(run, place, taken_bytes):
    (taken,) = run(RowsTask(workload=workload("mlp"), place=place))
    assert 0 <= taken - taken_bytes < 1 << 21
