"""Workers that several tests share, and what is timed with them."""

import math
import statistics
import time
from pathlib import Path

import psutil
import pytest

from advisor.engine.opening import EnvironmentTask, ScriptTask
from advisor.engine.runner import Runner
from advisor.loader.data import LoaderTask
from advisor.loader.plan import conclude_loader
from advisor.training.data import Script, WorkloadSpec
from advisor.training.script.facts import conclude_facts
from advisor.training.script.sight import choose_other_filling, choose_own_filling

WORKLOADS = Path(__file__).parent.parent / "workloads"
SCRIPTS = WORKLOADS / "scripts"


@pytest.fixture(scope="session")
def runner():
    """Real workers, each a fork of one server."""
    with Runner(None) as workers:
        yield workers


def make_script(name, *arguments, target=None, **more):
    """Return one of the scripts, started with these arguments."""
    script = Script(arguments=arguments, **more)
    path = str(SCRIPTS / f"{name}.py")
    return WorkloadSpec(target=target or path, script=script, device="cpu")


@pytest.fixture
def see(runner):
    """A function: a script and its arguments go in, its facts come out."""

    def run(name, *arguments, workers=runner, **options):
        spec = make_script(name, *arguments, **options)
        (own,) = workers.run(
            ScriptTask(workload=spec, filling=choose_own_filling(spec)), timeout_s=100
        )
        filling = choose_other_filling(spec, own)
        (other,) = workers.run(ScriptTask(workload=spec, filling=filling), timeout_s=100)
        return conclude_facts(spec, own, other)

    return run


@pytest.fixture
def time_loader(runner):
    """A function: a loader goes in, its timings and what follows come out, and nothing is left."""
    runner.run(EnvironmentTask(device="cpu"), timeout_s=100)  # the server of the workers is there

    def run(name, size=8, *, budget_s=12.0, **settings):
        target = str(WORKLOADS / f"{name}.py")
        task = LoaderTask(
            workload=WorkloadSpec(target=target, device="cpu", settings=settings),
            micro_batch_size=size,
            budget_s=budget_s,
        )
        before = list_children()
        timings = runner.run(task, timeout_s=100)
        deadline = time.monotonic() + 10.0  # what was killed may take a moment to go
        while not list_children() <= before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list_children() <= before
        return timings, conclude_loader(timings)

    return run


def list_children():
    return {process.pid for process in psutil.Process().children(recursive=True)}


@pytest.fixture
def count_right_workers():
    """A function: timings go in, the right number by the rule for these very windows comes out."""

    def count(timings):
        training = statistics.median(
            rate for each in timings for rate in each.training_samples_per_s
        )
        most = max(timings, key=lambda timing: timing.workers)
        assert most.workers > 0
        per_worker = statistics.median(most.alone_samples_per_s) / most.workers
        return math.ceil(training / per_worker)

    return count
