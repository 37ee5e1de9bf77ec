"""A script on several nodes: two agents on loopback, or in network namespaces of their own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import psutil
import pytest

from advisor.cli.nodes import Ranks, find_nodes
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.nodes import Leader
from advisor.engine.runner import Runner
from advisor.engine.task import ScriptTask
from advisor.errors import LostNodeError, UsageError, WorkloadError
from advisor.memory.data import MemoryTask
from advisor.noise.data import NoiseTask, Trajectory
from advisor.training.data import Script, WorkloadSpec
from advisor.training.script.arguments import Filling
from tests.integration.conftest import WORKLOADS
from tests.integration.probe_command import MARK, ROOT, end_survivors

pytestmark = pytest.mark.slow

#: An end of all ranks on all nodes, in seconds, from when it is noticed.
_END_S = 10.0
#: Ends a wait that would never end.
_PATIENCE_S = 90.0


def make_nodes(port, *, variables=None, **more):
    options = {"rdzv_endpoint": f"127.0.0.1:{port}", "node_rank": 0, "rdzv_conf": "join_timeout=60"}
    return find_nodes(Ranks(**{"nnodes": 2, **options, **more}), variables or {})


def make_spec(nodes, name, *arguments):
    script = Script(arguments=("--batch-size", "{batch_size}", *arguments), parts=2)
    target = str(WORKLOADS / "scripts" / f"{name}.py")
    script = nodes.spread(script) if nodes else Script(arguments=script.arguments)
    return WorkloadSpec(target=target, script=script, device="cpu")


def find_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Command:
    """A `probe` in a process of its own, found again by its mark."""

    def __init__(self, folder, *options, within=(), variables=None, name="ranks"):
        self.mark, self.said = uuid.uuid4().hex, folder / f"{uuid.uuid4().hex}.txt"
        command = [*within, sys.executable, "-m", "advisor.cli", "probe", "--device", "cpu"]
        script = str(WORKLOADS / "scripts" / f"{name}.py")
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [*command, *options, script, "--", "--batch-size", "{batch_size}"],
                cwd=ROOT,
                env={**os.environ, MARK: self.mark, **(variables or {})},
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def end(self):
        """Its exit code and what it printed; nothing of it is left."""
        try:
            code = self.process.wait(_PATIENCE_S)
        finally:
            left = end_survivors(self.mark)
        assert left == ()
        return code, self.said.read_text()

    def list_ranks(self):
        """Its ranks: below the server of its workers and the one that runs."""
        found = [psutil.Process(self.process.pid)]
        with contextlib.suppress(psutil.Error):
            for _ in range(3):
                found = [child for each in found for child in each.children()]
            return found
        return []


def follow(folder, port, *options):
    places = ("--nnodes", "2", "--node-rank", "1", "--rdzv-endpoint", f"127.0.0.1:{port}")
    return Command(folder, *places, *options)


@contextlib.contextmanager
def lead(nodes, start):
    """Yield workers whose tasks have a rank here and one of the follower's, and the follower."""
    with Leader(nodes) as leader, Runner(None, leader) as runner:
        follower = start()
        try:
            leader.gather(runner.break_off, lambda text: None)
            yield runner, follower
        finally:
            leader.__exit__(None, sys.exc_info()[1], None)
            for link in leader._links.values():
                link.close()  # as this process would by its end


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two processes of an allocation, as torchrun tells them, that several tests share."""
    folder, port = tmp_path_factory.mktemp("nodes"), find_port()
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port - 1)}
    own, other = ({**variables, "RANK": each, "LOCAL_RANK": each} for each in "01")
    nodes = make_nodes(port, nnodes=1, variables=own)
    with (
        contextlib.suppress(UsageError),
        lead(nodes, lambda: Command(folder, variables=other)) as (runner, follower),
    ):
        yield runner, follower, nodes
        raise UsageError("what ends the leader")
    code, said = follower.end()
    assert code == UsageError.exit_code  # as the leader
    assert said == f"bsadvisor: node 1 of 2 follows 127.0.0.1:{port}\n"


def test_noise_from_two_nodes_is_that_of_one_process_on_the_same_samples(two):
    """Replicated or shared parameters."""
    runner, _, nodes = two

    def measure(spread, *arguments):
        spec = make_spec(spread, "ranks_in_order", *arguments)
        path = Trajectory(micro_batch_size=64, points=(2, 12), budget_s=60.0)
        task = NoiseTask(
            workload=spec, trajectory=path, micro_batch_size=64, groups=8, max_micro_batches=64
        )
        return runner.run(task, timeout_s=_PATIENCE_S)

    alone = measure(None)
    assert [each.at_step for each in alone] == [2, 12]
    for both in (measure(nodes), measure(nodes, "--fsdp")):
        for own, other in zip(alone, both, strict=True):
            for metric in ("plain", "preconditioned"):
                one, shared = getattr(own, metric), getattr(other, metric)
                assert shared.total_sqnorm == pytest.approx(one.total_sqnorm, rel=2e-3)
                assert shared.group_sqnorms == pytest.approx(one.group_sqnorms, rel=2e-3)
                assert shared.group_dots == pytest.approx(one.group_dots, rel=2e-3, abs=1e-9)


def test_one_rank_out_of_memory_elsewhere_is_the_answer_of_all(two):
    runner, _, nodes = two
    task = MemoryTask(
        workload=make_spec(nodes, "ranks", "--fails-on", "1"),
        micro_batch_size=512,
        capacity_bytes=160 << 20,
    )
    (found,) = runner.run(task, timeout_s=_PATIENCE_S)
    assert found.outcome == "oom"
    assert found.message.startswith("rank 1: ")


def run_until_killed(runner, nodes, find):
    """What ends a task of endless steps, and in how many seconds after what `find` finds died."""
    killed_s = []

    def kill():
        deadline = time.monotonic() + _PATIENCE_S
        while not find() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.0)
        find().send_signal(signal.SIGKILL)
        killed_s.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    workload = make_spec(nodes, "ranks", "--hidden", "512")
    task = MemoryTask(workload=workload, micro_batch_size=64, capacity_bytes=None, steps=10**6)
    with pytest.raises((WorkerDeathError, LostNodeError)) as end:
        runner.run(task, timeout_s=_PATIENCE_S)
    ended_s = time.monotonic()
    killer.join()
    assert ended_s - killed_s[0] < _END_S
    return end.value


def test_a_rank_that_is_killed_elsewhere_ends_all_and_the_next_task_runs(two):
    runner, follower, nodes = two
    death = run_until_killed(runner, nodes, lambda: next(iter(follower.list_ranks()), None))
    assert death.code == -signal.SIGKILL
    assert death.message.startswith("rank 1 of ")
    task = ScriptTask(workload=make_spec(nodes, "ranks"), filling=Filling())
    (sight,) = runner.run(task, timeout_s=_PATIENCE_S)
    assert sight.loader_size == 16


def test_a_rank_that_ends_without_a_word_ends_them_all(two):
    """The leader's own rank fails as well, of the connection that it loses, and may be first."""
    runner, _, nodes = two
    task = ScriptTask(workload=make_spec(nodes, "ranks", "--ends-on", "1"), filling=Filling())
    with pytest.raises(WorkloadError, match=r"rank 1 of .* exit status 4|Connection|closed"):
        runner.run(task, timeout_s=_PATIENCE_S)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("--hangs-on", r"rank 1 of .* hangs: it did nothing for \d+ s at .*ranks.py:\d+"),
        ("--waits-on", r"hangs: all ranks wait for each other: rank 0 at .*, rank 1 at .*ranks.py"),
    ],
)
def test_a_rank_that_hangs_elsewhere_is_named(two, how, said):
    runner, _, nodes = two
    workload = make_spec(nodes, "ranks", how, "1")
    task = MemoryTask(workload=workload, micro_batch_size=64, capacity_bytes=None, steps=10**6)
    with pytest.raises(WorkerTimeoutError, match=said):
        runner.run(task, timeout_s=_PATIENCE_S)


