"""A script on several ranks of this machine, started as torchrun does (Gloo)."""

import contextlib
import os
import signal
import threading
import time

import psutil
import pytest
from msgspec.structs import replace

from advisor.cli.options import Training
from advisor.cli.script import RANKED_MODULE, spread_model_file
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.task import ScriptTask
from advisor.errors import UsageError, WorkloadError
from advisor.memory.data import MemoryTask
from advisor.noise.data import NoiseTask, Trajectory
from advisor.rate.data import TrialTask
from advisor.rate.range_data import LrRangeTask
from advisor.throughput.data import ThroughputTask
from advisor.training.data import Script, Variant, WorkloadSpec
from advisor.training.script.arguments import Filling
from advisor.training.script.facts import conclude_facts
from tests.integration.conftest import WORKLOADS, list_children, see_end_of_children
from tests.integration.probe_command import ROOT

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"

#: An end of the ranks and all that they started, in seconds.
_END_S = 10.0


def make_spec(name, *arguments, ranks=2, parts=None, launch=None):
    script = Script(
        arguments=("--batch-size", "{batch_size}", *arguments),
        ranks=ranks,
        parts=parts or ranks,
        launch=launch or ("--standalone", f"--nproc-per-node={ranks}") * (ranks > 1),
    )
    target = str(WORKLOADS / "scripts" / f"{name}.py")
    return WorkloadSpec(target=target, script=script, device="cpu")


@pytest.fixture
def run_alone(runner):
    """A function: runs a task, and sees that no process is left of it."""

    def run(task, timeout_s=100.0):
        before = list_children()
        try:
            return runner.run(task, timeout_s=timeout_s)
        finally:
            see_end_of_children(before)

    return run


def test_the_first_rank_tells_what_the_script_is(run_alone):
    (sight,) = run_alone(ScriptTask(workload=make_spec("ranks", ranks=3), filling=Filling()))
    assert (sight.loader_size, sight.passes, sight.facts.dataset_size) == (16, 1, 4096)
    assert sight.facts.model_name == "DistributedDataParallel"


def test_noise_from_ranks_is_that_of_one_process_on_the_same_samples(run_alone):
    """Replicated or shared parameters, accumulated steps; of whole ones test_nodes.py sees it."""
    more = ("--accumulation", "2")

    def measure(ranks, *arguments):
        task = NoiseTask(
            workload=make_spec("ranks_in_order", *more, *arguments, ranks=ranks, parts=2 * ranks),
            trajectory=Trajectory(micro_batch_size=64, points=(2, 12), budget_s=60.0),
            micro_batch_size=64,
            groups=8,
            max_micro_batches=64,
        )
        return run_alone(task)

    alone, replicated, shared = measure(1), measure(2), measure(2, "--fsdp")
    assert [each.at_step for each in alone] == [2, 12]
    for ranks in (replicated, shared):
        for own, other in zip(alone, ranks, strict=True):
            for metric in ("plain", "preconditioned"):
                one, two = getattr(own, metric), getattr(other, metric)
                assert two.total_sqnorm == pytest.approx(one.total_sqnorm, rel=2e-3)
                assert two.group_sqnorms == pytest.approx(one.group_sqnorms, rel=2e-3)
                assert two.group_dots == pytest.approx(one.group_dots, rel=2e-3, abs=1e-9)


def test_the_loss_of_a_branch_is_that_of_all_ranks(run_alone):
    def train(ranks):
        task = TrialTask(
            workload=make_spec("ranks_in_order", ranks=ranks),
            micro_batch_size=64,
            gradient_accumulation_steps=1,
            learning_rate=0.01,
            samples=64 * 24,
            seeds=(0,),
        )
        (branch,) = run_alone(task)
        return [each.loss for each in branch.evaluations]

    assert train(2) == pytest.approx(train(1), rel=1e-4)


