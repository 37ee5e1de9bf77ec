"""Which node this is: by torchrun's options, or by what torchrun or Slurm tell its processes."""

import pytest

from advisor.cli.nodes import Ranks, find_first, find_nodes
from advisor.errors import UsageError
from advisor.training.data import Script


def find(variables=None, **options):
    return find_nodes(Ranks(**options), variables or {})


SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "120042"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN |= {"MASTER_ADDR": "node7", "MASTER_PORT": "29500"}


def test_one_node_needs_nothing():
    assert find() is None
    assert find(nproc_per_node=4) is None
    assert find({**TORCHRUN, "WORLD_SIZE": "1"}) is None


@pytest.mark.parametrize(
    ("options", "node"),
    [
        ({"rdzv_endpoint": "127.0.0.1:29711"}, 0),  # this machine's
        ({"rdzv_endpoint": "192.0.2.1:29711"}, None),
        ({"rdzv_endpoint": "192.0.2.1:29711", "node_rank": 2}, 2),
        ({"rdzv_endpoint": "192.0.2.1:29711", "rdzv_conf": "is_host=1"}, 0),
        ({"master_addr": "192.0.2.1", "master_port": 29711, "rdzv_backend": "static"}, None),
    ],
)
def test_the_endpoints_machine_leads_unless_a_rank_is_given(options, node):
    nodes = find(nnodes=3, nproc_per_node=2, **options)
    assert (nodes.node, nodes.port, nodes.count, nodes.per_node) == (node, 29711, 3, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "need to find each other"),
        ({"node_rank": 2}, "no node 2"),
        ({"rdzv_endpoint": "node:a"}, "no address"),
        ({"rdzv_endpoint": "node", "rdzv_backend": "etcd"}, "etcd is not supported"),
        ({"rdzv_endpoint": "node", "rdzv_conf": "color=red"}, "not understood"),
        ({"rdzv_endpoint": "node", "rdzv_conf": "timeout=soon"}, "not understood"),
        ({"rdzv_endpoint": "node", "rdzv_conf": f"timeout={'9' * 30}"}, "no such nodes"),
        ({"rdzv_endpoint": "node:99999"}, "no such nodes"),
        ({"node_rank": 0, "master_port": 65536}, "no such nodes"),
    ],
)
def test_what_names_no_nodes_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        find(nnodes=2, **options)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({**TORCHRUN, "MASTER_PORT": "many"}, "MASTER_PORT of the nodes is 'many'"),
        ({**TORCHRUN, "MASTER_PORT": "65535"}, "no such nodes"),
        ({**TORCHRUN, "RANK": ""}, "RANK of the nodes is ''"),
        ({**SLURM, "SLURM_JOB_ID": "a"}, "SLURM_JOB_ID of the nodes is 'a'"),
    ],
)
def test_an_environment_that_names_no_nodes_is_refused(variables, said):
    with pytest.raises(UsageError, match=said):
        find(variables)


def test_what_is_no_name_of_a_machine_is_none_of_this_one():
    assert find(nnodes=2, rdzv_endpoint="x" * 300).node is None


def test_a_process_of_torchrun_is_one_rank_of_its_own():
    nodes = find(TORCHRUN)
    assert (nodes.node, nodes.host, nodes.port) == (1, "node7", 29501)
    script = nodes.spread(Script())
    assert (script.ranks, script.per_node, script.local_ranks) == (4, 1, 2)
    assert [*script.list_ranks(3)] == [3]
    assert find(TORCHRUN, nproc_per_node=2) is None  # its own ranks were asked for


def test_a_task_of_slurm_is_one_rank_of_its_own():
    more = {"SLURM_JOB_NODELIST": "gpu[007-010],cpu1", "SLURM_TASKS_PER_NODE": "2(x2)"}
    nodes = find({**SLURM, **more})
    assert (nodes.node, nodes.count, nodes.local_rank, nodes.local_ranks) == (3, 4, 1, 2)
    assert (nodes.host, nodes.port, nodes.name) == ("gpu007", 15042, "120042")


@pytest.mark.parametrize(
    ("listed", "first"),
    [("node1", "node1"), ("a[3,5-7],b", "a3"), ("r[1-2]n[04-08]", "r1n04"), ("x-1,x-2", "x-1")],
)
def test_the_first_host_of_a_list_of_nodes(listed, first):
    assert find_first(listed) == first


def test_the_last_node_has_what_is_left_of_the_ranks():
    script = Script(ranks=5, per_node=2)
    assert [[*script.list_ranks(node)] for node in range(4)] == [[0, 1], [2, 3], [4], []]
