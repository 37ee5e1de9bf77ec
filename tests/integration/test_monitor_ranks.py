"""A monitor on two ranks sees what each adds before they exchange, or the parts that they share."""

import json
import subprocess
import sys

import pytest

from tests.integration.conftest import WORKLOADS

pytestmark = pytest.mark.slow

SCRIPT = WORKLOADS / "in_loop" / "ranks.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    store = tmp_path_factory.mktemp("ranks") / "store"
    ranks = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), store], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        said, _ = (rank.communicate(timeout=200)[0] for rank in ranks)
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0]
    return json.loads(said)


@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        ("ddp 1", "ranks"),
        ("ddp 3", "ranks"),
        ("fsdp 1", "per-example"),
        ("fsdp 2", "micro-batches"),
    ],
)
def test_what_two_ranks_tell_is_as_by_hand(found, kind, estimator):
    assert found[kind]["estimator"] == estimator
    assert len(found[kind]["seen"]) == 2
    for seen, hand in zip(found[kind]["seen"], found[kind]["hand"], strict=True):
        assert seen == pytest.approx(hand, rel=1e-4)