def test_a_follower_that_is_killed_ends_the_command(tmp_path):
    nodes = make_nodes(find_port())
    with lead(nodes, lambda: follow(tmp_path, nodes.port)) as (runner, follower):
        end = run_until_killed(runner, nodes, lambda: follower.list_ranks() and follower.process)
        assert follower.end()[0] == -signal.SIGKILL
        assert end.message.startswith("node 1 (127.0.0.1) has gone")
        task = ScriptTask(workload=make_spec(nodes, "ranks"), filling=Filling())
        with pytest.raises(LostNodeError):
            runner.run(task, timeout_s=_PATIENCE_S)


def test_a_leader_that_is_killed_ends_its_followers(tmp_path):
    port = find_port()
    follower = follow(tmp_path, port)
    places = ("--nnodes", "2", "--node-rank", "0", "--rdzv-endpoint", f"127.0.0.1:{port}")
    leader = Command(tmp_path, *places, "--budget", "60")
    wait_until(follower.list_ranks)
    leader.process.kill()
    killed_s = time.monotonic()
    code, said = follower.end()
    assert time.monotonic() - killed_s < _END_S
    assert code == 5
    assert "has gone" in said
    assert leader.end()[0] == -signal.SIGKILL


def wait_until(condition):
    deadline = time.monotonic() + _PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_nodes_that_do_not_find_each_other_say_so(tmp_path):
    port = find_port()
    code, said = follow(tmp_path, port, "--rdzv-conf", "join_timeout=1").end()
    assert code == 5
    assert f"no leader answers at 127.0.0.1:{port}" in said
    with Leader(make_nodes(port, rdzv_conf="join_timeout=5")) as leader:
        with pytest.raises(UsageError, match="cannot be had"):
            Leader(make_nodes(port))
        other = follow(tmp_path, port, "--rdzv-id", "another")
        notes = []
        with pytest.raises(LostNodeError, match=r"1 of 2 nodes came.*this node run 'another'"):
            leader.gather(lambda error: None, notes.append)
    code, said = other.end()
    assert code == 5
    assert "refuses this node" in said
    assert len(notes) == 1
    assert "127.0.0.1 is refused" in notes[0]


