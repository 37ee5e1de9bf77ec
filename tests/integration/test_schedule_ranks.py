"""A run with a growing batch, stopped on one number of ranks and resumed on another."""

import pytest
import torch
from torch import distributed

from tests.unit.in_loop.loops import Training, fork_ranks

TABLE = "0:8 100:16 200:32"
#: In the middle of the second batch.
STOP = 120


def average(model):
    for parameter in model.parameters():
        distributed.all_reduce(parameter.grad, op=distributed.ReduceOp.SUM)
        parameter.grad /= distributed.get_world_size()


def run_rank(rank, ranks, folder, samples, given):
    """Train on one of several ranks, from a checkpoint where one is given, and leave another."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=ranks
    )
    training = Training(TABLE)
    if given is not None:
        training.load(torch.load(given, weights_only=True))
    training.train(samples, rank=rank, ranks=ranks, exchange=average)
    if rank == 0:
        torch.save([training.state_dict(), training.batches], f"{folder}/checkpoint.pt")
    distributed.destroy_process_group()


def run_ranks(folder, samples, given=None):
    folder.mkdir()
    fork_ranks(run_rank, 2, folder, samples, given)
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole():
    """The uninterrupted run of one rank."""
    return Training(TABLE).train(600)


@pytest.mark.slow
def test_from_two_ranks_to_one(whole, tmp_path):
    state, batches = run_ranks(tmp_path / "two", STOP)
    rest = Training(TABLE).load(state).train(600)
    assert batches + rest.batches == whole.batches
    torch.testing.assert_close(rest.weights, whole.weights, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_from_one_rank_to_two(whole, tmp_path):
    first = Training(TABLE).train(STOP)
    torch.save(first.state_dict(), tmp_path / "one.pt")
    state, batches = run_ranks(tmp_path / "two", 600, tmp_path / "one.pt")
    rest = Training(TABLE).load(state)
    assert first.batches + batches == whole.batches
    torch.testing.assert_close(rest.weights, whole.weights, rtol=1e-12, atol=1e-12)
