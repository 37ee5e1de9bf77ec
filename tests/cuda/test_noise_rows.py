from tests.cuda.by_hand import RowsTask
from tests.cuda.conftest import workload


def test_sums_of_gradients_that_fit_beside_a_step_stay_on_the_device(run):
    parameters = 512 * 1024 + 1024 + 1024 * 1024 + 1024 + 2 * 1024 + 1024 * 1000 + 1000
    (taken,) = run(RowsTask(workload=workload("mlp")))
    assert 0 <= taken - 8 * 4 * parameters < 1 << 21