def test_a_range_of_rates_is_ended_by_the_first_rank(run_alone):
    task = LrRangeTask(
        workload=make_spec("ranks_in_order"),
        micro_batch_size=64,
        gradient_accumulation_steps=1,
        low_rate=1e-4,
        high_rate=1e6,
        steps=40,
        least_steps=10,
        seeds=(0,),
    )
    (curve,) = run_alone(task)
    assert curve.rates[:2] == pytest.approx([1e-4, 1e-4 * 10 ** (10 / 39)])
    assert len(curve.losses) <= curve.steps == 40
    assert curve.stopped_by in {"divergence", "range"}


def test_one_rank_out_of_memory_is_the_answer_of_all(run_alone):
    def probe(size):
        task = MemoryTask(
            workload=make_spec("ranks", "--fails-on", "1"),
            micro_batch_size=size,
            capacity_bytes=160 << 20,
        )
        (found,) = run_alone(task)
        return found

    assert probe(16).outcome == "fit"
    failed = probe(512)
    assert failed.outcome == "oom"
    assert failed.message.startswith("rank 1: ")


def test_a_slow_rank_shows_in_steps_without_an_exchange(run_alone):
    task = ThroughputTask(
        workload=make_spec("ranks", "--slow-on", "1"),
        micro_batch_sizes=(64,),
        session=0,
        block_s=0.1,
        rounds=1,
        budget_s=20.0,
    )
    (probe,) = run_alone(task)
    first, second = probe.rank_step_times_s
    assert second > first
    assert probe.outcome == "fit"


@pytest.mark.parametrize("kind", ["memory", "noise"])
def test_a_rank_that_is_killed_ends_all_at_once(run_alone, kind):
    spec = make_spec("ranks", "--hidden", "512")
    task = MemoryTask(workload=spec, micro_batch_size=64, capacity_bytes=None, steps=10**6)
    if kind == "noise":
        path = Trajectory(micro_batch_size=64, points=(10**6,), budget_s=60.0)
        task = NoiseTask(
            workload=spec, trajectory=path, micro_batch_size=64, groups=8, max_micro_batches=64
        )
    killed_s, before = [], list_children()  # what other tests keep, as a browser

    def kill():
        ends_s = time.monotonic() + 60.0
        while len(ranks := list_ranks(before)) < 2 and time.monotonic() < ends_s:
            time.sleep(0.1)
        time.sleep(2.0)
        killed_s.append(time.monotonic())
        ranks[-1].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(WorkerDeathError, match="was killed") as death:
        run_alone(task)
    killer.join()
    assert death.value.code == -signal.SIGKILL
    assert time.monotonic() - killed_s[0] < _END_S


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("--hangs-on", r"rank 1 of .* hangs: it did nothing for \d+ s at .*ranks.py:\d+"),
        ("--waits-on", r"hangs: all ranks wait for each other: rank 0 at .*, rank 1 at .*ranks.py"),
    ],
)
def test_a_rank_that_hangs_is_named_long_before_the_time_is_up(run_alone, how, said):
    task = MemoryTask(
        workload=make_spec("ranks", how, "1"),
        micro_batch_size=64,
        capacity_bytes=None,
        steps=10**6,
    )
    with pytest.raises(WorkerTimeoutError, match=said) as end:
        run_alone(task)
    assert end.value.exit_code == WorkloadError.exit_code


def list_ranks(before):
    children = psutil.Process().children(recursive=True)
    return [each for each in children if each.pid not in before and _is_rank(each)]


def _is_rank(process):
    with contextlib.suppress(psutil.Error):
        return "LOCAL_RANK" in process.environ() or process.parent().ppid() != os.getpid()
    return False


def test_a_rendezvous_that_is_refused_is_a_usage_error(run_alone):
    options = ("--nnodes=2", "--nproc-per-node=1", "--node-rank=1", "--rdzv-backend=c10d")
    options += ("--rdzv-endpoint=localhost:9", "--rdzv-conf=is_host=0,read_timeout=3")
    spec = make_spec("ranks", launch=options)
    with pytest.raises(UsageError, match="could not be started"):
        run_alone(ScriptTask(workload=spec, filling=Filling()))