@pytest.fixture
def namespaces():
    """Two network namespaces with a link between them: the command in each, and its address."""
    if not shutil.which("ip") or os.geteuid():
        pytest.skip("network namespaces need ip and root")
    key = uuid.uuid4().hex[:6]
    names, links = [f"bsa{key}", f"bsb{key}"], [f"va{key}", f"vb{key}"]
    steps = [f"netns add {name}" for name in names]
    steps += [f"link add {links[0]} netns {names[0]} type veth peer {links[1]} netns {names[1]}"]
    for host, (name, link) in enumerate(zip(names, links, strict=True), start=1):
        steps += [f"-n {name} addr add 10.77.0.{host}/24 dev {link}"]
        steps += [f"-n {name} link set {each} up" for each in ("lo", link)]
    try:
        for step in steps:
            done = subprocess.run(["ip", *step.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
        yield names, links
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_a_network_that_goes_down_ends_both_nodes(namespaces, tmp_path):
    document = tmp_path / "run.json"
    places = ("--nnodes", "2", "--rdzv-endpoint", "10.77.0.1:29400", "--budget", "60")
    leader, follower = (
        Command(
            tmp_path,
            *places,
            *(("--json", str(document)) if index == 0 else ()),
            within=("ip", "netns", "exec", name),
            variables={"GLOO_SOCKET_IFNAME": link},
        )
        for index, (name, link) in enumerate(zip(*namespaces, strict=True))
    )
    wait_until(lambda: document.exists() and json.loads(document.read_text())["workload"])
    name, link = namespaces[0][0], namespaces[1][0]
    subprocess.run(["ip", "-n", name, "link", "set", link, "down"], check=True)
    for command in (leader, follower):
        code, said = command.end()
        assert code == 5
        assert "has gone" in said
    assert "node 1 of 2 follows 10.77.0.1:29400" in said
    saved = json.loads(document.read_text())
    assert saved["workload"]["script"]["script"]["ranks"] == 2
    assert "has gone" in saved["stopped_because"]