def test_what_a_rank_fails_of_is_told_as_in_one_process(run_alone):
    spec = make_spec("ranks", "--no-such-option")
    with pytest.raises(WorkloadError, match=r"sys\.exit\(2\)"):
        run_alone(ScriptTask(workload=spec, filling=Filling()))


def spread(model, *, strategy="ddp", settings=None):
    training = Training(model=str(model), settings=settings)
    script = spread_model_file(training, Variant(precision="fp32"), strategy, 2, None)
    return WorkloadSpec(target=RANKED_MODULE, script=script, device="cpu")


@pytest.mark.parametrize(
    ("strategy", "name"), [("ddp", "DistributedDataParallel"), ("fsdp", "FSDPSequential")]
)
def test_a_model_file_trains_on_ranks(run_alone, strategy, name):
    workload = spread(EXAMPLES / "digits.py", strategy=strategy)
    filling = Filling(batch_size=8, accumulation=2, learning_rate=0.5)
    own, other = (
        run_alone(ScriptTask(workload=workload, filling=each))[0] for each in (Filling(), filling)
    )
    facts = conclude_facts(workload, own, other)
    assert (own.facts.model_name, own.loader_size, own.passes) == (name, 16, 1)
    assert (other.loader_size, other.passes) == (8, 2)
    assert facts.file.endswith("digits.py")
    assert (facts.base_batch_size, facts.parts) == (32, 2)
    assert facts.script.takes_rate
    assert facts.optimizer.learning_rate == 1.0


#: Notes the rate of each step.
SCHEDULED = """
import os

import torch

class Noting(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        with open(f"{__file__}.{os.environ.get('RANK', 'alone')}", "a") as notes:
            print(self.param_groups[0]["lr"], file=notes)

def make_model():
    return torch.nn.Linear(4, 2)

def make_dataset():
    return [(torch.randn(4), i % 2) for i in range(256)]

def make_optimizer(model):
    return Noting(model.parameters(), lr=0.1)

def make_scheduler(optimizer, total_steps):
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, optimizer.param_groups[0]["lr"], total_steps=total_steps
    )
"""


def test_ranks_follow_the_schedule_of_a_model_file_as_one_process_does(run_alone, tmp_path):
    model = tmp_path / "scheduled.py"
    model.write_text(SCHEDULED)
    steps, workload = 20, spread(model)
    told = Filling(batch_size=8, accumulation=1, learning_rate=0.1, steps=100)
    (sight,) = run_alone(ScriptTask(workload=workload, filling=told))
    assert sight.facts.has_scheduler
    script = replace(workload.script, parts=2, stretches_schedule=True)
    workloads = {
        "alone": WorkloadSpec(target=str(model), device="cpu"),
        "0": replace(workload, script=script),
    }
    noted = {}
    for name, each in workloads.items():
        notes = tmp_path / f"scheduled.py.{name}"
        notes.unlink(missing_ok=True)
        task = TrialTask(
            workload=each,
            micro_batch_size=32,
            gradient_accumulation_steps=1,
            learning_rate=0.4,
            samples=32 * steps,
            decay_fraction=0.3,
            warmup_steps=2,
            seeds=(0,),
        )
        (branch,) = run_alone(task)
        assert branch.decays_from == 0
        noted[name] = [float(line) for line in notes.read_text().split()][-steps:]
    assert len(noted["0"]) == steps
    assert max(noted["0"]) == pytest.approx(0.4, rel=0.1)
    assert noted["0"] == pytest.approx(noted["alone"])


@pytest.mark.parametrize(
    ("name", "said"), [("lightning_hooks", "Trainer"), ("generator", "is not divided among ranks")]
)
def test_what_cannot_be_spread_says_so(run_alone, name, said):
    workload = spread(WORKLOADS / "foreign" / f"{name}.py")
    with pytest.raises(WorkloadError, match=said):
        run_alone(ScriptTask(workload=workload, filling=Filling()))
